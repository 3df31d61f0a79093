//! Who asks: an administrator with a live session and a role, or nobody.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::{Method, StatusCode, header, request::Parts},
    response::Response,
};

use super::{
    Desk,
    view::{Nav, message},
};
use crate::{
    admin::operations::{By, Failure},
    config::administrators::REALM,
    identity::password,
    model::{Role, UserKey},
    session::standing::LiveSession,
    store::documents,
    web::{
        forms::{self, Form},
        reply::{Answer, Fault},
        view::{Frame, Link},
        visitor::Visitor,
    },
};

/// For so long a second factor is fresh enough for what is dangerous.
const FRESH: Duration = Duration::from_secs(5 * 60);

/// An administrator who asks.
pub(super) struct Caller {
    pub visitor: Visitor,
    pub desk: Arc<Desk>,
    pub role: Role,
    live: Arc<LiveSession>,
    query: String,
    actor: String,
}

impl Caller {
    /// Their own account.
    pub fn user(&self) -> &UserKey {
        &self.live.session().user
    }

    pub fn text(&self, key: &str) -> String {
        self.visitor.language.text(key)
    }

    pub fn frame(&self) -> Frame<'_> {
        Frame { query: &self.query, ..self.visitor.frame() }
    }

    /// A page that came of a POST has no address to come back to in another language.
    pub fn frame_of_post(&self) -> Frame<'_> {
        Frame { languages: false, ..self.frame() }
    }

    /// What stands above every page.
    pub fn nav(&self, here: &'static str) -> Nav {
        let link = |href: &str, label| (Link { href: href.to_owned(), label }, href == here);
        Nav {
            label: self.text("desk-nav"),
            items: vec![
                link("/", self.text("desk-users")),
                link("/administrators", self.text("desk-administrators")),
                link("/tokens", self.text("desk-tokens")),
                link("/account", self.text("desk-account")),
            ],
            who: self.user().name.as_str().to_owned(),
            role: self.text(role_key(self.role)),
            out: Link { href: self.visitor.path("logout"), label: self.text("desk-log-out") },
        }
    }

    /// On whose word something is done.
    pub fn by<'a>(&'a self, reason: &'a str) -> By<'a> {
        By {
            actor: &self.actor,
            own: Some(self.user()),
            reason: Some(reason).filter(|reason| !reason.is_empty()),
            client: Some(self.visitor.visit.client),
            request_id: Some(&self.visitor.visit.request_id),
            is_helpdesk: self.role != Role::Admin,
        }
    }

    /// The token of a form.
    pub fn token(&self, purpose: &'static str) -> String {
        forms::token(&self.visitor.pages.keyring, purpose, &self.live.session().id.0)
    }

    /// Goes on only with the form of this session.
    pub fn demand_token(&self, posted: &Form, purpose: &'static str) -> Result<(), Fault> {
        posted.demand_token(&self.visitor.pages.keyring, purpose, &self.live.session().id.0)
    }

    /// Goes on only with a fresh second factor; else it is asked for, and the browser comes back to `target`.
    pub fn demand_fresh(&self, target: &str) -> Result<(), Fault> {
        let session = self.live.session();
        if session.proved_at.is_some_and(|at| self.visitor.now.since(at) <= FRESH) {
            return Ok(());
        }
        let cookies = self.visitor.pages.admissions.step_up(&self.live, target)?;
        Err(Fault::Instead(Answer::SeeOther { to: self.visitor.path("challenge"), cookies }))
    }

    /// What is told instead of an act that did not come about.
    pub fn failed(&self, failure: Failure) -> Fault {
        let (status, title, text) = match failure {
            Failure::Store(error) => return Fault::Store(error),
            Failure::Audit(_) => return Fault::Audit,
            Failure::OwnAccount => (StatusCode::FORBIDDEN, "desk-own-title", "desk-own-text"),
            Failure::Administrator => (StatusCode::FORBIDDEN, "desk-not-yours-title", "desk-not-yours-text"),
            Failure::BadSetting { .. } => (StatusCode::BAD_REQUEST, "error-bad-title", "error-bad-text"),
            _ => (StatusCode::NOT_FOUND, "desk-no-user-title", "desk-no-user-text"),
        };
        match message(self, status, title, text) {
            Ok(answer) => Fault::Instead(answer),
            Err(fault) => fault,
        }
    }

    /// What a role does not give.
    pub fn not_yours(&self) -> Fault {
        self.failed(Failure::Administrator)
    }

    /// The answer, and the session goes on.
    pub fn reply(&self, answer: Result<Answer, Fault>) -> Response {
        let mut response = self.visitor.reply(answer);
        let renews = !response
            .headers()
            .get_all(header::SET_COOKIE)
            .iter()
            .any(|cookie| cookie.as_bytes().starts_with(self.session_cookie().as_bytes()));
        if renews && let Some(cookie) = self.visitor.pages.admissions.renew(&self.live, self.visitor.now) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }

    fn session_cookie(&self) -> &'static str {
        self.visitor.pages.names.name(crate::session::cookie::Kind::Session)
    }
}

