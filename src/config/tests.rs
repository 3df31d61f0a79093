use std::{collections::BTreeSet, path::PathBuf};

use serde_json::Value;

use super::*;

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn environment(name: &str) -> Option<String> {
    match name {
        "SLUIS_KEY" => Some(KEY.to_owned()),
        "SLUIS_OLDEST_KEY" => Some("ab".repeat(8) + &"0123456789abcdef".repeat(3)),
        "SHORT_KEY" => Some("c2hvcnQtc2VjcmV0".to_owned()),
        "GARBLED_KEY" => Some("p4ssw0rd !".to_owned()),
        _ => None,
    }
}

/// Loads a text as a file in a directory that has the files that `files` names.
fn load_in(directory: &Path, text: &str) -> Result<Loaded, Faults> {
    load_text(text, &directory.join("sluis.yaml"), &environment)
}

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["ecd.example.org".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["other.example.org".to_owned()]).unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("tls.crt", &pair.cert.pem());
    write("tls.key", &pair.signing_key.serialize_pem());
    write("other.key", &other.signing_key.serialize_pem());
    write("upstream-ca.crt", &other.cert.pem());
    write("old-master.key", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n");
    write("empty", "");
    write("redis-password", "not to be shown\n");
    write("mail-password", "not to be shown\n");
    directory
}

fn example() -> String {
    std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config.example.yaml")).unwrap()
}

/// With everything switched on that is switched off in the file.
fn full_example() -> String {
    let mut out = String::new();
    for line in example().lines() {
        // Prose stands behind "# "; settings keep their indentation of two and more.
        out.push_str(line.strip_prefix('#').filter(|setting| setting.starts_with("  ")).unwrap_or(line));
        out.push('\n');
    }
    out
}

/// And with all that would stand in place of something else: too much to load, but every key there is.
fn every_key() -> String {
    full_example().replace("\n#|", "\n")
}

/// Faults as one text, without the name of the directory.
fn faults(directory: &Path, text: &str) -> String {
    match load_in(directory, text) {
        Ok(_) => String::from("no fault\n"),
        Err(faults) => relative(directory, &faults.0),
    }
}

fn relative(directory: &Path, lines: &[String]) -> String {
    let mut text = lines.join("\n").replace(&format!("{}/", directory.display()), "");
    text.push('\n');
    text
}

/// [F8] The example is complete and right.
#[test]
fn the_example_loads_without_a_fault() {
    let directory = directory();
    for text in [example(), full_example()] {
        let loaded = load_in(directory.path(), &text).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(loaded.config.apps.len(), 2);
        let warnings = relative(directory.path(), &loaded.warnings);
        assert!(!warnings.contains("INSECURE"), "{warnings}");
    }
    let full = load_in(directory.path(), &full_example()).unwrap().config;
    assert_eq!(full.keys.len(), 3);
    assert!(full.listen.https.is_some());
    assert!(full.apps[0].transport.ca_file.is_some());
}

/// [F8] A key that the schema has and the example has not fails here.
#[test]
fn the_example_has_every_key_of_the_schema() {
    let schema = schema();
    let mut known = BTreeSet::new();
    keys_of(&schema, &schema, "", &mut known);
    let mut found = BTreeSet::new();
    let mut report = Report::new(String::new());
    keys_in(&tree::parse(&every_key(), &mut report).unwrap(), "", &mut found);
    // One of file and env; `keys` shows both.
    found.insert("store.redis.password.env".to_owned());
    found.insert("mail.password.env".to_owned());
    let missing: Vec<_> = known.difference(&found).collect();
    assert!(missing.is_empty(), "not in config.example.yaml: {missing:?}");
    assert!(known.contains("apps.login.watch.user_json") && known.len() > 90, "{}", known.len());
}

/// [F7] The three ways to Redis that the example shows.
#[test]
fn each_alternative_of_the_example_loads_in_place_of_the_other() {
    let directory = directory();
    let every = every_key();
    let cut = |text: &str, from: &str, to: &str| {
        let (before, rest) = text.split_once(from).unwrap();
        let (_, after) = rest.split_once(to).unwrap();
        format!("{before}{to}{after}")
    };
    let redis = cut(&every, "  sqlite:\n", "  redis:\n");
    let url = cut(&redis, "    sentinel:\n", "    username: sluis\n");
    let sentinel = cut(&redis, "    url: rediss", "    sentinel:\n");
    let sentinel = cut(&sentinel, "    cluster:\n", "    username: sluis\n");
    let cluster = cut(&redis, "    url: rediss", "    cluster:\n");
    for (text, kind) in [(url, "Single"), (sentinel, "Sentinel"), (cluster, "Cluster")] {
        let loaded = load_in(directory.path(), &text).unwrap_or_else(|faults| panic!("{kind}: {faults}"));
        let shown = format!("{:?}", loaded.config.store);
        assert!(shown.contains(&format!("servers: {kind}")), "{shown}");
        assert!(shown.contains("tls: Some") && shown.contains("username: Some(\"sluis\")"), "{shown}");
        assert!(!shown.contains("not to be shown"), "{shown}");
    }
}

