//! The audit log of the real binary: killed, rotated, tampered with, on a full disk, and typed at.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::StatusCode;
use tokio::task::JoinSet;

use crate::support::{Browser, Demo, Sluis, process::PATIENCE, sluis::care_records};

/// Everybody is in with the password alone: each login is one `session_started`.
fn exempt(app: &Demo) -> String {
    care_records(app.address)
        .replace("require: { methods: [totp], validity: 12h }", "exempt: sees nothing of importance")
}

/// Verifies these files, or those of the configuration; what it said, and whether all was well.
fn verify(sluis: &Sluis, more: &[&str]) -> (bool, String) {
    let out = sluis.cli(&[&["audit", "verify"], more].concat());
    let said = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8(said).unwrap())
}

fn sound(sluis: &Sluis) -> String {
    let (well, said) = verify(sluis, &[]);
    assert!(well, "{said}");
    said
}

/// All lines of all files, as JSON.
fn all_lines(sluis: &Sluis) -> Vec<serde_json::Value> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(sluis.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("audit.jsonl"))
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| {
            std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .filter_map(|line| serde_json::from_str(&line).ok())
        .collect()
}

fn count(lines: &[serde_json::Value], event: &str) -> usize {
    lines.iter().filter(|line| line["event"] == event).count()
}

