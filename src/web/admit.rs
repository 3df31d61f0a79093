//! What all handlers say about a login: it has been completed, has run out, waits, is locked, cannot be set up here.

use std::time::Duration;

use askama::Template;
use axum::http::{HeaderName, StatusCode};

use super::{
    methods,
    reply::{self, Answer, Fault, Page},
    view::{Frame, MessagePage, Problem, Sign},
    visitor::Visitor,
};
use crate::{
    audit::Event,
    base::clock::UnixMillis,
    deliver::notices::Notice,
    factor::{Hint, Proof, Verdict, shown_once::Typed},
    metrics::{Challenge, Label, Lockout, SessionGround},
    model::{DeviceId, Method, RequestId, UserKey},
    session::{
        admission::{Admission, Completion},
        standing::LiveSession,
        token::{Pending, Purpose},
    },
    throttle::Next,
};

/// How long after a second factor authenticators may be added or removed without a new one.
const FRESH: Duration = Duration::from_secs(5 * 60);

/// Completes a pending login with its proof, and sends the browser on.
pub(super) async fn complete(visitor: &Visitor, pending: Pending, proof: Proof) -> Result<Answer, Fault> {
    let begins = pending.purpose == Purpose::Login;
    let app = &visitor.visit.app;
    let completion = visitor.pages.admissions.complete(app, pending, proof, visitor.origin()).await?;
    let admission = match completion {
        Completion::Admitted(admission) => admission,
        Completion::Void => return expired(visitor),
    };
    if begins {
        return begun(visitor, admission, SessionGround::Factor).await;
    }
    Ok(Answer::SeeOther { to: admission.target, cookies: admission.cookies })
}

/// A session has begun: counted, recorded, and the browser sent on.
pub(super) async fn begun(
    visitor: &Visitor,
    admission: Admission,
    ground: SessionGround,
) -> Result<Answer, Fault> {
    let Admission { user, device, taken_from, target, cookies, .. } = admission;
    let counters = visitor.pages.metrics.app(&visitor.visit.app.id);
    if let Some(from) = taken_from {
        counters.takeovers.inc();
        visitor.record(&Event::DeviceTakenOver { from }, &user, device);
    }
    counters.sessions_started.count(ground);
    visitor.grant(&Event::SessionStarted { ground: ground.name() }, &user, device).await?;
    Ok(Answer::SeeOther { to: target, cookies })
}

/// Records a second factor that was passed: before anything is granted for it. Where a session begins, that event is
/// waited for, and comes after this one.
pub(super) async fn passed(visitor: &Visitor, pending: &Pending, method: Method) -> Result<(), Fault> {
    let event = Event::SecondFactorPassed { method };
    if pending.purpose == Purpose::Login {
        visitor.record(&event, &pending.user, pending.device);
        return Ok(());
    }
    visitor.grant(&event, &pending.user, pending.device).await
}

/// What a verdict other than "proved" leads to, counted and recorded. A wrong answer gives the problem to show
/// with the form again; everything else is a page of its own.
pub(super) fn refused(
    visitor: &Visitor,
    verdict: Verdict,
    method: Method,
    user: &UserKey,
    device: DeviceId,
) -> Result<Problem, Fault> {
    visitor.pages.metrics.challenges.count(method, outcome(&verdict));
    if !matches!(verdict, Verdict::NotEnrolled) {
        visitor.record(&Event::SecondFactorRefused { method }, user, device);
    }
    match verdict {
        Verdict::Wrong { hint, next, .. } => {
            let mut problem =
                methods::explain(visitor.language, method, &visitor.visit.app.totp.issuer, hint);
            problem.wait = consequence(visitor, next, user, device)?;
            Ok(problem)
        }
        Verdict::Wait { until } => Err(Fault::Instead(wait(visitor, until)?)),
        Verdict::Locked => Err(Fault::Instead(locked(visitor)?)),
        // The authenticator was removed meanwhile: the challenge page knows what follows.
        Verdict::NotEnrolled => Err(Fault::Instead(Answer::to(visitor.path("challenge")))),
        Verdict::Proved(_) => Err(Fault::Internal("a proof is no refusal".to_owned())),
    }
}

/// What follows from a code that is shown once and was typed: what it gives when it was right; `Err` of a problem, with `title`
/// and `text`, to show with the form again when it was wrong (then `event` is recorded); else a page of its own.
pub(super) fn shown_once<T>(
    visitor: &Visitor,
    typed: Typed<T>,
    pending: &Pending,
    event: &Event,
    problem: Problem,
) -> Result<Result<T, Problem>, Fault> {
    match typed {
        Typed::Right(right) => Ok(Ok(right)),
        Typed::Wrong { next } => {
            visitor.record(event, &pending.user, pending.device);
            let wait = consequence(visitor, next, &pending.user, pending.device)?;
            Ok(Err(Problem { wait, ..problem }))
        }
        Typed::Wait { until } => Err(Fault::Instead(wait(visitor, until)?)),
        Typed::Locked => Err(Fault::Instead(locked(visitor)?)),
    }
}

/// Whether there is a way round the second factor for emergencies: whoever has no code for it is not told so here. A session
/// that has begun has none: it is to prove more, not less.
pub(super) fn emergency_is_offered(visitor: &Visitor, pending: &Pending) -> bool {
    visitor.visit.app.break_glass.is_some() && pending.purpose == Purpose::Login
}

/// Whether the second factor of this session was proved so lately that what outlasts the session may be changed.
pub(super) fn is_fresh(visitor: &Visitor, live: &LiveSession) -> bool {
    live.session().proved_at.is_some_and(|at| visitor.now.since(at) <= FRESH)
}