fn keys_of(root: &Value, schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        keys_of(root, root.pointer(target.trim_start_matches('#')).unwrap(), path, found);
    }
    for choice in ["oneOf", "anyOf"].iter().filter_map(|k| schema.get(*k)?.as_array()).flatten() {
        keys_of(root, choice, path, found);
    }
    if let Some(items) = schema.get("items") {
        keys_of(root, items, path, found);
    }
    for (key, value) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = format!("{path}{key}");
        keys_of(root, value, &format!("{path}."), found);
        found.insert(path);
    }
}

fn keys_in(node: &tree::Node, path: &str, found: &mut BTreeSet<String>) {
    match &node.kind {
        tree::Kind::Map(entries) => {
            for (key, value) in entries {
                let path = format!("{path}{key}");
                keys_in(value, &format!("{path}."), found);
                found.insert(path);
            }
        }
        tree::Kind::List(items) => items.iter().for_each(|item| keys_in(item, path, found)),
        _ => {}
    }
}

/// The defaults that the example names are the defaults.
#[test]
fn a_key_of_the_example_that_is_left_out_has_the_default_named_there() {
    let schema = schema();
    let at = |pointer: &str| schema.pointer(pointer).cloned().unwrap_or_else(|| panic!("{pointer}"));
    assert_eq!(at("/$defs/Limits/properties/header_timeout/default"), "10s");
    assert_eq!(at("/$defs/Limits/properties/header_bytes/default"), "16KiB");
    assert_eq!(at("/$defs/Require/properties/validity/default"), "12h");
    let directory = directory();
    let minimal = load_in(directory.path(), MINIMAL).unwrap_or_else(|faults| panic!("{faults}")).config;
    let app = &minimal.apps[0];
    assert_eq!((app.name.as_str(), app.realm.as_str(), app.totp.issuer.as_str()), ("ecd", "ecd", "ecd"));
    assert_eq!(app.session.idle, Duration::from_secs(3600));
    assert_eq!(app.session.max, Duration::from_secs(43_200));
    assert_eq!(app.headers.user.as_ref().unwrap(), "remote-user");
    let cleared: Vec<_> = app.headers.cleared.iter().map(|h| h.as_str()).collect();
    assert_eq!(cleared, ["remote-name", "remote-email", "remote-groups"]);
    let [rule] = app.policy.as_slice() else { panic!("one rule") };
    let app::Then::Require(requirement) = &rule.then else { panic!("requires") };
    assert_eq!(requirement.validity, Duration::from_secs(43_200));
    assert!(!requirement.continuous && matches!(requirement.enrol, app::Enrol::Open));
    assert_eq!(minimal.listen.control.as_deref(), Some(directory.path().join("sluis.sock").as_path()));
    assert_eq!(
        (minimal.limits.header_fields, minimal.limits.header_bytes, minimal.limits.header_timeout.as_secs()),
        (100, 16_384, 10)
    );
}

/// About twenty lines protect an app.
const MINIMAL: &str = r#"listen:
  http: { address: "127.0.0.1:8080" }
trusted_proxies: [10.0.0.0/8]
keys:
  - env: SLUIS_KEY
store:
  sqlite: { path: sluis.db }
