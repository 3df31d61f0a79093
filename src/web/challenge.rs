//! `challenge`: asks the user of a pending login for a code, and completes the login with it.

use std::time::Duration;

use askama::Template;
use axum::{body::Body, http::StatusCode, response::Response};

use super::{
    admit,
    forms::{self, Form},
    methods::{self, Words},
    recovery,
    reply::{Answer, Fault},
    view::{ChallengePage, Frame, Link, Problem},
    visitor::Visitor,
};
use crate::{
    deliver::notices::{Notice, Scene},
    factor::{Ask, Verdict},
    metrics::{self, Challenge},
    model::{Method, MethodSet},
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
    let open = open(visitor, &pending).await?;
    let wanted = visitor.asked("method").and_then(|name| Method::parse(&name));
    match wanted.filter(|method| open.contains(method)).or_else(|| open.first().copied()) {
        Some(method) => form(visitor, &pending, &open, method, None),
        None => nothing_to_ask(visitor, &pending).await,
    }
}

async fn check(visitor: &Visitor, body: Body) -> Result<Answer, Fault> {
    visitor.pages.admissions.may_begin()?;
    let posted = Form::read(visitor, body).await?;
    let Some(pending) = visitor.pending() else { return nothing_pending(visitor) };
    posted.demand_token(&visitor.pages.keyring, PURPOSE, &pending.login.0)?;
    let method = match posted.get("method") {
        "" => Method::Totp,
        name => Method::parse(name).ok_or(Fault::Status(StatusCode::BAD_REQUEST))?,
    };
    if !allowed(visitor, &pending).contains(method) {
        return admit::not_set_up(visitor);
    }
    let Some(factor) = visitor.pages.factors.get(method) else { return admit::not_set_up(visitor) };
    let code = posted.code();
    if code.is_empty() {
        let open = open(visitor, &pending).await?;
        return form(visitor, &pending, &open, method, Some(methods::empty(visitor.language, method)));
    }
    // Before the code is looked at: a code that cannot be recorded is not spent.
    visitor.pages.auditor.ready()?;
    let challenges = &visitor.pages.metrics.challenges;
    let verdict = factor.verify(&whom(visitor, &pending), &code).await.inspect_err(|_| {
        challenges.count(method, Challenge::Unavailable);
    })?;
    match verdict {
        Verdict::Proved(proof) => {
            let method = proof.method();
            challenges.count(method, Challenge::Passed);
            admit::passed(visitor, &pending, method).await?;
            if method != Method::Recovery {
                return admit::complete(visitor, pending, proof).await;
            }
            visitor.tell(Notice::RecoveryCodeUsed, &pending.user);
            let left = visitor.pages.recovery.stock(&pending.user).await?.map_or(0, |stock| stock.left);
            recovery::passed(visitor, admit::complete(visitor, pending, proof).await?, left)
        }
        verdict => {
            let problem = admit::refused(visitor, verdict, method, &pending.user, pending.device)?;
            let open = open(visitor, &pending).await?;
            form(visitor, &pending, &open, method, Some(problem))
        }
    }
}

fn whom<'a>(visitor: &Visitor, pending: &'a Pending) -> Ask<'a> {
    let scene = Scene::at(&visitor.visit.app).from(visitor.visit.client).with(visitor.origin().agent);
    Ask { user: &pending.user, login: pending.login, scene }
}

/// The ways that policy takes.
fn allowed(visitor: &Visitor, pending: &Pending) -> MethodSet {
    visitor.requirement(&pending.user).map_or(MethodSet::ALL, policy::methods)
}

/// Those of them for which the user has what it takes.
async fn open(visitor: &Visitor, pending: &Pending) -> Result<Vec<Method>, Fault> {
    Ok(visitor.pages.factors.ready(&pending.user, allowed(visitor, pending)).await?)
}

/// Whoever is logged in already goes on to the app; everybody else logs in again.
fn nothing_pending(visitor: &Visitor) -> Result<Answer, Fault> {
    if visitor.session().is_some() { Ok(Answer::to("/")) } else { admit::expired(visitor) }
}

/// No way is open to this user: perhaps one can be set up here.
async fn nothing_to_ask(visitor: &Visitor, pending: &Pending) -> Result<Answer, Fault> {
    if visitor.pages.totp.enrolled(&pending.user).await? {
        return admit::not_set_up(visitor);
    }
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

fn form(
    visitor: &Visitor,
    pending: &Pending,
    open: &[Method],
    method: Method,
    problem: Option<Problem>,
) -> Result<Answer, Fault> {
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let asked = Asked {
        user: pending.user.name.as_str(),
        issuer: &visitor.visit.app.totp.issuer,
        method,
        others: open.iter().copied().filter(|other| *other != method).collect(),
        again: pending.purpose != Purpose::Login,
        validity: visitor.requirement(&pending.user).map(|r| policy::validity(r, method)).unwrap_or_default(),
        token: forms::token(&visitor.pages.keyring, PURPOSE, &pending.login.0),
        emergency: admit::emergency_is_offered(visitor, pending),
    };
    Ok(Answer::form(status, page(visitor.frame(), asked, problem).render()?))
}

/// What the page asks, and whom.
pub(super) struct Asked<'a> {
    pub user: &'a str,
    pub issuer: &'a str,
    /// By which way.
    pub method: Method,
    /// What else the user has.
    pub others: Vec<Method>,
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
    let (title, submit) = if asked.again {
        ("challenge-title-again", "challenge-again-submit")
    } else {
        ("challenge-title", "challenge-submit")
    };
    let Words { lead, field, helps } = methods::words(language, asked.method, asked.issuer);
    let lead = if asked.again { format!("{} {lead}", frame.t("challenge-again-lead")) } else { lead };
    let remembered = (!asked.validity.is_zero()).then(|| language.duration(asked.validity));
    let other = |method: &Method| Link {
        href: format!("{}/challenge?method={method}", frame.prefix),
        label: methods::other(language, *method),
    };
    ChallengePage {
        frame,
        title: frame.t(title),
        wide: false,
        failed: problem.is_some(),
        user: asked.user,
        lead,
        problem,
        token: asked.token,
        method: asked.method.name(),
        field,
        submit: frame.t(submit),
        others: asked.others.iter().map(other).collect(),
        remember: remembered.map(|time| language.text_with("challenge-remember", "time", time)),
        emergency: asked.emergency,
        helps,
    }
}
