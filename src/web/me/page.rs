//! What the pages of `me` show. Nothing is decided here.

use askama::Template;

use super::agent;
use crate::{
    base::clock::UnixMillis,
    config::App,
    i18n::Language,
    model::{Authenticator, Method, Profile, SessionId, SessionRecord},
    web::{
        methods,
        view::{Frame, MessagePage, Sign},
    },
};

/// What was done, to be told once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::web) enum Done {
    /// An authenticator has another name.
    Renamed,
    /// Another session has ended.
    SignedOut,
    /// All others have.
    SignedOutOthers,
    /// A setting was kept.
    Saved,
}

impl Done {
    /// All.
    pub const ALL: [Self; 4] = [Self::Renamed, Self::SignedOut, Self::SignedOutOthers, Self::Saved];

    /// What the claim in the address is signed for.
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Renamed => "me/renamed",
            Self::SignedOut => "me/signed-out",
            Self::SignedOutOthers => "me/signed-out-others",
            Self::Saved => "me/saved",
        }
    }

    fn text(self, frame: Frame<'_>) -> String {
        match self {
            Self::Renamed => frame.t("me-done-renamed"),
            Self::SignedOut => frame.t("me-done-signed-out"),
            Self::SignedOutOthers => frame.t("me-done-others"),
            Self::Saved => frame.t("me-done-saved"),
        }
    }
}

/// What there is to show.
pub(in crate::web) struct Overview<'a> {
    pub user: &'a str,
    /// The session of this browser.
    pub here: SessionId,
    pub app: &'a App,
    pub token: String,
    pub done: Option<Done>,
    /// Methods that can be put first.
    pub methods: Vec<Method>,
    pub authenticators: &'a [Authenticator],
    pub sessions: &'a [SessionRecord],
    pub profile: &'a Profile,
    /// Recovery codes count here.
    pub recovery: bool,
}

/// A moment: for programs, and in words.
pub(in crate::web) struct Moment {
    pub iso: String,
    pub text: String,
}

/// An authenticator.
pub(in crate::web) struct AuthenticatorItem<'a> {
    pub id: String,
    pub name: &'a str,
    pub kind: String,
    pub linked: Moment,
    pub used: Option<Moment>,
}

/// A session.
pub(in crate::web) struct SessionItem<'a> {
    pub id: String,
    pub browser: String,
    pub app: &'a str,
    pub address: String,
    pub started: Moment,
    /// It is the one that asks.
    pub here: bool,
}

/// Something to choose.
pub(in crate::web) struct Choice {
    pub value: &'static str,
    pub label: String,
    pub chosen: bool,
}

/// Own authenticators, sessions, settings.
#[derive(Template)]
#[template(path = "me.html")]
pub(in crate::web) struct MePage<'a> {
    pub frame: Frame<'a>,
    pub title: String,
    pub wide: bool,
    pub failed: bool,
    pub user: &'a str,
    pub token: String,
    pub done: Option<String>,
    pub authenticators: Vec<AuthenticatorItem<'a>>,
    pub sessions: Vec<SessionItem<'a>>,
    pub others: usize,
    pub languages: Vec<Choice>,
    /// Empty unless there is something to choose.
    pub methods: Vec<Choice>,
    pub recovery: bool,
    pub to_app: String,
}

/// The page.
pub(in crate::web) fn page<'a>(frame: Frame<'a>, overview: Overview<'a>) -> MePage<'a> {
    let Overview { user, here, app, token, done, methods, authenticators, sessions, profile, recovery } =
        overview;
    let sessions: Vec<_> = sessions.iter().map(|record| session(frame, app, record, here)).collect();
    MePage {
        frame,
        title: frame.t("me-title"),
        wide: true,
        failed: false,
        user,
        token,
        done: done.map(|done| done.text(frame)),
        authenticators: authenticators.iter().map(|a| authenticator(frame, a)).collect(),
        others: sessions.iter().filter(|session| !session.here).count(),
        sessions,
        languages: languages(frame, profile),
        methods: choices(frame, &methods, profile),
        recovery,
        to_app: frame.language.text_with("to-app", "app", frame.brand()),
    }
}

