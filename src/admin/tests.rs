//! What an administrator and a probe see.

use std::{
    os::unix::fs::PermissionsExt,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
};

use super::{
    control,
    operations::{By, Failure, Importing, Operations, State, Told},
    probes::{self, Health},
};
use crate::{
    audit::Auditor,
    base::{clock::ManualClock, clock::UnixMillis, random::SystemRandom, secret::SecretBytes},
    config::{App, sample},
    metrics::Metrics,
    model::{Authenticator, AuthenticatorId, Method, Profile, Realm, Revocation, Role, UserKey, UserName},
    store::{AttemptState, NewAuthenticator, RevocationSink, SharedStore, documents, memory},
    throttle,
};

mod told;

const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

fn app(id: &str, realm: &str) -> Arc<App> {
    Arc::new(App { id: crate::model::AppId::new(id), realm: Realm::new(realm), ..sample::app() })
}

fn operations(store: &SharedStore, apps: Vec<Arc<App>>) -> Operations {
    Operations::new(
        store.clone(),
        apps,
        Arc::new(Auditor::discarding()),
        ManualClock::at(NOW),
        Arc::new(SystemRandom),
    )
}

fn by(actor: &str) -> By<'_> {
    By { actor, ..By::default() }
}

fn key(name: &str) -> UserKey {
    UserKey { realm: Realm::new("zorg"), name: UserName::canonical(name) }
}

async fn enrolled(store: &SharedStore, name: &str) {
    store.note_seen(&key(name), true, NOW).await.unwrap();
    let authenticator = Authenticator {
        id: AuthenticatorId::draw(&SystemRandom).unwrap(),
        method: Method::Totp,
        name: "Phone".to_owned(),
        confirmed_at: NOW,
        last_used_at: None,
        secret: SecretBytes::new(vec![1; 20]),
        last_step: 0,
        drift_steps: -1,
    };
    store.add(&key(name), NewAuthenticator { authenticator, at_most: 5, begun: NOW }).await.unwrap();
}

#[derive(Default)]
struct Announced(AtomicUsize);

