//! Sluis as a process in front of an app.

use std::{net::SocketAddr, path::PathBuf, process::Command};

use super::{Authenticator, Browser, clock::HeldClock, jar::Answer, process::Process};

/// The shipped legacy app, on its own.
pub struct Demo {
    /// Its process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Demo {
    /// Starts it.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts it with more arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluis"));
        command.args(["demo", "--app-only", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut process = Process::start("demo app", &mut command);
        let address = process.await_line("address", |line| {
            line.split("http://").nth(1)?.trim().trim_end_matches('/').parse().ok()
        });
        Self { process, address }
    }
}

/// A running Sluis.
pub struct Sluis {
    /// Its process.
    pub process: Process,
    /// Its clock.
    pub clock: HeldClock,
    /// Its listener.
    pub address: SocketAddr,
    /// Its operations listener.
    pub operations: SocketAddr,
    /// Where its files are.
    pub dir: tempfile::TempDir,
    config: String,
    scheme: &'static str,
}

/// How a Sluis is to be started.
pub struct Setup<'a> {
    /// Where its files are.
    pub dir: tempfile::TempDir,
    /// `http: {…}` or `https: {…}`.
    pub listener: &'a str,
    /// The value of `store:`; a SQLite file of its own unless something else is named.
    pub store: Option<&'a str>,
    /// Its clock; one of its own unless it shares one.
    pub clock: Option<HeldClock>,
    /// `apps:` and whatever else.
    pub more: &'a str,
}

