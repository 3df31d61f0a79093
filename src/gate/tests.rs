use std::{net::IpAddr, time::Duration};

use http::Method;

use super::*;
use crate::{
    base::{
        clock::{Clock, ManualClock},
        keyring::Keyring,
        random::{SharedRandom, SystemRandom},
        secret::SecretBytes,
    },
    config::{
        app::{PathPattern, Rule, Then},
        sample,
    },
    model::{
        AppId, DeviceId, Epoch, LoginId, MethodSet, OwnCookies, RequestId, Revocation, SessionId, Terms,
        UserKey, UserName,
    },
    session::{
        cookie::Names,
        live::Live,
        token::{Device, issue},
        upstream_cookies::Scope,
    },
    store::{
        RevocationSink,
        feed::{Lookout, Sight},
        memory,
    },
};

const START: UnixMillis = UnixMillis::from_secs(1_800_000_000);
const OFFICE: &str = "10.0.0.7";
const HOME: &str = "192.0.2.7";
const DEVICE: DeviceId = DeviceId([7; 16]);

/// A gate, and the browser in front of it.
struct World {
    gate: Gate,
    app: Arc<App>,
    keyring: Arc<Keyring>,
    live: Arc<Live>,
    clock: Arc<ManualClock>,
    jar: Jar,
}

#[derive(Default)]
struct Jar {
    device: Option<String>,
    login: Option<String>,
    session: Option<String>,
}

struct Ask<'a> {
    method: Method,
    path: &'a str,
    query: Option<&'a str>,
    ambiguous: bool,
    client: &'a str,
    wants: Wants,
}

fn get(path: &str) -> Ask<'_> {
    let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
    Ask { method: Method::GET, path, query, ambiguous: false, client: HOME, wants: Wants::Page }
}

fn post(path: &str) -> Ask<'_> {
    Ask { method: Method::POST, ..get(path) }
}

/// For everybody: what `then` says.
fn rules(then: Then) -> App {
    App { policy: vec![Rule { users: vec![], networks: vec![], then }], ..sample::app() }
}

/// A code, judged on every request, good for `hours`.
fn continuous(hours: u64) -> App {
    rules(Then::Require(sample::requirement(Duration::from_secs(hours * 3600), true)))
}

impl World {
    fn of(app: App) -> Self {
        Self::seeing(app, Lookout::default())
    }

    /// A replica among others, that knows this much of what was revoked.
    fn seeing(app: App, lookout: Lookout) -> Self {
        let random: SharedRandom = Arc::new(SystemRandom);
        let keyring = Arc::new(Keyring::new(&[SecretBytes::new(vec![1; 32])], Arc::clone(&random)).unwrap());
        let live = Arc::new(Live::default());
        let clock = ManualClock::at(START);
        let standings = Arc::new(Standings::new(Arc::clone(&keyring), Arc::clone(&live)));
        let admissions = Arc::new(
            Admissions::new(
                memory::open(),
                Arc::clone(&keyring),
                Arc::clone(&live),
                Names::new(false),
                clock.clone(),
                random,
            )
            .with_lookout(lookout),
        );
        let gate = Gate::new(standings, admissions, clock.clone(), "/.sluis".to_owned());
        Self { gate, app: Arc::new(app), keyring, live, clock, jar: Jar::default() }
    }

    /// The browser is known.
    fn device(mut self) -> Self {
        self.jar.device = Some(issue(&self.keyring, &Device { id: DEVICE, issued: START }));
        self
    }

    /// Anna has a session on it, with a proof made now, or by exemption.
    fn session(self, proved: bool) -> Self {
        let mut world = self.device();
        let session = Session {
            id: SessionId([1; 16]),
            app: world.app.id.clone(),
            user: anna(&world.app),
            device: DEVICE,
            epoch: Epoch(0),
            started: START,
            seen: START,
            proved_at: proved.then_some(START),
            methods: if proved { MethodSet::of(crate::model::Method::Totp) } else { MethodSet::EMPTY },
            terms: Terms::default(),
            emergency_until: None,
        };
        world.jar.session = Some(issue(&world.keyring, &session));
        world
    }

