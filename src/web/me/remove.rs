//! `me/remove`: takes an authenticator away, for good.
//!
//! Only with a second factor of the last minutes, never the last one that counts, and with everything that may rest on
//! it: every session and every trust of the user ends, this one too. Which of them rest on the removed one nobody can
//! tell (tokens name methods, not authenticators), and of two wrongs a login too many is the smaller one. It also leaves
//! a thief of this very session with nothing, and tells its owner.

use askama::Template;
use axum::{body::Body, http::StatusCode, response::Response};

use super::{page, present};
use crate::{
    audit::Event,
    deliver::notices::{Notice, Who},
    model::{Authenticator, AuthenticatorId, MethodSet},
    policy,
    session::standing::LiveSession,
    store::Spare,
    web::{
        admit,
        forms::{self, Form},
        reply::{Answer, Fault, Page},
        visitor::Visitor,
    },
};

const PURPOSE: &str = "me-remove";
const PAGE: &str = "me/remove";

/// `GET me/remove`
pub(in crate::web) async fn ask(visitor: Visitor) -> Response {
    let answer = choose(&visitor).await;
    visitor.reply(answer)
}

/// `POST me/remove`
pub(in crate::web) async fn post(visitor: Visitor, body: Body) -> Response {
    let answer = remove(&visitor, body).await;
    visitor.reply(answer)
}

async fn choose(visitor: &Visitor) -> Result<Answer, Fault> {
    if !forms::by_navigation(visitor.headers()) {
        return Err(Fault::Status(StatusCode::FORBIDDEN));
    }
    let live = present(visitor, PAGE)?;
    let session = live.session();
    let all = visitor.pages.store.authenticators(&session.user).await?;
    let spare = spare(&all, counting(visitor, &live));
    if spare.is_empty() {
        return Ok(Answer::page(StatusCode::OK, page::only_one(visitor.frame()).render()?));
    }
    demand_fresh(visitor, &live)?;
    let token = forms::token(&visitor.pages.keyring, PURPOSE, &session.id.0);
    let page = page::remove(visitor.frame(), session.user.name.as_str(), token, &spare);
    Ok(Answer::page(StatusCode::OK, page.render()?))
}

async fn remove(visitor: &Visitor, body: Body) -> Result<Answer, Fault> {
    let posted = Form::read(visitor, body).await?;
    let live = present(visitor, PAGE)?;
    demand_fresh(visitor, &live)?;
    let session = live.session();
    posted.demand_token(&visitor.pages.keyring, PURPOSE, &session.id.0)?;
    // Nothing was chosen.
    let Some(id) = AuthenticatorId::parse(posted.get("authenticator")) else {
        return Ok(Answer::to(visitor.path("me/remove")));
    };
    visitor.pages.auditor.ready()?;
    let (user, app) = (&session.user, &visitor.visit.app);
    let all = visitor.pages.store.authenticators(user).await?;
    let Some(method) = all.iter().find(|a| a.id == id).map(|a| a.method) else {
        return Ok(Answer::to(visitor.path("me")));
    };
    let counting = counting(visitor, &live);
    if spare(&all, counting).iter().all(|a| a.id != id) {
        return Ok(Answer::page(StatusCode::CONFLICT, page::only_one(visitor.frame()).render()?));
    }
    // Before it is removed, so that nothing that rests on it is left when this is cut short; and after, since somebody may
    // have logged in with it in between.
    let cookies = visitor.pages.admissions.end_everything(app, user).await?;
    let spare = visitor.pages.store.remove_spare(user, id, counting).await?;
    visitor.pages.admissions.end_everything(app, user).await?;
    visitor.pages.metrics.app(&session.app).sessions_ended.inc();
    let frame = visitor.frame();
    let (event, notice, page) = match spare {
        Spare::Removed => (
            Event::AuthenticatorRemoved { method },
            Notice::AuthenticatorRemoved { method, by: Who::User },
            page::removed(frame, visitor.login_page()),
        ),
        // Removed by somebody else in this moment, or the last one by now: then all sessions have ended for nothing.
        Spare::Last | Spare::Unknown => (
            Event::UserSignedOut,
            Notice::SignedOut { by: Who::User },
            page::everywhere(frame, visitor.login_page()),
        ),
    };
    visitor.grant(&event, user, session.device).await?;
    visitor.tell(notice, user);
    let html = page.render()?;
    Ok(Answer::Page(Page { status: StatusCode::OK, html, cookies, retry_after: None, leads_to_app: false }))
}

/// Goes on only when the second factor of this session was proved a moment ago.
fn demand_fresh(visitor: &Visitor, live: &LiveSession) -> Result<(), Fault> {
    if admit::is_fresh(visitor, live) {
        return Ok(());
    }
    Err(Fault::Instead(admit::prove_again(visitor, live, PAGE)?))
}

/// The methods of which one must stay. Who needs none here may need one at another app of the realm, or from another
/// address: then one of any kind stays.
fn counting(visitor: &Visitor, live: &LiveSession) -> MethodSet {
    visitor.requirement(&live.session().user).map_or(MethodSet::ALL, policy::methods)
}

/// Those that can go: another one that counts stays.
fn spare(all: &[Authenticator], counting: MethodSet) -> Vec<&Authenticator> {
    let stays = |gone: &Authenticator| all.iter().any(|a| a.id != gone.id && counting.contains(a.method));
    all.iter().filter(|a| stays(a)).collect()
}