apps:
  - id: ecd
    hosts: [ecd.example.org]
    upstreams: ["http://127.0.0.1:8001"]
    login:
      page: /login
      watch:
        - { path: /Login/, user_field: username }
      success: { status: 302 }
    logout: [/logout]
    anonymous: [/login, /static/*]
"#;

#[test]
fn watched_paths_are_kept_in_watched_form() {
    let directory = directory();
    let app = load_in(directory.path(), MINIMAL).unwrap().config.apps[0].clone();
    assert_eq!(app.login.watch[0].path, "/login");
    assert_eq!(app.anonymous[1], app::PathPattern::Below("/static/".to_owned()));
}

/// Every file in `tests/golden/config` has the faults (or warnings) that its `.txt` has: all of them, in order, with
/// place. `SLUIS_BLESS=1` writes them anew.
#[test]
fn every_fault_is_told_at_once_with_its_place() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config");
    let directory = directory();
    let mut files: Vec<_> = std::fs::read_dir(&golden).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let found = match load_in(directory.path(), &text) {
            Ok(loaded) => relative(directory.path(), &loaded.warnings),
            Err(faults) => relative(directory.path(), &faults.0),
        };
        for secret in ["hunter2", "c2hvcnQ", "p4ssw0rd", "MDEyMzQ1", "0123456789abcdef"] {
            assert!(!found.contains(secret), "{} tells a secret: {found}", file.display());
        }
        let expected = file.with_extension("txt");
        if std::env::var_os("SLUIS_BLESS").is_some() {
            std::fs::write(&expected, &found).unwrap();
        }
        assert_eq!(found, std::fs::read_to_string(&expected).unwrap(), "{}", file.display());
    }
}

/// [B3] Out of range is refused with what is allowed.
#[test]
fn b3_validity_is_0_to_24_hours() {
    let directory = directory();
    let with = |validity: &str| {
        format!("{MINIMAL}    policy: [{{ require: {{ validity: {validity}, enrol: closed }} }}]\n")
    };
    for (validity, secs) in
        [("0", 0), ("0h", 0), ("1h", 3600), ("12h", 43_200), ("24h", 86_400), ("1d", 86_400)]
    {
        let loaded = load_in(directory.path(), &with(validity)).unwrap_or_else(|f| panic!("{validity}: {f}"));
        let app::Then::Require(requirement) = &loaded.config.apps[0].policy[0].then else { panic!() };
        assert_eq!(requirement.validity, Duration::from_secs(secs), "{validity}");
        assert_eq!(
            loaded.warnings.iter().any(|w| w.contains("longer than 12h")),
            secs > 43_200,
            "{validity}"
        );
    }
    for validity in ["24h1s", "25h", "2d", "90d", "-1h", "12", "12hours", "1.5h", "forever"] {
        let found = faults(directory.path(), &with(validity));
        assert_eq!(found.lines().count(), 1, "{found}");
        assert!(
            found.starts_with("sluis.yaml:19: apps[0].policy[0].require.validity: found ")
                && found.contains("allowed: 0 to 24h"),
            "{found}"
        );
    }
}

/// A file with faults of structure is looked at for faults of values in the same run, with the right places.
#[test]
fn faults_of_structure_do_not_hide_faults_of_values() {
    let directory = directory();
    let text = MINIMAL
        .replace("hosts: [ecd.example.org]", "hosts: [{}, \"Bad Host\"]")
        .replace("status: 302", "stauts: 302, location: \"(\"");
    let found = faults(directory.path(), &text);
    let paths: Vec<_> = found.lines().map(|l| l.split(": ").nth(1).unwrap()).collect();
    assert_eq!(
        paths,
        [
            "apps[0].hosts[0]",
            "apps[0].hosts[1]",
            "apps[0].login.success.location",
            "apps[0].login.success.stauts"
        ],
        "{found}"
    );
}

/// `serde_saphyr`'s reading, which is used, and the tree's, by which faults are found, are the same.
#[test]
fn both_readings_of_a_file_agree() {
    let mut report = Report::new(String::new());
    for text in [full_example(), MINIMAL.to_owned(), MINIMAL.replace("id: ecd", "id: ecd\n    name: 1.50")] {
        let sound = shape::check(&tree::parse(&text, &mut report).unwrap(), &schema(), &mut report).unwrap();
        let used = serde_json::to_value(read(&text, &mut report).unwrap()).unwrap();
        let seen = serde_json::to_value(serde_json::from_value::<raw::Raw>(sound.json).unwrap()).unwrap();
        assert_eq!(used, seen);
    }
    assert!(report.is_clean());
}

/// An independent validator takes the schema for one and the example for right.
#[test]
fn the_schema_is_one_and_the_example_obeys_it() {
    let schema = schema();
    assert!(!schema.to_string().contains("null"), "no value is null");
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut report = Report::new(String::new());
    for text in [full_example(), MINIMAL.to_owned()] {
        let sound = shape::check(&tree::parse(&text, &mut report).unwrap(), &schema, &mut report).unwrap();
        let errors: Vec<_> = validator.iter_errors(&sound.json).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
        let mut wrong = sound.json;
        wrong["apps"][0]["nonsense"] = Value::Bool(true);
        assert!(!validator.is_valid(&wrong), "unknown keys are refused");
    }
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let Err(faults) = load(Path::new("/nonexistent/sluis.yaml"), &environment) else { panic!() };
    assert!(faults.to_string().starts_with("/nonexistent/sluis.yaml: cannot be read"), "{faults}");
}

/// The same file is readable by `load` and by `load_text`.
#[test]
fn a_file_loads_as_its_text_does() {
    let directory = directory();
    let file = directory.path().join("sluis.yaml");
    std::fs::write(&file, MINIMAL).unwrap();
    let loaded = load(&file, &environment).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.config.keys[0].expose(), b"01234567890123456789012345678901");
}

proptest::proptest! {
    /// Nothing that is typed makes it panic, and a broken file never gives a configuration without its text's faults.
    #[test]
    fn no_text_breaks_the_reader(cut in 0..4000usize, noise in "\\PC{0,6}") {
        let directory = Path::new("/nonexistent");
        let mut text = full_example();
        let cut = text.char_indices().map(|(i, _)| i).nth(cut * 3).unwrap_or(0);
        text.insert_str(cut, &noise);
        let _ = load_in(directory, &text);
        text.truncate(cut);
        let _ = load_in(directory, &text);
    }
}
