//! `enrol`: links an authenticator app.
//!
//! Open to two kinds of visitors (threats D11): a pending *login* (no step-up) whose user has *no* authenticator yet, where policy
//! lets them enrol from this address, with an invitation where it asks one; and a live session whose second factor was
//! proved a moment ago, for one more authenticator. The page shows the secret of the visitor's own login and can show no other (E6).

use std::sync::Arc;

use askama::Template;
use axum::{body::Body, http::StatusCode, response::Response};

use super::{
    admit,
    forms::{self, Form},
    methods, recovery,
    reply::{Answer, Fault, Page},
    view::{EnrolPage, Frame, MessagePage, Problem, Sign, StoreLinks},
    visitor::Visitor,
};
use crate::{
    audit::Event,
    base::clock::UnixMillis,
    deliver::notices::Notice,
    factor::{
        Proof, Verdict,
        totp::{Confirmed, Room},
    },
    metrics,
    model::{CodeHash, DeviceId, LoginId, Method, UserKey},
    policy::{self, Enrolment},
    session::{
        cookie::Kind,
        standing::LiveSession,
        token::{Pending, Purpose},
    },
};

const PURPOSE: &str = "enrol";
const MAX_NAME_CHARS: usize = 40;

/// Who may enrol.
enum Candidate {
    /// A pending login whose user has no authenticator, and, where policy asks one, the invitation that was shown with it.
    First(Box<Pending>, Option<CodeHash>),
    /// A live session with a fresh second factor.
    Another(Arc<LiveSession>),
}

/// `GET enrol`
pub(super) async fn show(visitor: Visitor) -> Response {
    let answer = offer(&visitor).await;
    visitor.reply(answer)
}

/// `POST enrol`
pub(super) async fn confirm(visitor: Visitor, body: Body) -> Response {
    let answer = check(&visitor, body).await;
    visitor.reply(answer)
}

async fn offer(visitor: &Visitor) -> Result<Answer, Fault> {
    visitor.pages.admissions.may_begin()?;
    // The page has a secret on it: no script of the app gets to read that.
    if !forms::by_navigation(visitor.headers()) {
        return Err(Fault::Status(StatusCode::FORBIDDEN));
    }
    let candidate = candidate(visitor).await?;
    visitor.pages.metrics.enrolments.count(Method::Totp, metrics::Enrolment::Offered);
    form(visitor, &candidate, None, None)
}

async fn check(visitor: &Visitor, body: Body) -> Result<Answer, Fault> {
    visitor.pages.admissions.may_begin()?;
    let posted = Form::read(visitor, body).await?;
    let candidate = candidate(visitor).await?;
    let login = candidate.login(visitor);
    posted.demand_token(&visitor.pages.keyring, PURPOSE, &login.0)?;
    let name = name(visitor, posted.get("name"));
    let code = posted.code();
    if code.is_empty() {
        return form(visitor, &candidate, Some(&name), Some(methods::empty(visitor.language, Method::Totp)));
    }
    // Before the code is looked at: what cannot be recorded does not happen.
    visitor.pages.auditor.ready()?;
    let (user, device) = (candidate.user().clone(), candidate.device());
    let room = candidate.room(visitor.visit.app.totp.at_most);
    let count = |outcome| visitor.pages.metrics.enrolments.count(Method::Totp, outcome);
    let confirmed = visitor.pages.totp.confirm(login, &user, &name, room, candidate.begun(), &code).await;
    match confirmed.inspect_err(|_| count(metrics::Enrolment::Unavailable))? {
        Confirmed::Verdict(Verdict::Proved(proof)) => {
            count(metrics::Enrolment::Confirmed);
            enrolled(visitor, candidate, proof).await
        }
        Confirmed::Verdict(verdict) => {
            count(metrics::Enrolment::Wrong);
            let problem = admit::refused(visitor, verdict, Method::Totp, &user, device)?;
            form(visitor, &candidate, Some(&name), Some(problem))
        }
        Confirmed::Void => {
            count(metrics::Enrolment::Closed);
            admit::expired(visitor)
        }
        Confirmed::NotInvited => {
            count(metrics::Enrolment::NotInvited);
            visitor.record(&Event::InvitationRefused, &user, device);
            Ok(Answer::to(visitor.path("invitation")))
        }
        Confirmed::TooMany => {
            count(metrics::Enrolment::TooMany);
            match candidate {
                // Somebody else was faster: this login must now pass the challenge like any other.
                Candidate::First(..) => Ok(Answer::to(visitor.path("challenge"))),
                Candidate::Another(_) => {
                    Ok(Answer::page(StatusCode::CONFLICT, too_many(visitor.frame()).render()?))
                }
            }
        }
    }
}

