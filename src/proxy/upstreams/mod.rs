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

mod backend;
mod dial;
pub mod examine;
mod group;
mod health;
mod server;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{runtime::Handle, task::AbortHandle};

pub use self::server::{Chosen, Server, Times};
use self::{backend::Backend, group::Group};
use crate::{config::App, model::AppId};

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
        Some(Chosen::new(group, &backend))
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
            if backend.address == address {
                backend.succeed();
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

const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
const HEAVIEST: usize = 1000;
