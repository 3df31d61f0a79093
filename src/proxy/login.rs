//! A watched login on its way to the app and back (design, section 4).
//!
//! The body is read whole and its user name taken out; the request then makes an own round trip, so that nothing of
//! the app's answer leaves before it has been judged (`judge`). A failed login is the app's own affair. A successful
//! one becomes a session, a pending login, or nothing (`verdict`): when the store fails, not a byte and not a cookie
//! of the app's answer goes out (I9). `relay` writes the app's answer to the browser.
//!
//! # What makes an answer believed (threats D9)
//! Many apps send whoever is logged in already away from their login form, without a look at the password. Such an
//! answer looks like a success. So an answer counts only when no session of the app can explain it:
//!
//! - **Another name than that of the running session**: the session's cookies and identity headers stay here. The app
//!   sees what it would see of a browser in which nobody has logged in, so its answer is about the password. The
//!   running session ends with this login, whatever comes of it: else the next form, whose anti-forgery cookie would
//!   belong to that session again, could never be sent by anybody else.
//! - **The name of the running session**: its cookies go along, since the form may have been made with them (the app's
//!   own session may be over while ours runs). The answer then proves no password, so it renews nothing: where
//!   policy asks a code it is asked now, else the running session goes on with its limits as they were.
//! - **`whoami` is configured**: it is asked before as well. If the device's cookies alone already have a user, they
//!   stay here too. Asked after the login, its name wins over the typed one.
//!
//! A refused login's cookies are sealed to the device; to the session only when it is that same user's.
//! Without `whoami` an app's session that the *device* came by on an anonymous path is not seen. Paths that log
//! somebody in by themselves must not be anonymous.

mod judge;
mod relay;
mod verdict;

use bytes::Bytes;
use http::{HeaderValue, header};
use pingora::{http::ResponseHeader, proxy::Session};

use self::judge::Judgement;
use super::{
    Proxy, arrival::Arrival, body, context::Context, failure::Cause, forward, roundtrip::Answer, site::Site,
};
use crate::{
    gate::{LoginPermit, Outcome, Permit},
    identity::{
        form::{self, Claim, Submission},
        name,
    },
    metrics::{Answered, FirstFactor, Reason, UpstreamError},
    model::{RequestView, UserName, name::BadName},
    session::{
        standing::LiveSession,
        upstream_cookies::{Opened, Scope},
    },
};

/// What a login request brings along.
struct Attempt<'a> {
    site: &'a Site,
    arrival: &'a Arrival,
    permit: &'a Permit,
    view: &'a RequestView<'a>,
    /// The canonical form of what was typed.
    typed: UserName,
    /// To what the cookies that go along are sealed.
    scopes: Vec<Scope>,
    /// The app's cookies that go along, to be sealed again when the app keeps them.
    opened: Vec<Opened>,
    upstream_host: Option<HeaderValue>,
}

impl Attempt<'_> {
    /// The running session, when it is of the user whose name was typed.
    fn same_user(&self) -> Option<&LiveSession> {
        let live = self.permit.session()?;
        (live.session().user.name == self.typed).then_some(live)
    }

    /// How what goes to the app is dressed: another user's login knows nothing of the running session.
    fn dress<'b>(&'b self, host: Option<&'b HeaderValue>) -> forward::Dress<'b> {
        forward::Dress {
            site: self.site,
            arrival: self.arrival,
            session: self.same_user(),
            scopes: &self.scopes,
            host,
        }
    }
}

/// What the browser gets.
#[expect(clippy::large_enum_variant, reason = "made once for a login and taken apart at once")]
enum Verdict {
    /// The app's own answer, dressed.
    TheApps(Box<ResponseHeader>, Bytes, Answer),
    /// The app's answer stays here; to the challenge.
    Challenge(Vec<HeaderValue>),
}

impl Proxy {
    /// Deals with a request that may be a login.
    pub(super) async fn login(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        login: LoginPermit,
    ) -> pingora::Result<bool> {
        let read = body::read(session, self.parts.limits.login_body_bytes).await;
        let read = read.map_err(|cause| match cause {
            Cause::BodyTooLarge => Cause::LoginTooLarge,
            other => other,
        });
        let claim = read.and_then(|body| Ok((self.claim(session, ctx, &login, &body)?, body)));
        match claim {
            Err(cause) => self.refuse(session, ctx, cause).await,
            Ok((Claim::Other, body)) => {
                let outcome = self
                    .view(session, ctx)
                    .map(|(site, view)| self.parts.gate.assess_ordinary(&site.app, &view));
                match outcome {
                    Err(cause) => self.refuse(session, ctx, cause).await,
                    Ok(Outcome::Forward(permit)) => self.forward_read(session, ctx, permit, body).await,
                    Ok(other) => self.follow_elsewhere(session, ctx, other, Some(body)).await,
                }
            }
            Ok((Claim::Login { user }, body)) => {
                ctx.answered = Answered::Login;
                match self.attempt(session, ctx, login.permit, &user, body).await {
                    Err(cause) => self.refuse(session, ctx, cause).await,
                    Ok(Verdict::Challenge(cookies)) => {
                        ctx.cookies.extend(cookies);
                        let url = format!("{}/challenge", self.parts.prefix);
                        self.send_to(session, ctx, &url).await
                    }
                    Ok(Verdict::TheApps(header, begun, answer)) => {
                        relay::pass_on(session, *header, begun, answer, || Ok(())).await
                    }
                }
            }
        }
    }

