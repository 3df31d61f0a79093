//! Every page, rendered from samples in every language: well-formed, accessible in structure, nothing left over.
//!
//! `SLUIS_TEST_PAGES=DIR` keeps the pages and what they load in `DIR`, to be served and looked at.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use axum::http::StatusCode;
use regex::Regex;

use super::super::{
    admit, assets, challenge, emergency, enrol, error_page, errors, invite, logout, me, methods, recovery,
    view::{Frame, Problem},
};
use crate::{
    base::{clock::UnixMillis, secret::SecretBytes},
    config::sample,
    factor::{Hint, recovery::Stock},
    i18n::Language,
    model::{
        AppId, Authenticator, AuthenticatorId, DeviceId, Epoch, Method, Profile, RequestId, SessionId,
        SessionRecord,
    },
};

const PREFIX: &str = "/.sluis";
const SETUP_URL: &str =
    "otpauth://totp/Care%20records:anna?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Care%20records";

/// A name that would break out of every context it could stand in.
const HOSTILE: &str = "\"><script>alert(1)</script>&amp;{{7*7}}' onload=x";

/// (file name, document)
fn samples(language: Language) -> Vec<(String, String)> {
    let frame = Frame { language, prefix: PREFIX, app: Some("Care records"), languages: true, query: "" };
    let id = RequestId::new("01jd8c5k2v7m4q").unwrap();
    let asked = |user, again, hours: u64| challenge::Asked {
        user,
        issuer: "Care records",
        method: Method::Totp,
        others: Vec::new(),
        again,
        validity: Duration::from_secs(hours * 3600),
        token: "dG9rZW4".to_owned(),
        emergency: hours > 0,
    };
    let qr = fast_qr::QRBuilder::new(SETUP_URL).build().unwrap();
    let svg = fast_qr::convert::svg::SvgBuilder::default().to_str(&qr);
    let shown = |user, more| enrol::Shown {
        user,
        issuer: "Care records",
        more,
        token: "dG9rZW4".to_owned(),
        svg: &svg,
        url: SETUP_URL,
        groups: "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ",
        key: "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
        name: None,
    };
    let wrong = |hint| Some(methods::explain(language, Method::Totp, "Care records", hint));
    let fifth = wrong(Hint::Mismatch).map(|problem| Problem {
        wait: Some(language.text_with("wrong-wait", "time", language.duration(Duration::from_secs(30)))),
        ..problem
    });
    let login = || "/login?next=%2F".to_owned();
    let urgent = |user, reason| emergency::Asked {
        user,
        token: "dG9rZW4".to_owned(),
        asks_reason: true,
        lives: Duration::from_secs(1800),
        reason,
    };
    let invalid = |reason| emergency::Wrong { problem: invite::problem(language, false), reason };
    let app = sample::app();
    let linked = ["Work phone", "Tablet", HOSTILE].map(authenticator);
    let begun = [FIREFOX, "", HOSTILE].map(session);
    let profile = Profile { language: Some("nl".to_owned()), ..Profile::default() };
    let own = |user, authenticators, sessions| me::page::Overview {
        user,
        here: SessionId([2; 16]),
        app: &app,
        token: "dG9rZW4".to_owned(),
        done: Some(me::page::Done::SignedOut),
        // More than there are yet: the page must be able to show a choice.
        methods: vec![Method::Totp, Method::Totp],
        authenticators,
        sessions,
        profile: &profile,
        recovery: true,
    };
    let stock = |user, left: Option<usize>, codes| recovery::Shown {
        user,
        token: "dG9rZW4".to_owned(),
        stock: left.map(|left| Stock {
            made: UnixMillis::from_secs(1_800_000_000),
            left,
            used: vec![UnixMillis::from_secs(1_800_600_000); 10 - left],
        }),
        codes,
    };
    let recovering = || challenge::Asked {
        method: Method::Recovery,
        others: vec![Method::Totp],
        ..asked("anna", false, 0)
    };
    let text = |t: &dyn askama::DynTemplate| t.dyn_render().unwrap();
    let mut pages = vec![
        ("challenge", text(&challenge::page(frame, asked("anna", false, 12), None))),
        ("challenge-again", text(&challenge::page(frame, asked("anna", true, 0), None))),
        ("challenge-wrong", text(&challenge::page(frame, asked("anna", false, 12), wrong(Hint::Mismatch)))),
        ("challenge-form", text(&challenge::page(frame, asked("anna", false, 0), wrong(Hint::Malformed)))),
        ("challenge-used", text(&challenge::page(frame, asked("anna", false, 0), wrong(Hint::AlreadyUsed)))),
        ("challenge-fifth", text(&challenge::page(frame, asked("anna", false, 0), fifth))),
        (
            "challenge-clock",
            text(&challenge::page(frame, asked("anna", false, 0), wrong(Hint::ClockOff { secs: -180 }))),
        ),
        (
            "challenge-empty",
            text(&challenge::page(
                frame,
                asked("anna", false, 0),
                Some(methods::empty(language, Method::Totp)),
            )),
        ),
        ("challenge-hostile", text(&challenge::page(frame, asked(HOSTILE, false, 0), None))),
        ("enrol", text(&enrol::page(frame, shown("anna", false), None))),
        ("enrol-wrong", text(&enrol::page(frame, shown("anna", false), wrong(Hint::Mismatch)))),
        ("enrol-more", text(&enrol::page(frame, shown("anna", true), None))),
        ("enrol-hostile", text(&enrol::page(frame, shown(HOSTILE, false), None))),
        ("enrol-done", text(&enrol::done(frame))),
        ("enrol-too-many", text(&enrol::too_many(frame))),
        ("expired", text(&admit::expired_page(frame, login()))),
        ("not-set-up", text(&admit::not_set_up_page(frame, login()))),
        ("wait", text(&admit::wait_page(frame, Duration::from_secs(30)))),
        ("locked", text(&admit::locked_page(frame, &id))),
        ("invitation", text(&invite::page(frame, "anna", "dG9rZW4".to_owned(), None))),
        (
            "invitation-wrong",
            text(&invite::page(frame, "anna", "dG9rZW4".to_owned(), Some(invite::problem(language, false)))),
        ),
        (
            "invitation-empty",
            text(&invite::page(frame, "anna", "dG9rZW4".to_owned(), Some(invite::problem(language, true)))),
        ),
        ("emergency", text(&emergency::page(frame, urgent("anna", ""), None))),
        ("emergency-wrong", text(&emergency::page(frame, urgent("anna", "acute"), Some(invalid(false))))),
        ("emergency-reason", text(&emergency::page(frame, urgent("anna", "acute"), Some(invalid(true))))),
        ("emergency-hostile", text(&emergency::page(frame, urgent(HOSTILE, HOSTILE), None))),
        ("me", text(&me::page::page(frame, own("anna", &linked[..2], &begun[..2])))),
        (
            "me-empty",
            text(&me::page::page(frame, me::page::Overview { done: None, ..own("anna", &[], &[]) })),
        ),
        ("me-hostile", text(&me::page::page(frame, own(HOSTILE, &linked, &begun)))),
        (
            "me-remove",
            text(&me::page::remove(frame, "anna", "dG9rZW4".to_owned(), &[&linked[0], &linked[1]])),
        ),
        ("recovery-none", text(&recovery::page(frame, stock("anna", None, &[])))),
        ("recovery", text(&recovery::page(frame, stock("anna", Some(2), &[])))),
        (
            "recovery-new",
            text(&recovery::page(frame, stock("anna", Some(10), &["ABCD-EFGH-IJKL-MNOP-QRST-UVWX"]))),
        ),
        ("recovery-offer", text(&recovery::offer_page(frame, "/patients?id=7".to_owned()))),
        ("recovery-passed", text(&recovery::passed_page(frame, 2, "/patients?id=7".to_owned()))),
        ("challenge-recovery", text(&challenge::page(frame, recovering(), None))),
        (
            "challenge-recovery-wrong",
            text(&challenge::page(
                frame,
                recovering(),
                Some(methods::explain(language, Method::Recovery, "Care", Hint::Mismatch)),
            )),
        ),
        ("me-only-one", text(&me::page::only_one(frame))),
        ("me-removed", text(&me::page::removed(frame, login()))),
        ("me-everywhere", text(&me::page::everywhere(frame, login()))),
        ("logout", text(&logout::ask_page(frame, "anna", "dG9rZW4".to_owned()))),
        ("signed-out", text(&logout::signed_out_page(frame, login()))),
        ("form-refused", text(&errors::foreign_form_page(frame, login(), &id))),
    ]
    .into_iter()
    .map(|(name, html)| (name.to_owned(), html))
    .collect::<Vec<_>>();
    for status in [400, 403, 404, 405, 408, 413, 421, 429, 431, 500, 501, 502, 503, 504, 418, 599] {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = error_page(status, &id, Some(language.code()), PREFIX);
        assert_eq!(answer.status(), status);
        pages.push((format!("error-{}", status.as_u16()), answer.into_body()));
    }
    pages
}

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