/// To the challenge, and from there back to `page`, one of those for which
/// [`Admissions::step_up`](crate::session::admission::Admissions::step_up) does that.
pub(super) fn prove_again(visitor: &Visitor, live: &LiveSession, page: &str) -> Result<Answer, Fault> {
    // A link on another site must not make anybody prove themselves again.
    let site = reply::text(visitor.headers(), &HeaderName::from_static("sec-fetch-site"));
    if site.is_some_and(|s| s != "same-origin" && s != "none") {
        return Ok(Answer::to("/"));
    }
    let cookies = visitor.pages.admissions.step_up(live, &visitor.path(page))?;
    Ok(Answer::SeeOther { to: visitor.path("challenge"), cookies })
}

/// Nothing is pending any more: to the app's login page. A blocked user is told so instead.
pub(super) fn expired(visitor: &Visitor) -> Result<Answer, Fault> {
    if visitor.is_blocked() {
        return Err(Fault::Status(StatusCode::FORBIDDEN));
    }
    let html = expired_page(visitor.frame(), visitor.login_page()).render()?;
    Ok(Answer::page(StatusCode::FORBIDDEN, html))
}

/// The user has no authenticator and may not enrol one from here.
pub(super) fn not_set_up(visitor: &Visitor) -> Result<Answer, Fault> {
    let mut page = not_set_up_page(visitor.frame(), visitor.login_page());
    if visitor.pending().is_some_and(|pending| emergency_is_offered(visitor, &pending)) {
        page = page.with_more(visitor.path("emergency"), visitor.language.text("emergency-link"));
    }
    let html = page.render()?;
    Ok(Answer::page(StatusCode::FORBIDDEN, html))
}

/// "Log in again".
pub(super) fn expired_page(frame: Frame<'_>, login_page: String) -> MessagePage<'_> {
    MessagePage::new(frame, Sign::Wait, frame.t("expired-title"), vec![frame.t("expired-text")])
        .with_link(login_page, frame.t("to-login"))
}

/// "Not set up here: ask your administrator".
pub(super) fn not_set_up_page(frame: Frame<'_>, login_page: String) -> MessagePage<'_> {
    let text = frame.language.text_with("none-text", "app", frame.brand());
    MessagePage::new(frame, Sign::Note, frame.t("none-title"), vec![text, frame.t("none-ask")])
        .with_link(login_page, frame.t("to-login"))
}

/// "Too many wrong codes: wait".
pub(super) fn wait_page(frame: Frame<'_>, left: Duration) -> MessagePage<'_> {
    let text = frame.language.text_with("wait-text", "time", frame.language.duration(left));
    MessagePage::new(frame, Sign::Wait, frame.t("wait-title"), vec![text])
        .with_link(format!("{}/challenge", frame.prefix), frame.t("wait-again"))
}

/// "Too many wrong codes: ask your administrator".
pub(super) fn locked_page<'a>(frame: Frame<'a>, request_id: &'a RequestId) -> MessagePage<'a> {
    let texts = vec![frame.t("locked-text"), frame.t("locked-not-you")];
    let mut page = MessagePage::new(frame, Sign::Lock, frame.t("locked-title"), texts);
    page.failed = true;
    page.request_id = Some(request_id.as_str());
    page
}

/// What a wrong answer has begun: counted and recorded, and in words when it is a wait.
fn consequence(
    visitor: &Visitor,
    next: Next,
    user: &UserKey,
    device: DeviceId,
) -> Result<Option<String>, Fault> {
    match next {
        Next::Again => Ok(None),
        Next::Wait { until } => {
            lockout(visitor, Lockout::Soft, user, device);
            let time = visitor.language.duration(until.since(visitor.now));
            Ok(Some(visitor.language.text_with("wrong-wait", "time", time)))
        }
        Next::Locked => {
            lockout(visitor, Lockout::Hard, user, device);
            Err(Fault::Instead(locked(visitor)?))
        }
    }
}

fn wait(visitor: &Visitor, until: UnixMillis) -> Result<Answer, Fault> {
    let left = until.since(visitor.now);
    let html = wait_page(visitor.frame(), left).render()?;
    let status = StatusCode::TOO_MANY_REQUESTS;
    Ok(Answer::Page(Page { status, html, cookies: Vec::new(), retry_after: Some(left), leads_to_app: false }))
}

fn locked(visitor: &Visitor) -> Result<Answer, Fault> {
    let html = locked_page(visitor.frame(), &visitor.visit.request_id).render()?;
    Ok(Answer::page(StatusCode::FORBIDDEN, html))
}

fn lockout(visitor: &Visitor, kind: Lockout, user: &UserKey, device: DeviceId) {
    visitor.pages.metrics.lockouts.count(kind);
    visitor.record(&Event::LockedOut { hard: kind == Lockout::Hard }, user, device);
    visitor.tell(Notice::LockedOut { hard: kind == Lockout::Hard }, user);
}

fn outcome(verdict: &Verdict) -> Challenge {
    match verdict {
        Verdict::Proved(_) => Challenge::Passed,
        Verdict::Wrong { hint: Hint::AlreadyUsed, .. } => Challenge::AlreadyUsed,
        Verdict::Wrong { hint: Hint::ClockOff { .. }, .. } => Challenge::ClockOff,
        Verdict::Wrong { .. } => Challenge::Wrong,
        Verdict::Wait { .. } => Challenge::Wait,
        Verdict::Locked => Challenge::Locked,
        Verdict::NotEnrolled => Challenge::NotEnrolled,
    }
}
