//! Accounts of administrators, and tokens of the API.

use askama::Template;
use axum::{http::StatusCode, response::Response};

use super::{
    acts::url,
    caller::{Caller, role_key},
    users::state_words,
    view::{Cell, Page, Section, moment},
};
use crate::{
    admin::{operations::TokenState, tokens::Scope},
    config::administrators::REALM,
    model::Role,
    web::{
        reply::{Answer, Fault},
        view::Link,
    },
};

/// `GET /administrators`
pub(super) async fn administrators(caller: Caller) -> Response {
    let answer = administrators_page(&caller).await;
    caller.reply(answer)
}

/// `GET /tokens`
pub(super) async fn tokens(caller: Caller) -> Response {
    let answer = tokens_page(&caller).await;
    caller.reply(answer)
}

async fn administrators_page(caller: &Caller) -> Result<Answer, Fault> {
    let all = caller.desk.administrators.administrators().await;
    let all = all.map_err(|failure| caller.failed(failure))?;
    let t = |key| caller.text(key);
    let mut section = Section::new(String::new());
    section.headings = vec![t("desk-name"), t("desk-role"), t("desk-state"), t("desk-last-login")];
    for account in all {
        let (text, badge) = state_words(caller.visitor.language, account.state);
        let role = Role::parse(&account.role).map_or(account.role, |role| t(role_key(role)));
        section.rows.push(vec![
            Cell { href: Some(url("/user", REALM, &account.name, &[])), text: account.name, badge: None },
            Cell::text(role),
            Cell { text, href: None, badge: Some(badge) },
            Cell::text(moment(account.last_login_at.as_deref())),
        ]);
    }
    if caller.role == Role::Admin {
        let href = "/administrators/new".to_owned();
        section.actions.push((Link { href, label: t("desk-new-title") }, false));
    }
    page(caller, "/administrators", "desk-administrators", section)
}

async fn tokens_page(caller: &Caller) -> Result<Answer, Fault> {
    let all = caller.desk.users.tokens().await.map_err(|failure| caller.failed(failure))?;
    let t = |key| caller.text(key);
    let mut section = Section::new(String::new());
    section.headings =
        vec![t("desk-name"), t("desk-token-may"), t("desk-state"), t("desk-token-ends"), t("desk-last-used")];
    for token in all {
        let (key, badge) = match token.state {
            TokenState::Active => ("desk-token-active", "good"),
            TokenState::Expired => ("desk-token-expired", "busy"),
            TokenState::Revoked => ("desk-token-revoked", "bad"),
        };
        let scopes: Vec<String> = token.scopes.iter().map(|scope| t(scope_key(*scope))).collect();
        section.rows.push(vec![
            Cell::text(token.name),
            Cell::text(scopes.join(", ")),
            Cell { text: t(key), href: None, badge: Some(badge) },
            Cell::text(moment(Some(&token.expires_at))),
            Cell::text(moment(token.last_used_at.as_deref())),
        ]);
    }
    section.text = Some(t(if section.rows.is_empty() { "desk-no-tokens" } else { "desk-tokens-text" }));
    page(caller, "/tokens", "desk-tokens", section)
}

const fn scope_key(scope: Scope) -> &'static str {
    match scope {
        Scope::Read => "desk-scope-read",
        Scope::Helpdesk => "desk-scope-helpdesk",
        Scope::Admin => "desk-scope-admin",
        Scope::Audit => "desk-scope-audit",
    }
}

fn page(caller: &Caller, here: &'static str, title: &str, section: Section) -> Result<Answer, Fault> {
    let page = Page {
        frame: caller.frame(),
        nav: Some(caller.nav(here)),
        title: caller.text(title),
        wide: true,
        failed: false,
        notice: None,
        search: None,
        sections: vec![section],
        more: None,
        back: None,
    };
    Ok(Answer::page(StatusCode::OK, page.render()?))
}