    /// Anna has passed the first factor.
    fn pending(self) -> Self {
        let world = self.device();
        world.with_pending(SessionId([2; 16]), Purpose::Login, "/target")
    }

    fn with_pending(mut self, session: SessionId, purpose: Purpose, target: &str) -> Self {
        let pending = Pending {
            login: LoginId([3; 16]),
            session,
            app: self.app.id.clone(),
            user: anna(&self.app),
            device: DEVICE,
            target: target.to_owned(),
            started: self.clock.now(),
            purpose,
            invited: None,
        };
        self.jar.login = Some(issue(&self.keyring, &pending));
        self
    }

    fn after(self, hours: u64) -> Self {
        self.clock.advance(Duration::from_secs(hours * 3600));
        self
    }

    fn revoke(self, revocation: &Revocation) -> Self {
        self.live.apply(revocation);
        self
    }

    fn block(self) -> Self {
        let user = anna(&self.app);
        self.revoke(&Revocation::Blocked { user, blocked: true, version: 1 })
    }

    fn view<'a>(&'a self, ask: &'a Ask<'a>, id: &'a RequestId) -> RequestView<'a> {
        RequestView {
            id,
            method: &ask.method,
            host: "care.example",
            path: ask.path,
            ambiguous: ask.ambiguous,
            query: ask.query,
            client: ask.client.parse::<IpAddr>().unwrap(),
            wants: ask.wants,
            cookies: OwnCookies {
                device: self.jar.device.as_deref(),
                trust: None,
                login: self.jar.login.as_deref(),
                session: self.jar.session.as_deref(),
            },
        }
    }

    fn outcome(&self, ask: &Ask<'_>) -> Outcome {
        self.gate.assess(&self.app, &self.view(ask, &RequestId::new("r1").unwrap()))
    }

    /// The outcome in one word or two, for tables.
    fn says(&self, ask: &Ask<'_>) -> String {
        say(&self.outcome(ask))
    }

    /// The `Set-Cookie` values of a challenge.
    fn challenge_cookies(&self, ask: &Ask<'_>) -> usize {
        let Outcome::Challenge { cookies, .. } = self.outcome(ask) else { panic!("no challenge") };
        cookies.len()
    }
}

fn anna(app: &App) -> UserKey {
    UserKey { realm: app.realm.clone(), name: UserName::canonical("anna") }
}

fn say(outcome: &Outcome) -> String {
    let scope = |permit: &Permit| match permit.scope() {
        None => "nobody",
        Some(Scope::Device(_)) => "device",
        Some(Scope::Session(_)) => "session",
    };
    match outcome {
        Outcome::Own => "own".to_owned(),
        Outcome::Forward(permit) => {
            let logout = if permit.is_logout() { ", logout" } else { "" };
            let withheld = if permit.withholds_cookies() { ", cookies withheld" } else { "" };
            format!("forward {}{logout}{withheld}", scope(permit))
        }
        Outcome::Login(login) => format!("login {}", scope(&login.permit)),
        Outcome::Challenge { reason, url, .. } => format!("{} {url}", reason.name()),
        Outcome::Blocked => "blocked".to_owned(),
        Outcome::Elsewhere => "elsewhere".to_owned(),
        Outcome::Unavailable => "unavailable".to_owned(),
        Outcome::Blind => "blind".to_owned(),
    }
}

