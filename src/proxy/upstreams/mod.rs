//! Where the apps run: which server takes the next request, which are well, how they are reached.
//!
//! It promises that [`Upstreams::choose`] is cheap (no lock, no I/O) and answers a server that is not known to be
//! down as long as there is one; when all are down it still names one, since trying is better than refusing unasked.
//! It never decides whether a request may go there.
//!
//! Servers take turns by weight; the addresses of one name take turns among themselves. A server is *down* when its
//! health path fails twice in a row, or, without a health path, for some seconds after a connection to it failed.
//! Names are resolved again every half minute.
//!
//! When the configuration changes, what is known of a server stays with it ([`Upstreams::after`]): its health, its
//! addresses, and pingora's connections to it, except where it is verified by other roots from now on.

mod dial;
pub mod examine;
mod health;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use http::HeaderValue;
use parking_lot::Mutex;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use tokio::{runtime::Handle, task::AbortHandle};

use self::dial::Dialer;
use crate::{
    base::clock::Stopwatch,
    config::{
        App,
        app::{Transport, Upstream},
    },
    model::AppId,
    proxy::edge,
};

/// The upstreams of all apps.
pub struct Upstreams {
    pools: HashMap<AppId, Arc<Pool>, ahash::RandomState>,
}

/// The upstreams of one app.
pub struct Pool {
    app: AppId,
    groups: Box<[Arc<Group>]>,
    /// Indexes of groups, each as often as its weight, well mixed.
    turns: Box<[usize]>,
    next: AtomicUsize,
    health_interval: Option<Duration>,
    /// The tasks that keep it up to date.
    tended: Mutex<Vec<AbortHandle>>,
}

/// One configured upstream: a name and the servers behind it.
struct Group {
    upstream: Upstream,
    transport: Transport,
    template: Template,
    backends: ArcSwap<Vec<Arc<Backend>>>,
    next: AtomicUsize,
}

/// What the servers of a group have in common.
struct Template {
    peer: HttpPeer,
    /// `Host` when the upstream is called by its own name.
    host: Option<HeaderValue>,
    /// Its own name with port, for requests of ours.
    own_name: HeaderValue,
    health_path: Option<String>,
    dialer: Dialer,
}

/// One server.
struct Backend {
    /// Told apart from every other one, also from one that had the same address before.
    id: u64,
    address: SocketAddr,
    peer: HttpPeer,
    /// Set by active checks.
    unwell: AtomicBool,
    /// Failed checks in a row.
    checks_failed: AtomicU32,
    /// Failed connections in a row.
    failures: AtomicU32,
    /// Milliseconds since [`Backend::made`] before which it counts as down; 0 = it does not.
    down_until: AtomicU64,
    made: Stopwatch,
}

/// A server for one request.
pub struct Chosen<'a> {
    /// For pingora; the caller may change options of it.
    pub peer: Box<HttpPeer>,
    /// What to send as `Host`; `None` = what the client sent.
    pub host: Option<HeaderValue>,
    group: &'a Group,
}

impl Chosen<'_> {
    /// Connects to it, outside of pingora's pool: for tunnels. Within the app's connect time-out.
    ///
    /// # Errors
    /// When no connection comes about in time.
    pub async fn dial(&self) -> io::Result<edge::Transport> {
        use pingora::upstreams::peer::Peer;
        let address = self.peer.address().as_inet().copied().ok_or(io::ErrorKind::InvalidInput)?;
        self.group.template.dialer.dial(address).await
    }
}

/// A server for one request that does not go through pingora's connector.
pub struct Server<'a> {
    pool: &'a Pool,
    group: &'a Group,
    backend: Arc<Backend>,
}

/// How long parts of an exchange may take; `None` = for ever.
#[derive(Clone, Copy)]
pub struct Times {
    /// Silence of the server.
    pub read: Option<Duration>,
    /// Sending the request.
    pub write: Option<Duration>,
    /// A connection that is kept unused.
    pub idle: Option<Duration>,
}

