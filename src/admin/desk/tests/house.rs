//! A whole house behind the router (memory store, held clock), and browsers that visit it.

use std::{collections::BTreeMap, io::Write, net::Ipv4Addr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use parking_lot::Mutex;
use regex::Regex;
use tower::ServiceExt;

use super::super::{Desk, door, router};
use crate::{
    admin::{
        listener::Arrival,
        operations::{By, Operations},
        tokens::Scope,
    },
    audit::Auditor,
    base::{
        clock::{Clock, ManualClock, UnixMillis},
        keyring::Keyring,
        random::{SharedRandom, SystemRandom},
        secret::SecretBytes,
    },
    config::{
        App, administrators,
        app::{Rule, Then},
        sample,
    },
    deliver::notices::Notices,
    factor::{Factors, recovery::Recovery, totp::Totp},
    metrics::Metrics,
    model::{
        Authenticator, AuthenticatorId, Method as Factor, OwnCookies, Realm, RequestId, Role, UserKey,
        UserName,
    },
    session::{
        admission::{Admissions, FirstFactor, Origin},
        cookie::{Kind, Names},
        live::Live,
        standing::Standings,
    },
    store::{NewAuthenticator, RevocationSink, SharedStore, memory},
    web::Pages,
};

pub(super) const PASSWORD: &str = "zes gele fietsen";
const NOW: UnixMillis = UnixMillis::from_secs(1_900_000_010);

/// Everything behind the pages.
pub(super) struct House {
    pub clock: Arc<ManualClock>,
    pub store: SharedStore,
    pub users: Arc<Operations>,
    pub administrators: Operations,
    pub log: Log,
    router: Router,
    standings: Arc<Standings>,
    admissions: Arc<Admissions>,
}

impl House {
    pub async fn new() -> Self {
        let random: SharedRandom = Arc::new(SystemRandom);
        let (store, clock) = (memory::open(), ManualClock::at(NOW));
        let keyring = Keyring::new(&[SecretBytes::new(vec![9; 32])], random.clone()).unwrap();
        let keyring = Arc::new(keyring);
        let live = Arc::new(Live::default());
        store.follow(live.clone() as Arc<dyn RevocationSink>, clock.now()).await.unwrap();
        let names = Names::of_administrators(false);
        let log = Log::default();
        let auditor = Arc::new(Auditor::for_tests(Box::new(log.clone()), clock.clone()));
        let admissions = Arc::new(Admissions::new(
            store.clone(),
            keyring.clone(),
            live.clone(),
            names.clone(),
            clock.clone(),
            random.clone(),
        ));
        let totp = Arc::new(Totp::new(store.clone(), keyring.clone(), clock.clone()));
        let standings = Arc::new(Standings::new(keyring.clone(), live.clone()));
        let pages = Pages {
            prefix: Arc::from("/.sluis"),
            standings: standings.clone(),
            admissions: admissions.clone(),
            store: store.clone(),
            notices: Notices::off(),
            factors: Arc::new(Factors::new(vec![totp.clone()])),
            totp,
            recovery: Arc::new(Recovery::new(store.clone(), clock.clone(), random.clone())),
            names,
            keyring,
            clock: clock.clone(),
            metrics: Arc::new(Metrics::new(&[administrators::REALM.to_owned()])),
            auditor: auditor.clone(),
        };
        let apps = vec![Arc::new(sample::app())];
        let users = Arc::new(Operations::new(store.clone(), apps, auditor, clock.clone(), random.clone()));
        let administrators = users.for_administrators();
        let desk = Desk::new(pages, users.clone(), store.clone(), live, random);
        let router = door(Arc::new(ArcSwap::from_pointee(router(desk))));
        Self { clock, store, users, administrators, log, router, standings, admissions }
    }

    /// A user of an app with one authenticator.
    pub async fn user(&self, name: &str) {
        let user = UserKey { realm: Realm::new("care"), name: UserName::canonical(name) };
        self.store.note_seen(&user, true, NOW).await.unwrap();
        let authenticator = Authenticator {
            id: AuthenticatorId::draw(&SystemRandom).unwrap(),
            method: Factor::Totp,
            name: "Work phone".to_owned(),
            confirmed_at: NOW,
            last_used_at: None,
            secret: SecretBytes::new(vec![1; 20]),
            last_step: 0,
            drift_steps: 0,
        };
        self.store.add(&user, NewAuthenticator { authenticator, at_most: 5, begun: NOW }).await.unwrap();
    }

    /// An account with a password, and a browser that waits for the authenticator to be linked.
    pub async fn invited(&self, name: &str, role: Role) -> Browser {
        let by = By { actor: "cli:root", ..By::default() };
        let invitation = self.administrators.invite_administrator(name, role, &by).await.unwrap();
        let mut browser = Browser::default();
        let page = browser.get(self, "/invitation").await;
        let answer = browser
            .post(
                self,
                "/invitation",
                &[
                    ("token", &page.token()),
                    ("name", name),
                    ("code", &invitation.code),
                    ("password", PASSWORD),
                    ("again", PASSWORD),
                ],
            )
            .await;
        assert_eq!(
            (answer.status, answer.location()),
            (StatusCode::SEE_OTHER, "/.sluis/challenge"),
            "{}",
            answer.body
        );
        browser
    }

    /// An administrator who is in, and the setup key of their app.
    pub async fn administrator(&self, name: &str, role: Role) -> (Browser, String) {
        let mut browser = self.invited(name, role).await;
        let page = browser.get(self, "/.sluis/enrol").await;
        let key = page.one(r#"data-copy="([A-Z2-7]+)""#);
        let fields = [("token", &*page.token()), ("code", &self.code(&key)), ("name", "Phone")];
        let done = browser.post(self, "/.sluis/enrol", &fields).await;
        assert_eq!((done.status, done.location()), (StatusCode::SEE_OTHER, "/"), "{}", done.body);
        (browser, key)
    }

    /// Somebody with a genuine session at an app, of the same keys, under the names of the cookies here.
    pub async fn user_of_an_app(&self, name: &str) -> Browser {
        let exempt = Rule {
            users: Vec::new(),
            networks: Vec::new(),
            then: Then::Exempt { reason: "a test".to_owned() },
        };
        let app = App { policy: vec![exempt], ..sample::app() };
        let origin =
            Origin { cookies: OwnCookies::default(), client: Ipv4Addr::new(192, 0, 2, 7).into(), agent: "" };
        let name = UserName::canonical(name);
        let FirstFactor::Admitted(admission) =
            self.admissions.first_factor(&app, name, origin, "/").await.unwrap()
        else {
            panic!("not admitted");
        };
        let mut browser = Browser::default();
        for cookie in &admission.cookies {
            browser.keep(cookie.to_str().unwrap());
        }
        browser
    }

    /// Whether the app would still know this browser.
    pub fn is_in_at_the_app(&self, browser: &Browser) -> bool {
        let names = Names::of_administrators(false);
        let find = |kind| browser.jar.get(names.name(kind)).map(String::as_str);
        let (device, session) = (find(Kind::Device), find(Kind::Session));
        let own = OwnCookies { device, session, ..OwnCookies::default() };
        self.standings.session(&sample::app(), &own, self.clock.now()).is_some()
    }

    /// A program with a token of the API that may do everything there.
    pub async fn program(&self) -> Browser {
        let by = By { actor: "cli:root", ..By::default() };
        let lives = Duration::from_hours(24);
        let token = self.users.make_token("program", &[Scope::Admin], lives, &by).await.unwrap();
        Browser { bearer: Some(token.token), ..Browser::default() }
    }

    /// The code that an app with this setup key shows now.
    pub fn code(&self, key: &str) -> String {
        let secret = totp_rs::Secret::try_from_base32(key).unwrap();
        let totp = totp_rs::Builder::new().with_secret(secret).build().unwrap();
        totp.generate(self.clock.now().secs()).to_string()
    }

    pub fn pass(&self, minutes: u64) {
        self.clock.advance(Duration::from_secs(minutes * 60));
    }
}

/// One browser profile.
#[derive(Clone, Default)]
pub(super) struct Browser {
    pub jar: BTreeMap<String, String>,
    pub bearer: Option<String>,
}

impl Browser {
    pub async fn get(&mut self, house: &House, path: &str) -> Answer {
        self.send(house, Method::GET, path, &[("sec-fetch-site", "none")], String::new()).await
    }

    pub async fn post(&mut self, house: &House, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let headers =
            [("sec-fetch-site", "same-origin"), ("content-type", "application/x-www-form-urlencoded")];
        self.send(house, Method::POST, path, &headers, body).await
    }

    pub async fn send(
        &mut self,
        house: &House,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "admin.example");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !self.jar.is_empty() {
            let pairs = self.jar.iter().map(|(name, value)| format!("{name}={value}"));
            request = request.header(header::COOKIE, pairs.collect::<Vec<_>>().join("; "));
        }
        if let Some(token) = &self.bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut request = request.body(Body::from(body)).unwrap();
        request.extensions_mut().insert(Arrival {
            client: Ipv4Addr::new(192, 0, 2, 7).into(),
            request_id: RequestId::new("req-1").unwrap(),
            encrypted: true,
        });
        let response = house.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        for cookie in parts.headers.get_all(header::SET_COOKIE) {
            self.keep(cookie.to_str().unwrap());
        }
        let body = String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    fn keep(&mut self, cookie: &str) {
        let (pair, attributes) = cookie.split_once(';').unwrap();
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
    pub fn location(&self) -> &str {
        self.headers.get(header::LOCATION).map_or("", |v| v.to_str().unwrap())
    }

    pub fn token(&self) -> String {
        self.one(r#"name="token" value="([^"]+)""#)
    }

    pub fn one(&self, pattern: &str) -> String {
        let pattern = Regex::new(pattern).unwrap();
        let found = pattern.captures(&self.body);
        found.unwrap_or_else(|| panic!("{} no {pattern} in {}", self.status, self.body))[1].to_owned()
    }
}

/// What the auditor wrote.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }

    /// What administrators did: written before they are answered, which not every line is.
    pub fn acts(&self) -> Vec<String> {
        self.text().lines().filter(|line| line.contains(r#""actor":""#)).map(str::to_owned).collect()
    }

    /// The fields of the last event of this name.
    pub fn last(&self, event: &str) -> serde_json::Value {
        let text = self.text();
        let mut lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.rfind(|line| line["event"] == event).unwrap_or_else(|| panic!("no {event} in {text}"))
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
