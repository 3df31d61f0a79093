//! Who may call: the address within its rate, a token that is worth something, that token within its rate, and then the
//! scope of the route. In this order, so that guessing costs the one who guesses. What comes of each call is told to
//! [`Register`](super::register::Register).

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, header};

use super::{Api, register::Refused};
use crate::{
    admin::{
        listener::Arrival,
        problem::{Kind, Problem},
        tokens::{Caller, Scope},
    },
    metrics::AdminCall,
};

/// Lets a request in that has a token; from here on its [`Caller`] stands in its extensions.
pub(super) async fn admit(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let Some(arrival) = request.extensions().get::<Arrival>().cloned() else {
        return Problem::new(Kind::Internal).into_response();
    };
    let answer = match caller(&api, &arrival, request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    finished(answer, &arrival)
}

/// Lets only tokens on that have this scope.
pub(super) async fn scoped(
    State((api, scope)): State<(Arc<Api>, Scope)>,
    request: Request,
    next: Next,
) -> Response {
    let extensions = request.extensions();
    match (extensions.get::<Caller>(), extensions.get::<Arrival>()) {
        (Some(caller), _) if caller.may(scope) => next.run(request).await,
        (Some(caller), Some(arrival)) => {
            api.register.refused(&Refused::Scope(caller), arrival);
            Problem::new(Kind::Scope(scope)).into_response()
        }
        _ => Problem::new(Kind::Scope(scope)).into_response(),
    }
}

async fn caller(api: &Api, arrival: &Arrival, headers: &HeaderMap) -> Result<Caller, Problem> {
    let (now, register) = (api.clock.now(), &api.register);
    let too_many = |wait| {
        register.counted(AdminCall::TooMany);
        Problem::too_many(wait)
    };
    let unavailable = |error| {
        register.counted(AdminCall::Unavailable);
        Problem::unavailable(&error)
    };
    api.of_addresses.charge(whole(arrival.client), now).map_err(too_many)?;
    let Some(token) = presented(headers) else {
        register.refused(&Refused::NoToken, arrival);
        return Err(Problem::new(Kind::NoToken));
    };
    let caller = match api.operations.caller(token).await.map_err(unavailable)? {
        Ok(caller) => caller,
        Err(why) => {
            register.refused(&Refused::Token(&why), arrival);
            return Err(Problem::new(Kind::BadToken));
        }
    };
    api.of_tokens.charge(caller.id().to_owned(), now).map_err(too_many)?;
    register.admitted(&caller, whole(arrival.client), arrival);
    Ok(caller)
}

/// The one token of a request (RFC 6750, section 2.1).
fn presented(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (only, None) = (all.next()?, all.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whoever has an IPv6 address has 2^64 of them.
fn whole(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Every answer: for this caller alone, and a problem says in which request.
fn finished(mut answer: Response, arrival: &Arrival) -> Response {
    if let Some(problem) = answer.extensions_mut().remove::<Problem>() {
        let mut told = problem.at(arrival).into_response();
        for (name, value) in answer.headers() {
            if name != header::CONTENT_LENGTH && !told.headers().contains_key(name) {
                told.headers_mut().insert(name, value.clone());
            }
        }
        answer = told;
    }
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::AUTHORIZATION, line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn one_token_and_no_other_way_to_send_it() {
        assert_eq!(presented(&headers(&["Bearer abc"])), Some("abc"));
        assert_eq!(presented(&headers(&["bearer  abc"])), Some("abc"));
        for lines in [&[][..], &["Basic abc"], &["Bearerabc"], &["abc"], &["Bearer abc", "Bearer abc"]] {
            assert_eq!(presented(&headers(lines)), None, "{lines:?}");
        }
    }

    #[test]
    fn neighbours_in_one_ipv6_network_share_a_rate() {
        let whole = |text: &str| whole(text.parse().unwrap());
        assert_eq!(whole("2001:db8:1:2::1"), whole("2001:db8:1:2:ffff::9"));
        assert_ne!(whole("2001:db8:1:2::1"), whole("2001:db8:1:3::1"));
        assert_ne!(whole("192.0.2.1"), whole("192.0.2.2"));
    }
}