impl Server<'_> {
    /// Which one it is: connections to it serve no other.
    pub fn id(&self) -> u64 {
        self.backend.id
    }

    /// What to send as `Host`; `None` = what the client sent.
    pub fn host(&self) -> Option<HeaderValue> {
        self.group.template.host.clone()
    }

    /// The app's time-outs.
    pub fn times(&self) -> Times {
        let options = &self.group.template.peer.options;
        Times { read: options.read_timeout, write: options.write_timeout, idle: options.idle_timeout }
    }

    /// Connects, within the app's connect time-out.
    ///
    /// # Errors
    /// When no connection comes about in time.
    pub async fn dial(&self) -> io::Result<edge::Transport> {
        self.group.template.dialer.dial(self.backend.address).await
    }

    /// Notes that a connection came about.
    pub fn succeeded(&self) {
        self.pool.succeeded(self.backend.address);
    }

    /// Notes that none did. Whether another server can be tried.
    pub fn failed(&self) -> bool {
        self.pool.failed(self.backend.address)
    }
}

impl Upstreams {
    /// Prepares all apps' upstreams.
    ///
    /// # Errors
    /// With a text for the operator, when a `ca_file` cannot be used.
    pub fn new<'a>(apps: impl IntoIterator<Item = &'a App>) -> io::Result<Self> {
        Self::make(apps, None)
    }

    /// Those of the next configuration: what did not change goes on as it is.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn after<'a>(&self, apps: impl IntoIterator<Item = &'a App>) -> io::Result<Self> {
        Self::make(apps, Some(self))
    }

    fn make<'a>(apps: impl IntoIterator<Item = &'a App>, before: Option<&Self>) -> io::Result<Self> {
        let make = |app: &App| {
            let before = before.and_then(|before| before.pool(&app.id));
            Ok((app.id.clone(), Pool::make(app, before)?))
        };
        Ok(Self { pools: apps.into_iter().map(make).collect::<io::Result<_>>()? })
    }

    /// A server for a request to this app; `None` only when no name could be resolved yet.
    pub fn choose(&self, app: &App) -> Option<Chosen<'_>> {
        self.pool(&app.id)?.choose()
    }

    /// The upstreams of one app: hold it to spare the look-up.
    pub fn pool(&self, app: &AppId) -> Option<&Arc<Pool>> {
        self.pools.get(app)
    }

    /// Keeps addresses and health up to date on this runtime, until `self` is dropped or retired.
    pub fn tend(&self, runtime: &Handle) {
        for pool in self.pools.values() {
            let mut tended = pool.tended.lock();
            if !tended.is_empty() {
                continue;
            }
            tended.push(runtime.spawn(resolve_again(Arc::downgrade(pool))).abort_handle());
            if let Some(interval) = pool.health_interval {
                tended.push(runtime.spawn(check_again(Arc::downgrade(pool), interval)).abort_handle());
            }
        }
    }

    /// Stops the care for what `next` does not have: a request or tunnel may still hold it for long.
    pub fn retire(&self, next: &Self) {
        for (app, pool) in &self.pools {
            if next.pool(app).is_none_or(|kept| !Arc::ptr_eq(kept, pool)) {
                pool.tended.lock().drain(..).for_each(|task| task.abort());
            }
        }
    }
}

impl Pool {
    fn make(app: &App, before: Option<&Arc<Self>>) -> io::Result<Arc<Self>> {
        let known = before.map(|pool| &*pool.groups).unwrap_or_default();
        let groups = app
            .upstreams
            .iter()
            .map(|upstream| Group::make(upstream, &app.transport, known))
            .collect::<io::Result<Box<[_]>>>()?;
        let weights: Vec<usize> = app.upstreams.iter().map(|upstream| upstream.weight).collect();
        let turns = turns(&weights);
        let same = groups.len() == known.len() && groups.iter().zip(known).all(|(a, b)| Arc::ptr_eq(a, b));
        if let Some(before) = before.filter(|before| same && before.turns == turns) {
            return Ok(Arc::clone(before));
        }
        Ok(Arc::new(Self {
            app: app.id.clone(),
            turns,
            groups,
            next: AtomicUsize::new(0),
            health_interval: app.transport.health_path.as_ref().map(|_| app.transport.health_interval),
            tended: Mutex::default(),
        }))
    }

