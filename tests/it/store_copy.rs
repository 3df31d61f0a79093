//! [F7] Moving to another store and back.

use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use reqwest::StatusCode;

use crate::support::{
    Authenticator, Browser, Demo, Sluis, fleet::on_redis, process::Process, redis::Redis, sluis::care_records,
};

/// Runs `sluis store copy`.
fn copy(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluis")).args(["store", "copy"]).args(arguments).output().unwrap()
}

fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// The configuration of this Sluis with another store, as a file beside its own.
fn config_with_store(sluis: &Sluis, name: &str, store: &str) -> String {
    let text = std::fs::read_to_string(sluis.file("config.yaml")).unwrap();
    let old = text.lines().find(|line| line.starts_with("store:")).unwrap();
    let path = sluis.file(name);
    std::fs::write(&path, text.replace(old, &format!("store: {store}"))).unwrap();
    path.display().to_string()
}

fn sqlite(path: &Path) -> String {
    format!("{{ sqlite: {{ path: \"{}\" }} }}", path.display())
}

/// Anna inside, a copy of a session of hers that she has ended, a takeover, and a code that is used.
struct Before {
    _app: Demo,
    sluis: Sluis,
    anna: Browser,
    dead: Browser,
    overtaken: Browser,
    authenticator: Authenticator,
    used: String,
}

async fn before() -> Before {
    let app = Demo::start();
    let mut sluis = Sluis::start(&care_records(app.address));
    let mut anna = sluis.browser();
    let pending = sluis.password(&mut anna, "anna").await;
    let (authenticator, _) = sluis.enrol(&mut anna, &pending).await;
    // Bram takes Anna's other browser over.
    sluis.clock.advance(Duration::from_secs(60));
    let mut shared = sluis.browser();
    sluis.password(&mut shared, "anna").await;
    let code = authenticator.code_at(sluis.clock.now_secs());
    assert_eq!(sluis.answer(&mut shared, &code).await.status, StatusCode::SEE_OTHER);
    let overtaken = shared.clone();
    let pending = sluis.password(&mut shared, "bram").await;
    sluis.enrol(&mut shared, &pending).await;
    // And she logs out of a third.
    sluis.clock.advance(Duration::from_secs(60));
    let mut third = sluis.browser();
    sluis.password(&mut third, "anna").await;
    let used = authenticator.code_at(sluis.clock.now_secs());
    assert_eq!(sluis.answer(&mut third, &used).await.status, StatusCode::SEE_OTHER);
    let dead = third.clone();
    third.visit("/logout").await;
    assert_eq!(anna.get("/").await.status, StatusCode::OK);
    Before { _app: app, sluis, anna, dead, overtaken, authenticator, used }
}

impl Before {
    /// Everything is as it was, on whatever store.
    async fn all_is_as_it_was(&mut self) {
        let origin = self.sluis.origin();
        let there = |browser: &Browser| {
            let mut there = Browser::new(&origin);
            there.jar.clone_from(&browser.jar);
            there
        };
        assert_eq!(there(&self.anna).get("/").await.status, StatusCode::OK, "her session goes on");
        for gone in [&self.dead, &self.overtaken] {
            let mut gone = there(gone);
            gone.jar.retain(|name, _| name != "sluis-login");
            assert_ne!(gone.get("/").await.status, StatusCode::OK, "what was dead stays dead");
        }
        let mut again = self.sluis.browser();
        let asked = self.sluis.password(&mut again, "anna").await;
        assert_eq!(asked.location(), "/.sluis/challenge");
        let used = self.sluis.answer(&mut again, &self.used).await;
        assert_ne!(used.status, StatusCode::SEE_OTHER, "a used code stays used: {used:?}");
        self.sluis.clock.advance(Duration::from_secs(60));
        let code = self.authenticator.code_at(self.sluis.clock.now_secs());
        let entered = self.sluis.answer(&mut again, &code).await;
        assert_eq!(entered.status, StatusCode::SEE_OTHER, "her authenticator is the same: {entered:?}");
        self.used = code;
    }

    /// Stops the server, copies its store to `store`, and starts it on that.
    async fn move_to(&mut self, store: &str) {
        let new = config_with_store(&self.sluis, "new.yaml", store);
        let old = self.sluis.file("config.yaml").display().to_string();
        let running = copy(&["--from", &old, "--to", &new]);
        assert!(!running.status.success(), "a server is using it: {}", said(&running));
        self.sluis.process.kill();
        let done = copy(&["--from", &old, "--to", &new]);
        assert!(done.status.success(), "{}", said(&done));
        assert!(said(&done).contains("read again and compared"), "{}", said(&done));
        let line = |file: &str| {
            let text = std::fs::read_to_string(file).unwrap();
            text.lines().find(|line| line.starts_with("store:")).unwrap().to_owned()
        };
        let (from, to) = (line(&old), line(&new));
        self.sluis.restart_with(&from, &to);
        self.all_is_as_it_was().await;
    }
}

