//! A new configuration while people work: it counts at once and whole, or not at all, and nobody notices.

use std::{os::unix::fs::symlink, time::Duration};

use futures_util::{SinkExt, StreamExt};
use reqwest::{Method, StatusCode};

use crate::support::{Authenticator, Browser, Demo, Sluis, sluis::care_records};

async fn anna_inside(apps: &str) -> (Sluis, Browser, Authenticator) {
    let sluis = Sluis::start(apps);
    let mut browser = sluis.browser();
    let pending = sluis.password(&mut browser, "anna").await;
    let (authenticator, entered) = sluis.enrol(&mut browser, &pending).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    (sluis, browser, authenticator)
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn live(sluis: &Sluis, browser: &Browser, host: &str) -> Socket {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let port = sluis.address.port();
    let mut request = format!("ws://127.0.0.1:{port}/live").into_client_request().unwrap();
    let cookies = browser.jar.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ");
    request.headers_mut().insert("cookie", cookies.parse().unwrap());
    request.headers_mut().insert("host", host.parse().unwrap());
    let mut socket = tokio_tungstenite::connect_async(request).await.unwrap().0;
    assert_eq!(text(&mut socket).await.as_deref(), Some("hello anna"));
    socket
}

async fn text(socket: &mut Socket) -> Option<String> {
    match tokio::time::timeout(Duration::from_secs(30), socket.next()).await.expect("a frame or the end") {
        Some(Ok(message)) => message.into_text().ok().map(|t| t.to_string()),
        _ => None,
    }
}

async fn echoes(socket: &mut Socket) -> bool {
    socket.send("still there?".into()).await.is_ok() && text(socket).await.as_deref() == Some("still there?")
}

/// [F3] Headers, prefix and policy change by SIGHUP. A request that runs, a websocket and a session go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_what_it_says_and_cuts_nothing() {
    let app = Demo::start();
    let (mut sluis, mut browser, _) = anna_inside(&care_records(app.address)).await;
    let host = format!("localhost:{}", sluis.address.port());
    let mut socket = live(&sluis, &browser, &host).await;
    let slow = browser.request(Method::GET, "/slow?ms=3000").send();
    let slow = tokio::spawn(slow);
    assert!(browser.get("/headers").await.body.to_lowercase().contains("remote-user"));

    let (old, new) = (
        "    policy:\n",
        "    headers: { preset: x-forwarded }\n    policy:\n      - match: { users: [bram] }\n        exempt: test\n",
    );
    sluis.reload(old, new).await;
    let page = browser.get("/headers").await;
    assert_eq!(page.status, StatusCode::OK, "{page:?}");
    let shown = page.body.to_lowercase();
    assert!(shown.contains("x-forwarded-user") && !shown.contains("remote-user"), "{shown}");
    assert!(echoes(&mut socket).await);
    let mut other = sluis.browser();
    assert_eq!(sluis.password(&mut other, "bram").await.location(), "/", "the new policy");

    sluis.reload("insecure_cookies: true\n", "insecure_cookies: true\nprefix: /elsewhere\n").await;
    assert_eq!(browser.get("/elsewhere/logout").await.status, StatusCode::OK);
    assert!(browser.get("/.sluis/logout").await.status.is_client_error(), "a path of the app's now");
    assert!(echoes(&mut socket).await);
    assert_eq!(slow.await.unwrap().unwrap().text().await.unwrap(), "at last\n", "nothing in flight was cut");
    assert!(sluis.audit().iter().any(|e| e["event"] == "server" && e["detail"] == "reloaded"));
    assert_eq!(sluis.metric("sluis_configuration_differs").await, 0.0);
}

