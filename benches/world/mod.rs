//! What the measurements share: the parts behind the gate, over an empty store, and one session.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be set up may stop")]

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
};

use sluis::{
    base::{
        clock::{SharedClock, SystemClock, UnixMillis},
        keyring::Keyring,
        random::SystemRandom,
        secret::SecretBytes,
    },
    config::{self, App},
    gate::Gate,
    model::{
        DeviceId, Epoch, Method, MethodSet, OwnCookies, RequestId, RequestView, SessionId, Terms, UserKey,
        UserName, Wants,
    },
    session::{
        admission::Admissions,
        cookie::Names,
        live::Live,
        standing::Standings,
        token::{self, Device, Session},
        upstream_cookies::UpstreamCookies,
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

/// Where the session is.
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// The parts behind the gate, over an empty store, and one session.
pub struct World {
    pub app: Arc<App>,
    pub keyring: Arc<Keyring>,
    pub live: Arc<Live>,
    pub clock: SharedClock,
    pub gate: Gate,
    pub sealer: UpstreamCookies,
    pub session: Session,
    pub session_cookie: String,
    pub device_cookie: String,
    pub names: Names,
}

impl World {
    pub fn new(runtime: &tokio::runtime::Runtime) -> Self {
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

    pub fn cookies(&self) -> OwnCookies<'_> {
        OwnCookies {
            session: Some(&self.session_cookie),
            device: Some(&self.device_cookie),
            ..OwnCookies::default()
        }
    }

    pub fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// A page that the session asks for.
    pub fn page<'a>(&'a self, id: &'a RequestId) -> RequestView<'a> {
        RequestView {
            id,
            method: &http::Method::GET,
            host: "ecd.example",
            path: "/clients/4711/dossier",
            ambiguous: false,
            query: Some("tab=plan"),
            client: CLIENT,
            wants: Wants::Page,
            cookies: self.cookies(),
        }
    }
}
