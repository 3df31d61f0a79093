//! `invitation`: asks a user without an authenticator for the activation code that an administrator has given, where policy
//! wants one (`enrol: invite`).
//!
//! The right code is not spent here: it becomes part of the pending login (its hash, in the signed cookie), and is taken
//! when the first code of the authenticator is right. So it is not lost when somebody does not get to the end, and two
//! browsers with one code make one authenticator. Wrong, used and expired look the same.

use askama::Template;
use axum::{body::Body, http::StatusCode, response::Response};

use super::{
    admit, enrol,
    forms::{self, Form},
    reply::{Answer, Fault},
    view::{Frame, InvitationPage, Problem},
    visitor::Visitor,
};
use crate::{
    audit::Event,
    factor::shown_once::{self, Typed},
    i18n::Language,
    metrics,
    model::Method,
    policy::Enrolment,
    session::token::{Pending, Purpose},
};

const PURPOSE: &str = "invitation";

/// `GET invitation`
pub(super) async fn show(visitor: Visitor) -> Response {
    let answer = ask(&visitor).await;
    visitor.reply(answer)
}

/// `POST invitation`
pub(super) async fn answer(visitor: Visitor, body: Body) -> Response {
    let answer = check(&visitor, body).await;
    visitor.reply(answer)
}

async fn ask(visitor: &Visitor) -> Result<Answer, Fault> {
    let pending = candidate(visitor).await?;
    form(visitor, &pending, None)
}

async fn check(visitor: &Visitor, body: Body) -> Result<Answer, Fault> {
    let posted = Form::read(visitor, body).await?;
    let pending = candidate(visitor).await?;
    posted.demand_token(&visitor.pages.keyring, PURPOSE, &pending.login.0)?;
    let typed = posted.get("activation");
    if typed.trim().is_empty() {
        return form(visitor, &pending, Some(problem(visitor.language, true)));
    }
    // Before the code is looked at: what cannot be recorded does not happen.
    visitor.pages.auditor.ready()?;
    let shown = shown_once::show_invitation(&visitor.pages.store, &pending.user, typed, visitor.now).await?;
    if matches!(shown, Typed::Wrong { .. }) {
        visitor.pages.metrics.enrolments.count(Method::Totp, metrics::Enrolment::NotInvited);
    }
    let (event, wrong) = (Event::InvitationRefused, problem(visitor.language, false));
    match admit::shown_once(visitor, shown, &pending, &event, wrong)? {
        Ok(invitation) => {
            let cookies = visitor.pages.admissions.with_invitation(pending, invitation);
            Ok(Answer::SeeOther { to: visitor.path("enrol"), cookies })
        }
        Err(problem) => form(visitor, &pending, Some(problem)),
    }
}

/// A pending login of somebody who has no authenticator and needs an invitation for one; everybody else is sent to where
/// they can do something.
async fn candidate(visitor: &Visitor) -> Result<Pending, Fault> {
    visitor.pages.admissions.may_begin()?;
    let instead = |page| Err(Fault::Instead(Answer::to(visitor.path(page))));
    // Who has a session goes on from there, and who has nothing is told to log in.
    let Some(pending) = visitor.pending() else { return instead("challenge") };
    if pending.purpose != Purpose::Login || visitor.pages.totp.enrolled(&pending.user).await? {
        return instead("challenge");
    }
    if visitor.requirement(&pending.user).is_none() {
        return Err(Fault::Instead(admit::expired(visitor)?));
    }
    match enrol::demand_open(visitor, &pending.user)? {
        Enrolment::Invited => Ok(pending),
        Enrolment::Open | Enrolment::Closed => instead("enrol"),
    }
}

fn form(visitor: &Visitor, pending: &Pending, problem: Option<Problem>) -> Result<Answer, Fault> {
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let token = forms::token(&visitor.pages.keyring, PURPOSE, &pending.login.0);
    let page = page(visitor.frame(), pending.user.name.as_str(), token, problem);
    Ok(Answer::page(status, page.render()?))
}

/// The page.
pub(super) fn page<'a>(
    frame: Frame<'a>,
    user: &'a str,
    token: String,
    problem: Option<Problem>,
) -> InvitationPage<'a> {
    InvitationPage {
        frame,
        title: frame.t("invitation-title"),
        wide: false,
        failed: problem.is_some(),
        user,
        lead: frame.language.text_with("invitation-lead", "app", frame.brand()),
        problem,
        token,
    }
}

/// An empty field, or a code that is wrong, used or expired.
pub(super) fn problem(language: Language, empty: bool) -> Problem {
    let t = |key| language.text(key);
    if empty {
        let (title, text) = (t("invitation-empty-title"), Some(t("invitation-empty")));
        return Problem { title, text, wait: None, checks: Vec::new() };
    }
    let checks = vec![t("invitation-check-typed"), t("invitation-check-newest"), t("invitation-check-ask")];
    Problem { title: t("invitation-wrong-title"), text: Some(t("wrong-check")), wait: None, checks }
}