/// [F3] Files that change are noticed without a signal: written in place, and swapped as Kubernetes swaps them.
#[tokio::test]
async fn a_changed_file_is_noticed() {
    let mut sluis = Sluis::start(&care_records("127.0.0.1:9".parse().unwrap()));
    let key = sluis.file("master.key").display().to_string();
    sluis.edit("      page: /login\n", "      page: /login?in-place\n");
    sluis.await_reloads("done", 1.0).await;
    let to = |answer: crate::support::jar::Answer| answer.location().to_owned();
    assert_eq!(to(sluis.browser().get("/").await), "/login?in-place");

    let (link, at) = (sluis.file("config.yaml"), |name: &str| sluis.file(name));
    for folder in ["..one", "..two"] {
        std::fs::create_dir(at(folder)).unwrap();
        let text = std::fs::read_to_string(&link).unwrap();
        std::fs::write(at(folder).join("config.yaml"), text.replace("in-place", &folder[2..])).unwrap();
    }
    symlink("..one", at("..data")).unwrap();
    symlink("..data/config.yaml", at("new")).unwrap();
    std::fs::rename(at("new"), &link).unwrap();
    sluis.await_reloads("done", 2.0).await;
    assert_eq!(to(sluis.browser().get("/").await), "/login?one");
    symlink("..two", at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    sluis.await_reloads("done", 3.0).await;
    assert_eq!(to(sluis.browser().get("/").await), "/login?two");

    // A file that it names.
    std::fs::write(&key, "no key at all").unwrap();
    sluis.await_reloads("refused", 1.0).await;
    assert_eq!(to(sluis.browser().get("/").await), "/login?two");
}

/// [F3 I9] A configuration with faults is refused as a whole: the log says what `sluis check` says, and the old one goes
/// on until it is mended.
#[tokio::test]
async fn a_bad_configuration_changes_nothing_and_is_told() {
    let app = Demo::start();
    let (mut sluis, mut browser, _) = anna_inside(&care_records(app.address)).await;
    // One good change and two faults in one file.
    sluis.edit("    policy:\n", "    headers: { preset: x-forwarded }\n    polici: 1\n    policy:\n");
    sluis.edit("drain: 20s", "drain: soon");
    sluis.process.signal("HUP");
    sluis.await_reloads("refused", 1.0).await;
    let checked = sluis.cli(&["check"]);
    assert!(!checked.status.success());
    let checked = String::from_utf8(checked.stderr).unwrap();
    let mut faults = 0;
    for fault in checked.lines() {
        let Some((_, fault)) = fault.split_once("config.yaml:") else { continue };
        if !fault.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let json = serde_json::to_string(fault).unwrap();
        sluis.process.await_line(fault, |line| line.contains(json.trim_matches('"')).then_some(()));
        faults += 1;
    }
    assert_eq!(faults, 2, "{checked}");
    assert!(browser.get("/headers").await.body.to_lowercase().contains("remote-user"), "half a reload");
    assert_eq!(sluis.metric("sluis_configuration_differs").await, 1.0);
    let ready = reqwest::get(format!("http://{}/readyz?verbose", sluis.operations)).await.unwrap();
    assert_eq!(ready.status(), StatusCode::OK, "what runs, runs");
    let ready = ready.text().await.unwrap();
    assert!(ready.contains("[!]configuration doubtful: refused at"), "{ready}");
    assert!(sluis.audit().iter().any(|e| e["detail"] == "reload_refused" && e["outcome"] == "failure"));

    sluis.edit("    polici: 1\n", "");
    sluis.reload("drain: soon", "drain: 19s").await;
    assert!(browser.get("/headers").await.body.to_lowercase().contains("x-forwarded-user"));
    assert_eq!(sluis.metric("sluis_configuration_differs").await, 0.0);
    let ready = reqwest::get(format!("http://{}/readyz?verbose", sluis.operations)).await.unwrap();
    assert!(ready.text().await.unwrap().contains("[+]configuration ok"));
}

/// [F3] What a running process cannot change is named and waits; the rest of the same file counts.
#[tokio::test]
async fn what_waits_for_a_restart_is_named() {
    let mut sluis = Sluis::start(&care_records("127.0.0.1:9".parse().unwrap()));
    sluis.edit("      page: /login\n", "      page: /login?new\n");
    sluis.edit("format: json", "format: text");
    sluis.reload("threads: 2", "threads: 3").await;
    assert_eq!(sluis.browser().get("/").await.location(), "/login?new");
    let keys = sluis.process.await_line("a warning", |line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line["message"].as_str()?.contains("wait for a restart").then(|| line["keys"].clone())
    });
    assert_eq!(keys, "threads, log.format");
    assert_eq!(sluis.metric("sluis_configuration_differs").await, 1.0);
    sluis.edit("threads: 3", "threads: 2");
    sluis.reload("format: text", "format: json").await;
    assert_eq!(sluis.metric("sluis_configuration_differs").await, 0.0);
}

