//! What is done to one user: a form that says what follows, and the act.
//!
//! | act | from | dangerous |
//! |---|---|---|
//! | reset | helpdesk | yes |
//! | invite | helpdesk | yes |
//! | unlock, sign-out | helpdesk | no |
//! | remove, block, unblock, exempt, end-exemption, emergency | admin | yes |
//! | role, dismiss (accounts of administrators only) | admin | yes |
//!
//! A dangerous act asks a reason and a fresh second factor. Accounts of administrators are acted on by `admin` only.

use std::time::Duration;

use askama::Template;
use axum::{
    body::Body,
    extract::{Path, Query},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;

use super::{
    caller::{Caller, role_key},
    view::{Field, FormPage, Input, LetterPage, moment, problem},
};
use crate::{
    admin::operations::{ExemptionTyped, Failure, Settings},
    config::administrators::REALM,
    model::{AuthenticatorId, Realm, Role, UserKey, UserName},
    session::target,
    web::{
        forms::Form,
        reply::{Answer, Fault},
        view::{Link, Problem},
    },
};

/// Something that is done to one user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Act {
    Reset,
    Unlock,
    SignOut,
    Invite,
    Remove,
    Block,
    Unblock,
    Exempt,
    EndExemption,
    Emergency,
    Role,
    Dismiss,
}

/// A reason, a day and a token; the longest reason in three bytes for each of its characters.
pub(super) const MOST_BYTES: usize = 16 * 1024;
pub(super) const LONGEST_REASON: usize = 300;

#[derive(Deserialize)]
pub(super) struct About {
    realm: String,
    name: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    until: String,
    #[serde(default)]
    days: String,
    #[serde(default)]
    count: String,
    #[serde(default)]
    role: String,
}

impl Act {
    pub const ALL: [Self; 12] = [
        Self::Reset,
        Self::Unlock,
        Self::SignOut,
        Self::Invite,
        Self::Remove,
        Self::Emergency,
        Self::Exempt,
        Self::EndExemption,
        Self::Role,
        Self::Block,
        Self::Unblock,
        Self::Dismiss,
    ];

    pub fn parse(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|act| act.slug() == slug)
    }

    const fn slug(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Unlock => "unlock",
            Self::SignOut => "sign-out",
            Self::Invite => "invite",
            Self::Remove => "remove",
            Self::Block => "block",
            Self::Unblock => "unblock",
            Self::Exempt => "exempt",
            Self::EndExemption => "end-exemption",
            Self::Emergency => "emergency",
            Self::Role => "role",
            Self::Dismiss => "dismiss",
        }
    }

    /// Where its form is.
    pub fn path(self) -> String {
        format!("/user/{}", self.slug())
    }

    /// Title, explanation, button, what is said afterwards.
    const fn keys(self) -> [&'static str; 4] {
        match self {
            Self::Reset => ["desk-reset-title", "desk-reset-text", "desk-reset-submit", "desk-reset-done"],
            Self::Unlock => {
                ["desk-unlock-title", "desk-unlock-text", "desk-unlock-submit", "desk-unlock-done"]
            }
            Self::SignOut => {
                ["desk-sign-out-title", "desk-sign-out-text", "desk-sign-out-submit", "desk-sign-out-done"]
            }
            Self::Invite => {
                ["desk-invite-title", "desk-invite-text", "desk-invite-submit", "desk-invite-done"]
            }
            Self::Remove => {
                ["desk-remove-title", "desk-remove-text", "desk-remove-submit", "desk-remove-done"]
            }
            Self::Block => ["desk-block-title", "desk-block-text", "desk-block-submit", "desk-block-done"],
            Self::Unblock => {
                ["desk-unblock-title", "desk-unblock-text", "desk-unblock-submit", "desk-unblock-done"]
            }
            Self::Exempt => {
                ["desk-exempt-title", "desk-exempt-text", "desk-exempt-submit", "desk-exempt-done"]
            }
            Self::EndExemption => {
                ["desk-unexempt-title", "desk-unexempt-text", "desk-unexempt-submit", "desk-unexempt-done"]
            }
            Self::Emergency => [
                "desk-emergency-title",
                "desk-emergency-text",
                "desk-emergency-submit",
                "desk-emergency-done",
            ],
            Self::Role => ["desk-role-title", "desk-role-text", "desk-role-submit", "desk-role-done"],
            Self::Dismiss => {
                ["desk-dismiss-title", "desk-dismiss-text", "desk-dismiss-submit", "desk-dismiss-done"]
            }
        }
    }

    pub const fn title_key(self) -> &'static str {
        let [title, ..] = self.keys();
        title
    }

    pub const fn done_key(self) -> &'static str {
        let [.., done] = self.keys();
        done
    }

    /// Whether a role may do this to users of a realm.
    pub fn is_for(self, role: Role, realm: &str) -> bool {
        let of_administrators = realm == REALM;
        let exists = match self {
            Self::Role | Self::Dismiss => of_administrators,
            Self::Exempt | Self::EndExemption | Self::Emergency => !of_administrators,
            _ => true,
        };
        exists
            && match role {
                Role::Auditor => false,
                Role::Helpdesk => {
                    !of_administrators
                        && matches!(self, Self::Reset | Self::Unlock | Self::SignOut | Self::Invite)
                }
                Role::Admin => true,
            }
    }

    /// Whether it asks a reason and a fresh second factor: all but what takes nothing and gives nothing away.
    const fn is_dangerous(self) -> bool {
        !matches!(self, Self::Unlock | Self::SignOut)
    }

    /// Whether it takes something away from somebody.
    pub const fn takes_away(self) -> bool {
        matches!(self, Self::Reset | Self::Remove | Self::Block | Self::Dismiss)
    }
}

