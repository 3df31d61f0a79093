//! A notice in words: one text, shown twice (plain and as HTML).

use askama::Template;
use jiff::{Timestamp, tz::TimeZone};

use super::{Notice, Person, Scene, Who};
use crate::{
    base::clock::UnixMillis,
    deliver::letter::{Content, one_line},
    i18n::Language,
    model::Method,
};

/// Writes a notice for somebody.
///
/// # Errors
/// When a template cannot be filled.
pub fn write(
    notice: &Notice,
    scene: &Scene,
    at: UnixMillis,
    person: &Person,
    zone: &TimeZone,
) -> Result<Content, askama::Error> {
    let language = person.language;
    let t = |key: &str| language.text(key);
    let Said { title, texts, facts: more, advice, needs_link } = said(notice, language, zone);
    let mut facts = Vec::new();
    let mut fact = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            facts.push((t(key), one_line(&value)));
        }
    };
    fact("mail-app", scene.app.clone());
    fact("mail-account", person.name.as_deref().map(short));
    for (key, value) in more {
        fact(key, Some(value));
    }
    fact("mail-when", Some(moment(at, language, zone)));
    fact("mail-from", scene.client.map(|client| client.to_string()));
    fact("mail-browser", scene.browser.clone());
    let title = t(title);
    let code = match notice {
        Notice::Invitation { code, .. } => Some(code.expose()),
        _ => None,
    };
    let subject = match &scene.app {
        Some(app) => format!("{title} – {app}"),
        None => title.clone(),
    };
    let words = Words {
        language,
        title: &title,
        texts: texts.iter().map(|key| t(key)).collect(),
        code,
        code_label: t("mail-code"),
        facts,
        link: scene.link.as_deref().filter(|_| needs_link),
        link_label: t("mail-open"),
        advice: advice.iter().map(|key| t(key)).collect(),
        foot: t("mail-foot"),
    };
    Ok(Content {
        subject: one_line(&subject),
        text: Plain { words: &words }.render()?,
        html: Html { words: &words }.render()?,
        language,
    })
}

/// What is said; everything by its key.
struct Said {
    title: &'static str,
    texts: Vec<&'static str>,
    /// Beside where and when.
    facts: Vec<(&'static str, String)>,
    /// What to do.
    advice: Vec<&'static str>,
    /// Whether the reader has to go to the app.
    needs_link: bool,
}

fn said(notice: &Notice, language: Language, zone: &TimeZone) -> Said {
    let kind = |method: &Method| {
        let key = match method {
            Method::Totp => "mail-method-totp",
            Method::Recovery => "mail-method-recovery",
        };
        ("mail-method", language.text(key))
    };
    let by = |who: &Who| {
        let key = match who {
            Who::User => "mail-by-you",
            Who::Administrator => "mail-by-administrator",
        };
        ("mail-by", language.text(key))
    };
    let plain = |title, text, facts, advice: &[&'static str]| Said {
        title,
        texts: vec![text],
        facts,
        advice: advice.to_vec(),
        needs_link: false,
    };
    match notice {
        Notice::AuthenticatorAdded { method } => {
            plain("mail-added-title", "mail-added-text", vec![kind(method)], NOT_YOU)
        }
        Notice::AuthenticatorRemoved { method, by: who } => {
            plain("mail-removed-title", "mail-removed-text", vec![kind(method), by(who)], NOT_YOU)
        }
        Notice::RecoveryCodesMade => {
            plain("mail-recovery-title", "mail-recovery-text", vec![by(&Who::User)], NOT_YOU)
        }
        Notice::RecoveryCodeUsed => plain("mail-recovered-title", "mail-recovered-text", Vec::new(), NOT_YOU),
        Notice::Reset => plain(
            "mail-reset-title",
            "mail-reset-text",
            vec![by(&Who::Administrator)],
            &["mail-reset-next", "mail-not-asked"],
        ),
        Notice::SignedOut { by: who } => {
            plain("mail-signed-out-title", "mail-signed-out-text", vec![by(who)], NOT_YOU)
        }
        Notice::LockedOut { hard: false } => {
            plain("mail-wait-title", "mail-wait-text", Vec::new(), &["mail-wait-you", "mail-wrong-not-you"])
        }
        Notice::LockedOut { hard: true } => plain(
            "mail-locked-title",
            "mail-locked-text",
            Vec::new(),
            &["mail-locked-you", "mail-wrong-not-you"],
        ),
        Notice::Invitation { until, .. } => Said {
            title: "mail-invite-title",
            texts: vec!["mail-invite-text", "mail-invite-how"],
            facts: vec![("mail-until", moment(*until, language, zone))],
            advice: vec!["mail-invite-secret"],
            needs_link: true,
        },
        Notice::ContactChanged { email, number } => {
            let changed = [(*email, "mail-changed-email"), (*number, "mail-changed-number")];
            let texts = changed.into_iter().filter(|(changed, _)| *changed).map(|(_, key)| key).collect();
            Said {
                title: "mail-changed-title",
                texts,
                facts: vec![by(&Who::Administrator)],
                advice: vec!["mail-not-asked"],
                needs_link: false,
            }
        }
        Notice::NewDevice => plain("mail-device-title", "mail-device-text", Vec::new(), NOT_YOU),
        Notice::EmergencyAccess { user } => plain(
            "mail-emergency-title",
            "mail-emergency-text",
            vec![("mail-who", short(user.name.as_str()))],
            &["mail-emergency-check"],
        ),
        Notice::Test => plain("mail-test-title", "mail-test-text", Vec::new(), &[]),
    }
}

/// What is shown.
struct Words<'a> {
    language: Language,
    title: &'a str,
    texts: Vec<String>,
    code: Option<&'a str>,
    code_label: String,
    facts: Vec<(String, String)>,
    link: Option<&'a str>,
    link_label: String,
    advice: Vec<String>,
    foot: String,
}

#[derive(Template)]
#[template(path = "mail/notice.html")]
struct Html<'a> {
    words: &'a Words<'a>,
}

#[derive(Template)]
#[template(path = "mail/notice.txt")]
struct Plain<'a> {
    words: &'a Words<'a>,
}

/// `28 november 2026, 03:12 (CET, UTC+01:00)`
fn moment(at: UnixMillis, language: Language, zone: &TimeZone) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    let then = Timestamp::from_millisecond(millis).unwrap_or_default().to_zoned(zone.clone());
    let month = language.text_with("mail-month", "month", i64::from(then.month()));
    let zone =
        if *zone == TimeZone::UTC { "UTC".to_owned() } else { then.strftime("%Z, UTC%:z").to_string() };
    format!("{} {month} {}, {} ({zone})", then.day(), then.year(), then.strftime("%H:%M"))
}

/// Names of users are as long as the app lets them be.
fn short(name: &str) -> String {
    name.chars().take(100).collect()
}

const NOT_YOU: &[&str] = &["mail-you", "mail-not-you"];
