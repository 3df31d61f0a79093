//! The first start: from nothing to a login with a second factor.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    time::{SystemTime, UNIX_EPOCH},
};

use reqwest::StatusCode;

use crate::support::{Authenticator, Browser, Demo, process::Process};

fn sluis(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluis")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn at(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

/// Serves a configuration; its address.
fn serve(config: &str) -> (Process, std::net::SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluis"));
    command.args(["serve", "--config", config]);
    let mut process = Process::start("sluis", &mut command);
    let address = process.await_line("listener", |line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let fields = line.get("fields").unwrap_or(&line);
        (fields.get("listener")?.as_str()? == "http").then_some(())?;
        fields.get("address")?.as_str()?.parse().ok()
    });
    process.await_line("readiness", |line| line.contains("\"ready\"").then_some(()));
    (process, address)
}

/// Logs Anna in before whatever listens there, with a second factor that she links.
async fn whole_login(address: std::net::SocketAddr) {
    let mut browser = Browser::new(&format!("http://localhost:{}", address.port()));
    let mut page = browser.post("/login", &[("username", "anna"), ("password", "anna-secret")]).await;
    while page.status.is_redirection() {
        page = browser.follow(&page).await;
    }
    let authenticator = Authenticator::from_page(&page.body);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (token, code) = (page.field("token"), authenticator.code_at(now));
    let entered =
        browser.post("/.sluis/enrol", &[("token", &token), ("name", "My phone"), ("code", &code)]).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    let inside = browser.get("/").await;
    assert!(inside.status == StatusCode::OK && inside.body.contains("anna"), "{inside:?}");
}

/// [E1] [F8] From flags alone: key, configuration, a server that starts, a login with a code. Nothing is written over.
#[tokio::test]
async fn e1_init_makes_what_serves() {
    let app = Demo::start();
    let dir = tempfile::tempdir().unwrap();
    let (config, data) = (at(dir.path(), "etc/config.yaml"), at(dir.path(), "data"));
    let missing = sluis(&["init", "--config", &config, "--data", &data]);
    assert!(!missing.status.success());
    let said = text(&missing.stderr);
    assert!(said.contains("missing: --host, --upstream, --user-field"), "{said}");
    assert!(!dir.path().join("etc").exists(), "nothing is made before all is known");

    let upstream = format!("http://{}", app.address);
    let flags = [
        "init",
        "--config",
        &config,
        "--data",
        &data,
        "--listen",
        "127.0.0.1:0",
        "--operations",
        "127.0.0.1:0",
        "--name",
        "Care records",
        "--host",
        "localhost",
        "--upstream",
        &upstream,
        "--user-field",
        "username",
        "--success-cookie",
        "ZORGSESSIE",
    ];
    let wrong = [&flags[..], &["--login", "no path"]].concat();
    let refused = sluis(&wrong);
    assert!(
        !refused.status.success() && text(&refused.stderr).contains("no configuration was written"),
        "{}",
        text(&refused.stderr)
    );
    assert!(!Path::new(&config).exists());

    let made = sluis(&flags);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let key = dir.path().join("etc/master.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    for command in ["sluis check -c", "sluis serve -c", "sluis user import"] {
        assert!(text(&made.stdout).contains(command), "{}", text(&made.stdout));
    }
    let checked = sluis(&["check", "--config", &config]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    let before = (std::fs::read(&config).unwrap(), std::fs::read(&key).unwrap());
    let again = sluis(&flags);
    assert!(!again.status.success() && text(&again.stderr).contains("is there already"));
    assert_eq!((std::fs::read(&config).unwrap(), std::fs::read(&key).unwrap()), before);

    let (_process, address) = serve(&config);
    whole_login(address).await;
}

/// [E1] At a terminal it asks.
#[test]
fn e1_init_asks_at_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let config = at(dir.path(), "config.yaml");
    let master =
        rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
    rustix::pty::grantpt(&master).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let name = rustix::pty::ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = File::options().read(true).write(true).open(name).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluis"));
    command.args(["init", "--config", &config, "--data", &at(dir.path(), "data")]);
    command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut terminal = File::from(master);
    let mut shown = String::new();
    for (question, answer) in [
        ("call the app? [App] ", "Zorg \"De Linde\""),
        ("host name do they reach it? ", "ecd.example.org"),
        ("http://127.0.0.1:8000? ", "http://127.0.0.1:8000"),
        ("login form post to? [/login] ", ""),
        ("user name called? ", ""),
        // What has no usual answer is asked again.
        ("user name called? ", "username"),
        ("wrong one)? [302] ", ""),
        ("(none: Enter) ", "JSESSIONID"),
        ("logs out? [/logout] ", "/bye"),
        ("(nothing: -) [/static/*] ", "/css/*, /js/*"),
    ] {
        while !shown.ends_with(question) {
            let mut piece = [0; 1024];
            let count = terminal.read(&mut piece).unwrap_or_else(|error| panic!("{error}: {shown}"));
            shown.push_str(&text(&piece[..count]));
        }
        terminal.write_all(format!("{answer}\n").as_bytes()).unwrap();
        shown.clear();
    }
    // At its end the terminal gives an error, once all has been read.
    let mut piece = [0; 1024];
    while let Ok(count @ 1..) = terminal.read(&mut piece) {
        shown.push_str(&text(&piece[..count]));
    }
    assert!(child.wait().unwrap().success(), "{shown}");
    let checked = sluis(&["check", "--config", &config]);
    let said = text(&checked.stdout);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    for part in ["Zorg \"De Linde\"", "ecd.example.org", "JSESSIONID", "/bye", "/js/*"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// [E1] A container that lacks something says the one command that makes it.
#[test]
fn e1_a_server_without_key_or_configuration_says_what_to_run() {
    let dir = tempfile::tempdir().unwrap();
    let config = at(dir.path(), "config.yaml");
    let bare = sluis(&["serve", "--config", &config]);
    assert!(!bare.status.success() && text(&bare.stderr).contains("`sluis init`"), "{}", text(&bare.stderr));
    let flags =
        ["--host", "localhost", "--upstream", "http://127.0.0.1:9", "--user-field", "u", "--config", &config];
    let data = at(dir.path(), "data");
    let made = sluis(&[&["init", "--data", &data], &flags[..]].concat());
    assert!(made.status.success(), "{}", text(&made.stderr));
    std::fs::remove_file(dir.path().join("master.key")).unwrap();
    let keyless = sluis(&["serve", "--config", &config]);
    let command = format!("`sluis keys generate --out {}`", at(dir.path(), "master.key"));
    assert!(
        !keyless.status.success() && text(&keyless.stderr).contains(&command),
        "{}",
        text(&keyless.stderr)
    );
}
