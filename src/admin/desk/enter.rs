//! How administrators get in: the password, and the invitation by which it is set. What follows is the challenge or the
//! enrolment that everybody passes.
//!
//! An attempt is counted before its outcome is looked at, and the hashing runs meanwhile: neither the time nor the answer
//! tells whether there is an account of this name.

use askama::Template;
use axum::{
    body::Body,
    extract::Query,
    http::{HeaderValue, StatusCode},
    response::Response,
};
use serde::Deserialize;

use super::{
    Desk,
    caller::{Guest, unchecked},
    view::{Field, FormPage, Input, problem},
};
use crate::{
    audit::{Event, Subject},
    base::{clock::UnixMillis, secret::SecretString},
    config::administrators::REALM,
    factor::shown_once,
    identity::{
        name,
        password::{self, Weak},
    },
    model::{CodeHash, DeviceId, Profile, Realm, UserKey},
    session::{admission::FirstFactor, cookie::Kind},
    store::{AttemptState, StoreResult, documents},
    throttle::{self, Verdict},
    web::{
        forms::{self, Form},
        reply::{Answer, Fault, Page},
        view::{Link, Problem},
        visitor::Visitor,
    },
};

const LOGIN: &str = "desk-login";
const INVITATION: &str = "desk-invitation";
/// A name and two passwords, each byte in three.
const MOST_BYTES: usize = 16 * 1024;

#[derive(Deserialize, Default)]
pub(super) struct Wanted {
    #[serde(default)]
    next: String,
    #[serde(default)]
    name: String,
}

/// `GET /login`
pub(super) async fn login(guest: Guest, Query(wanted): Query<Wanted>) -> Response {
    let answer = if guest.visitor.session().is_some() {
        Ok(Answer::to("/"))
    } else {
        login_form(&guest.visitor, &wanted, None)
    };
    guest.visitor.reply(answer)
}

/// `POST /login`
pub(super) async fn log_in(guest: Guest, body: Body) -> Response {
    let answer = check(&guest, body).await;
    guest.visitor.reply(answer)
}

/// `GET /invitation`
pub(super) async fn invitation(guest: Guest, Query(wanted): Query<Wanted>) -> Response {
    let answer = invitation_form(&guest.visitor, &wanted.name, None);
    guest.visitor.reply(answer)
}

/// `POST /invitation`
pub(super) async fn accept(guest: Guest, body: Body) -> Response {
    let answer = take(&guest, body).await;
    guest.visitor.reply(answer)
}

async fn check(guest: &Guest, body: Body) -> Result<Answer, Fault> {
    let Guest { visitor, desk } = guest;
    let (posted, device) = posted(visitor, body, LOGIN).await?;
    visitor.pages.admissions.may_begin()?;
    visitor.pages.auditor.ready()?;
    let typed = SecretString::new(posted.get("password").to_owned());
    let wanted = Wanted { next: posted.get("next").to_owned(), name: posted.get("name").to_owned() };
    if wanted.name.trim().is_empty() || typed.expose().is_empty() {
        let empty = problem(visitor.language, "desk-login-empty", None);
        return login_form(visitor, &wanted, Some(empty));
    }
    let account = Account::named(desk, &wanted.name).await?;
    let kept = account.as_ref().and_then(|a| a.profile.password.clone());
    // Both in any case: the answer takes as long for a name that nobody has.
    let (charged, right) = tokio::join!(
        charge(desk, account.as_ref().filter(|_| kept.is_some()), &wanted.name, visitor.now),
        desk.passwords.verify(&typed, kept.as_ref()),
    );
    let wrong = match charged? {
        Verdict::Go { .. } if right.map_err(unchecked)? => None,
        Verdict::Go { .. } => Some(problem(visitor.language, "desk-login-wrong", None)),
        Verdict::Wait { until } => {
            let time = visitor.language.duration(until.since(visitor.now));
            let text = visitor.language.text_with("desk-login-wait-text", "time", time);
            Some(problem(visitor.language, "desk-login-wait", Some(text)))
        }
        Verdict::Locked => {
            let text = visitor.language.text("desk-login-locked-text");
            Some(problem(visitor.language, "desk-login-locked", Some(text)))
        }
    };
    match (wrong, account) {
        (None, Some(account)) => {
            change(desk, &account.user, unlocked).await?;
            admit(guest, account.user, device, &wanted.next, None).await
        }
        (wrong, account) => {
            let refused = subject(visitor, account.map(|a| a.user), device);
            visitor.pages.auditor.record(&Event::FirstFactorRefused, &refused);
            let wrong = wrong.unwrap_or_else(|| problem(visitor.language, "desk-login-wrong", None));
            login_form(visitor, &wanted, Some(wrong))
        }
    }
}

