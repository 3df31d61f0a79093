//! One request to our pages, read once: who asks, in which language, with which cookies.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};

use super::{
    Pages, Visit,
    reply::{self, Answer, Fault},
    view::Frame,
};
use crate::{
    audit::{Event, Subject},
    base::clock::UnixMillis,
    config::app::Requirement,
    deliver::notices::{Notice, Scene},
    i18n::Language,
    model::{DeviceId, OwnCookies, Terms, UserKey},
    policy,
    session::{admission::Origin, standing::LiveSession, token::Pending},
};

/// A request to our pages.
pub(crate) struct Visitor {
    /// What the pages work with.
    pub pages: Arc<Pages>,
    /// What the proxy knows.
    pub visit: Visit,
    /// The language of the answer.
    pub language: Language,
    /// When the request came.
    pub now: UnixMillis,
    /// The language was chosen by this very request.
    chosen: bool,
    query: String,
    headers: HeaderMap,
}

impl Visitor {
    /// Our cookies.
    pub fn own(&self) -> OwnCookies<'_> {
        // Two of one kind were refused when the request came in.
        self.pages.names.find(cookie_lines(&self.headers)).unwrap_or_default()
    }

    /// The headers of the request.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The pending login.
    pub fn pending(&self) -> Option<Pending> {
        self.pages.standings.pending(&self.visit.app, &self.own(), self.now)
    }

    /// The live session.
    pub fn session(&self) -> Option<Arc<LiveSession>> {
        self.pages.standings.session(&self.visit.app, &self.own(), self.now)
    }

    /// Whether a session is there whose user has been blocked.
    pub fn is_blocked(&self) -> bool {
        self.pages.standings.is_blocked(&self.visit.app, &self.own(), self.now)
    }

    /// A value in the query of the address.
    pub fn asked(&self, name: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(self.query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// What policy requires of a user at this address; `None` when nothing.
    pub fn requirement(&self, user: &UserKey) -> Option<&Requirement> {
        // What is set for this user was looked at when the login began, and is again when it is completed.
        let (terms, now) = (&Terms::default(), self.now);
        let facts = policy::Facts { user: &user.name, client: self.visit.client, terms, now };
        match policy::decide(&self.visit.app, &facts) {
            policy::Decision::Exempt(_) | policy::Decision::Elsewhere => None,
            policy::Decision::Require(requirement) => Some(requirement),
        }
    }

    /// From where, and with which cookies.
    pub fn origin(&self) -> Origin<'_> {
        let agent = reply::text(&self.headers, &header::USER_AGENT).unwrap_or_default();
        Origin { cookies: self.own(), client: self.visit.client, agent }
    }

    /// A path of our own.
    pub fn path(&self, page: &str) -> String {
        format!("{}/{page}", self.pages.prefix)
    }

    /// Where the app's login form is. `{target}` in it becomes the app's first page.
    pub fn login_page(&self) -> String {
        self.visit.app.login.page.replace("{target}", "%2F")
    }

    /// Whether cookies are `Secure`, that is: the browser speaks https.
    pub fn secure(&self) -> bool {
        self.pages.names.are_secure()
    }

    /// What all pages share.
    pub fn frame(&self) -> Frame<'_> {
        Frame {
            language: self.language,
            prefix: &self.pages.prefix,
            app: Some(&self.visit.app.name),
            languages: true,
            query: "",
        }
    }

    /// Writes an audit event about `user`.
    pub fn record(&self, event: &Event, user: &UserKey, device: DeviceId) {
        self.pages.auditor.record(event, &self.subject(user, device));
    }

    /// Writes an audit event that grants something to `user`, before that is granted.
    ///
    /// # Errors
    /// When the audit log cannot be written and `audit.on_failure` is `deny`: nothing may be granted.
    pub async fn grant(&self, event: &Event, user: &UserKey, device: DeviceId) -> Result<(), Fault> {
        self.grant_because(event, user, device, None).await
    }

    /// The same, with a reason that somebody typed.
    ///
    /// # Errors
    /// As [`Self::grant`].
    pub async fn grant_because(
        &self,
        event: &Event,
        user: &UserKey,
        device: DeviceId,
        reason: Option<&str>,
    ) -> Result<(), Fault> {
        let subject = Subject { reason: reason.map(str::to_owned), ..self.subject(user, device) };
        Ok(self.pages.auditor.grant(event, &subject).await?)
    }

    /// Tells `user` by mail what has happened here.
    pub fn tell(&self, notice: Notice, user: &UserKey) {
        let agent = reply::text(&self.headers, &header::USER_AGENT).unwrap_or_default();
        self.pages.notices.tell(user, notice, Scene::at(&self.visit.app).from(self.visit.client).with(agent));
    }

    fn subject(&self, user: &UserKey, device: DeviceId) -> Subject {
        Subject {
            app: Some(self.visit.app.id.clone()),
            user: Some(user.clone()),
            device: Some(device),
            client: Some(self.visit.client),
            request_id: Some(self.visit.request_id.clone()),
            ..Subject::default()
        }
    }

    /// The one place where what a handler decided becomes an answer.
    pub fn reply(&self, answer: Result<Answer, Fault>) -> Response {
        let answer = answer.unwrap_or_else(|fault| fault.explain(self));
        let mut response = answer.into_response(self.secure());
        if self.chosen
            && let Some(cookie) = self.language_cookie()
        {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }

    /// Valid below our prefix only, so that an app never sees it.
    fn language_cookie(&self) -> Option<HeaderValue> {
        let secure = if self.secure() { "; Secure" } else { "" };
        let (name, path) = self.pages.names.language(&self.pages.prefix);
        let language = self.language.code();
        HeaderValue::try_from(format!(
            "{name}={language}; Path={path}; Max-Age=31536000; HttpOnly; SameSite=Lax{secure}"
        ))
        .ok()
    }
}

impl FromRequestParts<Arc<Pages>> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, pages: &Arc<Pages>) -> Result<Self, Response> {
        let Some(visit) = parts.extensions.get::<Visit>().cloned() else {
            tracing::error!("a request to our pages came without its visit");
            return Err(StatusCode::INTERNAL_SERVER_ERROR.into_response());
        };
        let chosen = parts.uri.query().and_then(|query| {
            let lang = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "lang");
            lang.and_then(|(_, value)| Language::parse(&value))
        });
        let visitor = Self {
            pages: pages.clone(),
            visit,
            language: chosen.unwrap_or_else(|| preferred(&parts.headers, pages.names.language("").0)),
            now: pages.clock.now(),
            chosen: chosen.is_some(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers.clone(),
        };
        match visitor.pages.names.find(cookie_lines(&visitor.headers)) {
            Ok(_) => Ok(visitor),
            Err(_) => Err(visitor.reply(Err(Fault::Status(StatusCode::BAD_REQUEST)))),
        }
    }
}

/// The language for a request: the one chosen earlier, else the browser's.
fn preferred(headers: &HeaderMap, cookie: &str) -> Language {
    cookie_lines(headers)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| name.trim() == cookie)
        .and_then(|(_, value)| Language::parse(value))
        .unwrap_or_else(|| Language::accepted(reply::text(headers, &header::ACCEPT_LANGUAGE)))
}

fn cookie_lines(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes)
}
