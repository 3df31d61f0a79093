//! The list of users, and one user.

use std::sync::Arc;

use askama::Template;
use axum::{extract::Query, http::StatusCode, response::Response};
use serde::Deserialize;

use super::{
    acts::{Act, url},
    caller::{Caller, role_key},
    view::{Cell, Page, Search, Section, browser, moment},
};
use crate::{
    admin::operations::{SettingsRow, State, UserDetails, UserRow},
    config::administrators::REALM,
    i18n::Language,
    model::{Realm, Role, UserKey, UserName},
    web::{
        reply::{Answer, Fault},
        view::Link,
    },
};

const PER_PAGE: usize = 50;

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    q: String,
    after_realm: Option<String>,
    after_name: Option<String>,
}

/// Whom a page is about.
#[derive(Deserialize)]
pub(super) struct Whom {
    pub realm: String,
    pub name: String,
    /// What has just been done.
    #[serde(default)]
    pub done: String,
}

/// `GET /`
pub(super) async fn list(caller: Caller, Query(wanted): Query<Wanted>) -> Response {
    let answer = list_page(&caller, &wanted).await;
    caller.reply(answer)
}

/// `GET /user`
pub(super) async fn one(caller: Caller, Query(whom): Query<Whom>) -> Response {
    let answer = user_page(&caller, &whom).await;
    caller.reply(answer)
}

async fn list_page(caller: &Caller, wanted: &Wanted) -> Result<Answer, Fault> {
    let part = wanted.q.trim();
    let after = wanted.after_realm.as_deref().zip(wanted.after_name.as_deref());
    let after =
        after.map(|(realm, name)| UserKey { realm: Realm::new(realm), name: UserName::canonical(name) });
    let found = caller.desk.users.list(part, after.as_ref(), PER_PAGE).await;
    let found = found.map_err(|failure| caller.failed(failure))?;
    let several = found.users.iter().any(|u| Some(&u.realm) != found.users.first().map(|f| &f.realm));
    let t = |key| caller.text(key);
    let mut section = Section::new(String::new());
    section.headings = vec![t("desk-name"), t("desk-state"), t("desk-authenticators"), t("desk-last-login")];
    if several {
        section.headings.push(t("desk-realm"));
    }
    for user in &found.users {
        let href = Some(url("/user", &user.realm, &user.name, &[]));
        let mut row = vec![
            Cell { text: user.name.clone(), href, badge: None },
            state(caller.visitor.language, user),
            Cell::text(user.authenticators.to_string()),
            Cell::text(moment(user.last_login_at.as_deref())),
        ];
        if several {
            row.push(Cell::text(user.realm.clone()));
        }
        section.rows.push(row);
    }
    if section.rows.is_empty() {
        section.text = Some(t(if part.is_empty() { "desk-no-users" } else { "desk-none-found" }));
    }
    let more = found.users.last().filter(|_| found.more).map(|last| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("q", part);
        query.append_pair("after_realm", &last.realm).append_pair("after_name", &last.name);
        Link { href: format!("/?{}", query.finish()), label: t("desk-more") }
    });
    let page = Page {
        frame: caller.frame(),
        nav: Some(caller.nav("/")),
        title: t("desk-users"),
        wide: true,
        failed: false,
        notice: None,
        search: Some(Search {
            label: t("desk-search"),
            value: part.to_owned(),
            submit: t("desk-search-submit"),
        }),
        sections: vec![section],
        more,
        back: None,
    };
    Ok(Answer::page(StatusCode::OK, page.render()?))
}

async fn user_page(caller: &Caller, whom: &Whom) -> Result<Answer, Fault> {
    let operations = caller.desk.operations(&whom.realm);
    let details = operations.show(&whom.name, Some(&whom.realm)).await;
    let details = details.map_err(|failure| caller.failed(failure))?;
    let user = UserKey {
        realm: Realm::new(details.user.realm.as_str()),
        name: UserName::canonical(details.user.name.as_str()),
    };
    let is_administrator = user.realm.as_str() == REALM;
    let sessions = sessions(caller, &user).await?;
    // What a helpdesk person is here for stands above what is only looked up.
    let acts = if *caller.user() == user {
        let mut own = Section::new(String::new());
        own.text = Some(caller.text("desk-own-text"));
        own
    } else {
        actions(caller, &details, &user)
    };
    let mut sections = vec![about(caller, &details), acts, authenticators(caller, &details, &user), sessions];
    if !is_administrator {
        sections.push(settings(caller, &details.settings, &user));
    }
    let notice = Act::parse(&whom.done).map(|act| caller.text(act.done_key()));
    let notice = notice.or_else(|| (whom.done == "settings").then(|| caller.text("desk-settings-done")));
    let (href, label) =
        if is_administrator { ("/administrators", "desk-administrators") } else { ("/", "desk-users") };
    let page = Page {
        frame: caller.frame(),
        nav: Some(caller.nav(href)),
        title: details.user.name.clone(),
        wide: true,
        failed: false,
        notice,
        search: None,
        sections,
        more: None,
        back: Some(Link { href: href.to_owned(), label: caller.text(label) }),
    };
    Ok(Answer::page(StatusCode::OK, page.render()?))
}

/// A state as people read it.
pub(super) fn state_words(language: Language, state: State) -> (String, &'static str) {
    let (key, badge) = match state {
        State::Active => ("desk-state-active", "good"),
        State::NotEnrolled => ("desk-state-not-enrolled", "busy"),
        State::Waiting => ("desk-state-waiting", "busy"),
        State::Locked => ("desk-state-locked", "bad"),
        State::Blocked => ("desk-state-blocked", "bad"),
    };
    (language.text(key), badge)
}

