//! `challenge`: asks the user of a pending login for a code, and completes the login with it.

use std::time::Duration;

use askama::Template;
use axum::{body::Body, http::StatusCode, response::Response};

use super::{
    admit,
    forms::{self, Form},
    reply::{Answer, Fault},
    view::{ChallengePage, Frame, Problem},
    visitor::Visitor,
};
use crate::{
    factor::Verdict,
    metrics::{self, Challenge},
    model::Method,
    policy::{self, Enrolment},
    session::token::{Pending, Purpose},
};

const PURPOSE: &str = "challenge";

/// `GET challenge`
pub(super) async fn show(visitor: Visitor) -> Response {
    let answer = ask(&visitor).await;
    visitor.reply(answer)
}

/// `POST challenge`
pub(super) async fn answer(visitor: Visitor, body: Body) -> Response {
    let answer = check(&visitor, body).await;
    visitor.reply(answer)
}

async fn ask(visitor: &Visitor) -> Result<Answer, Fault> {
    visitor.pages.admissions.may_begin()?;
    let Some(pending) = visitor.pending() else { return nothing_pending(visitor) };
    if !visitor.pages.totp.enrolled(&pending.user).await? {
        return not_enrolled(visitor, &pending);
    }
    if !counts(visitor, &pending) {
        return admit::not_set_up(visitor);
    }
    form(visitor, &pending, None)
}

async fn check(visitor: &Visitor, body: Body) -> Result<Answer, Fault> {
    visitor.pages.admissions.may_begin()?;
    let posted = Form::read(visitor, body).await?;
    let Some(pending) = visitor.pending() else { return nothing_pending(visitor) };
    posted.demand_token(&visitor.pages.keyring, PURPOSE, &pending.login.0)?;
    if !counts(visitor, &pending) {
        return admit::not_set_up(visitor);
    }
    let code = posted.code();
    if code.is_empty() {
        return form(visitor, &pending, Some(admit::empty(visitor.language)));
    }
    // Before the code is looked at: a code that cannot be recorded is not spent.
    visitor.pages.auditor.ready()?;
    let challenges = &visitor.pages.metrics.challenges;
    let verdict = visitor.pages.totp.verify(&pending.user, &code).await.inspect_err(|_| {
        challenges.count(Method::Totp, Challenge::Unavailable);
    })?;
    match verdict {
        Verdict::Proved(proof) => {
            let method = proof.method();
            challenges.count(method, Challenge::Passed);
            admit::passed(visitor, &pending, method).await?;
            admit::complete(visitor, pending, proof).await
        }
        verdict => {
            let problem = admit::refused(visitor, verdict, &pending.user, pending.device)?;
            form(visitor, &pending, Some(problem))
        }
    }
}

/// A code counts unless policy asks for other methods only.
fn counts(visitor: &Visitor, pending: &Pending) -> bool {
    visitor.requirement(&pending.user).is_none_or(|r| policy::methods(r).contains(Method::Totp))
}

/// Whoever is logged in already goes on to the app; everybody else logs in again.
fn nothing_pending(visitor: &Visitor) -> Result<Answer, Fault> {
    if visitor.session().is_some() { Ok(Answer::to("/")) } else { admit::expired(visitor) }
}

fn not_enrolled(visitor: &Visitor, pending: &Pending) -> Result<Answer, Fault> {
    match visitor.requirement(&pending.user) {
        // The rules have changed since the first factor: a new login needs no code.
        None => admit::expired(visitor),
        Some(r)
            if policy::may_enrol(r, visitor.visit.client) != Enrolment::Closed
                && policy::methods(r).contains(Method::Totp) =>
        {
            Ok(Answer::to(visitor.path("enrol")))
        }
        Some(_) => {
            visitor.pages.metrics.enrolments.count(Method::Totp, metrics::Enrolment::Closed);
            admit::not_set_up(visitor)
        }
    }
}

fn form(visitor: &Visitor, pending: &Pending, problem: Option<Problem>) -> Result<Answer, Fault> {
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let asked = Asked {
        user: pending.user.name.as_str(),
        issuer: &visitor.visit.app.totp.issuer,
        again: pending.purpose != Purpose::Login,
        validity: visitor.requirement(&pending.user).map(|r| r.validity).unwrap_or_default(),
        token: forms::token(&visitor.pages.keyring, PURPOSE, &pending.login.0),
        emergency: admit::emergency_is_offered(visitor, pending),
    };
    Ok(Answer::form(status, page(visitor.frame(), asked, problem).render()?))
}

/// What the page asks, and whom.
pub(super) struct Asked<'a> {
    pub user: &'a str,
    pub issuer: &'a str,
    /// A running session is to prove itself again.
    pub again: bool,
    /// How long the proof will be remembered.
    pub validity: Duration,
    pub token: String,
    /// There is a way for emergencies.
    pub emergency: bool,
}

/// The page.
pub(super) fn page<'a>(frame: Frame<'a>, asked: Asked<'a>, problem: Option<Problem>) -> ChallengePage<'a> {
    let language = frame.language;
    let (title, lead, submit) = if asked.again {
        ("challenge-title-again", frame.t("challenge-again-lead"), "challenge-again-submit")
    } else {
        let lead = language.text_with("challenge-lead", "issuer", asked.issuer);
        ("challenge-title", lead, "challenge-submit")
    };
    let remembered = (!asked.validity.is_zero()).then(|| language.duration(asked.validity));
    ChallengePage {
        frame,
        title: frame.t(title),
        wide: false,
        failed: problem.is_some(),
        user: asked.user,
        lead,
        problem,
        token: asked.token,
        submit: frame.t(submit),
        remember: remembered.map(|time| language.text_with("challenge-remember", "time", time)),
        emergency: asked.emergency,
        helps: vec![
            frame.t("challenge-help-newest"),
            language.text_with("challenge-help-account", "issuer", asked.issuer),
            frame.t("challenge-help-clock"),
            frame.t("challenge-help-lost"),
        ],
    }
}