/// A page about a user.
pub(super) fn url(path: &str, realm: &str, name: &str, more: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("realm", realm).append_pair("name", name);
    for (name, value) in more.iter().filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    format!("{path}?{}", query.finish())
}

/// `GET /user/{act}`
pub(super) async fn form(caller: Caller, Path(slug): Path<String>, Query(about): Query<About>) -> Response {
    let answer = async {
        let act = allowed(&caller, &slug, &about)?;
        show(&caller, act, &about, None).await
    };
    let answer = answer.await;
    caller.reply(answer)
}

/// `POST /user/{act}`
pub(super) async fn perform(caller: Caller, Path(slug): Path<String>, body: Body) -> Response {
    let answer = check(&caller, &slug, body).await;
    caller.reply(answer)
}

fn allowed(caller: &Caller, slug: &str, about: &About) -> Result<Act, Fault> {
    let act = Act::parse(slug).ok_or(Fault::Status(StatusCode::NOT_FOUND))?;
    if !act.is_for(caller.role, &about.realm) {
        return Err(caller.not_yours());
    }
    let user =
        UserKey { realm: Realm::new(about.realm.as_str()), name: UserName::canonical(about.name.as_str()) };
    if *caller.user() == user {
        return Err(caller.failed(Failure::OwnAccount));
    }
    Ok(act)
}