// [F2] Every kind of request × every kind of caller.
#[test]
fn i1_a_table_of_callers_and_requests() {
    let app = || rules(Then::Require(sample::requirement(Duration::from_secs(12 * 3600), false)));
    let callers = [
        World::of(app()),
        World::of(app()).device(),
        World::of(app()).pending(),
        World::of(app()).session(true),
        World::of(app()).session(true).block(),
    ];
    let login = "no_session /login?next=%2Fcare%3Fid%3D1";
    let root = "no_session /login?next=%2F";
    let challenge = "pending /.sluis/challenge";
    for (ask, expected) in [
        (get("/.sluis/challenge"), ["own"; 5]),
        (get("/.sluis"), ["own"; 5]),
        (get("/care?id=1"), [login, login, challenge, "forward session", "blocked"]),
        (
            Ask { wants: Wants::Data, ..get("/care?id=1") },
            [root, root, challenge, "forward session", "blocked"],
        ),
        (Ask { wants: Wants::Upgrade, ..get("/ws") }, [root, root, challenge, "forward session", "blocked"]),
        (post("/care?id=1"), [root, root, challenge, "forward session", "blocked"]),
        (
            get("/login"),
            ["forward nobody", "forward device", "forward device", "forward session", "forward device"],
        ),
        (
            Ask { wants: Wants::Data, ..get("/static/x.css") },
            [
                "forward nobody",
                "forward device",
                "forward device, cookies withheld",
                "forward session",
                "forward device",
            ],
        ),
        (post("/login"), ["login nobody", "login device", "login device", "login session", "login device"]),
        (post("/LOGIN/"), ["login nobody", "login device", "login device", "login session", "login device"]),
        (
            post("/login.json"),
            ["login nobody", "login device", "login device", "login session", "login device"],
        ),
        (
            get("/login?user=bram&password=x"),
            ["login nobody", "login device", "login device", "login session", "login device"],
        ),
        (
            get("/logout"),
            [
                "no_session /login?next=%2Flogout",
                "no_session /login?next=%2Flogout",
                challenge,
                "forward session, logout",
                "blocked",
            ],
        ),
        (
            get("/.sluisx"),
            [
                "no_session /login?next=%2F.sluisx",
                "no_session /login?next=%2F.sluisx",
                challenge,
                "forward session",
                "blocked",
            ],
        ),
    ] {
        for (caller, expected) in callers.iter().zip(expected) {
            assert_eq!(caller.says(&ask), expected, "{} {} {:?}", ask.method, ask.path, ask.wants);
        }
    }
}

// [I1, threats D3]
#[test]
fn i1_what_can_be_read_in_two_ways_is_never_anonymous() {
    let world = World::of(sample::app());
    assert_eq!(world.says(&get("/static/x.css")), "forward nobody");
    let ambiguous = Ask { ambiguous: true, ..get("/static/x%2e.css") };
    assert_eq!(world.says(&ambiguous), "no_session /login?next=%2Fstatic%2Fx%252e.css");
    for path in ["/Login", "/login/", "/static", "/staticx", "/Static/x", "/x/static/y", "/loginx"] {
        assert!(world.says(&get(path)).starts_with("no_session"), "{path}");
    }
    assert_eq!(World::of(sample::app()).session(true).says(&ambiguous), "forward session");
}

#[test]
fn i1_a_pattern_with_a_query_is_matched_with_its_query() {
    let mut app = sample::app();
    app.anonymous = vec![PathPattern::ExactQuery("/doku.php".to_owned(), "do=login".to_owned())];
    let world = World::of(app);
    assert_eq!(world.says(&get("/doku.php?do=login")), "forward nobody");
    for path in ["/doku.php", "/doku.php?do=login&x=1", "/doku.php?do=Login", "/doku.php?x=1&do=login"] {
        assert!(world.says(&get(path)).starts_with("no_session"), "{path}");
    }
}

// [A1, I2] Only what was signed for this app and this browser, and is still young enough, is a session.
#[test]
fn i2_a_session_of_elsewhere_or_of_yesterday_is_none() {
    let none = "no_session /login?next=%2F";
    let mut world = World::of(sample::app()).session(true);
    assert_eq!(world.says(&get("/")), "forward session");
    let other = Arc::new(App { id: AppId::new("other"), ..sample::app() });
    let id = RequestId::new("r1").unwrap();
    assert_eq!(say(&world.gate.assess(&other, &world.view(&get("/"), &id))), none);
    world.jar.device = Some(issue(&world.keyring, &Device { id: DeviceId([8; 16]), issued: START }));
    assert_eq!(world.says(&get("/")), none, "another device");
    assert_eq!(World::of(sample::app()).session(true).after(13).says(&get("/")), none);
    let ended =
        Revocation::Session { id: SessionId([1; 16]), until: START.plus(Duration::from_secs(1_000_000)) };
    assert_eq!(World::of(sample::app()).session(true).revoke(&ended).says(&get("/")), none);
}