/// [F7 I3 I4] From one file to another: sessions go on, what was dead stays dead, a used code stays used.
#[tokio::test]
async fn a_move_to_another_file_is_not_noticed() {
    let mut story = before().await;
    let target = story.sluis.file("other.db");
    story.move_to(&sqlite(&target)).await;
}

/// [F7] Killed in the middle: nothing serves the half, and the same command completes it.
#[test]
fn a_copy_that_was_killed_is_completed_by_the_same_command() {
    let app = Demo::start();
    let mut sluis = Sluis::start(&care_records(app.address));
    sluis.process.kill();
    many_ended_sessions(&sluis.file("sluis.db"), 20_000);
    let target = sluis.file("other.db");
    killed_and_completed(&sluis, &sqlite(&target));
}

/// [F7 I3 I4] From the file to Redis: sessions go on, what was dead stays dead, a used code stays used.
#[tokio::test]
async fn a_move_to_redis_is_not_noticed() {
    let redis = Redis::start();
    let mut story = before().await;
    story.move_to(&on_redis(redis.address())).await;
}

/// [F7] The same with Redis as the target, and back into a file.
#[test]
fn a_copy_into_redis_that_was_killed_is_completed_by_the_same_command() {
    let redis = Redis::start();
    let app = Demo::start();
    let mut sluis = Sluis::start(&care_records(app.address));
    sluis.process.kill();
    many_ended_sessions(&sluis.file("sluis.db"), 20_000);
    killed_and_completed(&sluis, &on_redis(redis.address()));
}

/// Starts a copy, kills it as soon as it has told of the first records, and completes it.
fn killed_and_completed(sluis: &Sluis, store: &str) {
    let from = sluis.file("config.yaml").display().to_string();
    let to = config_with_store(sluis, "new.yaml", store);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluis"));
    command.args(["store", "copy", "--from", &from, "--to", &to]);
    let mut cut = Process::start("copy", &mut command);
    cut.await_line("progress", |line| line.contains("copying users: ").then_some(()));
    cut.kill();
    assert!(!cut.said().contains("copied:"), "it was to be killed before its end: {}", cut.said());
    let half = Command::new(env!("CARGO_BIN_EXE_sluis")).args(["serve", "--config", &to]).output().unwrap();
    assert!(!half.status.success() && said(&half).contains("half a copy"), "{}", said(&half));
    let done = copy(&["--from", &from, "--to", &to]);
    assert!(done.status.success() && said(&done).contains("completed the copy"), "{}", said(&done));
    assert!(said(&done).contains("20000 ended sessions"), "{}", said(&done));
    // Once more, and it is a store with data of its own.
    let again = copy(&["--from", &from, "--to", &to]);
    assert!(!again.status.success() && said(&again).contains("--merge"), "{}", said(&again));
    let merged = copy(&["--from", &from, "--to", &to, "--merge"]);
    assert!(merged.status.success(), "{}", said(&merged));
    // And back, into an empty file: as many of each.
    let back = sluis.file("back.db");
    let done = copy(&["--from", &to, "--to", &format!("sqlite:{}", back.display())]);
    assert!(done.status.success() && said(&done).contains("20000 ended sessions"), "{}", said(&done));
    assert_eq!(contents(&sluis.file("sluis.db")), contents(&back));
}

/// Ends many sessions in a file that nobody serves, and meets somebody.
fn many_ended_sessions(path: &Path, count: u64) {
    let mut db = rusqlite::Connection::open(path).unwrap();
    let tx = db.transaction().unwrap();
    tx.execute("INSERT INTO users (realm, name, first_seen_at) VALUES ('ecd', 'anna', 1)", []).unwrap();
    for number in 0..count {
        let id = [number.to_be_bytes(), number.to_be_bytes()].concat();
        tx.execute("INSERT INTO ended_sessions VALUES (?1, 4000000000000)", [id]).unwrap();
    }
    tx.commit().unwrap();
}

/// What a file has, without the numbers of rows and the sealed secrets.
fn contents(path: &Path) -> Vec<String> {
    let db = rusqlite::Connection::open(path).unwrap();
    let mut all = Vec::new();
    for select in [
        "SELECT realm, name, first_seen_at, last_login_at, blocked, failures, wait_until, void_before, void_until
           FROM users ORDER BY realm, name",
        "SELECT hex(a.id), u.name, a.method, a.name, a.confirmed_at, a.last_used_at, a.last_step, a.drift_steps
           FROM authenticators a JOIN users u ON u.id = a.user ORDER BY a.id",
        "SELECT hex(device), u.name, epoch, until, revoked_until FROM devices JOIN users u ON u.id = owner
          ORDER BY device",
        "SELECT hex(session), until FROM ended_sessions ORDER BY session",
        "SELECT hex(login), until FROM consumed_logins ORDER BY login",
        "SELECT app, name FROM sealed_names ORDER BY app, name",
    ] {
        let mut statement = db.prepare(select).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let cells: Vec<String> = (0..columns)
                .map(|at| format!("{:?}", row.get::<_, rusqlite::types::Value>(at).unwrap()))
                .collect();
            all.push(cells.join(" "));
        }
    }
    all
}