async fn show(
    caller: &Caller,
    act: Act,
    about: &About,
    wrong: Option<(&'static str, Problem)>,
) -> Result<Answer, Fault> {
    let found = caller.desk.operations(&about.realm).show(&about.name, Some(&about.realm)).await;
    let found = found.map_err(|failure| caller.failed(failure))?;
    let [title, text, submit, _] = act.keys();
    let t = |key| caller.text(key);
    let back = url("/user", &found.user.realm, &found.user.name, &[]);
    let mut texts = vec![t(text)];
    if act == Act::Remove {
        let named = found.authenticators.iter().find(|a| a.id == about.id);
        let named = named.ok_or_else(|| caller.failed(Failure::NoAuthenticator))?;
        texts.push(caller.visitor.language.text_with("desk-remove-which", "name", named.name.clone()));
    }
    let mut fields = fields(caller, act, about, found.settings.role.as_deref());
    let (wrong_field, problem) = wrong.unzip();
    for field in &mut fields {
        field.wrong = Some(field.name) == wrong_field;
    }
    let failed = problem.is_some();
    let page = FormPage {
        frame: if failed { caller.frame_of_post() } else { caller.frame() },
        nav: Some(caller.nav("")),
        title: t(title),
        wide: true,
        failed,
        who: Some((t("desk-user"), found.user.name.clone())),
        texts,
        problem,
        action: act.path(),
        token: caller.token(act.slug()),
        hidden: vec![
            ("realm", found.user.realm.clone()),
            ("name", found.user.name.clone()),
            ("id", about.id.clone()),
        ],
        fields,
        submit: t(submit),
        danger: act.takes_away(),
        back: Some(Link { href: back, label: t("desk-cancel") }),
    };
    let status = if failed { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    Ok(Answer::page(status, page.render()?))
}

fn fields(caller: &Caller, act: Act, about: &About, role: Option<&str>) -> Vec<Field> {
    let t = |key| caller.text(key);
    let or = |typed: &str, usual: &str| if typed.is_empty() { usual.to_owned() } else { typed.to_owned() };
    let mut fields = Vec::new();
    match act {
        Act::Exempt => {
            let field = Field::line("until", t("desk-exempt-until-label"), &about.until);
            let field = field.of(Input::Line("date")).hint(t("desk-exempt-until-hint")).required();
            fields.push(field);
        }
        Act::Emergency => {
            let count = Field::line("count", t("desk-emergency-count"), &or(&about.count, "5"));
            fields.push(count.of(Input::Line("number")).hint(t("desk-emergency-count-hint")).required());
            let days = Field::line("days", t("desk-days"), &or(&about.days, "30"));
            fields.push(days.of(Input::Line("number")).hint(t("desk-emergency-days-hint")).required());
        }
        Act::Invite if about.realm != REALM => {
            let days = Field::line("days", t("desk-days"), &or(&about.days, "7"));
            fields.push(days.of(Input::Line("number")).hint(t("desk-invite-days-hint")).required());
        }
        Act::Role => {
            let now = or(&about.role, role.unwrap_or_default());
            fields.push(Field::line("role", t("desk-role"), &now).of(role_choice(caller)));
        }
        _ => {}
    }
    let reason = Field::line("reason", t("desk-reason"), &about.reason);
    fields.push(if act.is_dangerous() {
        reason.hint(t("desk-reason-hint")).required()
    } else {
        reason.hint(t("desk-reason-if-any"))
    });
    fields
}

/// All roles to choose from.
pub(super) fn role_choice(caller: &Caller) -> Input {
    Input::Choice(
        Role::ALL.map(|role| (role.name().to_owned(), caller.text(role_key(role)))).into_iter().collect(),
    )
}

async fn check(caller: &Caller, slug: &str, body: Body) -> Result<Answer, Fault> {
    let posted = Form::read_at_most(&caller.visitor, body, MOST_BYTES).await?;
    let get = |name| posted.get(name).trim().to_owned();
    let about = About {
        realm: get("realm"),
        name: get("name"),
        id: get("id"),
        reason: get("reason"),
        until: get("until"),
        days: get("days"),
        count: get("count"),
        role: get("role"),
    };
    let act = allowed(caller, slug, &about)?;
    caller.demand_token(&posted, act.slug())?;
    let language = caller.visitor.language;
    if act.is_dangerous() && about.reason.is_empty() {
        return show(caller, act, &about, Some(("reason", problem(language, "desk-reason-missing", None))))
            .await;
    }
    if about.reason.chars().count() > LONGEST_REASON {
        return show(caller, act, &about, Some(("reason", problem(language, "desk-reason-long", None))))
            .await;
    }
    if act.is_dangerous() {
        caller.demand_fresh(&again(act, &about))?;
    }
    match act_on(caller, act, &about).await {
        Ok(answer) => Ok(answer),
        Err(Failure::BadSetting { field, .. }) => {
            let (field, key) = match field {
                "exemption" => ("until", "desk-bad-until"),
                "codes" => ("count", "desk-bad-count"),
                "role" => ("role", "desk-bad-role"),
                _ => ("days", "desk-bad-days"),
            };
            show(caller, act, &about, Some((field, problem(language, key, None)))).await
        }
        Err(failure) => Err(caller.failed(failure)),
    }
}

/// The form with what was typed; without it, when that is too long to come along.
fn again(act: Act, about: &About) -> String {
    let id = ("id", about.id.as_str());
    let typed = [
        id,
        ("reason", &about.reason),
        ("until", &about.until),
        ("days", &about.days),
        ("count", &about.count),
        ("role", &about.role),
    ];
    let whole = url(&act.path(), &about.realm, &about.name, &typed);
    if whole.len() <= target::MAX_BYTES { whole } else { url(&act.path(), &about.realm, &about.name, &[id]) }
}

async fn act_on(caller: &Caller, act: Act, about: &About) -> Result<Answer, Failure> {
    let operations = caller.desk.operations(&about.realm);
    let (name, realm) = (about.name.as_str(), Some(about.realm.as_str()));
    let by = &caller.by(&about.reason);
    let days = |typed: &str| {
        let days: u64 = typed.parse().unwrap_or_default();
        Duration::from_hours(days.min(10_000) * 24)
    };
    let change = async |settings: Settings| operations.change(name, realm, &settings, by).await.map(drop);
    match act {
        Act::Reset => drop(operations.reset(name, realm, by).await?),
        Act::Unlock if about.realm == REALM => operations.unlock_administrator(name, by).await?,
        Act::Unlock => drop(operations.unlock(name, realm, by).await?),
        Act::SignOut => drop(operations.sign_out(name, realm, by).await?),
        Act::Remove => {
            let id = AuthenticatorId::parse(&about.id).ok_or(Failure::NoAuthenticator)?;
            operations.remove_authenticator(name, realm, id, by).await?;
        }
        Act::Block => drop(operations.set_blocked(name, realm, true, by).await?),
        Act::Unblock => drop(operations.set_blocked(name, realm, false, by).await?),
        Act::Exempt => {
            let until = format!("{}T23:59:59Z", about.until);
            let exemption = ExemptionTyped { until, reason: about.reason.clone() };
            change(Settings { exemption: Some(Some(exemption)), ..Settings::default() }).await?;
        }
        Act::EndExemption => change(Settings { exemption: Some(None), ..Settings::default() }).await?,
        Act::Role => {
            let role = Role::parse(&about.role).ok_or_else(|| Failure::BadSetting {
                field: "role",
                why: "must be auditor, helpdesk or admin",
                found: about.role.chars().take(100).collect(),
            })?;
            change(Settings { role: Some(Some(role.name().to_owned())), ..Settings::default() }).await?;
        }
        Act::Dismiss => {
            operations.remove_administrator(name, by).await?;
            return Ok(Answer::to("/administrators"));
        }
        Act::Invite if about.realm == REALM => {
            let found = operations.show(name, realm).await?;
            let none = || Failure::NoUser { realm: about.realm.clone(), name: about.name.clone() };
            let role = found.settings.role.as_deref().and_then(Role::parse).ok_or_else(none)?;
            let made = operations.invite_administrator(name, role, by).await?;
            return Ok(account_letter(caller, &made.name, made.code, &made.until));
        }
        Act::Invite => {
            let made = operations.invite(name, realm, days(&about.days), by).await?;
            let steps = ["desk-letter-invite-1", "desk-letter-invite-2", "desk-letter-invite-3"];
            let letter = Letter { realm: &made.realm, name: &made.name, until: &made.until, steps: &steps };
            return Ok(letter.page(caller, "desk-letter-invite", vec![made.code]));
        }
        Act::Emergency => {
            let count = about.count.parse().unwrap_or_default();
            let made = operations.make_emergency_codes(name, realm, count, days(&about.days), by).await?;
            let steps = ["desk-letter-emergency-1", "desk-letter-emergency-2", "desk-letter-emergency-3"];
            let letter = Letter { realm: &made.realm, name: &made.name, until: &made.until, steps: &steps };
            return Ok(letter.page(caller, "desk-letter-emergency", made.codes));
        }
    }
    Ok(Answer::to(url("/user", &about.realm, &about.name, &[("done", act.slug())])))
}

/// The letter by which an administrator gets in for the first time.
pub(super) fn account_letter(caller: &Caller, name: &str, code: String, until: &str) -> Answer {
    let steps = ["desk-letter-account-1", "desk-letter-account-2", "desk-letter-account-3"];
    Letter { realm: REALM, name, until, steps: &steps }.page(caller, "desk-letter-account", vec![code])
}

struct Letter<'a> {
    realm: &'a str,
    name: &'a str,
    until: &'a str,
    steps: &'a [&'a str],
}

impl Letter<'_> {
    fn page(&self, caller: &Caller, heading: &str, codes: Vec<String>) -> Answer {
        let t = |key: &str| caller.text(key);
        let host = caller.visitor.visit.authority.clone();
        let step = |key: &&str| caller.visitor.language.text_with(key, "host", host.clone());
        let page = LetterPage {
            frame: caller.frame_of_post(),
            nav: Some(caller.nav("")),
            title: t("desk-letter-title"),
            wide: true,
            failed: false,
            warning: t("desk-letter-once"),
            heading: t(heading),
            facts: vec![
                (t("desk-user"), self.name.to_owned()),
                (t("desk-letter-until"), moment(Some(self.until))),
            ],
            codes,
            steps: self.steps.iter().map(step).collect(),
            print: t("desk-letter-print"),
            back: Link { href: url("/user", self.realm, self.name, &[]), label: t("desk-letter-back") },
        };
        match page.render() {
            Ok(html) => Answer::page(StatusCode::OK, html),
            Err(error) => {
                tracing::error!(%error, "a letter could not be rendered");
                Answer::to(url("/user", self.realm, self.name, &[]))
            }
        }
    }
}