#[test]
fn i3_a_session_ends_when_the_device_has_a_new_owner() {
    let world = World::of(sample::app()).session(true);
    assert_eq!(world.says(&get("/")), "forward session");
    let until = START.plus(Duration::from_secs(1_000_000));
    let world = world.revoke(&Revocation::Device { device: DEVICE, epoch: Epoch(1), until });
    assert_eq!(world.says(&get("/")), "no_session /login?next=%2F");
}

// [B3, A7]
#[test]
fn at_login_never_interrupts_a_session_that_has_a_proof() {
    let app = rules(Then::Require(sample::requirement(Duration::ZERO, false)));
    let app = App { session: long(), ..app };
    assert_eq!(World::of(app).session(true).after(11).says(&get("/care")), "forward session");
}

fn long() -> crate::config::app::SessionLimits {
    crate::config::app::SessionLimits {
        idle: Duration::from_secs(1 << 30),
        max: Duration::from_secs(1 << 30),
    }
}

#[test]
fn continuous_asks_again_when_the_proof_has_grown_too_old() {
    let app = || App { session: long(), ..continuous(2) };
    let too_old = "proof_too_old /.sluis/challenge";
    assert_eq!(World::of(app()).session(true).after(2).says(&get("/care")), "forward session");
    let world = World::of(app()).session(true).after(3);
    for ask in [
        get("/care"),
        post("/care"),
        get("/logout"),
        get("/static/x.css"),
        Ask { wants: Wants::Data, ..get("/x") },
    ] {
        assert_eq!(world.says(&ask), too_old, "{}", ask.path);
    }
    assert_eq!(world.says(&get("/.sluis/logout")), "own", "our own way out stays open");
    assert_eq!(world.says(&post("/login")), "login device", "somebody else may log in");
    assert_eq!(world.challenge_cookies(&get("/care")), 1);
}

#[test]
fn a_step_up_that_is_waiting_is_left_alone_by_scripts() {
    let purpose = Purpose::StepUp { started: START, epoch: Epoch(0) };
    let app = || App { session: long(), ..continuous(2) };
    let world =
        World::of(app()).session(true).after(3).with_pending(SessionId([1; 16]), purpose, "/care?id=1");
    assert_eq!(world.challenge_cookies(&Ask { wants: Wants::Data, ..get("/poll") }), 0);
    assert_eq!(world.challenge_cookies(&Ask { wants: Wants::Upgrade, ..get("/ws") }), 0);
    assert_eq!(world.challenge_cookies(&get("/care?id=1")), 0, "the same page again");
    assert_eq!(world.challenge_cookies(&get("/care?id=2")), 1, "another page");
    let other =
        World::of(app()).session(true).after(3).with_pending(SessionId([9; 16]), purpose, "/care?id=1");
    assert_eq!(other.challenge_cookies(&Ask { wants: Wants::Data, ..get("/poll") }), 1, "of another session");
    // [threats D11] While it waits, the session opens nothing.
    assert_eq!(world.says(&get("/care")), "proof_too_old /.sluis/challenge");
}

// [I2] An exemption lets in as long as it holds, and no longer.
#[test]
fn i2_an_exempt_session_does_not_leave_the_network_that_exempts_it() {
    let exempt = Rule {
        users: vec![],
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        then: Then::Exempt { reason: "office".to_owned() },
    };
    let mut app = rules(Then::Require(sample::requirement(Duration::ZERO, false)));
    app.policy.insert(0, exempt);
    let world = World::of(app).session(false);
    assert_eq!(world.says(&Ask { client: OFFICE, ..get("/care") }), "forward session");
    assert_eq!(world.says(&Ask { client: "::ffff:10.0.0.7", ..get("/care") }), "forward session");
    assert_eq!(world.says(&get("/care")), "proof_too_old /.sluis/challenge");
    let proved = World::of(sample::app()).session(true);
    assert_eq!(proved.says(&get("/care")), "forward session");
}

