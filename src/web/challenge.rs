//! `challenge`: asks the user of a pending login for a code, and completes the login with it.

use askama::Template;
use axum::{body::Body, http::StatusCode, response::Response};

use super::{
    admit,
    forms::{self, Form},
    reply::{Answer, Fault},
    view::{ChallengePage, Problem},
    visitor::Visitor,
};
use crate::{
    audit::Event,
    factor::Verdict,
    metrics::{Challenge, Enrolment},
    model::Method,
    policy,
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
    let posted = Form::read(visitor, body).await?;
    let Some(pending) = visitor.pending() else { return nothing_pending(visitor) };
    posted.demand_token(&visitor.pages.keyring, PURPOSE, &pending.login.0)?;
    if !counts(visitor, &pending) {
        return admit::not_set_up(visitor);
    }
    let code = posted.code();
    if code.is_empty() {
        return form(visitor, &pending, Some(admit::empty(visitor)));
    }
    let challenges = &visitor.pages.metrics.challenges;
    let verdict = visitor.pages.totp.verify(&pending.user, &code).await.inspect_err(|_| {
        challenges.count(Method::Totp, Challenge::Unavailable);
    })?;
    match verdict {
        Verdict::Proved(proof) => {
            let method = proof.method();
            challenges.count(method, Challenge::Passed);
            visitor.record(&Event::SecondFactorPassed { method }, &pending.user, pending.device);
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
            if policy::may_enrol(r, visitor.visit.client) && policy::methods(r).contains(Method::Totp) =>
        {
            Ok(Answer::to(visitor.path("enrol")))
        }
        Some(_) => {
            visitor.pages.metrics.enrolments.count(Method::Totp, Enrolment::Closed);
            admit::not_set_up(visitor)
        }
    }
}

fn form(visitor: &Visitor, pending: &Pending, problem: Option<Problem>) -> Result<Answer, Fault> {
    let t = |key| visitor.language.text(key);
    let issuer = visitor.visit.app.totp.issuer.as_str();
    let validity = visitor.requirement(&pending.user).map(|r| r.validity).filter(|v| !v.is_zero());
    let (title, lead, submit) = match pending.purpose {
        Purpose::Login => (
            t("challenge-title"),
            visitor.language.text_with("challenge-lead", "issuer", issuer),
            t("challenge-submit"),
        ),
        Purpose::StepUp { .. } => {
            (t("challenge-title-again"), t("challenge-again-lead"), t("challenge-again-submit"))
        }
    };
    let failed = problem.is_some();
    let html = ChallengePage {
        frame: visitor.frame(),
        title,
        wide: false,
        failed,
        user: pending.user.name.as_str(),
        lead,
        problem,
        token: forms::token(&visitor.pages.keyring, PURPOSE, &pending.login.0),
        submit,
        remember: validity
            .map(|v| visitor.language.text_with("challenge-remember", "time", visitor.language.duration(v))),
        helps: vec![
            t("challenge-help-newest"),
            visitor.language.text_with("challenge-help-account", "issuer", issuer),
            t("challenge-help-clock"),
            t("challenge-help-lost"),
        ],
    }
    .render()?;
    Ok(Answer::page(if failed { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK }, html))
}
