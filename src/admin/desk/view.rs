//! What the templates are filled with. Three shapes carry all pages: a form, a page of facts and tables, a letter.

use askama::Template;
use axum::http::StatusCode;

use super::caller::Caller;
use crate::{
    i18n::Language,
    model::agent,
    web::{
        reply::{Answer, Fault},
        view::{Frame, Link, MessagePage, Problem, Sign},
    },
};

/// What stands above every page.
pub(super) struct Nav {
    pub label: String,
    /// Where to, and whether we are there.
    pub items: Vec<(Link, bool)>,
    pub who: String,
    pub role: String,
    pub out: Link,
}

/// How a field is filled in.
pub(super) enum Input {
    /// One line, of this HTML type.
    Line(&'static str),
    /// Several lines.
    Area,
    /// One of these: (value, label).
    Choice(Vec<(String, String)>),
}

/// A field of a form.
pub(super) struct Field {
    pub name: &'static str,
    pub label: String,
    pub hint: Option<String>,
    pub input: Input,
    pub value: String,
    pub autocomplete: &'static str,
    pub required: bool,
    /// What was typed cannot be.
    pub wrong: bool,
}

impl Field {
    pub fn line(name: &'static str, label: String, value: &str) -> Self {
        Self {
            name,
            label,
            hint: None,
            input: Input::Line("text"),
            value: value.to_owned(),
            autocomplete: "off",
            required: false,
            wrong: false,
        }
    }

    pub fn of(self, input: Input) -> Self {
        Self { input, ..self }
    }

    pub fn hint(self, hint: String) -> Self {
        Self { hint: Some(hint), ..self }
    }

    pub fn required(self) -> Self {
        Self { required: true, ..self }
    }

    pub fn fill(self, autocomplete: &'static str) -> Self {
        Self { autocomplete, ..self }
    }
}

/// A form.
#[derive(Template)]
#[template(path = "desk/form.html")]
pub(super) struct FormPage<'a> {
    pub frame: Frame<'a>,
    pub nav: Option<Nav>,
    pub title: String,
    pub wide: bool,
    pub failed: bool,
    /// Whom it is about.
    pub who: Option<(String, String)>,
    pub texts: Vec<String>,
    pub problem: Option<Problem>,
    pub action: String,
    pub token: String,
    pub hidden: Vec<(&'static str, String)>,
    pub fields: Vec<Field>,
    pub submit: String,
    /// It takes something away.
    pub danger: bool,
    pub back: Option<Link>,
}

/// A cell of a table.
pub(super) struct Cell {
    pub text: String,
    pub href: Option<String>,
    /// A state: `good`, `busy`, `bad`.
    pub badge: Option<&'static str>,
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), href: None, badge: None }
    }
}

/// A part of a page.
pub(super) struct Section {
    pub title: String,
    pub facts: Vec<(String, Cell)>,
    pub headings: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
    /// Instead of an empty table, or as an explanation.
    pub text: Option<String>,
    /// Where to go from here, and whether that takes something away.
    pub actions: Vec<(Link, bool)>,
}

impl Section {
    pub const fn new(title: String) -> Self {
        Self {
            title,
            facts: Vec::new(),
            headings: Vec::new(),
            rows: Vec::new(),
            text: None,
            actions: Vec::new(),
        }
    }
}

/// A search.
pub(super) struct Search {
    pub label: String,
    pub value: String,
    pub submit: String,
}

/// Facts and tables.
#[derive(Template)]
#[template(path = "desk/page.html")]
pub(super) struct Page<'a> {
    pub frame: Frame<'a>,
    pub nav: Option<Nav>,
    pub title: String,
    pub wide: bool,
    pub failed: bool,
    /// What has just been done.
    pub notice: Option<String>,
    pub search: Option<Search>,
    pub sections: Vec<Section>,
    pub more: Option<Link>,
    pub back: Option<Link>,
}

/// A letter with codes, shown once, to be printed.
#[derive(Template)]
#[template(path = "desk/letter.html")]
pub(super) struct LetterPage<'a> {
    pub frame: Frame<'a>,
    pub nav: Option<Nav>,
    pub title: String,
    pub wide: bool,
    pub failed: bool,
    pub warning: String,
    pub heading: String,
    pub facts: Vec<(String, String)>,
    pub codes: Vec<String>,
    pub steps: Vec<String>,
    pub print: String,
    pub back: Link,
}

/// A moment as people read it, in UTC: `2027-01-31 17:00`.
pub(super) fn moment(rfc3339: Option<&str>) -> String {
    rfc3339.and_then(|text| text.get(..16)).map_or_else(|| "–".to_owned(), |text| text.replace('T', " "))
}

/// A message instead of a page.
pub(super) fn message(caller: &Caller, status: StatusCode, title: &str, text: &str) -> Result<Answer, Fault> {
    let frame = caller.frame_of_post();
    let mut page = MessagePage::new(frame, Sign::Note, frame.t(title), vec![frame.t(text)])
        .with_link("/".to_owned(), frame.t("desk-to-users"));
    page.failed = true;
    Ok(Answer::page(status, page.render()?))
}

/// What was wrong with a form.
pub(super) fn problem(language: Language, title: &str, text: Option<String>) -> Problem {
    Problem { title: language.text(title), text, wait: None, checks: Vec::new() }
}

/// The browser and system in a `User-Agent`, as people know them; else what it says.
pub(super) fn browser(agent: &str) -> String {
    agent::named(agent).unwrap_or_else(|| agent.chars().filter(|c| !c.is_control()).take(60).collect())
}