    /// A server for a request; `None` only when no name could be resolved yet.
    pub fn choose(&self) -> Option<Chosen<'_>> {
        let (group, backend) = self.next_up()?;
        Some(group.chosen(&backend))
    }

    /// The same for a request that does not go through pingora's connector.
    pub fn pick(&self) -> Option<Server<'_>> {
        let (group, backend) = self.next_up()?;
        Some(Server { pool: self, group, backend })
    }

    /// Whose turn it is.
    fn next_up(&self) -> Option<(&Group, Arc<Backend>)> {
        let turn = self.next.fetch_add(1, Relaxed);
        let mut last_resort: Option<(&Group, Arc<Backend>)> = None;
        for offset in 0..self.turns.len() {
            let at = turn.wrapping_add(offset) % self.turns.len();
            let group = self.turns.get(at).and_then(|group| self.groups.get(*group))?;
            let backends = group.backends.load();
            let first = if offset == 0 { group.next.fetch_add(1, Relaxed) } else { group.next.load(Relaxed) };
            for step in 0..backends.len() {
                let Some(backend) = backends.get(first.wrapping_add(step) % backends.len()) else { continue };
                if backend.is_usable() {
                    return Some((group, Arc::clone(backend)));
                }
                last_resort.get_or_insert_with(|| (group, Arc::clone(backend)));
            }
        }
        last_resort
    }

    /// A connection to this server failed before anything was sent. True when another one can be tried: choose
    /// again.
    pub fn failed(&self, address: SocketAddr) -> bool {
        let mut another = false;
        self.each(|backend| {
            if backend.address == address {
                backend.fail();
            } else {
                another |= backend.is_usable();
            }
        });
        another
    }

    /// A connection to this server came about.
    pub fn succeeded(&self, address: SocketAddr) {
        self.each(|backend| {
            if backend.address == address && backend.failures.load(Relaxed) != 0 {
                backend.failures.store(0, Relaxed);
                backend.down_until.store(0, Relaxed);
            }
        });
    }

    /// How many servers there are, and how many of them are not down.
    pub fn health(&self) -> (usize, usize) {
        let (mut all, mut usable) = (0, 0);
        self.each(|backend| {
            all += 1;
            usable += usize::from(backend.is_usable());
        });
        (all, usable)
    }

    fn each(&self, mut look: impl FnMut(&Backend)) {
        for group in &self.groups {
            for backend in group.backends.load().iter() {
                look(backend);
            }
        }
    }
}

impl Group {
    /// The one among `known` when nothing about it has changed; else a new one, which takes over what is known of its
    /// servers.
    fn make(upstream: &Upstream, transport: &Transport, known: &[Arc<Self>]) -> io::Result<Arc<Self>> {
        let new = Self::new(upstream, transport)?;
        let Some(before) = known.iter().find(|group| group.is_same_server(&new)) else {
            return Ok(Arc::new(new));
        };
        let same_roots = before.template.dialer.own_roots() == new.template.dialer.own_roots();
        if before.transport == *transport && same_roots {
            before.note_addresses(&upstream.addresses);
            return Ok(Arc::clone(before));
        }
        for backend in new.backends.load().iter() {
            let present = before.backends.load();
            if let Some(known) = present.iter().find(|known| known.address == backend.address) {
                // Whether a server is well is known only where somebody goes on asking it.
                backend.take_over(known, transport.health_path.is_some());
            }
        }
        Ok(Arc::new(new))
    }

    fn is_same_server(&self, other: &Self) -> bool {
        let key = |group: &Self| (group.upstream.tls, group.upstream.port);
        key(self) == key(other) && self.upstream.host == other.upstream.host
    }

