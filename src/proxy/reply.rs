//! Answers of our own: refusals, redirects to the challenge, and our pages.
//!
//! A redirect is always 303, so that a browser never sends a password again (threats D18). What a script fetched
//! gets 401 with a problem document (RFC 9457), never a redirect that it would follow into HTML.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use pingora::{http::ResponseHeader, proxy::Session};

use super::{body, failure::Cause};
use crate::{
    model::{RequestId, Wants},
    web::{self, Refusal},
};

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Why a request was not answered, as a page or as a problem document.
pub fn refusal(
    why: impl Into<Refusal>,
    wants: Wants,
    id: &RequestId,
    accept_language: Option<&str>,
    prefix: &str,
) -> Response<Bytes> {
    let why = why.into();
    let status = why.status();
    let mut response = match wants {
        Wants::Page => web::error_page(why, id, accept_language, prefix).map(Bytes::from),
        Wants::Data | Wants::Upgrade => web::problem(why, id, None).map(Bytes::from),
    };
    if status == StatusCode::METHOD_NOT_ALLOWED {
        // RFC 9110, section 15.5.6: what would be allowed, as far as the proxy can know.
        let allowed = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

/// The refusal for a cause; `None` when there is nobody to answer.
pub fn refusal_for(
    cause: Cause,
    wants: Wants,
    id: &RequestId,
    accept_language: Option<&str>,
    prefix: &str,
) -> Option<Response<Bytes>> {
    let why = match cause {
        Cause::UserName => Refusal::UserName,
        Cause::LoginTooLarge => Refusal::LoginTooLarge,
        Cause::Elsewhere => Refusal::Elsewhere,
        other => Refusal::Status(other.status()?),
    };
    let mut response = refusal(why, wants, id, accept_language, prefix);
    if matches!(cause, Cause::Blind | Cause::Store) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    Some(response)
}

/// Sends a client to the page where it can do what is missing.
pub fn challenge(wants: Wants, id: &RequestId, url: &str) -> Response<Bytes> {
    match wants {
        Wants::Page => see_other(url),
        Wants::Data | Wants::Upgrade => {
            web::problem(StatusCode::UNAUTHORIZED, id, Some(url)).map(Bytes::from)
        }
    }
}

/// Cookies of ours that go with an answer of our own.
pub fn with_cookies(mut response: Response<Bytes>, cookies: &[HeaderValue]) -> Response<Bytes> {
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie.clone());
    }
    response
}

/// 303 without a body.
fn see_other(url: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SEE_OTHER;
    // Ours are ASCII; anything else would be a fault, and the root is a safe place.
    let location = HeaderValue::from_str(url).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// Writes a whole answer, and sees to it that it arrives although the request's body was not wanted.
///
/// # Errors
/// When the client is gone.
pub async fn send(session: &mut Session, response: Response<Bytes>) -> pingora::Result<()> {
    /// A body up to this is read before the answer, so that the connection can be kept.
    const SMALL: usize = 64 * 1024;
    /// What is read of a larger one after the answer, before the connection is closed.
    const LARGE: usize = 16 * 1024 * 1024;
    let announced = session.get_header(header::CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length <= SMALL) {
        body::read_over(session, SMALL).await;
    }
    write(session, response).await?;
    body::read_over(session, LARGE).await;
    Ok(())
}

async fn write(session: &mut Session, response: Response<Bytes>) -> pingora::Result<()> {
    let (parts, body) = response.into_parts();
    let mut header = ResponseHeader::from(parts);
    let bodiless = matches!(header.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let head = session.req_header().method == Method::HEAD;
    if bodiless {
        header.remove_header(&header::CONTENT_LENGTH);
    } else if !(head && header.headers.contains_key(header::CONTENT_LENGTH)) {
        header.set_content_length(body.len())?;
    }
    let none = bodiless || body.is_empty() || head;
    session.write_response_header(Box::new(header), none).await?;
    if !none {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> RequestId {
        RequestId::new("r1").unwrap()
    }

    #[test]
    fn a_page_is_sent_to_the_challenge_with_303() {
        let response = challenge(Wants::Page, &id(), "/.sluis/challenge");
        assert_eq!(response.status(), 303);
        assert_eq!(response.headers()[header::LOCATION], "/.sluis/challenge");
        assert!(response.body().is_empty());
    }

    #[test]
    fn a_script_gets_a_problem_document_and_no_redirect() {
        for wants in [Wants::Data, Wants::Upgrade] {
            let response = challenge(wants, &id(), "/.sluis/challenge");
            assert_eq!(response.status(), 401);
            assert!(response.headers().get(header::LOCATION).is_none());
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
            let document: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(document["challenge_url"], "/.sluis/challenge");
            assert_eq!(document["instance"], "r1");
        }
    }

    #[test]
    fn a_refusal_says_what_would_be_allowed() {
        let response = refusal(StatusCode::METHOD_NOT_ALLOWED, Wants::Data, &id(), None, "/.sluis");
        assert!(response.headers().contains_key(header::ALLOW));
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    }
}
