//! A whole house behind the router (memory store, held clock), and browsers that visit it.

use std::{
    collections::BTreeMap,
    io::Write,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use parking_lot::Mutex;
use regex::Regex;
use tower::ServiceExt;

use crate::{
    audit::Auditor,
    base::{
        clock::{Clock, ManualClock, UnixMillis},
        keyring::Keyring,
        random::{SharedRandom, SystemRandom},
        secret::SecretBytes,
    },
    config::{App, sample},
    factor::{Factors, recovery::Recovery, totp::Totp},
    metrics::Metrics,
    model::{OwnCookies, RequestId, UserKey, UserName},
    session::{
        admission::{Admissions, FirstFactor, Origin},
        cookie::Names,
        live::Live,
        standing::Standings,
    },
    store::{RevocationSink, SharedStore, memory},
    web::{Pages, Visit, router},
};

pub(super) const HOST: &str = "care.example";
const NOW: UnixMillis = UnixMillis::from_secs(1_900_000_010);

/// Everything behind the pages.
pub(super) struct House {
    pub pages: Pages,
    pub app: Arc<App>,
    pub clock: Arc<ManualClock>,
    pub store: SharedStore,
    router: Router,
    log: Log,
}

impl House {
    /// A house of the sample app.
    pub async fn new() -> Self {
        Self::of(sample::app()).await
    }

    /// A house of another app.
    pub async fn of(app: App) -> Self {
        Self::with(app, memory::open()).await
    }

    /// A house of another app and store.
    pub async fn with(app: App, store: SharedStore) -> Self {
        let random: SharedRandom = Arc::new(SystemRandom);
        let clock = ManualClock::at(NOW);
        let keyring = Keyring::new(&[SecretBytes::new(vec![9; 32])], random.clone()).unwrap();
        let keyring = Arc::new(keyring);
        let live = Arc::new(Live::default());
        let sink: Arc<dyn RevocationSink> = live.clone();
        let _ = store.follow(sink, clock.now()).await;
        let names = Names::new(false);
        let metrics = Arc::new(Metrics::new(&[app.id.to_string()]));
        let log = Log::default();
        let auditor = Auditor::for_tests(Box::new(log.clone()), clock.clone());
        let totp = Arc::new(Totp::new(store.clone(), keyring.clone(), clock.clone()));
        let recovery = Arc::new(Recovery::new(store.clone(), clock.clone(), random.clone()));
        let pages = Pages {
            prefix: Arc::from("/.sluis"),
            standings: Arc::new(Standings::new(keyring.clone(), live.clone())),
            admissions: Arc::new(Admissions::new(
                store.clone(),
                keyring.clone(),
                live.clone(),
                names.clone(),
                clock.clone(),
                random,
            )),
            store: store.clone(),
            factors: Arc::new(Factors::new(vec![totp.clone(), recovery.clone()])),
            totp,
            recovery,
            names,
            keyring,
            clock: clock.clone(),
            metrics,
            auditor: Arc::new(auditor),
            notices: crate::deliver::notices::Notices::off(),
        };
        let router = router(pages.clone());
        Self { pages, app: Arc::new(app), clock, store, router, log }
    }

    /// The key of a user of this app.
    pub fn user(&self, name: &str) -> UserKey {
        UserKey { realm: self.app.realm.clone(), name: UserName::canonical(name) }
    }

    /// The app has accepted somebody's password: a browser with a pending login (or, without need of one, a session).
    pub async fn password(&self, browser: &mut Browser, user: &str, target: &str) {
        let lines = browser.cookie_line();
        let own = self.pages.names.find(std::iter::once(lines.as_bytes())).unwrap();
        let origin = Origin { cookies: OwnCookies { ..own }, client: browser.client, agent: "test" };
        let user = UserName::canonical(user);
        let cookies = match self.pages.admissions.first_factor(&self.app, user, origin, target).await.unwrap()
        {
            FirstFactor::Admitted(admission) => admission.cookies,
            FirstFactor::Pending { cookies, .. } => cookies,
            FirstFactor::Blocked | FirstFactor::Elsewhere | FirstFactor::TooMany => Vec::new(),
        };
        for cookie in cookies {
            browser.take(cookie.to_str().unwrap());
        }
    }

    /// A browser whose user has linked an app and is in; and the setup key of that app.
    pub async fn verified(&self, user: &str) -> (Browser, String) {
        let mut browser = Browser::default();
        self.password(&mut browser, user, "/").await;
        let page = browser.get(self, "/.sluis/enrol").await;
        let key = page.setup_key();
        let fields = [("token", page.token()), ("code", self.code(&key)), ("name", "Phone".to_owned())];
        let done = browser.post(self, "/.sluis/enrol", &fields).await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
        (browser, key)
    }

    /// The code that an app with this setup key shows now.
    pub fn code(&self, key: &str) -> String {
        self.code_off(key, 0)
    }

    /// The code on a phone whose clock is off by so many seconds.
    pub fn code_off(&self, key: &str, off_secs: i64) -> String {
        let secret = totp_rs::Secret::try_from_base32(key).unwrap();
        let totp = totp_rs::Builder::new().with_secret(secret).build().unwrap();
        totp.generate(self.clock.now().secs().checked_add_signed(off_secs).unwrap()).to_string()
    }

    /// The next step begins: a new code.
    pub fn next_code(&self) {
        self.clock.advance(Duration::from_secs(30));
    }

    /// The value of a series.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.pages.metrics.render();
        let found = text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        found.unwrap_or_else(|| panic!("no series {series} in\n{text}"))
    }

    /// The names of all audit events, in order. Closes the house.
    pub fn events(self) -> Vec<String> {
        self.lines().iter().map(|line| line["event"].as_str().unwrap().to_owned()).collect()
    }

    /// The same, whole.
    pub fn lines(self) -> Vec<serde_json::Value> {
        drop((self.pages, self.router));
        let log = String::from_utf8(std::mem::take(&mut *self.log.0.lock())).unwrap();
        log.lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            // what the log says about itself
            .filter(|line| line["event"] != "chain_started" && line["event"] != "checkpoint")
            .inspect(|line| {
                assert_eq!(line["app"], "care", "{line}");
                assert!(line["request_id"].is_string(), "{line}");
            })
            .collect()
    }
}