fn state(language: Language, user: &UserRow) -> Cell {
    let (text, badge) = state_words(language, user.state);
    Cell { text, href: None, badge: Some(badge) }
}

fn about(caller: &Caller, details: &UserDetails) -> Section {
    let (user, t) = (&details.user, |key| caller.text(key));
    let mut section = Section::new(t("desk-about"));
    section.facts = vec![(t("desk-state"), state(caller.visitor.language, user))];
    if user.realm == REALM {
        let role = details.settings.role.as_deref().and_then(Role::parse);
        let role = role.map_or_else(|| t("desk-role-none"), |role| t(role_key(role)));
        section.facts.push((t("desk-role"), Cell::text(role)));
    } else {
        section.facts.push((t("desk-realm"), Cell::text(user.realm.clone())));
    }
    section.facts.push((t("desk-first-seen"), Cell::text(moment(user.first_seen_at.as_deref()))));
    section.facts.push((t("desk-last-login"), Cell::text(moment(user.last_login_at.as_deref()))));
    section.facts.push((t("desk-failures"), Cell::text(user.failures.to_string())));
    if let Some(until) = &user.wait_until {
        section.facts.push((t("desk-wait-until"), Cell::text(moment(Some(until)))));
    }
    if let Some(until) = &details.settings.invited_until {
        section.facts.push((t("desk-invited-until"), Cell::text(moment(Some(until)))));
    }
    section
}

pub(super) fn authenticators(caller: &Caller, details: &UserDetails, user: &UserKey) -> Section {
    let t = |key| caller.text(key);
    let mut section = Section::new(t("desk-authenticators"));
    if details.authenticators.is_empty() {
        section.text = Some(t("desk-no-authenticators"));
        return section;
    }
    let removes = *caller.user() != *user && Act::Remove.is_for(caller.role, &details.user.realm);
    section.headings = vec![t("desk-name"), t("desk-kind"), t("desk-linked"), t("desk-last-used")];
    if removes {
        section.headings.push(t("desk-remove-column"));
    }
    for a in &details.authenticators {
        let kind = if a.method == "totp" { t("desk-kind-totp") } else { a.method.clone() };
        let mut row = vec![
            Cell::text(a.name.clone()),
            Cell::text(kind),
            Cell::text(moment(Some(&a.confirmed_at))),
            Cell::text(moment(a.last_used_at.as_deref())),
        ];
        if removes {
            let path = Act::Remove.path();
            let href = url(&path, &details.user.realm, &details.user.name, &[("id", &a.id)]);
            row.push(Cell { text: t("desk-remove-submit"), href: Some(href), badge: None });
        }
        section.rows.push(row);
    }
    section
}

pub(super) async fn sessions(caller: &Caller, user: &UserKey) -> Result<Section, Fault> {
    let desk = Arc::clone(&caller.desk);
    let found = desk.operations(user.realm.as_str());
    let found = found.sessions(user.name.as_str(), Some(user.realm.as_str()), Some(&desk.live)).await;
    let found = found.map_err(|failure| caller.failed(failure))?;
    let t = |key| caller.text(key);
    let mut section = Section::new(t("desk-sessions"));
    if found.is_empty() {
        section.text = Some(t("desk-no-sessions"));
        return Ok(section);
    }
    section.headings = vec![t("desk-began"), t("desk-from"), t("desk-with"), t("desk-at")];
    for session in found {
        section.rows.push(vec![
            Cell::text(moment(Some(&session.started_at))),
            Cell::text(session.address),
            Cell::text(browser(&session.agent)),
            Cell::text(session.app),
        ]);
    }
    Ok(section)
}

fn settings(caller: &Caller, set: &SettingsRow, user: &UserKey) -> Section {
    let t = |key| caller.text(key);
    let or_none = |text: &Option<String>| Cell::text(text.clone().unwrap_or_else(|| "–".to_owned()));
    let mut section = Section::new(t("desk-settings"));
    let networks = if set.networks.is_empty() { t("desk-networks-any") } else { set.networks.join(", ") };
    section.facts = vec![
        (t("desk-email"), or_none(&set.email)),
        (t("desk-number"), or_none(&set.number)),
        (t("desk-language"), or_none(&set.language)),
        (t("desk-networks"), Cell::text(networks)),
        (t("desk-codes-left"), Cell::text(set.emergency_codes.to_string())),
    ];
    if let Some(until) = &set.exempt_until {
        section.facts.push((t("desk-exempt-until"), Cell::text(moment(Some(until)))));
        section.facts.push((t("desk-exempt-why"), or_none(&set.exempt_reason)));
    }
    if caller.role == Role::Admin {
        let href = url("/user/settings", user.realm.as_str(), user.name.as_str(), &[]);
        section.actions.push((Link { href, label: t("desk-settings-edit") }, false));
    }
    section
}

/// What this administrator may do to this user now.
fn actions(caller: &Caller, details: &UserDetails, user: &UserKey) -> Section {
    let mut section = Section::new(caller.text("desk-actions"));
    let state = details.user.state;
    for act in Act::ALL {
        let fits = match act {
            Act::Remove => false,
            Act::Block => state != State::Blocked,
            Act::Unblock => state == State::Blocked,
            Act::Unlock => details.user.failures > 0 || user.realm.as_str() == REALM,
            Act::EndExemption => details.settings.exempt_until.is_some(),
            _ => true,
        };
        if fits && act.is_for(caller.role, user.realm.as_str()) {
            let href = url(&act.path(), user.realm.as_str(), user.name.as_str(), &[]);
            section.actions.push((Link { href, label: caller.text(act.title_key()) }, act.takes_away()));
        }
    }
    if section.actions.is_empty() {
        section.text = Some(caller.text("desk-no-actions"));
    }
    section
}