/// The password was right, or is set: the rest is everybody's way in. `invited`: this invitation is shown, too.
async fn admit(
    guest: &Guest,
    user: UserKey,
    device: DeviceId,
    next: &str,
    invited: Option<CodeHash>,
) -> Result<Answer, Fault> {
    let Guest { visitor, desk } = guest;
    let who = subject(visitor, Some(user.clone()), device);
    visitor.pages.auditor.grant(&Event::FirstFactorPassed, &who).await?;
    let admissions = &visitor.pages.admissions;
    match admissions.first_factor(&desk.app, user.name, visitor.origin(), next).await? {
        FirstFactor::Pending { mut cookies, pending, .. } => {
            if let Some(invitation) = invited {
                let login = visitor.pages.names.name(Kind::Login);
                cookies.retain(|cookie| !cookie.as_bytes().starts_with(login.as_bytes()));
                cookies.extend(admissions.with_invitation(*pending, invitation));
            }
            Ok(Answer::SeeOther { to: visitor.path("challenge"), cookies })
        }
        // Nobody is exempt here, and nothing is remembered.
        FirstFactor::Admitted(admission) => Err(Fault::Internal(format!(
            "an administrator would get in without a second factor ({:?})",
            admission.ground
        ))),
        FirstFactor::Blocked => {
            visitor.pages.auditor.record(&Event::BlockedLogin, &who);
            Err(Fault::Status(StatusCode::FORBIDDEN))
        }
        FirstFactor::Elsewhere => {
            visitor.pages.auditor.record(&Event::LoginFromElsewhere, &who);
            Err(Fault::Status(StatusCode::FORBIDDEN))
        }
        FirstFactor::TooMany => Err(Fault::Status(StatusCode::TOO_MANY_REQUESTS)),
    }
}

async fn take(guest: &Guest, body: Body) -> Result<Answer, Fault> {
    let Guest { visitor, desk } = guest;
    let (posted, device) = posted(visitor, body, INVITATION).await?;
    visitor.pages.admissions.may_begin()?;
    visitor.pages.auditor.ready()?;
    let typed_name = posted.get("name").to_owned();
    let refuse = |field, key, text: Option<String>| {
        invitation_form(visitor, &typed_name, Some((field, problem(visitor.language, key, text))))
    };
    let typed = SecretString::new(posted.get("password").to_owned());
    if let Some((field, key)) = unfit(&typed, posted.get("again"), &typed_name) {
        return refuse(field, key, None);
    }
    let account = Account::named(desk, &typed_name).await?;
    let (charged, hidden) =
        tokio::join!(charge(desk, account.as_ref(), &typed_name, visitor.now), desk.passwords.hide(&typed),);
    match charged? {
        Verdict::Go { .. } => {}
        Verdict::Wait { until } => {
            let time = visitor.language.duration(until.since(visitor.now));
            let text = visitor.language.text_with("desk-login-wait-text", "time", time);
            return refuse("code", "desk-login-wait", Some(text));
        }
        Verdict::Locked => {
            let text = visitor.language.text("desk-login-locked-text");
            return refuse("code", "desk-login-locked", Some(text));
        }
    }
    let hidden = hidden.map_err(unchecked)?;
    let code = shown_once::hash(posted.get("code"));
    let mut links = false;
    let taken = match &account {
        None => false,
        Some(account) => {
            // Whoever has an authenticator still has to show it, and the code has done its work. Who has none links one with this
            // very code: it is taken by the first right code of the app, so that a password alone never links anything.
            links = !visitor.pages.totp.enrolled(&account.user).await?;
            let invite = |kept: &Profile| kept.invite.clone().filter(|_| links);
            let set = |kept: &Profile| Profile {
                password: Some(hidden.clone()),
                invite: invite(kept),
                ..unlocked(kept)
            };
            shown_once::use_invitation(&desk.store, &account.user, code, visitor.now, set).await?
        }
    };
    let Some(account) = account.filter(|_| taken) else {
        visitor.pages.auditor.record(&Event::FirstFactorRefused, &subject(visitor, None, device));
        let text = visitor.language.text("desk-invitation-wrong-text");
        return refuse("code", "desk-invitation-wrong", Some(text));
    };
    let who = subject(visitor, Some(account.user.clone()), device);
    visitor.pages.auditor.grant(&Event::UserChanged { what: "password" }, &who).await?;
    if !links {
        visitor.pages.auditor.grant(&Event::InvitationUsed, &who).await?;
    }
    // Whoever was in by the old password is not any more.
    let until = visitor.now.plus(desk.app.session.max * 2);
    desk.store.sign_out(&account.user, visitor.now, until).await?;
    admit(guest, account.user, device, "/", Some(code).filter(|_| links)).await
}