/// Which authenticator is to go.
#[derive(Template)]
#[template(path = "me-remove.html")]
pub(in crate::web) struct RemovePage<'a> {
    pub frame: Frame<'a>,
    pub title: String,
    pub wide: bool,
    pub failed: bool,
    pub user: &'a str,
    pub token: String,
    pub authenticators: Vec<AuthenticatorItem<'a>>,
}

/// The page.
pub(in crate::web) fn remove<'a>(
    frame: Frame<'a>,
    user: &'a str,
    token: String,
    spare: &[&'a Authenticator],
) -> RemovePage<'a> {
    RemovePage {
        frame,
        title: frame.t("me-remove-title"),
        wide: false,
        failed: false,
        user,
        token,
        authenticators: spare.iter().map(|a| authenticator(frame, a)).collect(),
    }
}

/// "You cannot remove this one".
pub(in crate::web) fn only_one(frame: Frame<'_>) -> MessagePage<'_> {
    MessagePage::new(frame, Sign::Note, frame.t("me-only-title"), vec![frame.t("me-only-text")])
        .with_link(format!("{}/enrol", frame.prefix), frame.t("me-add"))
        .with_more(format!("{}/me", frame.prefix), frame.t("to-me"))
}

/// "It was removed: log in again".
pub(in crate::web) fn removed(frame: Frame<'_>, login_page: String) -> MessagePage<'_> {
    let texts = vec![frame.t("me-removed-text"), frame.t("me-removed-app")];
    MessagePage::new(frame, Sign::Done, frame.t("me-removed-title"), texts)
        .with_link(login_page, frame.t("signed-out-again"))
}

/// "You are logged out everywhere".
pub(in crate::web) fn everywhere(frame: Frame<'_>, login_page: String) -> MessagePage<'_> {
    let text = frame.t("me-everywhere-text");
    MessagePage::new(frame, Sign::Done, frame.t("me-everywhere-title"), vec![text])
        .with_link(login_page, frame.t("signed-out-again"))
}

fn authenticator<'a>(frame: Frame<'_>, a: &'a Authenticator) -> AuthenticatorItem<'a> {
    AuthenticatorItem {
        id: a.id.to_string(),
        name: &a.name,
        kind: methods::name(frame.language, a.method),
        linked: moment(a.confirmed_at),
        used: a.last_used_at.map(moment),
    }
}

fn session<'a>(
    frame: Frame<'_>,
    app: &'a App,
    record: &'a SessionRecord,
    here: SessionId,
) -> SessionItem<'a> {
    SessionItem {
        id: record.id.to_string(),
        browser: agent::words(&record.agent).unwrap_or_else(|| frame.t("me-browser-unknown")),
        app: if record.app == app.id { &app.name } else { record.app.as_str() },
        address: record.address.to_string(),
        started: moment(record.started),
        here: record.id == here,
    }
}

fn languages(frame: Frame<'_>, profile: &Profile) -> Vec<Choice> {
    let chosen = profile.language.as_deref().unwrap_or_default();
    let choice = |value, label| Choice { value, label, chosen: value == chosen };
    let own = Language::ALL.iter().map(|language| choice(language.code(), language.own_name().to_owned()));
    std::iter::once(choice("", frame.t("me-language-any"))).chain(own).collect()
}

fn choices(frame: Frame<'_>, methods: &[Method], profile: &Profile) -> Vec<Choice> {
    // Of one there is nothing to choose.
    if methods.len() < 2 {
        return Vec::new();
    }
    let choice = |method: &Method| Choice {
        value: method.name(),
        label: methods::name(frame.language, *method),
        chosen: profile.preferred == Some(*method),
    };
    let any = Choice { value: "", label: frame.t("me-preferred-any"), chosen: profile.preferred.is_none() };
    std::iter::once(any).chain(methods.iter().map(choice)).collect()
}

/// A script puts it into the browser's own time; without one it is UTC, and says so.
pub(in crate::web) fn moment(at: UnixMillis) -> Moment {
    let iso = at.rfc3339();
    let (date, time) = (iso.get(..10).unwrap_or_default(), iso.get(11..16).unwrap_or_default());
    Moment { text: format!("{date} {time} UTC"), iso }
}