/// Logs in again and again from eight places, until it is dropped; counts the logins that were answered.
struct Load {
    done: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Load {
    fn on(sluis: &Sluis) -> Self {
        let (done, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let (done, stop, origin) = (Arc::clone(&done), Arc::clone(&stop), sluis.origin());
            tasks.spawn(async move {
                let fields = [("username", "anna"), ("password", "anna-secret")];
                let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
                while !stop.load(Ordering::Relaxed) {
                    let browser = Browser::new(&origin);
                    let request = browser
                        .request(reqwest::Method::POST, "/login")
                        .header("origin", &origin)
                        .header("content-type", "application/x-www-form-urlencoded")
                        .body(body.clone());
                    // A server that was killed does not answer.
                    if request.send().await.is_ok_and(|answer| answer.status() == StatusCode::FOUND) {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        Self { done, stop, tasks }
    }

    async fn reach(&self, logins: usize) {
        let waiting = async {
            while self.done.load(Ordering::Relaxed) < logins {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("logins");
    }

    /// The logins that were answered.
    async fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        self.done.load(Ordering::Relaxed)
    }
}

/// `kill -9` in the middle of load: whatever was answered is in the log, and the chain goes on.
#[tokio::test]
async fn a_kill_loses_no_event_that_was_answered() {
    let app = Demo::start();
    let mut sluis = Sluis::start(&exempt(&app));
    let mut answered = 0;
    for round in 1..=3 {
        let load = Load::on(&sluis);
        load.reach(60 * round).await;
        sluis.process.kill();
        answered += load.end().await;
        sluis.restart();
        let said = sound(&sluis);
        assert!(said.matches("chain ").count() == 1, "one chain: {said}");
        let written = count(&all_lines(&sluis), "session_started");
        assert!(written >= answered, "{written} of {answered}");
    }
    // What a kill can leave of a line.
    sluis.process.kill();
    let path = sluis.file("audit.jsonl");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str(r#"{"kind":"audit","seq":4711,"chain":"#);
    std::fs::write(&path, text).unwrap();
    let (well, said) = verify(&sluis, &[]);
    assert!(!well && said.contains("torn"), "{said}");
    sluis.restart();
    assert!(sound(&sluis).contains("1 line torn by a kill"));
}

/// logrotate's way and our own, under load: nothing is lost, one chain through all files.
#[tokio::test]
async fn rotation_under_load_loses_nothing() {
    let app = Demo::start();
    let mut sluis = Sluis::start(&exempt(&app));
    let (old, new) = ("audit.jsonl\" }", "audit.jsonl\", rotate_size: 64KiB, on_failure: deny }");
    sluis.restart_with(old, new);
    let load = Load::on(&sluis);
    for round in 1..=4 {
        load.reach(40 * round).await;
        std::fs::rename(sluis.file("audit.jsonl"), sluis.file(&format!("audit.jsonl.{round}"))).unwrap();
        sluis.process.signal("HUP");
        let path = sluis.file("audit.jsonl");
        let waiting = async {
            while !path.exists() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("a new file");
    }
    load.reach(400).await;
    let answered = load.end().await;
    sluis.process.signal("TERM");
    assert!(sluis.process.wait().success());
    let said = sound(&sluis);
    assert!(said.contains("closed by an orderly stop") && said.matches("chain ").count() == 1, "{said}");
    let lines = all_lines(&sluis);
    assert_eq!(count(&lines, "session_started"), answered);
    let rotated = lines.iter().filter(|l| l["event"] == "file_opened" && l["detail"] == "rotation").count();
    let reopened = lines.iter().filter(|l| l["event"] == "file_opened" && l["detail"] == "reopened").count();
    assert!(rotated > 0 && reopened >= 4, "{rotated} {reopened}");
}

/// What was done to the log of a stopped server is found where it was done; an auditor needs no master key.
#[tokio::test]
async fn tampering_is_found_and_located() {
    let (app, other) = (Demo::start(), Demo::start());
    let mut one = Sluis::start(&exempt(&app));
    let mut two = Sluis::start(&exempt(&other));
    for sluis in [&mut one, &mut two] {
        for _ in 0..3 {
            let mut browser = sluis.browser();
            assert_eq!(sluis.password(&mut browser, "anna").await.status, StatusCode::FOUND);
        }
        assert!(sluis.cli(&["user", "block", "bram"]).status.success());
        sluis.process.signal("TERM");
        assert!(sluis.process.wait().success());
        // A command on the stopped server's store goes on with its chain.
        assert!(sluis.cli(&["user", "unblock", "bram"]).status.success());
    }
    let (first, second) = (one.file("audit.jsonl"), two.file("audit.jsonl"));
    let both = [second.to_str().unwrap(), first.to_str().unwrap()];
    let (well, said) = verify(&one, &both);
    assert!(
        well && said.matches("\nchain ").count() + 1 == 2 && said.contains("2 files: no fault"),
        "{said}"
    );

    let whole = std::fs::read_to_string(&first).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let log = one.file("server.log");
    std::fs::write(&log, one.process.said()).unwrap();
    let mut swapped = lines.clone();
    swapped.swap(4, 5);
    let without: Vec<&str> =
        lines.iter().enumerate().filter(|(at, _)| *at != 4).map(|(_, line)| *line).collect();
    let edited = whole.replacen("\"anna\"", "\"ANNA\"", 1);
    let edited_at = edited.lines().position(|line| line.contains("ANNA")).unwrap() + 1;
    let table = [
        (without.join("\n") + "\n", "audit.jsonl:5: cut out".to_owned()),
        (swapped.join("\n") + "\n", "audit.jsonl:5: re-ordered".to_owned()),
        (edited.clone(), format!("audit.jsonl:{edited_at}: changed")),
        (lines[..lines.len() - 6].join("\n") + "\n", "truncated".to_owned()),
    ];
    for (text, expected) in table {
        std::fs::write(&first, text).unwrap();
        let (well, said) = verify(&one, &[both[0], both[1], "--checkpoints", log.to_str().unwrap()]);
        assert!(!well && said.contains(&expected), "{expected}: {said}");
    }

    // Without configuration and master key.
    let shown = String::from_utf8(one.cli(&["audit", "public-key"]).stdout).unwrap();
    let key = shown.split_whitespace().next().unwrap();
    let by_key = |text: &str| {
        let path = one.file("for-the-auditor");
        std::fs::write(&path, text).unwrap();
        let out = one.cli_without_config(&["audit", "verify", "--public-key", key, path.to_str().unwrap()]);
        (out.status.success(), String::from_utf8([out.stdout, out.stderr].concat()).unwrap())
    };
    let (well, said) = by_key(&whole);
    assert!(well, "{said}");
    let (well, said) = by_key(&edited);
    assert!(!well && said.contains(&format!(":{edited_at}: changed")), "{said}");
    std::fs::write(&first, whole).unwrap();

    // Search.
    let search = |more: &[&str]| {
        let out = one.cli(&[&["audit", "search", "--json"], more].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().lines().count()
    };
    assert_eq!(search(&["--user", "anna", "--event", "session_started"]), 3);
    assert_eq!(search(&["--event", "user_blocked", "--event", "user_unblocked"]), 2);
    assert_eq!(search(&["--app", "ecd", "--address", "127.0.0.0/8", "--event", "session_started"]), 3);
    assert_eq!(search(&["--user", "anna", "--outcome", "failure"]), 0);
    assert_eq!(search(&["--until", "2020-01-01"]), 0);
    assert_eq!(search(&["--since", "2020-01-01", "--limit", "2"]), 2);
}

/// An older copy of the log that was put back before a start: the server's own log knows better.
#[tokio::test]
async fn a_restored_old_log_is_found() {
    let app = Demo::start();
    let mut sluis = Sluis::start(&exempt(&app));
    let login = async |sluis: &Sluis| {
        let mut browser = sluis.browser();
        assert_eq!(sluis.password(&mut browser, "anna").await.status, StatusCode::FOUND);
    };
    login(&sluis).await;
    sluis.process.signal("TERM");
    assert!(sluis.process.wait().success());
    let old = std::fs::read(sluis.file("audit.jsonl")).unwrap();
    sluis.restart();
    login(&sluis).await;
    sluis.process.signal("TERM");
    assert!(sluis.process.wait().success());
    let log = sluis.file("server.log");
    std::fs::write(&log, sluis.process.said()).unwrap();
    std::fs::write(sluis.file("audit.jsonl"), old).unwrap();
    sluis.restart();
    login(&sluis).await;
    sound(&sluis);
    let (well, said) = verify(&sluis, &["--checkpoints", log.to_str().unwrap()]);
    assert!(!well && said.contains("FAULT") && said.contains("rewritten"), "{said}");
}

fn point_at(link: &Path, target: &Path) {
    let new = link.with_extension("new");
    std::os::unix::fs::symlink(target, &new).unwrap();
    std::fs::rename(new, link).unwrap();
}

async fn await_metric(sluis: &Sluis, line: &str) {
    let waiting = async {
        while !sluis.metrics().await.lines().any(|l| l == line) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("no {line}"));
}

/// [I9] A full disk in both modes, and its end. Running sessions go on in either.
#[tokio::test]
async fn a_full_disk_denies_or_leaves_a_gap() {
    let app = Demo::start();
    let apps = care_records(app.address);
    for mode in ["continue", "deny"] {
        let mut sluis = Sluis::start(&apps);
        let mut running = sluis.browser();
        let pending = sluis.password(&mut running, "anna").await;
        let (authenticator, entered) = sluis.enrol(&mut running, &pending).await;
        assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
        let new = format!("audit.jsonl\", on_failure: {mode} }}");
        sluis.restart_with("audit.jsonl\" }", &new);
        // It listens on another port now.
        let jar = std::mem::take(&mut running.jar);
        running = sluis.browser();
        running.jar = jar;
        let mut waiting = sluis.browser();
        sluis.password(&mut waiting, "anna").await;

        // The file becomes a device that is full.
        let path = sluis.file("audit.jsonl");
        std::fs::rename(&path, sluis.file("audit.jsonl.1")).unwrap();
        point_at(&path, Path::new("/dev/full"));
        sluis.process.signal("HUP");
        await_metric(&sluis, "sluis_audit_failing 1").await;

        assert_eq!(running.get("/").await.status, StatusCode::OK, "{mode}: a running session goes on");
        let mut late = sluis.browser();
        let login = sluis.password(&mut late, "anna").await;
        sluis.clock.advance(Duration::from_secs(60));
        let challenge = sluis.answer(&mut waiting, &authenticator.code_at(sluis.clock.now_secs())).await;
        let blocked = sluis.cli(&["user", "block", "bram"]);
        if mode == "deny" {
            assert_eq!(login.status, StatusCode::SERVICE_UNAVAILABLE, "{login:?}");
            assert!(late.jar.is_empty(), "nothing is handed out: {:?}", late.jar);
            assert_eq!(challenge.status, StatusCode::SERVICE_UNAVAILABLE, "{challenge:?}");
            let said = String::from_utf8(blocked.stderr).unwrap();
            assert!(!blocked.status.success() && said.contains("audit log cannot be written"), "{said}");
        } else {
            assert_eq!(login.status, StatusCode::SEE_OTHER, "{login:?}");
            assert_eq!(challenge.status, StatusCode::SEE_OTHER, "{challenge:?}");
            assert!(blocked.status.success());
            let metrics = sluis.metrics().await;
            let lost = metrics.lines().find_map(|l| l.strip_prefix("sluis_audit_failures_total ")).unwrap();
            assert!(lost.parse::<f64>().unwrap() >= 4.0, "{lost}");
            let own_log = "the lost event in the program's own log";
            sluis.process.await_line(own_log, |line| line.contains("user_blocked").then_some(()));
        }
        let logout = running.get("/logout").await;
        assert_ne!(logout.status, StatusCode::SERVICE_UNAVAILABLE, "{mode}: whoever wants out gets out");

        // There is room again.
        std::fs::remove_file(&path).unwrap();
        sluis.process.signal("HUP");
        await_metric(&sluis, "sluis_audit_failing 0").await;
        if mode == "deny" {
            let entered = sluis.answer(&mut waiting, &authenticator.code_at(sluis.clock.now_secs())).await;
            assert_eq!(entered.status, StatusCode::SEE_OTHER, "the code was not spent: {entered:?}");
        }
        sluis.process.signal("TERM");
        assert!(sluis.process.wait().success());
        let said = sound(&sluis);
        // Under `deny`, too: the logout and the signals came about.
        assert!(said.contains("missing because the sink failed"), "{said}");
        let gap = all_lines(&sluis).into_iter().find(|line| line["event"] == "events_lost").unwrap();
        assert!(gap["since"].is_string(), "{gap}");
    }
}

/// [D10] Log injection: whatever is typed as a name, each line of the log is one of ours, in printable ASCII.
#[tokio::test]
async fn nothing_typed_gets_into_the_log_as_a_line() {
    let app = Demo::start_with(&["--any-user"]);
    let corpus = include_str!("../corpus/audit-names.txt");
    let sluis = Sluis::start(
        &exempt(&app).replace("    logout:", "      name: { allowed: \"(?s).*\" }\n    logout:"),
    );
    let mut typed = 0;
    for name in corpus.lines().filter(|line| !line.starts_with('#')) {
        for password in ["wrong", &format!("{name}-secret")] {
            let browser = sluis.browser();
            let request = browser
                .request(reqwest::Method::POST, "/login")
                .header("origin", sluis.origin())
                .header("content-type", "application/x-www-form-urlencoded")
                .header("x-request-id", "forged\",\"event\":\"user_reset")
                .body(format!("username={name}&password={password}"));
            request.send().await.unwrap();
            typed += 1;
        }
    }
    assert!(typed > 40);
    sound(&sluis);
    let bytes = std::fs::read(sluis.file("audit.jsonl")).unwrap();
    assert!(bytes.iter().all(|b| *b == b'\n' || (b' '..=b'~').contains(b)));
    let lines = sluis.audit();
    let known = [
        "chain_started",
        "checkpoint",
        "server",
        "first_factor_refused",
        "first_factor_passed",
        "session_started",
    ];
    for line in &lines {
        assert!(known.contains(&line["event"].as_str().unwrap()), "{line}");
    }
    assert!(count(&lines, "first_factor_refused") > 10, "names that are none never get so far, others do");
    let table = sluis.cli(&["audit", "search"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.chars().all(|c| c == '\n' || !c.is_control()), "{table:?}");
    assert_eq!(table.lines().count(), lines.len() + 1, "one row a line");
    let said = sluis.process.said();
    assert!(!said.contains('\u{1b}'), "nor in the program's own log");
}

/// Whole files that are gone: in the middle the next line shows it; at the end only a checkpoint that was kept elsewhere
/// does, and it is located at the last line that is left.
#[tokio::test]
async fn files_that_are_gone_are_missed() {
    let app = Demo::start();
    let mut sluis = Sluis::start(&exempt(&app));
    for round in 1..=3 {
        let mut browser = sluis.browser();
        assert_eq!(sluis.password(&mut browser, "anna").await.status, StatusCode::FOUND);
        let path = sluis.file("audit.jsonl");
        std::fs::rename(&path, sluis.file(&format!("audit.jsonl.{round}"))).unwrap();
        sluis.process.signal("HUP");
        let waiting = async {
            while !path.exists() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("a new file");
    }
    sluis.process.signal("TERM");
    assert!(sluis.process.wait().success());
    let log = sluis.file("server.log");
    std::fs::write(&log, sluis.process.said()).unwrap();
    let kept = ["--checkpoints", log.to_str().unwrap()];
    let (well, said) = verify(&sluis, &kept);
    assert!(well && said.contains("4 files"), "{said}");

    let second = std::fs::read_to_string(sluis.file("audit.jsonl.2")).unwrap();
    std::fs::remove_file(sluis.file("audit.jsonl.2")).unwrap();
    let (well, said) = verify(&sluis, &[]);
    assert!(!well && said.contains("audit.jsonl.3:1: cut out"), "{said}");

    std::fs::write(sluis.file("audit.jsonl.2"), &second).unwrap();
    std::fs::remove_file(sluis.file("audit.jsonl.3")).unwrap();
    std::fs::remove_file(sluis.file("audit.jsonl")).unwrap();
    let (well, said) = verify(&sluis, &[]);
    assert!(well && said.contains("its end is cut off (give a --checkpoint to know)"), "{said}");
    let (well, said) = verify(&sluis, &kept);
    let located = format!("audit.jsonl.2:{}: truncated", second.lines().count());
    assert!(!well && said.contains(&located), "{located}: {said}");
}

/// The default place: every line goes to standard output while the server runs, and the server ends when it is told to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_goes_to_standard_output() {
    let app = Demo::start();
    let mut sluis = Sluis::start(&care_records(app.address));
    let old = format!("audit: {{ file: \"{}\" }}", sluis.file("audit.jsonl").display());
    sluis.restart_with(&old, "audit: stdout");
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    let (_, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    let named = |name: &'static str| {
        move |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            (event["event"] == name && event["mac"].is_string()).then_some(event)
        }
    };
    let event = tokio::task::block_in_place(|| {
        sluis.process.await_line("an audit line", named("authenticator_enrolled"))
    });
    assert_eq!(event["user"], "anna", "{event}");
    sluis.process.signal("TERM");
    let ended = tokio::task::block_in_place(|| sluis.process.wait());
    assert!(ended.success(), "{ended}");
}
