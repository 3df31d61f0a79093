//! One's own account, and a new one for somebody else.

use askama::Template;
use axum::{body::Body, extract::Query, http::StatusCode, response::Response};
use serde::Deserialize;

use super::{
    acts::{LONGEST_REASON, MOST_BYTES, account_letter, role_choice},
    caller::{Caller, Guest, role_key, unchecked},
    enter::{change, charge_account, new_password, unfit, unlocked},
    users::{authenticators, sessions},
    view::{Cell, Field, FormPage, Input, Page, Section, moment, problem},
};
use crate::{
    admin::operations::Failure,
    audit::{Event, Subject},
    base::secret::SecretString,
    config::administrators::REALM,
    model::{Profile, Role},
    store::documents,
    throttle::Verdict,
    web::{
        forms::Form,
        reply::{Answer, Fault},
        view::{Link, Problem},
    },
};

const PASSWORD: &str = "desk-password";
const NEW: &str = "desk-new";

#[derive(Deserialize)]
pub(super) struct Typed {
    #[serde(default)]
    name: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
pub(super) struct Done {
    #[serde(default)]
    done: String,
}

/// `GET /account`
pub(super) async fn show(caller: Caller, Query(done): Query<Done>) -> Response {
    let answer = own(&caller, &done.done).await;
    caller.reply(answer)
}

/// `GET /.sluis/me`
pub(super) async fn elsewhere(guest: Guest) -> Response {
    guest.visitor.reply(Ok(Answer::to("/account")))
}

/// What other hosts have and this one has not.
pub(super) async fn not_here(guest: Guest) -> Response {
    guest.visitor.reply(Err(Fault::Status(StatusCode::NOT_FOUND)))
}

/// `GET /account/password`
pub(super) async fn password(caller: Caller) -> Response {
    let answer = caller.demand_fresh("/account/password").and_then(|()| password_form(&caller, None));
    caller.reply(answer)
}

/// `POST /account/password`
pub(super) async fn change_password(caller: Caller, body: Body) -> Response {
    let answer = set_password(&caller, body).await;
    caller.reply(answer)
}

/// `GET /administrators/new`
pub(super) async fn new(caller: Caller, Query(typed): Query<Typed>) -> Response {
    let answer = demand_admin(&caller).and_then(|()| new_form(&caller, &typed, None));
    caller.reply(answer)
}

/// `POST /administrators/new`
pub(super) async fn make(caller: Caller, body: Body) -> Response {
    let answer = invite(&caller, body).await;
    caller.reply(answer)
}

async fn own(caller: &Caller, done: &str) -> Result<Answer, Fault> {
    let user = caller.user();
    let details = caller.desk.administrators.show(user.name.as_str(), Some(REALM)).await;
    let details = details.map_err(|failure| caller.failed(failure))?;
    let t = |key| caller.text(key);
    let mut about = Section::new(t("desk-about"));
    about.facts = vec![
        (t("desk-name"), Cell::text(details.user.name.clone())),
        (t("desk-role"), Cell::text(t(role_key(caller.role)))),
        (t("desk-last-login"), Cell::text(moment(details.user.last_login_at.as_deref()))),
    ];
    let to_password = Link { href: "/account/password".to_owned(), label: t("desk-password-title") };
    about.actions.push((to_password, false));
    let mut linked = authenticators(caller, &details, user);
    let more = Link { href: caller.visitor.path("enrol"), label: t("desk-link-another") };
    linked.actions.push((more, false));
    let page = Page {
        frame: caller.frame(),
        nav: Some(caller.nav("/account")),
        title: t("desk-account"),
        wide: true,
        failed: false,
        notice: (done == "password").then(|| t("desk-password-done")),
        search: None,
        sections: vec![about, linked, sessions(caller, user).await?],
        more: None,
        back: None,
    };
    Ok(Answer::page(StatusCode::OK, page.render()?))
}

async fn set_password(caller: &Caller, body: Body) -> Result<Answer, Fault> {
    let posted = Form::read_at_most(&caller.visitor, body, MOST_BYTES).await?;
    caller.demand_token(&posted, PASSWORD)?;
    // A password is not kept while a code is asked for: it is typed again.
    caller.demand_fresh("/account/password")?;
    let (desk, user, visitor) = (&caller.desk, caller.user(), &caller.visitor);
    let refuse = |field, key| password_form(caller, Some((field, problem(visitor.language, key, None))));
    let typed = SecretString::new(posted.get("password").to_owned());
    if let Some((field, key)) = unfit(&typed, posted.get("again"), user.name.as_str()) {
        return refuse(field, key);
    }
    visitor.pages.auditor.ready()?;
    let old = SecretString::new(posted.get("old").to_owned());
    let kept = documents::profile(desk.store.as_ref(), user).await?.password;
    let verdict = charge_account(desk, user, visitor.now).await?;
    if !matches!(verdict, Verdict::Go { .. })
        || !desk.passwords.verify(&old, kept.as_ref()).await.map_err(unchecked)?
    {
        return refuse("old", "desk-password-old-wrong");
    }
    let hidden = desk.passwords.hide(&typed).await.map_err(unchecked)?;
    change(desk, user, |kept| Profile { password: Some(hidden.clone()), ..unlocked(kept) }).await?;
    let subject = Subject {
        user: Some(user.clone()),
        client: Some(visitor.visit.client),
        request_id: Some(visitor.visit.request_id.clone()),
        ..Subject::default()
    };
    visitor.pages.auditor.grant(&Event::UserChanged { what: "password" }, &subject).await?;
    Ok(Answer::to("/account?done=password"))
}

fn password_form(caller: &Caller, wrong: Option<(&'static str, Problem)>) -> Result<Answer, Fault> {
    let t = |key: &str| caller.text(key);
    let old = Field::line("old", t("desk-password-old"), "").of(Input::Line("password"));
    let mut fields = vec![old.fill("current-password").required()];
    fields.extend(new_password(&t));
    let title = "desk-password-title";
    form(
        caller,
        Shape {
            title,
            text: "desk-password-text",
            action: "/account/password",
            purpose: PASSWORD,
            submit: "desk-password-submit",
            back: "/account",
        },
        fields,
        wrong,
    )
}

fn demand_admin(caller: &Caller) -> Result<(), Fault> {
    if caller.role == Role::Admin { Ok(()) } else { Err(caller.not_yours()) }
}

async fn invite(caller: &Caller, body: Body) -> Result<Answer, Fault> {
    let posted = Form::read_at_most(&caller.visitor, body, MOST_BYTES).await?;
    demand_admin(caller)?;
    caller.demand_token(&posted, NEW)?;
    let get = |name| posted.get(name).trim().to_owned();
    let typed = Typed { name: get("name"), role: get("role"), reason: get("reason") };
    let refuse = |field, key| {
        let problem = problem(caller.visitor.language, key, None);
        new_form(caller, &typed, Some((field, problem)))
    };
    let Some(role) = Role::parse(&typed.role) else { return refuse("role", "desk-bad-role") };
    if typed.reason.is_empty() {
        return refuse("reason", "desk-reason-missing");
    }
    if typed.reason.chars().count() > LONGEST_REASON {
        return refuse("reason", "desk-reason-long");
    }
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("name", &typed.name)
        .append_pair("role", &typed.role)
        .append_pair("reason", &typed.reason)
        .finish();
    caller.demand_fresh(&format!("/administrators/new?{query}"))?;
    let by = caller.by(&typed.reason);
    match caller.desk.administrators.invite_administrator(&typed.name, role, &by).await {
        Ok(made) => Ok(account_letter(caller, &made.name, made.code, &made.until)),
        Err(Failure::BadName(..)) => refuse("name", "desk-bad-name"),
        Err(failure) => Err(caller.failed(failure)),
    }
}

fn new_form(caller: &Caller, typed: &Typed, wrong: Option<(&'static str, Problem)>) -> Result<Answer, Fault> {
    let t = |key: &str| caller.text(key);
    let fields = vec![
        Field::line("name", t("desk-login-name"), &typed.name).hint(t("desk-new-name-hint")).required(),
        Field::line("role", t("desk-role"), &typed.role)
            .of(role_choice(caller))
            .hint(t("desk-new-role-hint")),
        Field::line("reason", t("desk-reason"), &typed.reason).hint(t("desk-reason-hint")).required(),
    ];
    let title = "desk-new-title";
    form(
        caller,
        Shape {
            title,
            text: "desk-new-text",
            action: "/administrators/new",
            purpose: NEW,
            submit: "desk-new-submit",
            back: "/administrators",
        },
        fields,
        wrong,
    )
}

struct Shape {
    title: &'static str,
    text: &'static str,
    action: &'static str,
    purpose: &'static str,
    submit: &'static str,
    back: &'static str,
}

fn form(
    caller: &Caller,
    shape: Shape,
    mut fields: Vec<Field>,
    wrong: Option<(&'static str, Problem)>,
) -> Result<Answer, Fault> {
    let (field, problem) = wrong.unzip();
    for place in &mut fields {
        place.wrong = Some(place.name) == field;
    }
    let failed = problem.is_some();
    let page = FormPage {
        frame: if failed { caller.frame_of_post() } else { caller.frame() },
        nav: Some(caller.nav("")),
        title: caller.text(shape.title),
        wide: true,
        failed,
        who: None,
        texts: vec![caller.text(shape.text)],
        problem,
        action: shape.action.to_owned(),
        token: caller.token(shape.purpose),
        hidden: Vec::new(),
        fields,
        submit: caller.text(shape.submit),
        danger: false,
        back: Some(Link { href: shape.back.to_owned(), label: caller.text("desk-cancel") }),
    };
    let status = if failed { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    Ok(Answer::page(status, page.render()?))
}
