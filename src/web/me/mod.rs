//! `me`: what a user sees and changes without an administrator: own authenticators, own sessions, own language.
//!
//! Open to a live session that is worth all that policy asks where it is used, and to nobody else. A session can be
//! stolen, and its thief may have an hour: what would outlast the session (an authenticator more or less) needs a second
//! factor of the last minutes, which a copy of the cookies does not have. What only takes something away from the
//! session itself (a name, a language, other sessions) does not.
//!
//! Every change is a form with the token of this session, posted by a navigation of our own page, and answers with a
//! redirect to the page. `done` in its address is signed for the session: no link can claim that something was done.

mod acts;
pub(super) mod agent;
pub(super) mod page;
mod remove;

use std::sync::Arc;

use askama::Template;
use axum::{body::Body, http::StatusCode, response::Response};

pub(super) use remove::{ask as ask_remove, post as remove};

use super::{
    admit,
    forms::{self, Form},
    recovery,
    reply::{Answer, Fault},
    visitor::Visitor,
};
use crate::{
    model::{Authenticator, Method, Profile, UserKey},
    policy,
    session::standing::{LiveSession, Worth},
    store::documents,
};
use page::{Done, Overview};

const PURPOSE: &str = "me";

/// `GET me`
pub(super) async fn show(visitor: Visitor) -> Response {
    let answer = overview(&visitor).await;
    visitor.reply(answer)
}

/// `POST me`
pub(super) async fn act(visitor: Visitor, body: Body) -> Response {
    let answer = change(&visitor, body).await;
    visitor.reply(answer)
}

async fn overview(visitor: &Visitor) -> Result<Answer, Fault> {
    let live = present(visitor, "me")?;
    // Addresses, devices, form tokens: no script of the app gets to read those.
    if !forms::by_navigation(visitor.headers()) {
        return Err(Fault::Status(StatusCode::FORBIDDEN));
    }
    let session = live.session();
    let (authenticators, profile, sessions) = tokio::try_join!(
        visitor.pages.store.authenticators(&session.user),
        documents::profile(visitor.pages.store.as_ref(), &session.user),
        visitor.pages.admissions.sessions_of(&session.user),
    )?;
    let done = visitor.asked("done").and_then(|claim| {
        let genuine =
            |done: &Done| forms::genuine(&visitor.pages.keyring, done.purpose(), &session.id.0, &claim);
        Done::ALL.into_iter().find(genuine)
    });
    let overview = Overview {
        user: session.user.name.as_str(),
        here: session.id,
        app: &visitor.visit.app,
        token: forms::token(&visitor.pages.keyring, PURPOSE, &session.id.0),
        done,
        methods: choices(visitor, &session.user, &authenticators),
        authenticators: &authenticators,
        sessions: &sessions,
        profile: &profile,
        recovery: recovery::counts(visitor, &session.user),
    };
    Ok(Answer::page(StatusCode::OK, page::page(visitor.frame(), overview).render()?))
}

async fn change(visitor: &Visitor, body: Body) -> Result<Answer, Fault> {
    let posted = Form::read(visitor, body).await?;
    let live = present(visitor, "me")?;
    posted.demand_token(&visitor.pages.keyring, PURPOSE, &live.session().id.0)?;
    // What cannot be recorded does not happen.
    visitor.pages.auditor.ready()?;
    let done = match posted.get("do") {
        "rename" => acts::rename(visitor, &live, &posted).await?,
        "sign-out" => acts::sign_out(visitor, &live, posted.get("session")).await?,
        "sign-out-others" => acts::sign_out_others(visitor, &live).await?,
        "sign-out-everywhere" => return acts::sign_out_everywhere(visitor, &live).await,
        "language" => acts::set_language(visitor, &live, posted.get("language")).await?,
        "preferred" => acts::set_preferred(visitor, &live, posted.get("preferred")).await?,
        _ => return Err(Fault::Status(StatusCode::BAD_REQUEST)),
    };
    Ok(back(visitor, &live, done))
}

/// To the page again, which then says what was done.
fn back(visitor: &Visitor, live: &LiveSession, done: Option<Done>) -> Answer {
    let me = visitor.path("me");
    Answer::to(match done {
        None => me,
        Some(done) => {
            let claim = forms::token(&visitor.pages.keyring, done.purpose(), &live.session().id.0);
            format!("{me}?done={claim}")
        }
    })
}

/// The session of the visitor, when it is worth all that policy asks here; everybody else is sent to where they can do
/// something. `page` is where a proof leads back to.
pub(super) fn present(visitor: &Visitor, page: &str) -> Result<Arc<LiveSession>, Fault> {
    visitor.pages.admissions.may_begin()?;
    let instead = |answer| Err(Fault::Instead(answer));
    let Some(live) = visitor.session() else {
        return instead(match visitor.pending() {
            Some(_) => Answer::to(visitor.path("challenge")),
            None => admit::expired(visitor)?,
        });
    };
    match Worth::of(live.session(), &visitor.visit.app, visitor.visit.client, visitor.now) {
        Worth::Enough => Ok(live),
        Worth::TooLittle => instead(admit::prove_again(visitor, &live, page)?),
        Worth::Elsewhere => Err(Fault::Status(StatusCode::FORBIDDEN)),
    }
}

/// The methods that a user can put first: those that policy lets count and of which an authenticator is there.
fn choices(visitor: &Visitor, user: &UserKey, authenticators: &[Authenticator]) -> Vec<Method> {
    let counts = |method: &Method| {
        visitor.requirement(user).is_none_or(|required| policy::methods(required).contains(*method))
    };
    let there = |method: &Method| authenticators.iter().any(|a| a.method == *method);
    Method::ALL.iter().copied().filter(counts).filter(there).collect()
}

/// What is set for the user, changed by the user.
async fn change_profile(
    visitor: &Visitor,
    user: &UserKey,
    edit: impl Fn(&Profile) -> Profile,
) -> Result<bool, Fault> {
    let changed = documents::change_profile(visitor.pages.store.as_ref(), user, |kept| {
        let edited = edit(kept);
        let changed = edited != *kept;
        (changed.then_some(edited), changed)
    });
    Ok(changed.await?)
}
