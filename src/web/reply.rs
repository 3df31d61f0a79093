//! What a handler decided, and how that leaves: one table of headers for every answer.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};

use super::{errors, visitor::Visitor};
use crate::{audit::Unwritten, store::StoreError};

/// When a store that is away may be back.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What a handler decided.
pub(crate) enum Answer {
    /// A page.
    Page(Page),
    /// To another page of the same host (RFC 9110, section 15.4.4: always fetched with GET, so that no code or
    /// password is ever posted twice).
    SeeOther {
        /// Path and query.
        to: String,
        /// `Set-Cookie` values.
        cookies: Vec<HeaderValue>,
    },
}

/// A page.
pub(crate) struct Page {
    /// Its status.
    pub status: StatusCode,
    /// The document.
    pub html: String,
    /// `Set-Cookie` values.
    pub cookies: Vec<HeaderValue>,
    /// When asking again makes sense.
    pub retry_after: Option<Duration>,
    /// A form on it leads on to the app.
    pub leads_to_app: bool,
}

/// Why a handler did not do what was asked.
pub(crate) enum Fault {
    /// Something else follows.
    Instead(Answer),
    /// The page for this status says enough.
    Status(StatusCode),
    /// A form that did not come from our own page, or for another login.
    ForeignForm,
    /// The store could not answer: nothing was decided (I9).
    Store(StoreError),
    /// The audit log cannot be written, and nothing may be granted without it.
    Audit,
    /// Something that should not happen; the text is for the log.
    Internal(String),
}

impl From<Unwritten> for Fault {
    fn from(_: Unwritten) -> Self {
        Self::Audit
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<askama::Error> for Fault {
    fn from(error: askama::Error) -> Self {
        Self::Internal(format!("a page could not be rendered: {error}"))
    }
}

impl Fault {
    /// The page for it; what went wrong inside goes to the log, here and once.
    pub fn explain(self, visitor: &Visitor) -> Answer {
        let request_id = &visitor.visit.request_id;
        let status = match self {
            Self::Instead(answer) => return answer,
            Self::Status(status) => status,
            Self::ForeignForm => {
                tracing::warn!(%request_id, client = %visitor.visit.client, "a form of another origin or login was refused");
                return errors::foreign_form(visitor);
            }
            Self::Store(error) => {
                tracing::error!(%request_id, %error, "the store failed; nothing was decided");
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Audit => {
                tracing::error!(%request_id, "the audit log cannot be written: nothing is granted");
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Internal(error) => {
                tracing::error!(%request_id, %error, "a page failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        match errors::page(status, visitor) {
            Answer::Page(page) if status == StatusCode::SERVICE_UNAVAILABLE => {
                Answer::Page(Page { retry_after: Some(TRY_AGAIN_AFTER), ..page })
            }
            other => other,
        }
    }
}

impl Answer {
    /// A page without cookies.
    pub fn page(status: StatusCode, html: String) -> Self {
        Self::Page(Page { status, html, cookies: Vec::new(), retry_after: None, leads_to_app: false })
    }

    /// A page whose form leads on to the app.
    pub fn form(status: StatusCode, html: String) -> Self {
        Self::Page(Page { status, html, cookies: Vec::new(), retry_after: None, leads_to_app: true })
    }

    /// A redirect without cookies.
    pub fn to(to: impl Into<String>) -> Self {
        Self::SeeOther { to: to.into(), cookies: Vec::new() }
    }

    /// The answer on the wire.
    pub fn into_response(self, secure: bool) -> Response {
        let leads_to_app = matches!(&self, Self::Page(page) if page.leads_to_app);
        let (mut response, cookies) = match self {
            Self::Page(page) => {
                let mut response = Response::new(Body::from(page.html));
                *response.status_mut() = page.status;
                set(&mut response, header::CONTENT_TYPE, "text/html; charset=utf-8");
                if let Some(wait) = page.retry_after {
                    let secs = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1);
                    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
                }
                (response, page.cookies)
            }
            Self::SeeOther { to, cookies } => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::SEE_OTHER;
                response.headers_mut().insert(header::LOCATION, same_host(&to));
                (response, cookies)
            }
        };
        harden(response.headers_mut(), secure);
        if leads_to_app {
            set(&mut response, header::CONTENT_SECURITY_POLICY, LEADS_TO_APP);
        }
        for cookie in cookies {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }
}

/// The headers of every answer of ours.
pub(crate) fn harden(headers: &mut HeaderMap, secure: bool) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Not `no-referrer`: with it, browsers send `Origin: null` with our own forms (Fetch, "append a
        // request Origin header"), and those without Sec-Fetch-Site could not be told from a foreign form.
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if secure {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
}

/// A header that is there once and is text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// A `Location` that cannot leave the host: targets come from signed cookies, but what once was a path must
/// not become an authority in a browser's eyes (threats 1.6).
fn same_host(target: &str) -> HeaderValue {
    let path = target.strip_prefix('/').filter(|rest| !rest.starts_with(['/', '\\']));
    let plain = path.is_some() && !target.contains('\\') && target.bytes().all(|b| b.is_ascii_graphic());
    let target = if plain { target } else { "/" };
    HeaderValue::try_from(target).unwrap_or(HeaderValue::from_static("/"))
}

fn set(response: &mut Response, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Chromium holds `form-action` against every hop of the redirects that follow a form. After the right code comes the
/// app, and whatever the app redirects to from there (another host, its own http:// address) must not be
/// blocked: the user would look at a form that does nothing, with the code spent.
const LEADS_TO_APP: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self' https: http:; frame-ancestors 'none'; base-uri 'none'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_never_leaves_the_host() {
        for (target, expected) in [
            ("/", "/"),
            ("/patients?id=1&tab=%2Fx", "/patients?id=1&tab=%2Fx"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("/a\\b", "/"),
            ("https://evil.example/", "/"),
            ("evil.example", "/"),
            ("", "/"),
            ("/\t/evil.example", "/"),
            ("/a\r\nSet-Cookie: x=y", "/"),
            ("/caf\u{e9}", "/"),
        ] {
            assert_eq!(same_host(target), expected, "{target:?}");
        }
    }
}