    fn new(upstream: &Upstream, transport: &Transport) -> io::Result<Self> {
        let template = Template::new(upstream, transport)?;
        let group = Self {
            upstream: upstream.clone(),
            transport: transport.clone(),
            template,
            backends: ArcSwap::default(),
            next: AtomicUsize::new(0),
        };
        group.set_addresses(&upstream.addresses);
        Ok(group)
    }

    fn chosen(&self, backend: &Backend) -> Chosen<'_> {
        Chosen { peer: Box::new(backend.peer.clone()), host: self.template.host.clone(), group: self }
    }

    /// Servers that were there before keep what is known of them.
    fn set_addresses(&self, addresses: &[SocketAddr]) {
        let before = self.backends.load();
        let mut backends: Vec<Arc<Backend>> = Vec::with_capacity(addresses.len());
        for address in addresses {
            if backends.iter().any(|backend| backend.address == *address) {
                continue;
            }
            let known = before.iter().find(|backend| backend.address == *address);
            backends.push(
                known.map_or_else(|| Arc::new(Backend::new(*address, &self.template.peer)), Arc::clone),
            );
        }
        self.backends.store(Arc::new(backends));
    }

    /// Takes the addresses that a name has now; true when they are others. None at all changes nothing: a name server
    /// that fails must not take the app down.
    fn note_addresses(&self, found: &[SocketAddr]) -> bool {
        let mut found = found.to_vec();
        found.sort_unstable();
        found.dedup();
        let present = self.backends.load();
        let same = found.len() == present.len()
            && found.iter().all(|address| present.iter().any(|backend| backend.address == *address));
        let changed = !found.is_empty() && !same;
        if changed {
            self.set_addresses(&found);
        }
        changed
    }

    async fn resolve(&self, app: &AppId) {
        let (host, port) = (self.upstream.host.as_str(), self.upstream.port);
        if is_address(host) {
            return;
        }
        match tokio::net::lookup_host((host, port)).await {
            Ok(found) => {
                let found: Vec<SocketAddr> = found.collect();
                if self.note_addresses(&found) {
                    tracing::info!(%app, host, addresses = ?found, "the addresses of an upstream changed");
                }
            }
            // The old addresses stay.
            Err(error) => tracing::warn!(%app, host, %error, "an upstream's name cannot be resolved"),
        }
    }
}

impl Template {
    fn new(upstream: &Upstream, transport: &Transport) -> io::Result<Self> {
        let dialer = Dialer::new(upstream, transport)?;
        let unspecified = SocketAddr::from(([0, 0, 0, 0], upstream.port));
        // The name stands here also when it is an address: pingora verifies nothing without one.
        let mut peer = HttpPeer::new(unspecified, upstream.tls, without_brackets(&upstream.host).to_owned());
        let some = |limit: Duration| (!limit.is_zero()).then_some(limit);
        peer.options.connection_timeout = some(transport.connect_timeout);
        peer.options.total_connection_timeout = some(transport.connect_timeout);
        peer.options.read_timeout = some(transport.read_timeout);
        peer.options.write_timeout = some(transport.write_timeout);
        peer.options.idle_timeout = some(transport.idle_timeout);
        // Upgrades go through `tunnel` or not at all.
        peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        peer.options.verify_cert = transport.verify_certificate;
        peer.options.verify_hostname = transport.verify_certificate;
        peer.options.ca = dialer.authorities();
        // pingora's key of a kept connection does not say by which roots it was verified: this does.
        peer.group_key = dialer.own_roots();
        let default_port = if upstream.tls { 443 } else { 80 };
        let host = if upstream.host.contains(':') && !upstream.host.starts_with('[') {
            format!("[{}]", upstream.host)
        } else {
            upstream.host.clone()
        };
        let own_name = if upstream.port == default_port { host } else { format!("{host}:{}", upstream.port) };
        let own_name = HeaderValue::try_from(own_name).map_err(io::Error::other)?;
        Ok(Self {
            peer,
            host: (!transport.preserve_host).then(|| own_name.clone()),
            own_name,
            health_path: transport.health_path.clone(),
            dialer,
        })
    }
}