/// Why a new password is not taken: the field, and the message.
pub(super) fn unfit(typed: &SecretString, again: &str, name: &str) -> Option<(&'static str, &'static str)> {
    match password::judge(typed.expose(), name) {
        Err(Weak::Short) => Some(("password", "desk-password-short")),
        Err(Weak::Long) => Some(("password", "desk-password-long")),
        Err(Weak::Common) => Some(("password", "desk-password-common")),
        Err(Weak::Name) => Some(("password", "desk-password-name")),
        Ok(()) if typed.expose() != again => Some(("again", "desk-password-differs")),
        Ok(()) => None,
    }
}

struct Account {
    user: UserKey,
    profile: Profile,
}

impl Account {
    async fn named(desk: &Desk, typed: &str) -> Result<Option<Self>, Fault> {
        let Ok(name) = name::canonical(&desk.app.login.name, typed) else { return Ok(None) };
        let user = UserKey { realm: Realm::new(REALM), name };
        let profile = documents::profile(desk.store.as_ref(), &user).await?;
        Ok(profile.role.is_some().then_some(Self { user, profile }))
    }
}

/// Counts an attempt (I8): under the account, or under a name that nobody has.
async fn charge(
    desk: &Desk,
    account: Option<&Account>,
    typed: &str,
    now: UnixMillis,
) -> StoreResult<Verdict> {
    match account {
        Some(account) => charge_account(desk, &account.user, now).await,
        None => {
            let name = name::canonical(&desk.app.login.name, typed);
            Ok(desk.strangers.charge(name.as_ref().map_or(typed, |name| name.as_str()), now))
        }
    }
}

/// Counts an attempt at the password of an account, in one step.
pub(super) async fn charge_account(desk: &Desk, user: &UserKey, now: UnixMillis) -> StoreResult<Verdict> {
    documents::change_profile(desk.store.as_ref(), user, |kept| {
        let state = AttemptState { failures: kept.password_failures, wait_until: kept.password_wait_until };
        let (verdict, new) = throttle::next(state, now);
        let counted =
            Profile { password_failures: new.failures, password_wait_until: new.wait_until, ..kept.clone() };
        ((new != state).then_some(counted), verdict)
    })
    .await
}

/// Without wrong passwords.
pub(super) fn unlocked(kept: &Profile) -> Profile {
    Profile { password_failures: 0, password_wait_until: UnixMillis::default(), ..kept.clone() }
}

pub(super) async fn change(
    desk: &Desk,
    user: &UserKey,
    edit: impl Fn(&Profile) -> Profile,
) -> StoreResult<()> {
    documents::change_profile(desk.store.as_ref(), user, |kept| (Some(edit(kept)), ())).await
}

/// A form of ours, and the device on which it was shown.
async fn posted(visitor: &Visitor, body: Body, purpose: &'static str) -> Result<(Form, DeviceId), Fault> {
    let posted = Form::read_at_most(visitor, body, MOST_BYTES).await?;
    let device = visitor.pages.standings.device(&visitor.own()).ok_or(Fault::ForeignForm)?;
    posted.demand_token(&visitor.pages.keyring, purpose, &device.0)?;
    Ok((posted, device))
}

