//! `emergency`: in with a code that an administrator prepared, and a reason (`break_glass`), when care cannot wait for a
//! second factor.
//!
//! Open to a pending login at an app that has this, whether or not its user has such codes: nobody learns that here. The
//! reason is judged before the code is looked at, the code is counted before it is looked at (I8) and taken once (I4), and
//! that it was used is in the audit log, with the reason, before the session exists.

use std::time::Duration;

use askama::Template;
use axum::{body::Body, http::StatusCode, response::Response};

use super::{
    admit,
    forms::{self, Form},
    reply::{Answer, Fault},
    view::{EmergencyPage, Frame, Problem},
    visitor::Visitor,
};
use crate::{
    audit::Event,
    config::app::BreakGlass,
    deliver::notices::{Notice, Scene},
    factor::shown_once,
    metrics::SessionGround,
    session::{admission::Completion, token::Pending},
};

const PURPOSE: &str = "emergency";
/// A reason that is required has so many characters at least, white space aside.
const SHORTEST_REASON: usize = 10;

/// `GET emergency`
pub(super) async fn show(visitor: Visitor) -> Response {
    let answer = ask(&visitor);
    visitor.reply(answer)
}

/// `POST emergency`
pub(super) async fn answer(visitor: Visitor, body: Body) -> Response {
    let answer = check(&visitor, body).await;
    visitor.reply(answer)
}

fn ask(visitor: &Visitor) -> Result<Answer, Fault> {
    let (rules, pending) = candidate(visitor)?;
    form(visitor, rules, &pending, "", None)
}

async fn check(visitor: &Visitor, body: Body) -> Result<Answer, Fault> {
    let posted = Form::read(visitor, body).await?;
    let (rules, pending) = candidate(visitor)?;
    posted.demand_token(&visitor.pages.keyring, PURPOSE, &pending.login.0)?;
    let (code, reason) = (posted.get("emergency").trim(), posted.get("reason").trim());
    let t = |key| visitor.language.text(key);
    let problem = |title, text| Problem { title, text: Some(text), wait: None, checks: Vec::new() };
    // First what can be mended without a code.
    if rules.reason_required && reason.chars().filter(|c| !c.is_whitespace()).count() < SHORTEST_REASON {
        let fault = Wrong {
            problem: problem(t("emergency-reason-title"), t("emergency-reason-short")),
            reason: true,
        };
        return form(visitor, rules, &pending, reason, Some(fault));
    }
    if code.is_empty() {
        let fault =
            Wrong { problem: problem(t("emergency-empty-title"), t("emergency-empty")), reason: false };
        return form(visitor, rules, &pending, reason, Some(fault));
    }
    // A code that cannot be recorded is not spent.
    visitor.pages.auditor.ready()?;
    let typed =
        shown_once::take_emergency_code(&visitor.pages.store, &pending.user, code, visitor.now).await?;
    let wrong = problem(t("emergency-wrong-title"), t("emergency-wrong"));
    let proof = match admit::shown_once(visitor, typed, &pending, &Event::EmergencyRefused, wrong)? {
        Ok(proof) => proof,
        Err(problem) => {
            return form(visitor, rules, &pending, reason, Some(Wrong { problem, reason: false }));
        }
    };
    let reason = Some(reason).filter(|reason| !reason.is_empty());
    visitor.grant_because(&Event::EmergencyUsed, &pending.user, pending.device, reason).await?;
    tell(visitor, &pending);
    let (app, lives) = (&visitor.visit.app, rules.max);
    let origin = visitor.origin();
    match visitor.pages.admissions.complete_in_emergency(app, pending, proof, lives, origin).await? {
        Completion::Admitted(admission) => admit::begun(visitor, admission, SessionGround::Emergency).await,
        Completion::Void => admit::expired(visitor),
    }
}

/// Somebody gets in by emergency access: those who watch over it are told, here and nowhere else.
fn tell(visitor: &Visitor, pending: &Pending) {
    tracing::warn!(
        app = %visitor.visit.app.id,
        user = %pending.user.name,
        client = %visitor.visit.client,
        request_id = %visitor.visit.request_id,
        "emergency access was used; the audit log has the reason"
    );
    let (user, app) = (pending.user.clone(), &visitor.visit.app);
    let scene = Scene::at(app).from(visitor.visit.client).with(visitor.origin().agent);
    visitor.pages.notices.tell_administrators(Notice::EmergencyAccess { user }, scene);
}

/// What the app has for emergencies, and the login that is pending.
fn candidate(visitor: &Visitor) -> Result<(&BreakGlass, Pending), Fault> {
    let Some(rules) = &visitor.visit.app.break_glass else {
        return Err(Fault::Status(StatusCode::NOT_FOUND));
    };
    visitor.pages.admissions.may_begin()?;
    match visitor.pending() {
        Some(pending) if admit::emergency_is_offered(visitor, &pending) => Ok((rules, pending)),
        // Who has a session goes on from there, and who has nothing is told to log in.
        _ => Err(Fault::Instead(Answer::to(visitor.path("challenge")))),
    }
}

/// What is wrong: with the code, or with the reason.
pub(super) struct Wrong {
    pub problem: Problem,
    pub reason: bool,
}

fn form(
    visitor: &Visitor,
    rules: &BreakGlass,
    pending: &Pending,
    reason: &str,
    wrong: Option<Wrong>,
) -> Result<Answer, Fault> {
    let status = if wrong.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let asked = Asked {
        user: pending.user.name.as_str(),
        token: forms::token(&visitor.pages.keyring, PURPOSE, &pending.login.0),
        asks_reason: rules.reason_required,
        lives: rules.max,
        reason,
    };
    Ok(Answer::form(status, page(visitor.frame(), asked, wrong).render()?))
}

/// What the page asks, and whom.
pub(super) struct Asked<'a> {
    pub user: &'a str,
    pub token: String,
    pub asks_reason: bool,
    pub lives: Duration,
    /// What was typed before.
    pub reason: &'a str,
}

/// The page.
pub(super) fn page<'a>(frame: Frame<'a>, asked: Asked<'a>, wrong: Option<Wrong>) -> EmergencyPage<'a> {
    let time = frame.language.duration(asked.lives);
    EmergencyPage {
        frame,
        title: frame.t("emergency-title"),
        wide: false,
        failed: wrong.is_some(),
        user: asked.user,
        lead: frame.language.text_with("emergency-lead", "time", time),
        reason_fault: wrong.as_ref().is_some_and(|wrong| wrong.reason),
        problem: wrong.map(|wrong| wrong.problem),
        token: asked.token,
        asks_reason: asked.asks_reason,
        reason: asked.reason,
    }
}