/// Who may enrol now; everybody else is sent to where they can do something.
async fn candidate(visitor: &Visitor) -> Result<Candidate, Fault> {
    let instead = |answer| Err(Fault::Instead(answer));
    if let Some(pending) = visitor.pending() {
        if visitor.pages.totp.enrolled(&pending.user).await? {
            return instead(Answer::to(visitor.path("challenge")));
        }
        if visitor.requirement(&pending.user).is_none() {
            return instead(admit::expired(visitor)?);
        }
        let how = demand_open(visitor, &pending.user)?;
        if pending.purpose != Purpose::Login {
            return instead(log_in_again(visitor, &pending).await?);
        }
        return match (how, pending.invited) {
            (Enrolment::Open, _) => Ok(Candidate::First(Box::new(pending), None)),
            (_, Some(by)) => Ok(Candidate::First(Box::new(pending), Some(by))),
            (_, None) => instead(Answer::to(visitor.path("invitation"))),
        };
    }
    let Some(live) = visitor.session() else { return instead(admit::expired(visitor)?) };
    let session = live.session();
    if visitor.requirement(&session.user).is_none() {
        return instead(Answer::to("/"));
    }
    demand_open(visitor, &session.user)?;
    if admit::is_fresh(visitor, &live) {
        return Ok(Candidate::Another(live));
    }
    instead(admit::prove_again(visitor, &live, "enrol")?)
}

/// A running session must prove more than it has, and its user has nothing to prove it with: it began without a second
/// factor, where policy asked none. Whoever uses it elsewhere has shown no password here, so it is not for them
/// to say which authenticator is this user's: the session ends, and a new login says who they are (threats D11).
async fn log_in_again(visitor: &Visitor, pending: &Pending) -> Result<Answer, Fault> {
    let mut cookies = vec![visitor.pages.names.clear(Kind::Login)];
    if let Some(live) = visitor.session().filter(|live| live.session().id == pending.session) {
        cookies.extend(visitor.pages.admissions.end(&live).await?);
        visitor.pages.metrics.app(&visitor.visit.app.id).sessions_ended.inc();
        visitor.record(&Event::SessionEnded, &pending.user, pending.device);
    }
    let html = admit::expired_page(visitor.frame(), visitor.login_page()).render()?;
    let status = StatusCode::FORBIDDEN;
    Ok(Answer::Page(Page { status, html, cookies, retry_after: None, leads_to_app: false }))
}

/// How this user may enrol from this address; goes on only when that is possible.
pub(super) fn demand_open(visitor: &Visitor, user: &UserKey) -> Result<Enrolment, Fault> {
    let how = visitor
        .requirement(user)
        .filter(|required| policy::methods(required).contains(Method::Totp))
        .map_or(Enrolment::Closed, |required| policy::may_enrol(required, visitor.visit.client));
    if how != Enrolment::Closed {
        return Ok(how);
    }
    visitor.pages.metrics.enrolments.count(Method::Totp, metrics::Enrolment::Closed);
    Err(Fault::Instead(admit::not_set_up(visitor)?))
}

async fn enrolled(visitor: &Visitor, candidate: Candidate, proof: Proof) -> Result<Answer, Fault> {
    let event = Event::AuthenticatorEnrolled { method: proof.method() };
    visitor.tell(Notice::AuthenticatorAdded { method: proof.method() }, candidate.user());
    match candidate {
        Candidate::First(pending, invited) => {
            if invited.is_some() {
                visitor.record(&Event::InvitationUsed, &pending.user, pending.device);
            }
            // What follows is waited for, and comes after this one.
            visitor.record(&event, &pending.user, pending.device);
            admit::passed(visitor, &pending, proof.method()).await?;
            let offered = recovery::counts(visitor, &pending.user);
            let answer = admit::complete(visitor, *pending, proof).await?;
            if offered { recovery::offer(visitor, answer) } else { Ok(answer) }
        }
        Candidate::Another(_) => {
            visitor.grant(&event, candidate.user(), candidate.device()).await?;
            Ok(Answer::page(StatusCode::OK, done(visitor.frame()).render()?))
        }
    }
}

fn form(
    visitor: &Visitor,
    candidate: &Candidate,
    name: Option<&str>,
    problem: Option<Problem>,
) -> Result<Answer, Fault> {
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let login = candidate.login(visitor);
    let user = candidate.user();
    let issuer = visitor.visit.app.totp.issuer.as_str();
    let offer = visitor.pages.totp.offer(login, user, issuer).map_err(Fault::Internal)?;
    let key = zeroize::Zeroizing::new(offer.groups.expose().replace(' ', ""));
    let shown = Shown {
        user: user.name.as_str(),
        issuer,
        more: matches!(candidate, Candidate::Another(_)),
        token: forms::token(&visitor.pages.keyring, PURPOSE, &login.0),
        svg: offer.svg.expose(),
        url: offer.url.expose(),
        groups: offer.groups.expose(),
        key: &key,
        name,
    };
    Ok(Answer::form(status, page(visitor.frame(), shown, problem).render()?))
}

/// What the page shows, and to whom.
pub(super) struct Shown<'a> {
    pub user: &'a str,
    pub issuer: &'a str,
    /// One more authenticator.
    pub more: bool,
    pub token: String,
    pub svg: &'a str,
    pub url: &'a str,
    pub groups: &'a str,
    pub key: &'a str,
    /// The authenticator's name as typed before.
    pub name: Option<&'a str>,
}

