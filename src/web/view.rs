//! What the templates are filled with: texts that are ready to read. Nothing is decided here.

use askama::Template;

use super::assets;
use crate::i18n::Language;

/// What all pages share.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// The language of the page.
    pub language: Language,
    /// Where our pages live.
    pub prefix: &'a str,
    /// The app's name, where it is known.
    pub app: Option<&'a str>,
    /// Whether another language can be chosen: on pages with an address of their own.
    pub languages: bool,
    /// What of the query of this address is kept when another language is chosen.
    pub query: &'a str,
}

impl Frame<'_> {
    /// A message.
    pub fn t(&self, key: &str) -> String {
        self.language.text(key)
    }

    /// What stands above the page and in its title.
    pub fn brand(&self) -> String {
        self.app.map_or_else(|| self.t("brand"), str::to_owned)
    }

    /// The address of a style, script or icon.
    pub fn asset(&self, name: &str) -> String {
        assets::url(self.prefix, name)
    }

    /// The languages to choose from.
    pub fn all_languages(&self) -> &'static [Language] {
        Language::ALL
    }
}

/// Why a code was not accepted, and what to check.
pub(crate) struct Problem {
    /// In one line.
    pub title: String,
    /// What it means.
    pub text: Option<String>,
    /// When the next code is taken, if not at once.
    pub wait: Option<String>,
    /// What to do about it.
    pub checks: Vec<String>,
}

/// Where a code is typed.
pub(crate) struct CodeField {
    pub label: String,
    pub hint: String,
    /// It has nothing but digits.
    pub digits: bool,
}

/// Asks for a code.
#[derive(Template)]
#[template(path = "challenge.html")]
pub(crate) struct ChallengePage<'a> {
    pub frame: Frame<'a>,
    pub title: String,
    pub wide: bool,
    pub failed: bool,
    pub user: &'a str,
    pub lead: String,
    pub problem: Option<Problem>,
    pub token: String,
    /// What is asked for.
    pub method: &'static str,
    pub field: CodeField,
    pub submit: String,
    /// Other ways.
    pub others: Vec<Link>,
    /// How long no code will be asked on this device.
    pub remember: Option<String>,
    pub helps: Vec<String>,
    /// There is a way for emergencies.
    pub emergency: bool,
}

/// Asks for the activation code that an administrator has given.
#[derive(Template)]
#[template(path = "invitation.html")]
pub(super) struct InvitationPage<'a> {
    pub frame: Frame<'a>,
    pub title: String,
    pub wide: bool,
    pub failed: bool,
    pub user: &'a str,
    pub lead: String,
    pub problem: Option<Problem>,
    pub token: String,
}

/// Asks for an emergency code and a reason.
#[derive(Template)]
#[template(path = "emergency.html")]
pub(super) struct EmergencyPage<'a> {
    pub frame: Frame<'a>,
    pub title: String,
    pub wide: bool,
    pub failed: bool,
    pub user: &'a str,
    pub lead: String,
    pub problem: Option<Problem>,
    pub token: String,
    /// A reason must be given.
    pub asks_reason: bool,
    /// What was typed before.
    pub reason: &'a str,
    /// What is wrong with it.
    pub reason_fault: bool,
}

/// An authenticator app and where it can be had.
pub(crate) struct StoreLinks {
    pub name: &'static str,
    /// (store, address)
    pub links: &'static [(&'static str, &'static str)],
}

/// Shows QR and setup key, asks for the first code.
#[derive(Template)]
#[template(path = "enrol.html")]
pub(crate) struct EnrolPage<'a> {
    pub frame: Frame<'a>,
    pub title: String,
    pub wide: bool,
    pub failed: bool,
    pub who_label: String,
    pub user: &'a str,
    pub lead: String,
    pub problem: Option<Problem>,
    pub token: String,
    pub stores: &'static [StoreLinks],
    /// What to do when an earlier attempt was abandoned.
    pub old: String,
    /// The QR code; markup of our own making.
    pub svg: &'a str,
    /// `otpauth://…`
    pub url: &'a str,
    pub key_hint: String,
    /// The setup key in groups, to read.
    pub groups: &'a str,
    /// The setup key without spaces, to copy.
    pub key: &'a str,
    pub code_hint: String,
    pub name: String,
    pub other_url: String,
    pub other_label: String,
}

/// The sign above a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It is done.
    Done,
    /// It takes a while.
    Wait,
    /// It is locked.
    Lock,
    /// Something to know.
    Note,
}

/// A way on.
pub(crate) struct Link {
    pub href: String,
    pub label: String,
}

/// A form with nothing but a button.
pub(crate) struct Confirm {
    pub action: String,
    pub token: String,
    pub label: String,
}

/// Says something.
#[derive(Template)]
#[template(path = "message.html")]
pub(crate) struct MessagePage<'a> {
    pub frame: Frame<'a>,
    pub title: String,
    pub wide: bool,
    pub failed: bool,
    pub sign: Sign,
    /// Shown as "You are logged in as".
    pub user: Option<&'a str>,
    pub texts: Vec<String>,
    pub form: Option<Confirm>,
    pub link: Option<Link>,
    /// What else there is, below.
    pub more: Option<Link>,
    pub request_id: Option<&'a str>,
}

impl<'a> MessagePage<'a> {
    /// A message that says only this.
    pub fn new(frame: Frame<'a>, sign: Sign, title: String, texts: Vec<String>) -> Self {
        Self {
            frame,
            title,
            wide: false,
            failed: false,
            sign,
            user: None,
            texts,
            form: None,
            link: None,
            more: None,
            request_id: None,
        }
    }

    /// With something else, less prominent.
    #[must_use]
    pub fn with_more(mut self, href: String, label: String) -> Self {
        self.more = Some(Link { href, label });
        self
    }

    /// With a way on.
    #[must_use]
    pub fn with_link(mut self, href: String, label: String) -> Self {
        self.link = Some(Link { href, label });
        self
    }
}
