//! `logout`: ends the session, not the trust (design 4.7). `login`: to where logging in begins.

use askama::Template;
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode},
    response::Response,
};

use super::{
    forms::{self, Form},
    reply::{Answer, Fault, Page},
    view::{Confirm, Frame, Link, MessagePage, Sign},
    visitor::Visitor,
};
use crate::{audit::Event, session::cookie::Kind};

const PURPOSE: &str = "logout";

/// `GET logout`
pub(super) async fn ask(visitor: Visitor) -> Response {
    let answer = button(&visitor);
    visitor.reply(answer)
}

/// `POST logout`
pub(super) async fn end(visitor: Visitor, body: Body) -> Response {
    let answer = sign_out(&visitor, body).await;
    visitor.reply(answer)
}

/// `GET login`
pub(super) async fn to_login(visitor: Visitor) -> Response {
    visitor.reply(Ok(Answer::to(visitor.login_page())))
}

fn button(visitor: &Visitor) -> Result<Answer, Fault> {
    let Some(live) = visitor.session() else { return signed_out(visitor, Vec::new()) };
    let session = live.session();
    let token = forms::token(&visitor.pages.keyring, PURPOSE, &session.id.0);
    let html = ask_page(visitor.frame(), session.user.name.as_str(), token).render()?;
    Ok(Answer::page(StatusCode::OK, html))
}

/// "Do you want to log out?"
pub(super) fn ask_page<'a>(frame: Frame<'a>, user: &'a str, token: String) -> MessagePage<'a> {
    let text = frame.language.text_with("logout-text", "app", frame.brand());
    let mut page = MessagePage::new(frame, Sign::Lock, frame.t("logout-title"), vec![text]);
    page.user = Some(user);
    let action = format!("{}/logout", frame.prefix);
    page.form = Some(Confirm { action, token, label: frame.t("logout-submit") });
    page.link = Some(Link { href: "/".to_owned(), label: frame.t("logout-stay") });
    page.with_more(format!("{}/me", frame.prefix), frame.t("to-me"))
}

/// "You are logged out".
pub(super) fn signed_out_page(frame: Frame<'_>, login_page: String) -> MessagePage<'_> {
    MessagePage::new(frame, Sign::Done, frame.t("signed-out-title"), vec![frame.t("signed-out-text")])
        .with_link(login_page, frame.t("signed-out-again"))
}

async fn sign_out(visitor: &Visitor, body: Body) -> Result<Answer, Fault> {
    let posted = Form::read(visitor, body).await?;
    // A login that is still pending ends as well; nothing of it is kept anywhere else.
    let mut cookies = vec![visitor.pages.names.clear(Kind::Login)];
    if let Some(live) = visitor.session() {
        let session = live.session();
        posted.demand_token(&visitor.pages.keyring, PURPOSE, &session.id.0)?;
        cookies.extend(visitor.pages.admissions.end(&live).await?);
        visitor.pages.metrics.app(&visitor.visit.app.id).sessions_ended.inc();
        visitor.record(&Event::SessionEnded, &session.user, session.device);
    } else {
        // Expired, revoked, or of a blocked user: dead already.
        cookies.push(visitor.pages.names.clear(Kind::Session));
    }
    signed_out(visitor, cookies)
}

fn signed_out(visitor: &Visitor, cookies: Vec<HeaderValue>) -> Result<Answer, Fault> {
    let html = signed_out_page(visitor.frame(), visitor.login_page()).render()?;
    Ok(Answer::Page(Page { status: StatusCode::OK, html, cookies, retry_after: None, leads_to_app: false }))
}
