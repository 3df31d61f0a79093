//! Why a request was not answered: pages for people, problem documents (RFC 9457) for programs. One table from
//! status to words, whose last rows are bland. Never an internal message.

use askama::Template;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::{
    reply::{self, Answer},
    view::{Frame, MessagePage, Sign},
    visitor::Visitor,
};
use crate::{i18n::Language, model::RequestId};

/// What was wrong with a request: mostly its status says enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// This status.
    Status(StatusCode),
    /// 400: the user name that was typed has characters that are not taken.
    UserName,
    /// 403: the user may not come from this address.
    Elsewhere,
    /// 413: a request to a path that logs in is larger than `limits.login_body_bytes`.
    LoginTooLarge,
}

impl Refusal {
    /// The status of the answer.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Status(status) => status,
            Self::UserName => StatusCode::BAD_REQUEST,
            Self::Elsewhere => StatusCode::FORBIDDEN,
            Self::LoginTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }
}

impl From<StatusCode> for Refusal {
    fn from(status: StatusCode) -> Self {
        Self::Status(status)
    }
}

/// The name of a message.
#[derive(Clone, Copy)]
struct Key(&'static str);

/// A page that says why a request was not answered (403, 404, 413, 502, 503, 504 …), in the visitor's language.
/// Never an internal message.
pub fn error_page(
    refusal: impl Into<Refusal>,
    request_id: &RequestId,
    accept_language: Option<&str>,
    prefix: &str,
) -> Response<String> {
    let (refusal, language) = (refusal.into(), Language::accepted(accept_language));
    let frame = Frame { language, prefix, app: None, languages: false, query: "" };
    let html = explain(refusal, frame, Some(request_id)).render().unwrap_or_default();
    let mut response = Response::new(html);
    *response.status_mut() = refusal.status();
    reply::harden(response.headers_mut(), false);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response.headers_mut().insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.code()));
    response
}

/// The same for a program: `application/problem+json` (RFC 9457). `challenge_url` is where a person can do
/// what is missing (401).
pub fn problem(
    refusal: impl Into<Refusal>,
    request_id: &RequestId,
    challenge_url: Option<&str>,
) -> Response<String> {
    let refusal = refusal.into();
    let (status, keys) = (refusal.status(), keys(refusal));
    let challenged = challenge_url.is_some();
    let document = Document {
        kind: if challenged { "urn:sluis:problem:challenge" } else { "about:blank" },
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: if challenged {
            "Log in with a second factor first.".to_owned()
        } else {
            Language::English.text(keys.1.0)
        },
        instance: request_id.as_str(),
        challenge_url,
    };
    let mut response = Response::new(serde_json::to_string(&document).unwrap_or_default());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if status == StatusCode::UNAUTHORIZED {
        // A 401 must name a scheme (RFC 9110, section 15.5.2); this one makes no browser ask for a password.
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Sluis"));
    }
    response
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    instance: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    challenge_url: Option<&'a str>,
}

/// The page for a status, below our prefix.
pub(super) fn page(status: StatusCode, visitor: &Visitor) -> Answer {
    let frame = Frame { languages: false, ..visitor.frame() };
    let html = explain(status.into(), frame, Some(&visitor.visit.request_id)).render().unwrap_or_default();
    Answer::page(status, html)
}

/// A form that did not come from our own page, or not for this login.
pub(super) fn foreign_form(visitor: &Visitor) -> Answer {
    let frame = Frame { languages: false, ..visitor.frame() };
    let page = foreign_form_page(frame, visitor.login_page(), &visitor.visit.request_id);
    Answer::page(StatusCode::FORBIDDEN, page.render().unwrap_or_default())
}

/// "This form is no longer valid".
pub(super) fn foreign_form_page<'a>(
    frame: Frame<'a>,
    login_page: String,
    request_id: &'a RequestId,
) -> MessagePage<'a> {
    let mut page =
        MessagePage::new(frame, Sign::Note, frame.t("error-form-title"), vec![frame.t("error-form-text")])
            .with_link(login_page, frame.t("to-login"));
    page.failed = true;
    page.request_id = Some(request_id.as_str());
    page
}

fn explain<'a>(refusal: Refusal, frame: Frame<'a>, request_id: Option<&'a RequestId>) -> MessagePage<'a> {
    let (title, text, advice) = keys(refusal);
    let texts = vec![frame.t(text.0), frame.t(advice.0)];
    let mut page = MessagePage::new(frame, Sign::Note, frame.t(title.0), texts);
    page.failed = true;
    page.request_id = request_id.map(RequestId::as_str);
    page
}

/// Title, explanation and advice.
fn keys(refusal: Refusal) -> (Key, Key, Key) {
    let again = Key("error-back");
    let admin = Key("error-admin");
    let status = match refusal {
        Refusal::UserName => return (Key("error-name-title"), Key("error-name-text"), again),
        Refusal::Elsewhere => return (Key("error-elsewhere-title"), Key("error-elsewhere-text"), admin),
        Refusal::LoginTooLarge => return (Key("error-large-title"), Key("error-large-login-text"), admin),
        Refusal::Status(status) => status,
    };
    match status.as_u16() {
        403 => (Key("error-forbidden-title"), Key("error-forbidden-text"), admin),
        404 | 410 => (Key("error-missing-title"), Key("error-missing-text"), admin),
        405 | 501 => (Key("error-method-title"), Key("error-method-text"), again),
        408 => (Key("error-slow-title"), Key("error-slow-text"), admin),
        413 | 414 => (Key("error-large-title"), Key("error-large-text"), again),
        421 => (Key("error-host-title"), Key("error-host-text"), admin),
        429 => (Key("error-many-title"), Key("error-many-text"), admin),
        431 => (Key("error-header-title"), Key("error-header-text"), admin),
        400..=499 => (Key("error-bad-title"), Key("error-bad-text"), again),
        502 => (Key("error-gateway-title"), Key("error-gateway-text"), admin),
        503 => (Key("error-unavailable-title"), Key("error-unavailable-text"), admin),
        504 => (Key("error-timeout-title"), Key("error-timeout-text"), admin),
        _ => (Key("error-internal-title"), Key("error-internal-text"), admin),
    }
}
