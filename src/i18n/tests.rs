//! Both languages are complete, and nothing is said that nobody wrote.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::*;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Message key → the variables in it.
fn catalogue(language: Language) -> BTreeMap<String, BTreeSet<String>> {
    let variable = regex::Regex::new(r"\$([a-z-]+)").unwrap();
    let key = regex::Regex::new(r"^([a-z][a-z0-9-]*) =").unwrap();
    let mut messages: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in fs::read_dir(Path::new(ROOT).join("src/i18n").join(language.code())).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let mut current = String::new();
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            if let Some(found) = key.captures(line) {
                current = found[1].to_owned();
                assert!(
                    messages.insert(current.clone(), BTreeSet::new()).is_none(),
                    "{current} is there twice in {}",
                    language.code()
                );
            }
            for found in variable.captures_iter(line) {
                messages.get_mut(&current).unwrap().insert(found[1].to_owned());
            }
        }
    }
    messages
}

/// All text of the pages' templates and code.
fn users_of_messages() -> String {
    fn collect(dir: &Path, out: &mut String) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, out);
            } else if path.extension().is_some_and(|e| e == "html" || e == "rs") {
                out.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut out = fs::read_to_string(Path::new(ROOT).join("src/i18n/mod.rs")).unwrap();
    collect(&Path::new(ROOT).join("templates"), &mut out);
    for folder in ["src/web", "src/deliver", "src/admin/desk"] {
        collect(&Path::new(ROOT).join(folder), &mut out);
    }
    out
}

#[test]
fn every_language_has_the_same_messages_with_the_same_variables() {
    let english = catalogue(Language::English);
    assert!(english.len() > 50, "the catalogue was read");
    assert_eq!(english, catalogue(Language::Dutch));
}

#[test]
fn every_message_is_used_and_every_used_one_exists() {
    let english = catalogue(Language::English);
    let users = users_of_messages();
    let unused: Vec<_> = english.keys().filter(|k| !users.contains(&format!("\"{k}\""))).collect();
    assert!(unused.is_empty(), "used nowhere: {unused:?}");

    // Every way in which templates and code name a message.
    let named = regex::Regex::new(r#"(?:\bt|\btext|\btext_with|\bKey)\(\s*"([^"]+)""#).unwrap();
    let undefined: BTreeSet<_> =
        named.captures_iter(&users).map(|c| c[1].to_owned()).filter(|k| !english.contains_key(k)).collect();
    assert!(undefined.is_empty(), "defined nowhere: {undefined:?}");
}

#[test]
fn every_message_can_be_formatted_in_every_language() {
    for language in Language::ALL {
        for (key, variables) in catalogue(*language) {
            let args: HashMap<_, _> = variables
                .into_iter()
                .map(|v| {
                    let value = if v == "count" { FluentValue::from(3) } else { FluentValue::from("Anna") };
                    (Cow::Owned(v), value)
                })
                .collect();
            let text = MESSAGES
                .lookup_single_language(language.id(), &key, Some(&args))
                .unwrap_or_else(|e| panic!("{key} in {}: {e}", language.code()));
            assert!(!text.contains(['{', '}', '$']), "{key} in {}: {text}", language.code());
        }
    }
}

#[test]
fn accept_language_is_weighed() {
    let cases = [
        (None, Language::English),
        (Some(""), Language::English),
        (Some("nl"), Language::Dutch),
        (Some("nl-NL,nl;q=0.9,en;q=0.8"), Language::Dutch),
        (Some("en-GB,nl;q=0.9"), Language::English),
        (Some("fr, nl;q=0.5, en;q=0.4"), Language::Dutch),
        (Some("en;q=0.1, NL-be ; q=0.2"), Language::Dutch),
        (Some("nl;q=0"), Language::English),
        (Some("nl;q=7, en;q=0.1"), Language::English),
        (Some("de, *;q=0.5"), Language::English),
        (Some(",;;q=,nl;q=x"), Language::English),
    ];
    for (header, expected) in cases {
        assert_eq!(Language::accepted(header), expected, "{header:?}");
    }
}

#[test]
fn durations_are_words() {
    let en = |secs| Language::English.duration(Duration::from_secs(secs));
    assert_eq!(en(0), "1 second");
    assert_eq!(en(30), "30 seconds");
    assert_eq!(en(90), "2 minutes");
    assert_eq!(en(900), "15 minutes");
    assert_eq!(en(12 * 3600), "12 hours");
    assert_eq!(Language::Dutch.duration(Duration::from_millis(59_001)), "60 seconden");
    assert_eq!(Language::Dutch.duration(Duration::from_secs(24 * 3600)), "24 uur");
}