/// The token of a form of somebody who is nobody yet, and the cookie that goes with it when there is none.
fn token(visitor: &Visitor, purpose: &'static str) -> Result<(String, Vec<HeaderValue>), Fault> {
    let (device, cookies) = match visitor.pages.standings.device(&visitor.own()) {
        Some(device) => (device, Vec::new()),
        None => {
            let (device, cookie) = visitor.pages.admissions.new_device()?;
            (device, vec![cookie])
        }
    };
    Ok((forms::token(&visitor.pages.keyring, purpose, &device.0), cookies))
}

fn subject(visitor: &Visitor, user: Option<UserKey>, device: DeviceId) -> Subject {
    Subject {
        app: Some(visitor.visit.app.id.clone()),
        user,
        device: Some(device),
        client: Some(visitor.visit.client),
        request_id: Some(visitor.visit.request_id.clone()),
        ..Subject::default()
    }
}

fn login_form(visitor: &Visitor, wanted: &Wanted, wrong: Option<Problem>) -> Result<Answer, Fault> {
    let (token, mut cookies) = token(visitor, LOGIN)?;
    if wrong.is_some() && visitor.own().login.is_some() {
        cookies.push(visitor.pages.names.clear(Kind::Login));
    }
    let t = |key| visitor.language.text(key);
    let frame = crate::web::view::Frame { languages: wrong.is_none(), ..visitor.frame() };
    let page = FormPage {
        frame,
        nav: None,
        title: t("desk-login-title"),
        wide: false,
        failed: wrong.is_some(),
        who: None,
        texts: Vec::new(),
        action: "/login".to_owned(),
        token,
        hidden: vec![("next", wanted.next.clone())],
        fields: vec![
            Field::line("name", t("desk-login-name"), &wanted.name).fill("username").required(),
            Field { wrong: wrong.is_some(), ..Field::line("password", t("desk-login-password"), "") }
                .of(Input::Line("password"))
                .fill("current-password")
                .required(),
        ],
        problem: wrong,
        submit: t("desk-login-submit"),
        danger: false,
        back: Some(Link { href: "/invitation".to_owned(), label: t("desk-login-invited") }),
    };
    answer(&page, cookies)
}

fn invitation_form(
    visitor: &Visitor,
    name: &str,
    wrong: Option<(&'static str, Problem)>,
) -> Result<Answer, Fault> {
    let (token, cookies) = token(visitor, INVITATION)?;
    let (field, problem) = wrong.unzip();
    let t = |key: &str| visitor.language.text(key);
    let frame = crate::web::view::Frame { languages: problem.is_none(), ..visitor.frame() };
    let mut fields = vec![
        Field::line("name", t("desk-login-name"), name).fill("username").required(),
        Field::line("code", t("desk-invitation-code"), "").hint(t("desk-invitation-code-hint")).required(),
    ];
    fields.extend(new_password(&t));
    for place in &mut fields {
        place.wrong = Some(place.name) == field;
    }
    let page = FormPage {
        frame,
        nav: None,
        title: t("desk-invitation-title"),
        wide: false,
        failed: problem.is_some(),
        who: None,
        texts: vec![t("desk-invitation-text")],
        problem,
        action: "/invitation".to_owned(),
        token,
        hidden: Vec::new(),
        fields,
        submit: t("desk-invitation-submit"),
        danger: false,
        back: Some(Link { href: "/login".to_owned(), label: t("desk-invitation-back") }),
    };
    answer(&page, cookies)
}

/// The fields for a new password. Nothing stands in the way of a paste or a password manager.
pub(super) fn new_password(t: &impl Fn(&str) -> String) -> [Field; 2] {
    let line = |name, label| {
        Field::line(name, label, "").of(Input::Line("password")).fill("new-password").required()
    };
    [
        line("password", t("desk-password-new")).hint(t("desk-password-hint")),
        line("again", t("desk-password-again")),
    ]
}

fn answer(page: &FormPage<'_>, cookies: Vec<HeaderValue>) -> Result<Answer, Fault> {
    let status = if page.failed { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let html = page.render()?;
    Ok(Answer::Page(Page { status, html, cookies, retry_after: None, leads_to_app: false }))
}