fn authenticator(name: &str) -> Authenticator {
    Authenticator {
        id: AuthenticatorId([u8::try_from(name.len()).unwrap(); 16]),
        method: Method::Totp,
        name: name.to_owned(),
        confirmed_at: UnixMillis::from_secs(1_800_000_000),
        last_used_at: (name.len() > 6).then(|| UnixMillis::from_secs(1_800_600_000)),
        secret: SecretBytes::new(vec![1; 20]),
        last_step: 1,
        drift_steps: 0,
    }
}

fn session(agent: &str) -> SessionRecord {
    SessionRecord {
        id: SessionId([if agent.is_empty() { 2 } else { u8::try_from(agent.len()).unwrap() }; 16]),
        app: AppId::new("care"),
        device: DeviceId([1; 16]),
        epoch: Epoch(1),
        started: UnixMillis::from_secs(1_800_000_000),
        until: UnixMillis::from_secs(1_800_040_000),
        address: [192, 0, 2, 7].into(),
        agent: agent.to_owned(),
    }
}

#[test]
fn every_page_is_well_formed_in_every_language() {
    for language in Language::ALL {
        for (name, html) in samples(*language) {
            let place = format!("{name} in {}", language.code());
            well_formed(&place, &html);
            assert!(html.contains(&format!("<html lang=\"{}\">", language.code())), "{place}");
            assert_eq!(html.matches("<h1>").count(), 1, "{place}: one h1");
            assert_eq!(html.matches("<main>").count(), 1, "{place}: one main");
            for leftover in ["{{", "}}", "{%", "Unknown localization", "&amp;amp;"] {
                let allowed = leftover.starts_with(['{', '}', '&']) && name.ends_with("hostile");
                assert!(allowed || !html.contains(leftover), "{place} has {leftover}");
            }
            assert!(!html.contains("<script>"), "{place}: nobody's name becomes markup");
        }
    }
}

