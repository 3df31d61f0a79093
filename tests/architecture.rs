//! The shape of the crate, read off its own source: imports go down only, the heavy crates stay behind their doors,
//! and no file grows out of hand. When this fails, the code is in the wrong place, or the layers below are to be
//! changed on purpose, with the reason in the commit.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test file as a whole")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

/// From the bottom up. A module may name those below it and itself; beside itself only what `BESIDE` says.
const LAYERS: &[&[&str]] = &[
    &["base"],
    &["model"],
    &["config", "i18n"],
    &["store", "deliver", "audit", "metrics", "log"],
    &["throttle", "tls"],
    &["identity", "factor", "session", "policy"],
    &["gate", "web"],
    &["proxy", "admin", "demo"],
    &["app"],
    &["cli"],
    &["lib", "main"],
];

/// Who may name a neighbour of its own layer.
const BESIDE: &[(&str, &str, &str)] = &[
    ("config", "i18n", "the language of messages is one that we speak"),
    ("deliver", "metrics", "what became of each message is counted"),
    ("deliver", "store", "where a person can be reached, and in which language, is kept there"),
    ("session", "factor", "a session is made for a proof, and only `factor` makes proofs"),
    ("store", "metrics", "store operations are counted around every backend alike; `metrics` knows no store"),
    ("session", "policy", "whether a first factor is enough is for the policy to say"),
];

/// Crates and types that have one door each: the pattern, and the modules behind that door.
const DOORS: &[(&str, &[&str])] = &[
    (r"\bpingora(_\w+)?::", &["proxy", "app"]),
    (r"\b(rusqlite|redis)::", &["store"]),
    (r"\blettre::", &["deliver"]),
    (r"\bSystemTime\b|\bInstant\b|\bgetrandom::", &["base"]),
    (r"\baxum::", &["web", "admin", "demo", "proxy", "app"]),
];

/// A file that is longer is to be split (style: at about 500). Its tests at the end do not count.
const LONGEST: usize = 500;

struct Source {
    path: PathBuf,
    /// The module right under the crate's root.
    module: String,
    /// How many modules deep it is: 1 for `base`, 2 for `base::clock`.
    depth: usize,
    /// Without comments and without its tests.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(read(&root, path));
            }
        }
    }
    assert!(found.len() > 30, "the source was not found: only {} files", found.len());
    found
}

fn read(root: &Path, path: PathBuf) -> Source {
    let below = path.strip_prefix(root).unwrap().with_extension("");
    let names: Vec<String> = below.iter().map(|n| n.to_string_lossy().into_owned()).collect();
    let depth = names.iter().filter(|n| *n != "mod").count();
    let is_tests = names.iter().any(|n| n == "tests" || n == "sample");
    let text = fs::read_to_string(&path).unwrap();
    let code = if is_tests { String::new() } else { without_tests_and_comments(&text) };
    Source { module: names.first().unwrap().clone(), depth, code, path }
}

fn without_tests_and_comments(text: &str) -> String {
    let tests = Regex::new(r"\n#\[cfg\(test\)\]\n(mod |pub\([^)]*\) mod \w+ \{)").unwrap();
    let end = tests.find(text).map_or(text.len(), |found| found.start());
    let lines = text.get(..end).unwrap().lines();
    lines
        .map(|line| line.split("//").next().unwrap_or_default())
        .fold(String::new(), |code, line| code + line + "\n")
}

/// The modules under the crate's root that `code` names: `crate::x`, `crate::{x, y::{…}}`.
fn named(code: &str) -> BTreeSet<String> {
    let identifier = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(identifier(rest));
            continue;
        };
        found.insert(identifier(group));
        let mut depth = 1;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => {
                    found.insert(identifier(group.get(at + 1..).unwrap()));
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()) && name != "self");
    found
}

fn layer(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|layer| layer.contains(&module))
        .unwrap_or_else(|| panic!("`{module}` has no layer: give it one in tests/architecture.rs"))
}

#[test]
fn imports_go_down_only() {
    let mut upward = Vec::new();
    for source in sources() {
        let own = source.module.as_str();
        for other in named(&source.code) {
            let beside = BESIDE.iter().any(|(from, to, _)| *from == own && *to == other);
            if other != own && !beside && layer(&other) >= layer(own) {
                upward.push(format!("{}: `{own}` may not name `{other}`", source.path.display()));
            }
        }
        // `super::super::…` must not climb out of the module by the back door.
        let climb = Regex::new(&format!(r"\b(super::){{{}}}", source.depth)).unwrap();
        if !["lib", "main"].contains(&own) && climb.is_match(&source.code) {
            upward.push(format!("{}: `super` climbs out of `{own}`", source.path.display()));
        }
    }
    assert!(upward.is_empty(), "{}", upward.join("\n"));
}

#[test]
fn heavy_crates_stay_behind_their_doors() {
    let mut strays = Vec::new();
    for (pattern, behind) in DOORS {
        let pattern = Regex::new(pattern).unwrap();
        for source in sources() {
            if let Some(found) =
                pattern.find(&source.code).filter(|_| !behind.contains(&source.module.as_str()))
            {
                strays.push(format!("{}: `{}` belongs in {behind:?}", source.path.display(), found.as_str()));
            }
        }
    }
    assert!(strays.is_empty(), "{}", strays.join("\n"));
}

#[test]
fn no_file_grows_out_of_hand() {
    let long: Vec<String> = sources()
        .iter()
        .map(|source| (source.code.lines().count(), source.path.display()))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, path)| format!("{path}: {lines} lines, at most {LONGEST}"))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn unsafe_is_nowhere_and_lints_are_expected_not_allowed() {
    let banned = Regex::new(r"\bunsafe\b|#!?\[allow\(").unwrap();
    let found: Vec<String> = sources()
        .iter()
        .filter(|source| banned.is_match(&source.code))
        .map(|source| source.path.display().to_string())
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The reader of this file reads right: else nothing above can fail.
#[test]
fn groups_and_single_names_are_both_seen() {
    let code = "use crate::{\n    audit::Auditor,\n    base::{clock::{A, B}, keyring},\n    web,\n};\nfn f() -> crate::gate::Permit {}";
    assert_eq!(named(code).into_iter().collect::<Vec<_>>(), ["audit", "base", "gate", "web"]);
    assert_eq!(named("use crate::model::{A, B};").into_iter().collect::<Vec<_>>(), ["model"]);
    assert!(
        named(&without_tests_and_comments("// crate::web\n#[cfg(test)]\nmod tests {\n use crate::app; }"))
            .is_empty()
    );
    assert!(layer("main") > layer("proxy") && layer("gate") == layer("web") && layer("base") == 0);
}