/// The name of a role, as people read it.
pub(super) const fn role_key(role: Role) -> &'static str {
    match role {
        Role::Auditor => "desk-role-auditor",
        Role::Helpdesk => "desk-role-helpdesk",
        Role::Admin => "desk-role-admin",
    }
}

/// A visitor of these pages who may be nobody.
pub(super) struct Guest {
    pub visitor: Visitor,
    pub desk: Arc<Desk>,
}

impl FromRequestParts<Arc<Desk>> for Guest {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, desk: &Arc<Desk>) -> Result<Self, Response> {
        let visitor = Visitor::from_request_parts(parts, &desk.pages).await?;
        Ok(Self { visitor, desk: Arc::clone(desk) })
    }
}

impl FromRequestParts<Arc<Desk>> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, desk: &Arc<Desk>) -> Result<Self, Response> {
        let visitor = Visitor::from_request_parts(parts, &desk.pages).await?;
        let Some(live) = visitor.session() else {
            if visitor.is_blocked() {
                return Err(visitor.reply(Err(Fault::Status(StatusCode::FORBIDDEN))));
            }
            let mut to = "/login".to_owned();
            if parts.method == Method::GET && parts.uri.path() != "/" {
                let path = parts.uri.path_and_query().map(|p| p.as_str()).unwrap_or_default();
                let query =
                    form_urlencoded::Serializer::new(String::new()).append_pair("next", path).finish();
                to = format!("/login?{query}");
            }
            return Err(visitor.reply(Ok(Answer::to(to))));
        };
        // A replica that may have missed a revocation shows nothing (I9).
        let clear = visitor.pages.admissions.may_begin();
        clear.map_err(|error| visitor.reply(Err(Fault::Store(error))))?;
        let profile = documents::profile(desk.store.as_ref(), &live.session().user).await;
        let profile = profile.map_err(|error| visitor.reply(Err(Fault::Store(error))))?;
        let user = &live.session().user;
        let Some(role) = profile.role.filter(|_| user.realm.as_str() == REALM) else {
            return Err(visitor.reply(Err(Fault::Status(StatusCode::FORBIDDEN))));
        };
        let pairs = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        let kept = pairs.filter(|(name, _)| name != "lang");
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish();
        let actor = format!("admin:{}", user.name);
        Ok(Self { visitor, desk: Arc::clone(desk), role, live, query, actor })
    }
}

/// What came of a password that was not looked at.
pub(super) fn unchecked(trouble: password::Trouble) -> Fault {
    match trouble {
        password::Trouble::Busy => Fault::Status(StatusCode::SERVICE_UNAVAILABLE),
        password::Trouble::Internal(text) => Fault::Internal(text),
    }
}