/// The page.
pub(super) fn page<'a>(frame: Frame<'a>, shown: Shown<'a>, problem: Option<Problem>) -> EnrolPage<'a> {
    let language = frame.language;
    let with = |key, name, value: &str| language.text_with(key, name, value.to_owned());
    let label = format!("{} ({})", shown.issuer, shown.user);
    let app = frame.brand();
    let (title, who_label, lead) = if shown.more {
        ("enrol-title-more", "logged-in-as", frame.t("enrol-more-lead"))
    } else {
        ("enrol-title", "logging-in-as", with("enrol-lead", "app", &app))
    };
    let (other_url, other_label) = if shown.more {
        ("/".to_owned(), with("to-app", "app", &app))
    } else {
        (format!("{}/login", frame.prefix), frame.t("challenge-other"))
    };
    EnrolPage {
        frame,
        title: frame.t(title),
        wide: true,
        failed: problem.is_some(),
        who_label: frame.t(who_label),
        user: shown.user,
        lead,
        problem,
        token: shown.token,
        stores: STORES,
        old: with("enrol-old", "label", &label),
        svg: shown.svg,
        url: shown.url,
        key_hint: with("enrol-key-hint", "user", shown.user),
        groups: shown.groups,
        key: shown.key,
        code_hint: with("enrol-code-hint", "label", &label),
        name: shown.name.map_or_else(|| frame.t("enrol-name-default"), str::to_owned),
        other_url,
        other_label,
    }
}

/// One more authenticator has been linked.
pub(super) fn done(frame: Frame<'_>) -> MessagePage<'_> {
    MessagePage::new(frame, Sign::Done, frame.t("enrol-done-title"), vec![frame.t("enrol-done-text")])
        .with_link("/".to_owned(), to_app(frame))
        .with_more(format!("{}/me", frame.prefix), frame.t("to-me"))
}

/// There is no room for one more.
pub(super) fn too_many(frame: Frame<'_>) -> MessagePage<'_> {
    MessagePage::new(frame, Sign::Note, frame.t("enrol-too-many-title"), vec![frame.t("enrol-too-many-text")])
        .with_link("/".to_owned(), to_app(frame))
        .with_more(format!("{}/me", frame.prefix), frame.t("to-me"))
}

fn to_app(frame: Frame<'_>) -> String {
    frame.language.text_with("to-app", "app", frame.brand())
}

/// The name of the authenticator as it is kept: one line, not too long, never empty.
fn name(visitor: &Visitor, typed: &str) -> String {
    let line: String =
        typed.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_NAME_CHARS).collect();
    let line = line.trim();
    if line.is_empty() { visitor.language.text("enrol-name-default") } else { line.to_owned() }
}

impl Candidate {
    fn user(&self) -> &UserKey {
        match self {
            Self::First(pending, _) => &pending.user,
            Self::Another(live) => &live.session().user,
        }
    }

    fn device(&self) -> DeviceId {
        match self {
            Self::First(pending, _) => pending.device,
            Self::Another(live) => live.session().device,
        }
    }

    /// When that began on which this rests.
    fn begun(&self) -> UnixMillis {
        match self {
            Self::First(pending, _) => pending.started,
            Self::Another(live) => {
                let session = live.session();
                session.proved_at.map_or(session.started, |at| at.min(session.started))
            }
        }
    }

    fn room(&self, at_most: usize) -> Room {
        match self {
            Self::First(_, None) => Room::First,
            Self::First(_, Some(by)) => Room::Invited { by: *by },
            Self::Another(_) => Room::Another { at_most },
        }
    }

    /// What the pending secret hangs on: the login, or the session and its last proof.
    fn login(&self, visitor: &Visitor) -> LoginId {
        let live = match self {
            Self::First(pending, _) => return pending.login,
            Self::Another(live) => live,
        };
        let session = live.session();
        let proved_at = session.proved_at.unwrap_or_default().0.to_be_bytes();
        let derived = visitor.pages.keyring.derive::<16>("web/enrol-another", &[&session.id.0, &proved_at]);
        let mut id = [0; 16];
        id.iter_mut().zip(derived.expose()).for_each(|(to, from)| *to = *from);
        LoginId(id)
    }
}

/// Authenticator apps that many know, free, for both kinds of phones. Any other RFC 6238 app works as well (B8).
const STORES: &[StoreLinks] = &[
    StoreLinks {
        name: "Microsoft Authenticator",
        links: &[
            ("App Store", "https://apps.apple.com/app/microsoft-authenticator/id983156458"),
            ("Google Play", "https://play.google.com/store/apps/details?id=com.azure.authenticator"),
        ],
    },
    StoreLinks {
        name: "Google Authenticator",
        links: &[
            ("App Store", "https://apps.apple.com/app/google-authenticator/id388497605"),
            (
                "Google Play",
                "https://play.google.com/store/apps/details?id=com.google.android.apps.authenticator2",
            ),
        ],
    },
];