/// [F3] Apps come and go: a new one is served and counted from 0; one that is gone is an unknown host, its websockets
/// end and its series go, while those of the others stay.
#[tokio::test]
async fn apps_come_and_go() {
    let app = Demo::start();
    let one = care_records(app.address).replace("[\"*\"]", "[one.test]");
    let two = one.replace("id: ecd", "id: two").replace("one.test", "two.test").replace("\napps:", "");
    let mut sluis = Sluis::start(&one);
    let browser_of = |sluis: &Sluis, host: &str| sluis.browser().with_host(host);
    assert_eq!(browser_of(&sluis, "two.test").get("/").await.status, StatusCode::MISDIRECTED_REQUEST);
    sluis.reload(&one, &format!("{one}{two}")).await;
    let counted = "sluis_requests_total{app=\"two\",outcome=\"forwarded\"}";
    assert_eq!(sluis.metric(counted).await, 0.0);

    let mut sockets = Vec::new();
    for host in ["one.test", "two.test"] {
        let mut browser = browser_of(&sluis, host);
        let pending =
            browser.post_from(host, "/login", &[("username", "anna"), ("password", "anna-secret")]).await;
        let mut page = browser.follow(&pending).await;
        while page.status.is_redirection() {
            page = browser.follow(&page).await;
        }
        let authenticator = Authenticator::from_page(&page.body);
        let fields = [
            ("token", page.field("token")),
            ("name", "My phone".to_owned()),
            ("code", authenticator.code_at(sluis.clock.now_secs())),
        ];
        let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
        let entered = browser.post_from(host, "/.sluis/enrol", &fields).await;
        assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
        sockets.push(live(&sluis, &browser, host).await);
        assert_eq!(browser.get("/").await.status, StatusCode::OK);
    }
    assert!(sluis.metric(counted).await > 0.0);

    let both = format!("{one}{two}");
    sluis.reload(&both, &one).await;
    assert_eq!(browser_of(&sluis, "two.test").get("/").await.status, StatusCode::MISDIRECTED_REQUEST);
    let [first, second] = sockets.as_mut_slice() else { panic!("two") };
    while text(second).await.is_some() {}
    assert!(echoes(first).await, "the other goes on");
    assert!(!sluis.metrics().await.contains("app=\"two\""));
    sluis.reload(&one, &both).await;
    assert_eq!(sluis.metric(counted).await, 0.0, "it begins anew");
}