    fn claim(
        &self,
        session: &Session,
        ctx: &Context,
        login: &LoginPermit,
        body: &[u8],
    ) -> Result<Claim, Cause> {
        let (site, view) = self.view(session, ctx)?;
        let headers = &session.req_header().headers;
        let content_type = joined(headers, &header::CONTENT_TYPE);
        let content_encoding = joined(headers, &header::CONTENT_ENCODING);
        let submission = Submission {
            method: view.method,
            query: view.query,
            content_type: content_type.as_deref(),
            content_encoding: content_encoding.as_deref(),
            body,
        };
        form::read(&site.app.login.watch, &login.candidates, &submission).map_err(|bad| {
            site.metrics.first_factor.count(FirstFactor::BadForm);
            tracing::info!(app = %site.app.id, request_id = %view.id, %bad, "a login form was refused");
            Cause::Malformed("a login form that can be read in two ways")
        })
    }

    /// Sends the login to the app, judges the answer, and does what follows.
    async fn attempt(
        &self,
        session: &Session,
        ctx: &Context,
        permit: Permit,
        typed: &str,
        body: Bytes,
    ) -> Result<Verdict, Cause> {
        let (site, view) = self.view(session, ctx)?;
        let arrival = ctx.arrival.as_ref().ok_or(Cause::Internal)?;
        // Before the app is asked: it would switch its session, and nothing could follow from it here.
        self.parts.admissions.may_begin().map_err(|_| {
            site.metrics.first_factor.count(FirstFactor::Unavailable);
            Cause::Blind
        })?;
        site.metrics.decisions.count(Reason::Login);
        let typed = name::typed(&site.app.login.name, typed).map_err(|bad| {
            site.metrics.first_factor.count(FirstFactor::BadForm);
            bad_name(site, arrival, bad)
        })?;
        let mut attempt = Attempt {
            site,
            arrival,
            permit: &permit,
            view: &view,
            typed,
            scopes: permit.device().map(Scope::Device).into_iter().collect(),
            opened: Vec::new(),
            upstream_host: None,
        };
        if let Some(live) = attempt.same_user() {
            attempt.scopes.insert(0, Scope::Session(live.session().id));
        }
        let lines = session.req_header().headers.get_all(header::COOKIE);
        attempt.opened =
            self.parts.sealer.opened(&site.app, lines.iter().map(HeaderValue::as_bytes), &attempt.scopes);
        let unavailable = |cause| {
            site.metrics.first_factor.count(FirstFactor::Unavailable);
            cause
        };
        // Before the app sees the password: what cannot be recorded does not happen.
        self.parts.auditor.ready().map_err(|_| unavailable(Cause::Audit))?;
        if self.is_logged_in_already(session, &attempt).await.map_err(unavailable)? {
            attempt.scopes.clear();
            attempt.opened.clear();
        }
        let asked = self.ask_the_app(session, &mut attempt, body).await;
        let verdict = match asked {
            Ok(judged) if judged.judgement == Judgement::Passed => {
                self.passed(session, &attempt, judged).await
            }
            Ok(judged) => self.failed(&attempt, judged).await,
            Err(cause) => Err(unavailable(cause)),
        };
        if let Err(cause) = &verdict
            && !was_not_sent(*cause)
        {
            self.end_in_doubt(&attempt).await;
        }
        verdict
    }

    /// The app may have switched its session to somebody else, and we do not know it: the session that was running
    /// on this browser ends, so that nobody goes on in its name (threats D9).
    async fn end_in_doubt(&self, attempt: &Attempt<'_>) {
        if let Some(live) = attempt.permit.session() {
            // When the store fails, it has ended here at least, and the log has it.
            let _ = self.end(attempt.site, attempt.arrival, live).await;
        }
    }
}

/// A user name that is none: refused before the app sees it, and the person is told what is wrong.
fn bad_name(site: &Site, arrival: &Arrival, bad: BadName) -> Cause {
    tracing::info!(app = %site.app.id, request_id = %arrival.id, %bad, "a user name was refused");
    Cause::UserName
}

/// Whether the app cannot have seen the login.
const fn was_not_sent(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::NoUpstream
            | Cause::Upstream(UpstreamError::Connect | UpstreamError::Tls)
            | Cause::UpstreamTooSlow(UpstreamError::ConnectTimeout | UpstreamError::Tls)
    )
}

/// All lines of a header, joined as `identity::form` wants them.
fn joined(headers: &http::HeaderMap, name: &http::HeaderName) -> Option<String> {
    let lines: Vec<String> = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}