#[test]
fn the_languages_really_differ() {
    let title = Regex::new("<h1>(.*?)</h1>").unwrap();
    for ((name, english), (_, dutch)) in
        samples(Language::English).iter().zip(samples(Language::Dutch).iter())
    {
        let titles = [english, dutch].map(|html| title.captures(html).unwrap()[1].to_owned());
        assert_ne!(titles[0], titles[1], "{name}");
    }
}

/// The policy that goes with the pages allows no inline script or style, so there must be none.
#[test]
fn no_page_has_inline_script_or_style_or_loads_from_elsewhere() {
    let handler = Regex::new(r#"\s(on[a-z]+|style)=""#).unwrap();
    let loads = Regex::new(r#"<(?:script|link|img|iframe|use|image)[^>]*\s(?:src|href)="([^"]*)""#).unwrap();
    for (name, html) in samples(Language::English) {
        if name.ends_with("hostile") {
            continue;
        }
        assert!(!html.contains("<style"), "{name}");
        assert!(!handler.is_match(&html), "{name}: {:?}", handler.find(&html));
        for found in loads.captures_iter(&html) {
            let url = &found[1];
            assert!(url.starts_with("/.sluis/static/"), "{name} loads {url}");
            assert!(assets::exists(url.strip_prefix("/.sluis/static/").unwrap()), "{name}: {url} is missing");
        }
    }
}

/// [B5 B10] What makes a phone offer the code, show digits, and take a paste.
#[test]
fn b10_the_code_field_invites_autofill_and_does_not_stand_in_the_way_of_a_paste() {
    let input = Regex::new(r#"<input[^>]*id="code"[^>]*>"#).unwrap();
    let described_by = Regex::new(r#"aria-describedby="([^"]*)""#).unwrap();
    for (name, html) in samples(Language::Dutch) {
        if !html.contains("id=\"code\"") {
            continue;
        }
        let field = input.find(&html).unwrap().as_str();
        for attribute in ["autocomplete=\"one-time-code\"", "inputmode=\"numeric\"", "type=\"text\""] {
            assert!(field.contains(attribute), "{name}: {attribute}");
        }
        assert!(!field.contains("maxlength"), "{name}: \"123 456\" must fit");
        let wrong = html.contains("id=\"code-error\"");
        assert_eq!(field.contains("aria-invalid=\"true\""), wrong, "{name}");
        assert_eq!(field.contains("code-error"), wrong, "{name}");
        for id in described_by.captures_iter(&html) {
            for id in id[1].split(' ') {
                assert!(html.contains(&format!("id=\"{id}\"")), "{name}: nothing has the id {id}");
            }
        }
    }
}

/// Keeps the pages for looking at; does nothing unless asked.
#[test]
fn pages_to_look_at() {
    let Some(dir) = std::env::var_os("SLUIS_TEST_PAGES") else { return };
    let dir = Path::new(&dir);
    let statics = dir.join(".sluis/static");
    fs::create_dir_all(&statics).unwrap();
    for (file, bytes) in assets::all() {
        fs::write(statics.join(file), bytes).unwrap();
    }
    for language in Language::ALL {
        for (name, html) in samples(*language) {
            fs::write(dir.join(format!("{name}.{}.html", language.code())), html).unwrap();
        }
    }
}

/// Every tag is closed in order, every attribute quoted, every id there once.
fn well_formed(place: &str, html: &str) {
    const VOID: &[&str] = &["meta", "link", "input", "br", "path", "rect", "circle"];
    let tag =
        Regex::new(r#"<(/?)([a-zA-Z][a-zA-Z0-9]*)((?:\s+[a-zA-Z:-]+(?:=(?:"[^"<]*"|'[^'<]*'))?)*)\s*(/?)>"#)
            .unwrap();
    assert!(html.starts_with("<!doctype html>"), "{place}");
    let mut open: Vec<String> = Vec::new();
    let mut seen = 0;
    for found in tag.captures_iter(html) {
        seen += 1;
        let name = found[2].to_lowercase();
        let void = VOID.contains(&name.as_str()) && !html.contains(&format!("</{name}>"));
        if &found[1] == "/" {
            assert_eq!(open.pop().as_deref(), Some(name.as_str()), "{place}: </{name}>");
        } else if &found[4] != "/" && !void {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<String>::new(), "{place}: never closed");
    let brackets = html.matches('<').count() - 1;
    assert_eq!(seen, brackets, "{place}: every < begins a tag that is understood");
    let ids: Vec<_> =
        Regex::new(r#"\sid="([^"]+)""#).unwrap().captures_iter(html).map(|c| c[1].to_owned()).collect();
    assert_eq!(
        ids.len(),
        ids.iter().collect::<BTreeSet<_>>().len(),
        "{place}: an id is there twice: {ids:?}"
    );
}