/// [F3] Keys rotate while it runs: the new one signs and seals, nobody is logged out, and the old one can go once nothing needs it, with all that it signed.
#[tokio::test]
async fn keys_rotate_without_a_restart() {
    let app = Demo::start();
    let (mut sluis, mut browser, authenticator) = anna_inside(&care_records(app.address)).await;
    let host = format!("localhost:{}", sluis.address.port());
    let mut socket = live(&sluis, &browser, &host).await;
    let (old, new) = (sluis.file("master.key"), sluis.file("new.key"));
    let made = sluis.cli_without_config(&["keys", "generate", "--out", new.to_str().unwrap()]);
    assert!(made.status.success());
    let only_old = format!("- file: \"{}\"", old.display());
    let only_new = format!("- file: \"{}\"", new.display());
    let both = format!("{only_new}\n  {only_old}");

    // In one step everything would be lost, the authenticator and what else is kept of her: refused.
    sluis.edit(&only_old, &only_new);
    sluis.process.signal("HUP");
    sluis.await_reloads("refused", 1.0).await;
    let lost = "2 secrets in the store are sealed by a key that is no longer in the list";
    sluis.process.await_line("the refusal", |line| line.contains(lost).then_some(()));
    assert_eq!(browser.get("/").await.status, StatusCode::OK);

    sluis.reload(&only_new, &both).await;
    let page = browser.get("/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("anna"), "her app session too: {}", page.body);
    assert!(echoes(&mut socket).await);
    let mut by_new = sluis.browser();
    sluis.password(&mut by_new, "anna").await;
    sluis.clock.advance(Duration::from_secs(60));
    let code = authenticator.code_at(sluis.clock.now_secs());
    assert_eq!(sluis.answer(&mut by_new, &code).await.status, StatusCode::SEE_OTHER, "her secret opens");

    sluis.reload(&both, &only_new).await;
    assert_eq!(by_new.get("/").await.status, StatusCode::OK, "signed by the new key");
    let mut moved = sluis.browser();
    moved.jar = browser.jar.clone();
    assert_eq!(moved.get("/").await.status, StatusCode::SEE_OTHER, "signed by the one that is gone");
    while text(&mut socket).await.is_some() {}
    sluis.restart();
    sluis.clock.advance(Duration::from_secs(60));
    let mut again = sluis.browser();
    sluis.password(&mut again, "anna").await;
    let code = authenticator.code_at(sluis.clock.now_secs());
    assert_eq!(sluis.answer(&mut again, &code).await.status, StatusCode::SEE_OTHER, "it was sealed anew");
}

/// [F6] The filter of the log changes, and the audit log is opened again: what rotates logs needs no restart.
#[tokio::test]
async fn logs_change_and_rotate() {
    let mut sluis = Sluis::start(&care_records("127.0.0.1:9".parse().unwrap()));
    sluis.browser().get("/").await;
    sluis.process.await_line("an access line", |line| line.contains("\"sluis::access\"").then_some(()));
    sluis.reload("filter: info", "filter: \"info,sluis::access=off,sluis::proxy=debug\"").await;
    let lines = |sluis: &Sluis| sluis.process.said().matches("\"sluis::access\"").count();
    let before = lines(&sluis);
    sluis.browser().get("/").await;
    sluis.reload("sluis::proxy=debug", "sluis::proxy=warn").await;
    assert_eq!(lines(&sluis), before);

    let rotated = sluis.file("audit.jsonl.1");
    std::fs::rename(sluis.file("audit.jsonl"), &rotated).unwrap();
    sluis.reload("sluis::proxy=warn", "sluis::proxy=info").await;
    assert!(sluis.cli(&["user", "block", "somebody"]).status.success());
    assert!(sluis.audit().iter().any(|e| e["event"] == "user_blocked"), "{:?}", sluis.audit());
    let old = std::fs::read_to_string(rotated).unwrap();
    assert!(old.contains("\"started\"") && !old.contains("user_blocked"), "{old}");
}

/// What an upstream of [`two_upstreams`] was told: its name, and which header named the user.
async fn serve_named(name: &'static str) -> std::net::SocketAddr {
    use axum::{Router, http::HeaderMap, routing::get};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let login = || async {
        let cookie = ("set-cookie", "sid=1; Path=/; HttpOnly");
        (StatusCode::FOUND, [cookie, ("location", "/")])
    };
    let tell = move |headers: HeaderMap| async move {
        let told = ["x-one", "x-two"].into_iter().filter(|told| headers.contains_key(*told));
        format!("{name} {}", told.collect::<Vec<_>>().join(","))
    };
    let router = Router::new().route("/login", get(|| async { "a form" }).post(login)).fallback(tell);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// [F3 I9] A hundred reloads under load: each request goes by one configuration only, upstream and header together, and
/// not one fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_goes_by_one_configuration() {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };
    let (first, second) = (serve_named("one").await, serve_named("two").await);
    let one = format!("upstreams: [\"http://{first}\"]\n    headers: {{ preset: none, user: X-One }}\n");
    let two = format!("upstreams: [\"http://{second}\"]\n    headers: {{ preset: none, user: X-Two }}\n");
    let apps = format!(
        "
apps:
  - id: ecd
    hosts: [\"*\"]
    {one}    login: {{ page: /login, watch: [{{ path: /login, user_field: username }}], success: {{ status: 302 }} }}
    anonymous: [/login]
    logout: [/logout]
    policy: [{{ exempt: test }}]
"
    );
    let mut sluis = Sluis::start(&apps);
    let mut browser = sluis.browser();
    assert_eq!(sluis.password(&mut browser, "anna").await.location(), "/");
    let over = Arc::new(AtomicBool::new(false));
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (mut browser, over, counts) = (browser.clone(), Arc::clone(&over), Arc::clone(&counts));
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let answer = browser.get("/").await;
                    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
                    match answer.body.as_str() {
                        "one x-one" => counts[0].fetch_add(1, Ordering::SeqCst),
                        "two x-two" => counts[1].fetch_add(1, Ordering::SeqCst),
                        mixed => panic!("{mixed}"),
                    };
                }
            })
        })
        .collect();
    let (before, _) = footprint(sluis.process.id());
    for round in 0..100 {
        let (old, new) = if round % 2 == 0 { (&one, &two) } else { (&two, &one) };
        sluis.reload(old, new).await;
    }
    over.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    assert!(counts.iter().all(|count| count.load(Ordering::SeqCst) > 50), "{counts:?}");
    let (after, files) = footprint(sluis.process.id());
    assert!(after < before + (64 << 20), "grew from {before} to {after} bytes");
    assert!(files < 300, "{files} open files");
}

/// Resident memory in bytes, and open files.
fn footprint(pid: u32) -> (u64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    let memory = line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024;
    (memory, std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count())
}
