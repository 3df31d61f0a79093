//! Users as administrators' commands and lists leave them.

use std::{fmt::Write as _, process::Output, time::Instant};

use serde_json::Value;

use crate::support::{
    Demo, Sluis,
    process::{PATIENCE, Process},
    sluis::care_records,
};

fn care() -> Sluis {
    Sluis::start(&care_records("127.0.0.1:9".parse().unwrap()))
}

/// What a command that went well said.
fn said(out: &Output) -> String {
    assert!(out.status.success(), "{}{}", text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", text(&out.stderr)))
}

/// A file beside the configuration.
fn list(sluis: &Sluis, name: &str, rows: &str) -> String {
    let path = sluis.file(name);
    std::fs::write(&path, rows).unwrap();
    path.to_str().unwrap().to_owned()
}

/// [A12 B12 B13] What is set for a user is set, shown and taken away, with and without a server, and the reason is in the log.
#[tokio::test]
async fn settings_are_set_shown_and_taken_away() {
    let mut sluis = care();
    let set = sluis.cli(&[
        "user",
        "set",
        "Anna",
        "--email",
        "anna@example.nl",
        "--number",
        "06 12345678",
        "--networks",
        "10.0.0.0/8, 192.0.2.7",
        "--reason",
        "new colleague",
    ]);
    said(&set);
    let shown = said(&sluis.cli(&["user", "show", "anna"]));
    for part in ["anna@example.nl", "+31612345678", "10.0.0.0/8, 192.0.2.7/32"] {
        assert!(shown.contains(part), "{shown}");
    }
    let bad = sluis.cli(&["user", "set", "anna", "--email", "anna"]);
    assert!(!bad.status.success() && text(&bad.stderr).contains("one address like"), "{}", text(&bad.stderr));
    assert!(!sluis.cli(&["user", "set", "anna"]).status.success(), "what?");
    let audit = sluis.audit();
    let changed: Vec<_> = audit.iter().filter(|event| event["event"] == "user_changed").collect();
    assert_eq!(changed.len(), 3, "{changed:?}");
    assert!(changed.iter().all(|event| event["reason"] == "new colleague" && event["user"] == "anna"));

    sluis.process.signal("TERM");
    assert!(sluis.process.wait().success());
    said(&sluis.cli(&["user", "set", "anna", "--clear", "networks", "--clear", "email", "--language", "en"]));
    let shown = json(&sluis.cli(&["user", "show", "anna", "--json"]));
    let settings = &shown["settings"];
    assert_eq!((&settings["email"], &settings["networks"]), (&Value::Null, &Value::Array(Vec::new())));
    assert_eq!((&settings["language"], &settings["number"]), (&"en".into(), &"+31612345678".into()));
}

/// [B12 I8] One authenticator is removed, a lock lifted, sessions are shown and ended.
#[tokio::test]
async fn single_acts_have_commands() {
    let app = Demo::start();
    let sluis = Sluis::start(&care_records(app.address));
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    sluis.enrol(&mut browser, &pending).await;
    let sessions = json(&sluis.cli(&["user", "sessions", "anna", "--json"]));
    assert_eq!(sessions.as_array().map(Vec::len), Some(1), "{sessions}");
    assert_eq!(sessions[0]["address"], "127.0.0.1");
    said(&sluis.cli(&["user", "sign-out", "anna", "--reason", "stolen laptop"]));
    assert_eq!(browser.get("/").await.status, reqwest::StatusCode::SEE_OTHER, "at once");
    assert!(said(&sluis.cli(&["user", "sessions", "anna"])).contains("nowhere"));

    said(&sluis.cli(&["user", "unlock", "anna"]));
    let shown = json(&sluis.cli(&["user", "show", "anna", "--json"]));
    let id = shown["authenticators"][0]["id"].as_str().unwrap().to_owned();
    said(&sluis.cli(&["user", "remove-authenticator", "anna", &id, "--reason", "lost"]));
    let again = sluis.cli(&["user", "remove-authenticator", "anna", &id]);
    assert!(!again.status.success() && text(&again.stderr).contains("no authenticator"));
    let reasons: Vec<_> =
        sluis.audit().into_iter().map(|event| (event["event"].clone(), event["reason"].clone())).collect();
    for (event, reason) in [("user_signed_out", "stolen laptop"), ("authenticator_removed", "lost")] {
        assert!(reasons.contains(&(event.into(), reason.into())), "{reasons:?}");
    }
}

/// As many lines; every hundredth has a fault.
fn many(rows: usize) -> String {
    let mut text = String::from("\u{feff}name;email;number;networks;blocked\r\n");
    for n in 0..rows {
        let email = if n % 100 == 99 { "nobody" } else { "user@example.nl" };
        let blocked = if n % 1000 == 0 { "ja" } else { "" };
        write!(text, "User{n};{email};06 1234{:04};\"10.0.0.0/8, 192.0.2.7\";{blocked}\r\n", n % 10_000)
            .unwrap();
    }
    text
}

/// Every bad line is told and nothing done; the good ones go in when that is wanted; again nothing changes. How long it
/// took is printed; SLUIS_TEST_ROWS takes another number of lines.
#[test]
fn a_long_list_goes_in_whole_or_not_at_all() {
    let rows = std::env::var("SLUIS_TEST_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(10_000);
    let sluis = care();
    let file = list(&sluis, "users.csv", &many(rows));
    let timed = |arguments: &[&str]| {
        let begun = Instant::now();
        let out = sluis.cli(arguments);
        eprintln!("{rows} lines, {arguments:?}: {:?}", begun.elapsed());
        out
    };
    let strict = timed(&["user", "import", &file]);
    assert!(!strict.status.success());
    assert!(text(&strict.stderr).contains("nothing was changed"), "{}", text(&strict.stderr));
    let told: Vec<_> = text(&strict.stdout)
        .lines()
        .filter(|line| line.contains("found `nobody`"))
        .map(str::to_owned)
        .collect();
    assert_eq!(told.len(), rows / 100);
    assert!(
        told[0].starts_with("line 101, email: found `nobody`; allowed: must be one address"),
        "{}",
        told[0]
    );
    assert_eq!(json(&sluis.cli(&["user", "list", "--json"])), Value::Array(Vec::new()));

    let good = rows - rows / 100;
    let done = said(&timed(&["user", "import", &file, "--skip-bad", "--reason", "yearly list"]));
    assert!(done.contains(&format!("{good} new, 0 changed, 0 unchanged, {} bad", rows / 100)), "{done}");
    let audit = sluis.audit();
    let count = |name: &str| audit.iter().filter(|event| event["event"] == name).count();
    assert_eq!((count("users_imported"), count("user_changed")), (1, good));
    assert_eq!(count("user_blocked"), rows.div_ceil(1000));
    let run = audit.iter().find(|event| event["event"] == "users_imported").unwrap();
    assert_eq!(
        (&run["detail"], &run["reason"]),
        (&format!("new={good} changed=0").into(), &"yearly list".into())
    );
    let shown = json(&sluis.cli(&["user", "show", "user1000", "--json"]));
    assert_eq!(
        (&shown["user"]["state"], &shown["settings"]["number"]),
        (&"blocked".into(), &"+31612341000".into())
    );

    let again = said(&timed(&["user", "import", &file, "--skip-bad"]));
    assert!(again.contains(&format!("0 new, 0 changed, {good} unchanged")), "{again}");
    assert!(again.contains("nothing had to be changed"), "{again}");
}

/// [I10] A list that was cut off by `kill -9` of the server is completed by the same list.
#[test]
fn i10_a_list_that_was_cut_off_is_completed_by_the_same_command() {
    let rows = 5000;
    let mut sluis = care();
    let file = list(&sluis, "users.csv", &many(rows));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sluis"));
    command.args(["user", "import", &file, "--skip-bad", "--config"]).arg(sluis.file("config.yaml"));
    let mut import = Process::start("import", &mut command);
    let begun = Instant::now();
    while !std::fs::read_to_string(sluis.file("audit.jsonl")).unwrap().contains("imported") {
        assert!(begun.elapsed() < PATIENCE, "{}", import.said());
        std::thread::yield_now();
    }
    sluis.process.kill();
    assert!(!import.wait().success(), "{}", import.said());
    assert!(import.said().contains("broke off"), "{}", import.said());

    sluis.restart();
    let good = rows - rows / 100;
    let done = json(&sluis.cli(&["user", "import", &file, "--skip-bad", "--json"]));
    let count = |name: &str| usize::try_from(done["imported"][name].as_u64().unwrap()).unwrap();
    assert!(count("unchanged") > 0, "what was acknowledged is there: {}", done["imported"]);
    assert_eq!(count("new") + count("changed") + count("unchanged"), good);
    let again = said(&sluis.cli(&["user", "import", &file, "--skip-bad"]));
    assert!(again.contains(&format!("0 new, 0 changed, {good} unchanged")), "{again}");
}

/// Two spellings of one user are a fault of the later line; a dry run does nothing; what goes out comes in as it was.
#[test]
fn what_goes_out_comes_in_as_it_was() {
    let mut sluis = care();
    let until = i64::try_from(sluis.clock.now_secs()).unwrap() + 30 * 86_400;
    let until = jiff::Timestamp::from_second(until).unwrap();
    let rows = format!("Anna,anna@example.nl,,\n anna ,,,\n'=cmd,,{until},\"phone, broken\"\n");
    let file = list(&sluis, "users.csv", &format!("name,email,exempt_until,exempt_reason\n{rows}"));
    let doubled = sluis.cli(&["user", "import", &file]);
    assert!(
        text(&doubled.stdout).contains("line 3, name: found `anna`; allowed: each user once; line 2 is"),
        "{}",
        text(&doubled.stdout)
    );
    let dry = text(&sluis.cli(&["user", "import", &file, "--skip-bad", "--dry-run"]).stdout);
    assert!(dry.contains("2 new") && dry.contains("nothing was changed"), "{dry}");
    said(&sluis.cli(&["user", "import", &file, "--skip-bad"]));
    let out = said(&sluis.cli(&["user", "export"]));
    let rows: Vec<_> = out.lines().collect();
    assert_eq!(rows[0], "name,email,number,language,networks,preferred,blocked,exempt_until,exempt_reason");
    assert_eq!(rows[1], format!("'=cmd,,,,,,no,{until:.3},\"phone, broken\""));
    assert_eq!(rows[2], "anna,anna@example.nl,,,,,no,,");

    sluis.process.signal("TERM");
    assert!(sluis.process.wait().success());
    let file = list(&sluis, "back.csv", &out);
    let back = said(&sluis.cli(&["user", "import", &file]));
    assert!(back.contains("0 new, 0 changed, 2 unchanged, 0 bad"), "{back}");
    assert_eq!(said(&sluis.cli(&["user", "export"])), out, "without a server as well");
    let latin = sluis.file("latin.csv");
    std::fs::write(&latin, b"name\nzo\xeb\n").unwrap();
    let refused = sluis.cli(&["user", "import", latin.to_str().unwrap()]);
    assert!(text(&refused.stderr).contains("line 2: the byte EB is no UTF-8"), "{}", text(&refused.stderr));
}