// [I1 I2] The answer to a login that fails is passed on: a session that opens nothing now must not go along with it,
// or a wrong password on a watched path (`/doku.php`) would be a way around the proof that is missing.
#[test]
fn i1_a_login_takes_no_session_along_that_must_prove_itself_again() {
    let aged = World::of(App { session: long(), ..continuous(2) }).session(true);
    assert_eq!(aged.says(&post("/login")), "login session");
    let aged = aged.after(3);
    assert_eq!(aged.says(&get("/care")), "proof_too_old /.sluis/challenge");
    assert_eq!(aged.says(&post("/login")), "login device");

    let exempt = Rule {
        users: vec![],
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        then: Then::Exempt { reason: "office".to_owned() },
    };
    let mut app = rules(Then::Require(sample::requirement(Duration::ZERO, false)));
    app.policy.insert(0, exempt);
    let world = World::of(app).session(false);
    assert_eq!(world.says(&Ask { client: OFFICE, ..post("/login") }), "login session");
    assert_eq!(world.says(&post("/login")), "login device");
}

#[test]
fn the_way_back_is_a_page_of_the_app() {
    let world = World::of(sample::app());
    assert_eq!(
        world.says(&get("/a b&c=d?x=/é&next=y")),
        "no_session /login?next=%2Fa%20b%26c%3Dd%3Fx%3D%2F%C3%A9%26next%3Dy"
    );
    assert_eq!(world.says(&get("//evil.example/?")), "no_session /login?next=%2F", "reads as a host");
    let long = format!("/care?{}", "x".repeat(3000));
    assert_eq!(world.says(&get(&long)), "no_session /login?next=%2F");
    let mut app = sample::app();
    app.login.page = "/login".to_owned();
    assert_eq!(World::of(app).says(&get("/care")), "no_session /login");
}

#[test]
fn several_entries_of_one_path_are_all_candidates() {
    let mut app = sample::app();
    app.login.watch.push(sample::watch("/login", "mail"));
    let world = World::of(app);
    let Outcome::Login(login) = world.outcome(&post("/login")) else { panic!("no login") };
    assert_eq!(login.candidates.iter().map(|c| c.watch).collect::<Vec<_>>(), [0, 1]);
}

// What turns out to be no login is an ordinary request, with all that follows.
#[test]
fn i1_a_login_that_is_none_gets_no_further_than_any_other_request() {
    let ordinary = |world: &World| {
        let id = RequestId::new("r1").unwrap();
        say(&world.gate.assess_ordinary(&world.app, &world.view(&post("/doku.php"), &id)))
    };
    let mut app = sample::app();
    app.login.watch = vec![sample::watch("/doku.php", "u")];
    let stranger = World::of(app);
    assert_eq!(stranger.says(&post("/doku.php")), "login nobody");
    assert_eq!(ordinary(&stranger), "no_session /login?next=%2F");
    assert_eq!(ordinary(&stranger.pending()), "pending /.sluis/challenge");
    assert_eq!(ordinary(&World::of(sample::app()).session(true)), "forward session");
    assert_eq!(ordinary(&World::of(sample::app()).session(true).block()), "blocked");
}

/// A replica that may have missed a revocation: what anybody may see goes on, no session passes, and nobody is sent away
/// as if he had none.
#[test]
fn i9_a_blind_replica_lets_no_session_pass() {
    let app = || rules(Then::Require(sample::requirement(Duration::from_secs(12 * 3600), false)));
    let caller = |sight| World::seeing(app(), Lookout::showing(sight)).session(true);
    for (ask, expected) in [
        (get("/care?id=1"), ["forward session", "forward session", "blind"]),
        (Ask { wants: Wants::Data, ..get("/care") }, ["forward session", "forward session", "blind"]),
        (Ask { wants: Wants::Upgrade, ..get("/ws") }, ["forward session", "forward session", "blind"]),
        (post("/login"), ["login session", "login session", "blind"]),
        (get("/login"), ["forward session", "forward session", "forward device"]),
        (get("/.sluis/challenge"), ["own"; 3]),
    ] {
        let said = [Sight::Clear, Sight::Grace, Sight::Blind].map(|sight| caller(sight).says(&ask));
        assert_eq!(said, expected, "{} {}", ask.method, ask.path);
    }
    let stranger = World::seeing(app(), Lookout::showing(Sight::Blind));
    assert_eq!(stranger.says(&get("/care")), "no_session /login?next=%2Fcare");
}