impl Backend {
    fn new(address: SocketAddr, template: &HttpPeer) -> Self {
        let mut peer = template.clone();
        peer._address = pingora::protocols::l4::socket::SocketAddr::Inet(address);
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Relaxed),
            address,
            peer,
            unwell: AtomicBool::new(false),
            checks_failed: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            down_until: AtomicU64::new(0),
            made: Stopwatch::start(),
        }
    }

    /// What is known of the same server under another configuration.
    fn take_over(&self, known: &Self, checked: bool) {
        self.failures.store(known.failures.load(Relaxed), Relaxed);
        let left = known.down_until.load(Relaxed).saturating_sub(known.age());
        self.down_until.store(if left == 0 { 0 } else { self.age() + left }, Relaxed);
        if checked {
            self.checks_failed.store(known.checks_failed.load(Relaxed), Relaxed);
            self.unwell.store(known.unwell.load(Relaxed), Relaxed);
        }
    }

    fn is_usable(&self) -> bool {
        if self.unwell.load(Relaxed) {
            return false;
        }
        let until = self.down_until.load(Relaxed);
        until == 0 || self.age() >= until
    }

    fn fail(&self) {
        let before = self.failures.fetch_add(1, Relaxed);
        let pause = PAUSE.saturating_mul(1 << before.min(3));
        self.down_until.store(self.age() + millis(pause), Relaxed);
    }

    /// Takes the result of an active check; true when the server's state has changed.
    fn checked(&self, well: bool) -> bool {
        if well {
            self.checks_failed.store(0, Relaxed);
            self.failures.store(0, Relaxed);
            self.down_until.store(0, Relaxed);
            return self.unwell.swap(false, Relaxed);
        }
        self.checks_failed.fetch_add(1, Relaxed) + 1 >= CHECKS_TO_FAIL && !self.unwell.swap(true, Relaxed)
    }

    fn age(&self) -> u64 {
        millis(self.made.elapsed())
    }
}

/// A sequence in which each index stands as often as its weight says, spread evenly ("smooth" round robin).
fn turns(weights: &[usize]) -> Box<[usize]> {
    let weights: Vec<i64> =
        weights.iter().map(|w| i64::try_from((*w).clamp(1, HEAVIEST)).unwrap_or(1)).collect();
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0; weights.len()];
    let mut turns = Vec::new();
    for _ in 0..total {
        for (credit, weight) in credit.iter_mut().zip(&weights) {
            *credit += weight;
        }
        // The first of the highest, so that equal weights take their turns in order.
        let best = credit.iter().enumerate().rev().max_by_key(|(_, credit)| **credit);
        let Some((best, _)) = best else { break };
        if let Some(credit) = credit.get_mut(best) {
            *credit -= total;
        }
        turns.push(best);
    }
    turns.into_boxed_slice()
}

async fn resolve_again(pool: Weak<Pool>) {
    loop {
        {
            let Some(pool) = pool.upgrade() else { return };
            for group in &pool.groups {
                group.resolve(&pool.app).await;
            }
        }
        tokio::time::sleep(RESOLVE_INTERVAL).await;
    }
}

async fn check_again(pool: Weak<Pool>, interval: Duration) {
    loop {
        {
            let Some(pool) = pool.upgrade() else { return };
            health::check(&pool).await;
        }
        tokio::time::sleep(interval.max(SHORTEST_INTERVAL)).await;
    }
}

/// Whether a host is an address already, with or without brackets.
fn is_address(host: &str) -> bool {
    without_brackets(host).parse::<std::net::IpAddr>().is_ok()
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// How long a server is left alone after a connection to it failed; doubled up to eight times that.
const PAUSE: Duration = Duration::from_secs(5);
const CHECKS_TO_FAIL: u32 = 2;
const HEAVIEST: usize = 1000;
