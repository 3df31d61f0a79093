//! What the buttons of the page do.

use askama::Template;
use axum::http::StatusCode;

use super::{Done, change_profile, choices, page};
use crate::{
    audit::Event,
    deliver::notices::{Notice, Who},
    factor::totp::authenticator_name,
    i18n::Language,
    model::{AuthenticatorId, Method, Profile, SessionId, SessionRecord},
    session::standing::LiveSession,
    web::{
        forms::Form,
        reply::{Answer, Fault, Page},
        visitor::Visitor,
    },
};

/// What came of an act, to be told; nothing when there was nothing to do.
type Outcome = Result<Option<Done>, Fault>;

/// Another name for an authenticator.
pub(super) async fn rename(visitor: &Visitor, live: &LiveSession, posted: &Form) -> Outcome {
    let session = live.session();
    let Some(id) = AuthenticatorId::parse(posted.get("authenticator")) else {
        return Err(Fault::Status(StatusCode::BAD_REQUEST));
    };
    let typed = posted.get("name");
    if typed.trim().is_empty() {
        return Ok(None);
    }
    // Gone meanwhile: the page shows what there is.
    if !visitor.pages.store.rename(&session.user, id, &authenticator_name(typed)).await? {
        return Ok(None);
    }
    visitor.record(&Event::AuthenticatorRenamed, &session.user, session.device);
    Ok(Some(Done::Renamed))
}

/// Ends one of the other sessions of this user.
pub(super) async fn sign_out(visitor: &Visitor, live: &LiveSession, typed: &str) -> Outcome {
    let session = live.session();
    let Some(id) = SessionId::parse(typed).filter(|id| *id != session.id) else {
        return Err(Fault::Status(StatusCode::BAD_REQUEST));
    };
    // Looked up among the user's own: nobody ends another's by naming it.
    let sessions = visitor.pages.admissions.sessions_of(&session.user).await?;
    let Some(record) = sessions.iter().find(|record| record.id == id) else { return Ok(None) };
    end(visitor, live, record).await?;
    Ok(Some(Done::SignedOut))
}

/// Ends all of them but this one.
pub(super) async fn sign_out_others(visitor: &Visitor, live: &LiveSession) -> Outcome {
    let session = live.session();
    let sessions = visitor.pages.admissions.sessions_of(&session.user).await?;
    for record in sessions.iter().filter(|record| record.id != session.id) {
        end(visitor, live, record).await?;
    }
    Ok(Some(Done::SignedOutOthers))
}

async fn end(visitor: &Visitor, live: &LiveSession, record: &SessionRecord) -> Result<(), Fault> {
    let user = &live.session().user;
    visitor.pages.admissions.end_recorded(user, record).await?;
    visitor.pages.metrics.app(&record.app).sessions_ended.inc();
    visitor.record(&Event::SessionEnded, user, record.device);
    Ok(())
}

/// Ends all of them, this one too, and forgets the devices.
pub(super) async fn sign_out_everywhere(visitor: &Visitor, live: &LiveSession) -> Result<Answer, Fault> {
    let session = live.session();
    let cookies = visitor.pages.admissions.end_everything(&visitor.visit.app, &session.user).await?;
    visitor.pages.metrics.app(&session.app).sessions_ended.inc();
    visitor.grant(&Event::UserSignedOut, &session.user, session.device).await?;
    visitor.tell(Notice::SignedOut { by: Who::User }, &session.user);
    let html = page::everywhere(visitor.frame(), visitor.login_page()).render()?;
    Ok(Answer::Page(Page { status: StatusCode::OK, html, cookies, retry_after: None, leads_to_app: false }))
}

/// The language of messages to this user; empty: as the app has it.
pub(super) async fn set_language(visitor: &Visitor, live: &LiveSession, typed: &str) -> Outcome {
    let language = match typed {
        "" => None,
        typed => match Language::ALL.iter().find(|language| language.code() == typed) {
            Some(language) => Some(language.code().to_owned()),
            None => return Err(Fault::Status(StatusCode::BAD_REQUEST)),
        },
    };
    let edit = |kept: &Profile| Profile { language: language.clone(), ..kept.clone() };
    changed(visitor, live, "language", edit).await
}

/// The method that is offered first, one of those that the user can choose; empty: as policy has it.
pub(super) async fn set_preferred(visitor: &Visitor, live: &LiveSession, typed: &str) -> Outcome {
    let user = &live.session().user;
    let preferred = match typed {
        "" => None,
        typed => {
            let can = choices(visitor, user, &visitor.pages.store.authenticators(user).await?);
            let Some(method) = Method::parse(typed).filter(|method| can.contains(method)) else {
                return Err(Fault::Status(StatusCode::BAD_REQUEST));
            };
            Some(method)
        }
    };
    changed(visitor, live, "preferred", |kept| Profile { preferred, ..kept.clone() }).await
}

async fn changed(
    visitor: &Visitor,
    live: &LiveSession,
    what: &'static str,
    edit: impl Fn(&Profile) -> Profile,
) -> Outcome {
    let session = live.session();
    if change_profile(visitor, &session.user, edit).await? {
        visitor.record(&Event::UserChanged { what }, &session.user, session.device);
    }
    Ok(Some(Done::Saved))
}