impl RevocationSink for Announced {
    fn apply(&self, _: &Revocation) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// [B11 B12 E6] What was done is announced before it is acknowledged, and secrets stay inside.
#[tokio::test]
async fn users_are_shown_reset_and_blocked() {
    let store = memory::open();
    let announced = Arc::new(Announced::default());
    store.follow(announced.clone(), NOW).await.unwrap();
    enrolled(&store, "anna").await;
    let operations = operations(&store, vec![app("ecd", "zorg")]);

    let shown = operations.show(" ANNA ", None).await.unwrap();
    assert_eq!((shown.user.state, shown.user.name.as_str()), (State::Active, "anna"));
    assert_eq!(shown.authenticators[0].clock_off_secs, -30);
    let json = serde_json::to_string(&shown).unwrap();
    assert!(!json.contains("secret") && !json.contains("AQEB"), "{json}");

    let blocked = operations.set_blocked("anna", None, true, &by("cli:root")).await.unwrap();
    assert_eq!((blocked.state, announced.0.load(Ordering::SeqCst)), (State::Blocked, 1));
    assert_eq!(operations.reset("anna", None, &by("cli:root")).await.unwrap().removed, 1);
    assert_eq!(announced.0.load(Ordering::SeqCst), 2);
    let after = operations.show("anna", None).await.unwrap();
    assert_eq!(after.user.state, State::Blocked, "a reset lifts no block");
    let free = operations.set_blocked("anna", None, false, &by("cli:root")).await.unwrap();
    assert_eq!(free.state, State::NotEnrolled);
}

/// [I8] An administrator sees who is locked out, and a reset lifts it.
#[tokio::test]
async fn i8_a_reset_lifts_a_lock() {
    let store = memory::open();
    enrolled(&store, "anna").await;
    let locked = AttemptState { failures: throttle::LOCK_AFTER, ..AttemptState::default() };
    store.swap_attempts(&key("anna"), AttemptState::default(), locked).await.unwrap();
    let operations = operations(&store, vec![app("ecd", "zorg")]);
    assert_eq!(operations.show("anna", None).await.unwrap().user.state, State::Locked);
    operations.reset("anna", None, &by("cli:root")).await.unwrap();
    assert_eq!(operations.show("anna", None).await.unwrap().user.state, State::NotEnrolled);
}

#[tokio::test]
async fn what_is_not_clear_is_asked_back() {
    let store = memory::open();
    enrolled(&store, "anna").await;
    let operations = operations(&store, vec![app("ecd", "zorg"), app("hr", "staff"), app("wiki", "zorg")]);
    let Err(Failure::WhichRealm(realms)) = operations.show("anna", None).await else { panic!("guessed") };
    assert_eq!(realms, ["staff", "zorg"]);
    assert!(operations.show("anna", Some("zorg")).await.is_ok());
    assert!(matches!(operations.show("anna", Some("staff")).await, Err(Failure::NoUser { .. })));
    assert!(matches!(operations.show("anna", Some("nowhere")).await, Err(Failure::NoRealm(_))));
    assert!(matches!(operations.reset("ana", Some("zorg"), &by("x")).await, Err(Failure::NoUser { .. })));
    assert!(matches!(
        operations.set_blocked("  ", Some("zorg"), true, &by("x")).await,
        Err(Failure::BadName(..))
    ));
}

#[tokio::test]
async fn a_list_is_paged_and_searched() {
    let store = memory::open();
    for name in ["anna", "bram", "hanna"] {
        enrolled(&store, name).await;
    }
    let operations = operations(&store, vec![app("ecd", "zorg")]);
    let names =
        |page: &super::operations::UserPage| page.users.iter().map(|u| u.name.clone()).collect::<Vec<_>>();
    let first = operations.list("", None, 2).await.unwrap();
    assert_eq!((names(&first), first.more), (vec!["anna".to_owned(), "bram".to_owned()], true));
    let rest = operations.list("", Some(&key("bram")), 2).await.unwrap();
    assert_eq!((names(&rest), rest.more), (vec!["hanna".to_owned()], false));
    assert_eq!(names(&operations.list("nna", None, 9).await.unwrap()), ["anna", "hanna"]);
}

/// The help desk changes no administrator, and nobody themselves, by a list either.
#[tokio::test]
async fn a_list_reaches_no_further_than_whoever_brings_it() {
    let store = memory::open();
    let admin = Profile { role: Some(Role::Admin), ..Profile::default() };
    documents::change_profile(store.as_ref(), &key("boss"), |_| (Some(admin.clone()), ())).await.unwrap();
    let operations = operations(&store, vec![app("ecd", "zorg")]);
    let own = key("desk");
    let by = By { own: Some(&own), is_helpdesk: true, ..by("desk") };
    let (tell, mut told) = tokio::sync::mpsc::channel(64);
    let list = b"name,email\nboss,a@example.nl\ndesk,b@example.nl\nanna,c@example.nl\n";
    let how = Importing { skip_bad: true, ..Importing::default() };
    operations.import(list, &how, &by, &tell).await.unwrap();
    drop(tell);
    let (mut bad, mut done) = (Vec::new(), None);
    while let Some(word) = told.recv().await {
        match word {
            Told::Bad(cell) => bad.push(cell.line),
            Told::Done(outcome) => done = Some(outcome),
            _ => {}
        }
    }
    assert_eq!((bad, done.map(|done| (done.new, done.bad, done.applied))), (vec![2, 3], Some((1, 2, true))));
    assert_eq!(documents::profile(store.as_ref(), &key("boss")).await.unwrap(), admin);
}

async fn ask(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// [B12] The whole way of the command line: a private socket, the peer's name in the audit log, JSON.
#[tokio::test]
async fn the_control_socket_is_private_and_acts() {
    #[derive(Clone, Default)]
    struct Lines(Arc<parking_lot::Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            std::io::Write::write(&mut *self.0.lock(), bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run").join("sluis.sock");
    let listener = control::bind(&path).unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert!(control::bind(&path).is_err(), "a server answers there");

    let store = memory::open();
    enrolled(&store, "anna").await;
    let lines = Lines::default();
    let auditor = Auditor::for_tests(Box::new(lines.clone()), ManualClock::at(NOW));
    let operations = Operations::new(
        store.clone(),
        vec![app("ecd", "zorg")],
        Arc::new(auditor),
        ManualClock::at(NOW),
        Arc::new(SystemRandom),
    );
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(control::serve(listener, Arc::new(operations), stopped));

    let body = r#"{"name":"Anna"}"#;
    let request = format!(
        "POST /users/block HTTP/1.1\r\nHost: sluis\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = ask(tokio::net::UnixStream::connect(&path).await.unwrap(), &request).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"blocked\""), "{answer}");
    assert!(store.user(&key("anna")).await.unwrap().unwrap().blocked);
    let written = String::from_utf8(lines.0.lock().clone()).unwrap();
    let mut events = written.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let event = events.find(|event| event["event"] == "user_blocked").expect("written before it is answered");
    let actor = control::actor(rustix::process::geteuid().as_raw());
    assert_eq!((&event["event"], &event["actor"]), (&"user_blocked".into(), &actor.into()));

    let request = "GET /users/show?name=nobody HTTP/1.1\r\nHost: sluis\r\nConnection: close\r\n\r\n";
    let answer = ask(tokio::net::UnixStream::connect(&path).await.unwrap(), request).await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("sluis user list"), "{answer}");

    stop.send(true).unwrap();
    server.await.unwrap().unwrap();
    control::bind(&path).expect("what a dead server left behind is replaced");
}

#[test]
fn the_control_socket_takes_nobody_elses_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("precious");
    std::fs::write(&file, "data").unwrap();
    assert!(control::bind(&file).is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "data");
    let open = folder.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(control::bind(&open.join("sluis.sock")).is_err(), "others could replace the socket");
}

/// [F6] Ready only when everything is, and no longer once a stop has begun; alive all the time.
#[tokio::test]
async fn f6_readiness_follows_the_parts() {
    let health = Arc::new(Health::new(memory::open(), Arc::new(Metrics::new(&[]))));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(probes::serve(listener, health.clone(), stopped));
    let get = async |path: &str| {
        let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };

    let (status, text) = get("/readyz").await;
    assert_eq!(status, 503);
    assert!(text.contains("[+]store ok") && text.contains("[-]listeners failed: not open yet"), "{text}");
    health.revocations_loaded();
    health.listeners_up();
    assert_eq!(get("/readyz").await, (200, "ok\n".to_owned()));
    let (status, text) = get("/readyz?verbose").await;
    assert!(
        status == 200 && text.ends_with("[+]draining ok\n[+]configuration ok\nreadyz check passed\n"),
        "{text}"
    );
    health.drain();
    let (status, text) = get("/readyz").await;
    assert!(status == 503 && text.contains("[-]draining failed: shutting down"), "{text}");
    assert_eq!(get("/livez").await.0, 200);
    let (status, text) = get("/metrics").await;
    assert!(status == 200 && text.contains("sluis_draining 1"), "{text}");
    assert_eq!(get("/").await.0, 404);

    stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(30), server).await.unwrap().unwrap().unwrap();
}
