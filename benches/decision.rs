//! What each step of a verified request's decision costs by itself. Short: `make bench` runs it.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be set up may stop")]

use std::{hint::black_box, path::Path, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use http::HeaderValue;
use sluis::{
    base::{
        clock::{SharedClock, SystemClock, UnixMillis},
        keyring::Keyring,
        random::SystemRandom,
        secret::SecretBytes,
    },
    config::{self, App},
    gate::{Gate, Outcome},
    model::{
        DeviceId, Epoch, Method, MethodSet, OwnCookies, RequestId, RequestView, SessionId, Terms, Tolerance,
        UserKey, UserName, Wants, path,
    },
    policy::{self, Facts},
    proxy::headers::Managed,
    session::{
        admission::Admissions,
        cookie::{Kind, Names},
        live::Live,
        standing::Standings,
        token::{self, Device, Session},
        upstream_cookies::{Down, Scope, UpstreamCookies},
    },
    store,
};

const CONFIG: &str = r#"
listen: { http: { address: "127.0.0.1:8080" } }
insecure_cookies: true
keys: [{ env: KEY }]
store: memory
apps:
  - id: bench
    name: Bench
    hosts: ["*"]
    upstreams: ["http://127.0.0.1:9000"]
    login:
      page: /login
      watch: [{ path: /login, user_field: username }]
      success: { status: [302], cookie: APPSESSION }
    anonymous: [/login]
    policy: [{ require: { methods: [totp], validity: 12h } }]
"#;

/// The parts behind the gate, over an empty store, and one session.
struct World {
    app: Arc<App>,
    keyring: Arc<Keyring>,
    live: Arc<Live>,
    clock: SharedClock,
    gate: Gate,
    sealer: UpstreamCookies,
    session: Session,
    session_cookie: String,
    device_cookie: String,
    names: Names,
}

impl World {
    fn new(runtime: &tokio::runtime::Runtime) -> Self {
        let key =
            |name: &str| (name == "KEY").then(|| "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned());
        let loaded = config::load_text(CONFIG, Path::new("bench.yaml"), &key).unwrap();
        let app = Arc::clone(loaded.config.apps.first().unwrap());
        let random = Arc::new(SystemRandom);
        let clock: SharedClock = Arc::new(SystemClock);
        let keyring =
            Arc::new(Keyring::new(&[SecretBytes::new(vec![7; 32])], Arc::clone(&random) as _).unwrap());
        let live = Arc::new(Live::default());
        let store = store::memory::open();
        let names = Names::new(true);
        let admissions = Arc::new(Admissions::new(
            Arc::clone(&store),
            Arc::clone(&keyring),
            Arc::clone(&live),
            names.clone(),
            Arc::clone(&clock),
            random,
        ));
        let standings = Arc::new(Standings::new(Arc::clone(&keyring), Arc::clone(&live)));
        let gate = Gate::new(standings, admissions, Arc::clone(&clock), "/.sluis".to_owned());
        let loading = UpstreamCookies::load(Arc::clone(&keyring), store, names.clone(), Arc::clone(&clock));
        let sealer = runtime.block_on(loading).unwrap();
        let (now, device) = (clock.now(), DeviceId([2; 16]));
        let session = Session {
            id: SessionId([1; 16]),
            app: app.id.clone(),
            user: UserKey { realm: app.realm.clone(), name: UserName::canonical("anna") },
            device,
            epoch: Epoch(0),
            started: now,
            seen: now,
            proved_at: Some(now),
            methods: MethodSet::of(Method::Totp),
            terms: Terms::default(),
            emergency_until: None,
        };
        let session_cookie = token::issue(&keyring, &session);
        let device_cookie = token::issue(&keyring, &Device { id: device, issued: now });
        Self { app, keyring, live, clock, gate, sealer, session, session_cookie, device_cookie, names }
    }

    fn cookies(&self) -> OwnCookies<'_> {
        OwnCookies {
            session: Some(&self.session_cookie),
            device: Some(&self.device_cookie),
            ..OwnCookies::default()
        }
    }

    fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}

fn decision(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let world = World::new(&runtime);
    let (now, client) = (world.now(), "192.0.2.7".parse().unwrap());

    c.bench_function("token_verify_cold", |b| {
        b.iter(|| token::verify::<Session>(&world.keyring, black_box(&world.session_cookie)).unwrap());
    });
    let standings = Standings::new(Arc::clone(&world.keyring), Arc::clone(&world.live));
    c.bench_function("session_cached", |b| {
        b.iter(|| standings.session(&world.app, black_box(&world.cookies()), now).unwrap());
    });
    let id = RequestId::new("bench").unwrap();
    let get = http::Method::GET;
    let view = RequestView {
        id: &id,
        method: &get,
        host: "ecd.example",
        path: "/clients/4711/dossier",
        ambiguous: false,
        query: Some("tab=plan"),
        client,
        wants: Wants::Page,
        cookies: world.cookies(),
    };
    c.bench_function("gate_assess_verified", |b| {
        b.iter(|| match world.gate.assess(&world.app, black_box(&view)) {
            Outcome::Forward(permit) => permit,
            _ => std::process::abort(),
        });
    });
    let (terms, now) = (&world.session.terms, UnixMillis(1));
    let facts = Facts { user: &world.session.user.name, client, terms, now };
    c.bench_function("policy_decide", |b| {
        b.iter(|| matches!(policy::decide(&world.app, black_box(&facts)), policy::Decision::Require(_)));
    });
    headers(c, &world, &runtime);
}

fn headers(c: &mut Criterion, world: &World, runtime: &tokio::runtime::Runtime) {
    let scope = Scope::Session(world.session.id);
    let set = HeaderValue::from_static("APPSESSION=0123456789abcdef0123456789abcdef; Path=/; HttpOnly");
    let down = || runtime.block_on(world.sealer.down(&world.app, black_box(&set), scope)).unwrap();
    let Down::Sealed(sealed) = down() else { return };
    c.bench_function("cookie_down_seal", |b| b.iter(down));

    let sealed = sealed.to_str().unwrap().split(';').next().unwrap();
    let (session, device) = (world.names.name(Kind::Session), world.names.name(Kind::Device));
    let line = format!("{session}={}; {device}={}; {sealed}", world.session_cookie, world.device_cookie);
    let mut out = Vec::with_capacity(1024);
    c.bench_function("cookie_find_ours", |b| {
        b.iter(|| world.names.find(std::iter::once(black_box(line.as_bytes()))).is_ok());
    });
    c.bench_function("cookie_up_open", |b| {
        b.iter(|| {
            let lines = std::iter::once(black_box(line.as_bytes()));
            world.sealer.up(&world.app, lines, &[scope], &mut out);
            out.len()
        });
    });
    let managed = Managed::new(&world.app.headers);
    c.bench_function("header_fold_16_names", |b| {
        b.iter(|| NAMES.iter().filter(|name| managed.covers(black_box(name.as_bytes()))).count());
    });
    c.bench_function("path_canonical", |b| {
        let path = b"/clients/4711/dossier/documents/2026-11-22_report.pdf";
        b.iter(|| path::canonical(black_box(path), Tolerance::NONE).is_ok());
    });
}

/// What a browser sends.
const NAMES: [&str; 16] = [
    "host",
    "user-agent",
    "accept",
    "accept-language",
    "accept-encoding",
    "referer",
    "connection",
    "cookie",
    "upgrade-insecure-requests",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "if-modified-since",
    "cache-control",
    "priority",
];

criterion_group! {
    name = benches;
    config = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = decision
}
criterion_main!(benches);
