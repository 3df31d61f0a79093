//! `recovery`: the user's recovery codes: how many are left, and new ones, shown once.
//!
//! Open as `me` is, where policy takes recovery codes. They outlast the session, so both making and looking at how many
//! there are need a second factor of the last minutes.

use std::sync::Arc;

use askama::Template;
use axum::{body::Body, http::StatusCode, response::Response};

use super::{
    admit,
    forms::{self, Form},
    me::{
        self,
        page::{Moment, moment},
    },
    reply::{Answer, Fault, Page},
    view::{Frame, MessagePage, Sign},
    visitor::Visitor,
};
use crate::{
    audit::Event,
    base::secret::SecretString,
    deliver::notices::Notice,
    factor::recovery::{FEW, Stock},
    model::{Method, UserKey},
    policy,
    session::standing::LiveSession,
};

const PURPOSE: &str = "recovery";
const PAGE: &str = "recovery";

/// `GET recovery`
pub(super) async fn show(visitor: Visitor) -> Response {
    let answer = overview(&visitor).await;
    visitor.reply(answer)
}

/// `POST recovery`
pub(super) async fn make(visitor: Visitor, body: Body) -> Response {
    let answer = renew(&visitor, body).await;
    visitor.reply(answer)
}

/// Whether policy takes recovery codes of this user here.
pub(super) fn counts(visitor: &Visitor, user: &UserKey) -> bool {
    visitor.requirement(user).is_some_and(|required| policy::methods(required).contains(Method::Recovery))
}

async fn overview(visitor: &Visitor) -> Result<Answer, Fault> {
    if !forms::by_navigation(visitor.headers()) {
        return Err(Fault::Status(StatusCode::FORBIDDEN));
    }
    let live = candidate(visitor)?;
    let stock = visitor.pages.recovery.stock(&live.session().user).await?;
    Ok(Answer::page(StatusCode::OK, page(visitor.frame(), shown(visitor, &live, stock, &[])).render()?))
}

async fn renew(visitor: &Visitor, body: Body) -> Result<Answer, Fault> {
    let posted = Form::read(visitor, body).await?;
    let live = candidate(visitor)?;
    let session = live.session();
    posted.demand_token(&visitor.pages.keyring, PURPOSE, &session.id.0)?;
    // What cannot be recorded does not happen.
    visitor.pages.auditor.ready()?;
    let Some(codes) = visitor.pages.recovery.make(&session.user).await? else {
        return Ok(Answer::to(visitor.path("me")));
    };
    visitor.grant(&Event::RecoveryCodesMade, &session.user, session.device).await?;
    visitor.tell(Notice::RecoveryCodesMade, &session.user);
    let stock = visitor.pages.recovery.stock(&session.user).await?;
    let codes: Vec<&str> = codes.iter().map(SecretString::expose).collect();
    Ok(Answer::page(StatusCode::OK, page(visitor.frame(), shown(visitor, &live, stock, &codes)).render()?))
}

/// The first authenticator has been linked and its user is in: before they go on, recovery codes are offered.
pub(super) fn offer(visitor: &Visitor, entered: Answer) -> Result<Answer, Fault> {
    instead(entered, |target| offer_page(visitor.frame(), target))
}

/// A recovery code let its user in: before they go on, they are told how many are left.
pub(super) fn passed(visitor: &Visitor, entered: Answer, left: usize) -> Result<Answer, Fault> {
    instead(entered, |target| passed_page(visitor.frame(), left, target))
}

/// A page in between, which leads to where the browser would have been sent, with the same cookies.
fn instead<'a>(entered: Answer, page: impl FnOnce(String) -> MessagePage<'a>) -> Result<Answer, Fault> {
    let (to, cookies) = match entered {
        Answer::SeeOther { to, cookies } => (to, cookies),
        other => return Ok(other),
    };
    let html = page(to).render()?;
    Ok(Answer::Page(Page { status: StatusCode::OK, html, cookies, retry_after: None, leads_to_app: false }))
}