impl<'a> Setup<'a> {
    /// Plain HTTP, everything else its own.
    pub fn plain(more: &'a str) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), listener: PLAIN, store: None, clock: None, more }
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Sluis {
        let Setup { dir, listener, store, clock, more } = self;
        let at = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(dir.path().join("master.key"), "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
            .unwrap();
        let shutdown = if more.contains("shutdown:") { "" } else { "shutdown: { delay: 0s, drain: 20s }" };
        let own = format!("{{ sqlite: {{ path: \"{}\" }} }}", at("sluis.db"));
        let config = format!(
            r#"
listen:
  {listener}
  operations: "127.0.0.1:0"
  control: "{}"
threads: 2
keys:
  - file: "{}"
store: {}
log: {{ format: json, filter: info }}
audit: {{ file: "{}" }}
{shutdown}
{more}"#,
            at("control.sock"),
            at("master.key"),
            store.unwrap_or(&own),
            at("audit.jsonl"),
        );
        let clock = clock.unwrap_or_else(|| HeldClock::new(dir.path()));
        let (process, address, operations) = Sluis::spawn(&dir, &config, &clock);
        let scheme = if listener.starts_with("https") { "https" } else { "http" };
        Sluis { process, clock, address, operations, dir, config, scheme }
    }
}

/// Plain HTTP, and cookies that work over it.
const PLAIN: &str = "http: { address: \"127.0.0.1:0\" }";

/// The configuration in front of the shipped app, with `{…}` filled in by [`Sluis::start`].
pub fn care_records(upstream: SocketAddr) -> String {
    format!(
        r#"
apps:
  - id: ecd
    name: Care records
    hosts: ["*"]
    upstreams: ["http://{upstream}"]
    login:
      page: /login
      watch:
        - {{ path: /login, user_field: username }}
      success: {{ status: [302, 303], cookie: ZORGSESSIE }}
    logout: [/logout]
    anonymous: [/login, /static/*]
    policy:
      - require: {{ methods: [totp], validity: 12h }}
"#
    )
}

impl Sluis {
    /// Starts it with this `apps:` section in front of whatever it names.
    pub fn start(apps: &str) -> Self {
        Self::start_on(tempfile::tempdir().unwrap(), PLAIN, &format!("insecure_cookies: true\n{apps}"))
    }

    /// Starts it on this listener (`http: {…}` or `https: {…}`), its files in `dir`.
    pub fn start_on(dir: tempfile::TempDir, listener: &str, apps: &str) -> Self {
        Setup { dir, listener, ..Setup::plain(apps) }.start()
    }

    fn spawn(dir: &tempfile::TempDir, config: &str, clock: &HeldClock) -> (Process, SocketAddr, SocketAddr) {
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluis"));
        command.arg("serve").arg("--config").arg(&file);
        clock.hold(&mut command);
        let mut process = Process::start("sluis", &mut command);
        let listener = |name: &'static [&'static str]| {
            move |line: &str| -> Option<SocketAddr> {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                let fields = line.get("fields").unwrap_or(&line);
                name.contains(&fields.get("listener")?.as_str()?).then_some(())?;
                fields.get("address")?.as_str()?.parse().ok()
            }
        };
        let address = process.await_line("listener", listener(&["http", "https"]));
        let operations = process.await_line("operations listener", listener(&["operations"]));
        process.await_line("readiness", |line| line.contains("\"ready\"").then_some(()));
        (process, address, operations)
    }

    /// Stops it by `kill -9` and starts it again on the same files.
    pub fn restart(&mut self) {
        self.process.kill();
        let (process, address, operations) = Self::spawn(&self.dir, &self.config, &self.clock);
        self.process = process;
        self.address = address;
        self.operations = operations;
    }

    /// Stops it by SIGTERM, as an orchestrator does, and starts it again on the same files; it must end well.
    pub fn restart_gently(&mut self) {
        self.process.signal("TERM");
        let ended = self.process.wait();
        assert!(ended.success(), "{ended}; it said:\n{}", self.process.said());
        self.restart();
    }

    /// `kill -9`, and a start with one text of the configuration replaced by another.
    pub fn restart_with(&mut self, old: &str, new: &str) {
        assert!(self.config.contains(old), "{old:?} in\n{}", self.config);
        self.config = self.config.replace(old, new);
        self.restart();
    }

    /// Changes one text of the configuration by another, in the file only: it goes on running.
    pub fn edit(&mut self, old: &str, new: &str) {
        assert!(self.config.contains(old), "{old:?} in\n{}", self.config);
        self.config = self.config.replace(old, new);
        std::fs::write(self.file("config.yaml"), &self.config).unwrap();
    }

    /// The same, and waits until that configuration counts: told by SIGHUP.
    pub async fn reload(&mut self, old: &str, new: &str) {
        let done = self.reloads("done").await;
        self.edit(old, new);
        self.process.signal("HUP");
        self.await_reloads("done", done + 1.0).await;
    }

    /// How many reloads of the configuration had this outcome so far.
    pub async fn reloads(&self, outcome: &str) -> f64 {
        self.metric(&format!("sluis_reloads_total{{outcome=\"{outcome}\",what=\"configuration\"}}")).await
    }

    /// Waits until so many had.
    pub async fn await_reloads(&self, outcome: &str, wanted: f64) {
        let waiting = async {
            while self.reloads(outcome).await < wanted {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(super::process::PATIENCE, waiting).await;
        assert!(waited.is_ok(), "no reload {outcome}; it said:\n{}", self.process.said());
    }

    /// The value of one series.
    pub async fn metric(&self, series: &str) -> f64 {
        let metrics = self.metrics().await;
        let line = metrics.lines().find(|l| l.starts_with(series)).unwrap_or_else(|| panic!("no {series}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Its origin.
    pub fn origin(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.address.port())
    }

    /// A fresh browser profile in front of it.
    pub fn browser(&self) -> Browser {
        Browser::new(&self.origin())
    }

    /// A file of its own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `sluis` with these arguments and this configuration.
    pub fn cli(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluis"));
        command.args(arguments).arg("--config").arg(self.file("config.yaml"));
        self.clock.hold(&mut command);
        command.output().unwrap()
    }

    /// Runs `sluis` with these arguments alone.
    pub fn cli_without_config(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_sluis")).args(arguments).output().unwrap()
    }

    /// The audit events so far.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        std::fs::read_to_string(self.file("audit.jsonl"))
            .unwrap_or_default()
            .lines()
            .map(|line| serde_json::from_str(line).expect("each audit line is JSON"))
            .collect()
    }

    /// All metrics.
    pub async fn metrics(&self) -> String {
        reqwest::get(format!("http://{}/metrics", self.operations)).await.unwrap().text().await.unwrap()
    }

    /// Logs in at the shipped app with a password.
    pub async fn password(&self, browser: &mut Browser, user: &str) -> Answer {
        browser.post("/login", &[("username", user), ("password", &format!("{user}-secret"))]).await
    }

    /// Links an authenticator on the enrolment page that follows a login, and passes it.
    pub async fn enrol(&self, browser: &mut Browser, after_login: &Answer) -> (Authenticator, Answer) {
        let mut page = browser.follow(after_login).await;
        while page.status.is_redirection() {
            page = browser.follow(&page).await;
        }
        let authenticator = Authenticator::from_page(&page.body);
        let code = authenticator.code_at(self.clock.now_secs());
        let token = page.field("token");
        let answer =
            browser.post("/.sluis/enrol", &[("token", &token), ("name", "My phone"), ("code", &code)]).await;
        (authenticator, answer)
    }

    /// Types a code on the challenge page.
    pub async fn answer(&self, browser: &mut Browser, code: &str) -> Answer {
        let page = browser.get("/.sluis/challenge").await;
        let token = page.field("token");
        browser.post("/.sluis/challenge", &[("token", &token), ("code", code)]).await
    }
}
