//! What the challenge says about each way to prove a second factor: a new way has its words here, and nothing else in
//! these pages.

use std::time::Duration;

use super::view::{CodeField, Problem};
use crate::{factor::Hint, i18n::Language, model::Method};

/// What the page says.
pub(super) struct Words {
    /// What to do.
    pub lead: String,
    /// What is typed.
    pub field: CodeField,
    /// What to do when it does not work.
    pub helps: Vec<String>,
}

/// What the page says when it asks for this.
pub(super) fn words(language: Language, method: Method, issuer: &str) -> Words {
    let t = |key| language.text(key);
    match method {
        Method::Totp => Words {
            lead: language.text_with("challenge-lead", "issuer", issuer),
            field: CodeField { label: t("code-label"), hint: t("code-hint"), digits: true },
            helps: vec![
                t("challenge-help-newest"),
                language.text_with("challenge-help-account", "issuer", issuer),
                t("challenge-help-clock"),
                t("challenge-help-lost"),
            ],
        },
        Method::Recovery => Words {
            lead: t("challenge-recovery-lead"),
            field: CodeField { label: t("recovery-label"), hint: t("recovery-hint"), digits: false },
            helps: vec![t("recovery-help-list"), t("challenge-help-lost")],
        },
    }
}

/// The link to it on the page of another one.
pub(super) fn other(language: Language, method: Method) -> String {
    language.text(match method {
        Method::Totp => "other-totp",
        Method::Recovery => "other-recovery",
    })
}

/// Its name.
pub(super) fn name(language: Language, method: Method) -> String {
    language.text(match method {
        Method::Totp => "method-totp",
        Method::Recovery => "method-recovery",
    })
}

/// The problem of an empty field: nothing was checked, nothing counted.
pub(super) fn empty(language: Language, method: Method) -> Problem {
    let t = |key| language.text(key);
    let text = match method {
        Method::Totp => t("wrong-empty"),
        Method::Recovery => t("wrong-empty-recovery"),
    };
    problem(t("wrong-empty-title"), Some(text), Vec::new())
}

/// A wrong code in words: what may be wrong, and what to check. [B7, B14]
pub(super) fn explain(language: Language, method: Method, issuer: &str, hint: Hint) -> Problem {
    match method {
        Method::Totp => explain_totp(language, issuer, hint),
        Method::Recovery => explain_recovery(language, hint),
    }
}

fn explain_totp(language: Language, issuer: &str, hint: Hint) -> Problem {
    let t = |key| language.text(key);
    match hint {
        Hint::Malformed => problem(t("wrong-form-title"), Some(t("wrong-form")), Vec::new()),
        Hint::Mismatch => {
            let account = language.text_with("challenge-help-account", "issuer", issuer);
            let checks = vec![t("challenge-help-newest"), account, t("challenge-help-clock")];
            problem(t("wrong-title"), Some(t("wrong-check")), checks)
        }
        Hint::AlreadyUsed => problem(t("wrong-used-title"), Some(t("wrong-used")), Vec::new()),
        Hint::ClockOff { secs } => {
            let time = language.duration(Duration::from_secs(secs.unsigned_abs()));
            let text = if secs > 0 {
                language.text_with("wrong-clock-ahead", "time", time)
            } else {
                language.text_with("wrong-clock-behind", "time", time)
            };
            problem(t("wrong-clock-title"), Some(text), vec![t("wrong-clock-fix")])
        }
    }
}

fn explain_recovery(language: Language, hint: Hint) -> Problem {
    let t = |key| language.text(key);
    match hint {
        Hint::AlreadyUsed => problem(t("wrong-used-title"), Some(t("wrong-used-recovery")), Vec::new()),
        Hint::Malformed | Hint::Mismatch | Hint::ClockOff { .. } => {
            problem(t("wrong-title"), Some(t("wrong-recovery")), Vec::new())
        }
    }
}

fn problem(title: String, text: Option<String>, checks: Vec<String>) -> Problem {
    Problem { title, text, wait: None, checks }
}