/// "Make recovery codes as well".
pub(super) fn offer_page(frame: Frame<'_>, target: String) -> MessagePage<'_> {
    MessagePage::new(frame, Sign::Done, frame.t("recovery-offer-title"), vec![frame.t("recovery-offer-text")])
        .with_link(format!("{}/recovery", frame.prefix), frame.t("recovery-make"))
        .with_more(target, frame.language.text_with("to-app", "app", frame.brand()))
}

/// "You are in; so many codes are left".
pub(super) fn passed_page(frame: Frame<'_>, left: usize, target: String) -> MessagePage<'_> {
    let mut texts = vec![frame.t("recovery-passed-text"), format!("{}.", self::left(frame, left))];
    if left <= FEW {
        texts.push(frame.t("recovery-few"));
    }
    MessagePage::new(frame, Sign::Done, frame.t("recovery-passed-title"), texts)
        .with_link(target, frame.language.text_with("to-app", "app", frame.brand()))
        .with_more(format!("{}/recovery", frame.prefix), frame.t("recovery-title"))
}

fn candidate(visitor: &Visitor) -> Result<Arc<LiveSession>, Fault> {
    let live = me::present(visitor, PAGE)?;
    if !counts(visitor, &live.session().user) {
        return Err(Fault::Instead(Answer::to(visitor.path("me"))));
    }
    if admit::is_fresh(visitor, &live) {
        return Ok(live);
    }
    Err(Fault::Instead(admit::prove_again(visitor, &live, PAGE)?))
}

fn shown<'a>(
    visitor: &Visitor,
    live: &'a LiveSession,
    stock: Option<Stock>,
    codes: &'a [&'a str],
) -> Shown<'a> {
    let session = live.session();
    let token = forms::token(&visitor.pages.keyring, PURPOSE, &session.id.0);
    Shown { user: session.user.name.as_str(), token, stock, codes }
}

/// What the page shows.
pub(super) struct Shown<'a> {
    pub user: &'a str,
    pub token: String,
    pub stock: Option<Stock>,
    /// New ones, this once.
    pub codes: &'a [&'a str],
}

/// Shows how many codes are left, or new ones.
#[derive(Template)]
#[template(path = "recovery.html")]
pub(super) struct RecoveryPage<'a> {
    pub frame: Frame<'a>,
    pub title: String,
    pub wide: bool,
    pub failed: bool,
    pub user: &'a str,
    pub token: String,
    pub codes: &'a [&'a str],
    /// When the codes were made.
    pub made: Option<Moment>,
    pub left: String,
    /// There are few left.
    pub few: bool,
    pub used: Vec<Moment>,
    pub submit: String,
    pub to_app: String,
}

/// The page.
pub(super) fn page<'a>(frame: Frame<'a>, shown: Shown<'a>) -> RecoveryPage<'a> {
    let fresh = !shown.codes.is_empty();
    let left = shown.stock.as_ref().map_or(0, |stock| stock.left);
    RecoveryPage {
        frame,
        title: frame.t(if fresh { "recovery-new-title" } else { "recovery-title" }),
        wide: false,
        failed: false,
        user: shown.user,
        token: shown.token,
        codes: shown.codes,
        left: self::left(frame, left),
        few: !fresh && shown.stock.is_some() && left <= FEW,
        made: shown.stock.as_ref().map(|stock| moment(stock.made)),
        used: shown.stock.iter().flat_map(|stock| &stock.used).map(|at| moment(*at)).collect(),
        submit: frame.t(if shown.stock.is_some() { "recovery-again" } else { "recovery-make" }),
        to_app: frame.language.text_with("to-app", "app", frame.brand()),
    }
}

/// "7 codes are left"
pub(super) fn left(frame: Frame<'_>, left: usize) -> String {
    frame.language.text_with("recovery-left", "count", i64::try_from(left).unwrap_or(i64::MAX))
}