/// One browser profile.
#[derive(Clone)]
pub(super) struct Browser {
    pub jar: BTreeMap<String, String>,
    pub client: IpAddr,
    /// More headers with each request.
    pub headers: Vec<(&'static str, &'static str)>,
}

impl Default for Browser {
    fn default() -> Self {
        Self { jar: BTreeMap::new(), client: Ipv4Addr::new(192, 0, 2, 7).into(), headers: Vec::new() }
    }
}

impl Browser {
    /// GET.
    pub async fn get(&mut self, house: &House, path: &str) -> Answer {
        self.send(house, Method::GET, path, &[("sec-fetch-site", "none")], String::new()).await
    }

    /// POST of a form on a page of ours.
    pub async fn post(&mut self, house: &House, path: &str, fields: &[(&str, String)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let headers =
            [("sec-fetch-site", "same-origin"), ("content-type", "application/x-www-form-urlencoded")];
        self.send(house, Method::POST, path, &headers, body).await
    }

    /// Any request; cookies come along and are kept.
    pub async fn send(
        &mut self,
        house: &House,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers.iter().chain(&self.headers) {
            request = request.header(*name, *value);
        }
        if !self.jar.is_empty() {
            request = request.header(header::COOKIE, self.cookie_line());
        }
        let mut request = request.body(Body::from(body)).unwrap();
        request.extensions_mut().insert(Visit {
            app: house.app.clone(),
            client: self.client,
            request_id: RequestId::new("req-1").unwrap(),
            authority: HOST.to_owned(),
        });
        let response = house.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        for cookie in parts.headers.get_all(header::SET_COOKIE) {
            self.take(cookie.to_str().unwrap());
        }
        let body = String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub fn cookie_line(&self) -> String {
        self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn take(&mut self, set_cookie: &str) {
        let (pair, attributes) = set_cookie.split_once(';').unwrap();
        let (name, value) = pair.split_once('=').unwrap();
        if attributes.contains("Max-Age=0") {
            self.jar.remove(name);
        } else {
            self.jar.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    /// Where it leads.
    pub fn location(&self) -> &str {
        self.headers.get(header::LOCATION).map_or("", |v| v.to_str().unwrap())
    }

    /// The token of the page's form.
    pub fn token(&self) -> String {
        self.one(r#"name="token" value="([^"]+)""#)
    }

    /// The setup key on the page.
    pub fn setup_key(&self) -> String {
        self.one(r#"data-copy="([A-Z2-7]+)""#)
    }

    fn one(&self, pattern: &str) -> String {
        let pattern = Regex::new(pattern).unwrap();
        let found = pattern.captures(&self.body);
        found.unwrap_or_else(|| panic!("{} no {pattern} in {}", self.status, self.body))[1].to_owned()
    }
}

/// What the auditor wrote.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
