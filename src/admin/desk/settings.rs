//! What is set for one user, edited as a whole.

use askama::Template;
use axum::{body::Body, extract::Query, http::StatusCode, response::Response};

use super::{
    acts::{LONGEST_REASON, MOST_BYTES, url},
    caller::Caller,
    users::Whom,
    view::{Field, FormPage, Input, problem},
};
use crate::{
    admin::operations::{Failure, Settings},
    config::administrators::REALM,
    model::Role,
    web::{
        forms::Form,
        reply::{Answer, Fault},
        view::Link,
    },
};

const PURPOSE: &str = "settings";

struct Typed {
    realm: String,
    name: String,
    email: String,
    number: String,
    language: String,
    networks: String,
    preferred: String,
    reason: String,
}

/// `GET /user/settings`
pub(super) async fn form(caller: Caller, Query(whom): Query<Whom>) -> Response {
    let answer = async {
        demand_admin(&caller, &whom.realm)?;
        // Before anything is typed, so that nothing typed is lost.
        caller.demand_fresh(&url("/user/settings", &whom.realm, &whom.name, &[]))?;
        let found = caller.desk.users.show(&whom.name, Some(&whom.realm)).await;
        let found = found.map_err(|failure| caller.failed(failure))?;
        let set = found.settings;
        let typed = Typed {
            realm: found.user.realm,
            name: found.user.name,
            email: set.email.unwrap_or_default(),
            number: set.number.unwrap_or_default(),
            language: set.language.unwrap_or_default(),
            networks: set.networks.join(", "),
            preferred: set.preferred.unwrap_or_default(),
            reason: String::new(),
        };
        show(&caller, &typed, None)
    };
    let answer = answer.await;
    caller.reply(answer)
}

/// `POST /user/settings`
pub(super) async fn change(caller: Caller, body: Body) -> Response {
    let answer = check(&caller, body).await;
    caller.reply(answer)
}

async fn check(caller: &Caller, body: Body) -> Result<Answer, Fault> {
    let posted = Form::read_at_most(&caller.visitor, body, MOST_BYTES).await?;
    let get = |name| posted.get(name).trim().to_owned();
    let typed = Typed {
        realm: get("realm"),
        name: get("name"),
        email: get("email"),
        number: get("number"),
        language: get("language"),
        networks: get("networks"),
        preferred: get("preferred"),
        reason: get("reason"),
    };
    demand_admin(caller, &typed.realm)?;
    caller.demand_token(&posted, PURPOSE)?;
    if typed.reason.is_empty() || typed.reason.chars().count() > LONGEST_REASON {
        return show(caller, &typed, Some("reason"));
    }
    // Where messages go, and from where somebody may come, is as good as an authenticator.
    caller.demand_fresh(&url("/user/settings", &typed.realm, &typed.name, &[]))?;
    let settings = Settings {
        email: Some(Some(typed.email.clone())),
        number: Some(Some(typed.number.clone())),
        language: Some(Some(typed.language.clone())),
        networks: Some(vec![typed.networks.clone()]),
        preferred: Some(Some(typed.preferred.clone())),
        ..Settings::default()
    };
    let users = &caller.desk.users;
    // Somebody who was never met is not made known by a form.
    let known = users.show(&typed.name, Some(&typed.realm)).await;
    known.map_err(|failure| caller.failed(failure))?;
    match users.change(&typed.name, Some(&typed.realm), &settings, &caller.by(&typed.reason)).await {
        Ok(_) => Ok(Answer::to(url("/user", &typed.realm, &typed.name, &[("done", "settings")]))),
        Err(Failure::BadSetting { field, .. }) => show(caller, &typed, Some(field)),
        Err(failure) => Err(caller.failed(failure)),
    }
}

fn demand_admin(caller: &Caller, realm: &str) -> Result<(), Fault> {
    if caller.role == Role::Admin && realm != REALM { Ok(()) } else { Err(caller.not_yours()) }
}

fn show(caller: &Caller, typed: &Typed, wrong: Option<&'static str>) -> Result<Answer, Fault> {
    let t = |key| caller.text(key);
    let language = |code: &str, label: &str| (code.to_owned(), label.to_owned());
    let mut fields = vec![
        Field::line("email", t("desk-email"), &typed.email).hint(t("desk-email-hint")),
        Field::line("number", t("desk-number"), &typed.number).hint(t("desk-number-hint")),
        Field::line("language", t("desk-language"), &typed.language).of(Input::Choice(vec![
            (String::new(), t("desk-language-any")),
            language("nl", "Nederlands"),
            language("en", "English"),
        ])),
        Field::line("networks", t("desk-networks"), &typed.networks)
            .of(Input::Area)
            .hint(t("desk-networks-hint")),
        Field::line("preferred", t("desk-preferred"), &typed.preferred).of(Input::Choice(vec![
            (String::new(), t("desk-preferred-any")),
            ("totp".to_owned(), t("desk-kind-totp")),
        ])),
        Field::line("reason", t("desk-reason"), &typed.reason).hint(t("desk-reason-hint")).required(),
    ];
    let problem = wrong.map(|field| {
        let key = match field {
            "email" => "desk-bad-email",
            "number" => "desk-bad-number",
            "networks" => "desk-bad-networks",
            "reason" if typed.reason.is_empty() => "desk-reason-missing",
            "reason" => "desk-reason-long",
            _ => "desk-bad-choice",
        };
        problem(caller.visitor.language, key, Some(t("desk-nothing-changed")))
    });
    for field in &mut fields {
        field.wrong = Some(field.name) == wrong;
    }
    let failed = problem.is_some();
    let page = FormPage {
        frame: if failed { caller.frame_of_post() } else { caller.frame() },
        nav: Some(caller.nav("")),
        title: t("desk-settings-title"),
        wide: true,
        failed,
        who: Some((t("desk-user"), typed.name.clone())),
        texts: Vec::new(),
        problem,
        action: "/user/settings".to_owned(),
        token: caller.token(PURPOSE),
        hidden: vec![("realm", typed.realm.clone()), ("name", typed.name.clone())],
        fields,
        submit: t("desk-settings-submit"),
        danger: false,
        back: Some(Link { href: url("/user", &typed.realm, &typed.name, &[]), label: t("desk-cancel") }),
    };
    let status = if failed { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    Ok(Answer::page(status, page.render()?))
}
