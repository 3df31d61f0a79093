//! The composition root: configuration → parts → running servers. The only place that names concrete stores, sources
//! and senders.
//!
//! Order matters at the start: whatever can fail (keys, store, ports, certificates) fails before the first client is
//! answered, and every revocation that still matters is in memory before a session can be believed (I3).

mod auditing;
mod build;
mod descriptors;
pub mod doctor;
mod files;
mod front_desk;
mod reload;
mod replica;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

pub use self::reload::Source;
use self::{
    build::{Built, Lasting},
    front_desk::FrontDesk,
    reload::{Listeners, Reloader, Why},
};
use crate::{
    admin::{
        self as administration,
        api::{self, Api},
        clock_watch::ClockWatch,
        control, listener,
        operations::Operations,
        probes::{self, Health},
    },
    audit::{Event, Subject},
    base::{
        clock::{SharedClock, SystemClock},
        keyring::Keyring,
        random::SystemRandom,
    },
    config::{AuditPlace, Config, StoreConfig, shared::RedisConfig},
    metrics::{Listener, Metrics, RedisMetrics},
    proxy::edge::{self, Options, Shutdown, Stage, follow_signals},
    session::live::Live,
    store::{self, SharedStore, redis as shared},
    tls,
};

pub use auditing::open_auditor;

/// How often it is counted what is in memory.
const COUNT_EVERY: Duration = Duration::from_secs(15);
/// How often expired records and revocations are forgotten.
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// The key ring of a configuration.
///
/// # Errors
/// When a key is too short, stands there twice, or there is none.
pub fn keyring(config: &Config) -> anyhow::Result<Arc<Keyring>> {
    Ok(Arc::new(Keyring::new(&config.keys, Arc::new(SystemRandom))?))
}

/// Opens the store that the configuration names; no other process may serve it.
///
/// # Errors
/// When it cannot be opened, or somebody else uses it.
pub fn open_store(config: &Config) -> anyhow::Result<SharedStore> {
    match &config.store {
        StoreConfig::Sqlite { path } => {
            store::sqlite::open(path, keyring(config)?).context("the store cannot be opened")
        }
        StoreConfig::Redis(redis) => Ok(open_redis(config, redis, RedisMetrics::unseen())?.without_feed()),
        StoreConfig::Memory => Ok(store::memory::open()),
    }
}

/// Connects to the Redis of a configuration, and finds or makes the data set.
fn open_redis(config: &Config, redis: &RedisConfig, metrics: RedisMetrics) -> anyhow::Result<shared::Opened> {
    shared::open(redis.clone(), keyring(config)?, Arc::new(SystemRandom), metrics)
        .context("the store cannot be opened")
}

/// Opens a store as one end of a copy; no server may use it.
///
/// # Errors
/// When it cannot be opened, somebody else uses it, or it cannot be copied.
pub fn open_portable(
    config: &StoreConfig,
    keyring: Arc<Keyring>,
    is_target: bool,
) -> anyhow::Result<Arc<dyn store::portable::Portable>> {
    match config {
        StoreConfig::Sqlite { path } => {
            store::sqlite::open_portable(path, keyring).context("the store cannot be opened")
        }
        StoreConfig::Redis(redis) => {
            // An empty target is what a copy is for; of a source that is not there nothing is made.
            let config = RedisConfig { initialise: is_target, ..(**redis).clone() };
            shared::open_portable(config, keyring, Arc::new(SystemRandom))
                .context("the store cannot be opened")
        }
        StoreConfig::Memory => anyhow::bail!("`store: memory` keeps nothing that could be copied"),
    }
}

/// Serves until a signal ends it. The configuration is read again from `source` on SIGHUP and when its files change.
///
/// # Errors
/// When something that is needed cannot be had: a port, a key, the store, a certificate.
pub fn run(config: Config, source: Source) -> anyhow::Result<()> {
    let clock: SharedClock = Arc::new(SystemClock);
    descriptors::raise();
    let bound = edge::bind(&config.listen, &clock)?;
    let operations = config.listen.operations.map(listen).transpose()?;
    let admin = config.listen.admin.as_ref().map(|admin| listener::bind(admin, &clock)).transpose();
    let admin = admin.context("listen.admin")?;
    let control =
        config.listen.control.as_deref().map(control::bind).transpose().context("listen.control")?;

    let (lasting, sealer, courier) = Lasting::open(&config, &clock)?;
    let lasting = Arc::new(lasting);
    let built = Built::first(&lasting, config, sealer)?;
    let watch = Arc::new(ClockWatch::new(
        Arc::clone(&clock),
        Arc::clone(&lasting.drifts),
        Arc::clone(&lasting.metrics),
    ));
    let health = Health::new(Arc::clone(&lasting.store), Arc::clone(&lasting.metrics));
    let health = Arc::new(health.with_clock(Arc::clone(&watch)).with_lookout(lasting.lookout.clone()));
    health.revocations_loaded();

    let shutdown = Shutdown::new();
    let (http, https) = (bound.http_address(), bound.https_address());
    let options = Options {
        threads: built.config.threads,
        settings: built.settings(),
        metrics: Arc::clone(&lasting.metrics),
    };
    let (proxies, currents) = built.proxies(&lasting, count(built.config.threads))?;
    let mut proxies = proxies.into_iter();
    let served = bound.serve(options, shutdown.clone(), |_| {
        #[expect(clippy::expect_used, reason = "one proxy was made for each worker, in the line above")]
        proxies.next().expect("as many proxies as workers")
    })?;

    for (listener, address) in [("http", http), ("https", https)] {
        if let Some(address) = address {
            tracing::info!(listener, %address, "listening");
        }
    }
    built.upstreams.tend(served.handle());
    let acts = Operations::new(
        Arc::clone(&lasting.store),
        built.config.apps.clone(),
        Arc::clone(&lasting.auditor),
        Arc::clone(&lasting.clock),
        Arc::clone(&lasting.random),
    );
    let acts = Arc::new(acts.with_notices(Arc::clone(&lasting.notices)));
    let front_desk = built.config.listen.admin.as_ref();
    let front_desk =
        front_desk.map(|admin| Arc::new(FrontDesk::open(&lasting, &built, &acts, admin.tls.is_none())));
    let pages = front_desk.as_ref().map(|desk| desk.door()).unwrap_or_default();
    let api = api(&lasting, &built.config, &acts);
    let listeners = Listeners {
        proxies: currents,
        settings: served.settings().clone(),
        certificates: served.certificates().cloned(),
        admin_certificates: admin.as_ref().and_then(|admin| admin.certificates().cloned()),
        front_desk,
        operations: Some(Arc::clone(&acts)),
        api: Arc::clone(&api),
        health: Arc::clone(&health),
    };
    let reloader = Reloader::new(source, Arc::clone(&lasting), built, listeners);
    let background = Background { runtime: served.handle(), shutdown: &shutdown };
    if let Some(bound) = admin {
        background.start_admin(&lasting, bound, &api, pages)?;
    }
    let stop =
        background.start(&lasting, &health, operations, control.map(|control| (control, acts)), reloader)?;
    served.handle().spawn(async move { watch.follow().await });
    served.handle().spawn(courier.run());
    health.listeners_up();
    lasting.auditor.record(&Event::Server { what: "started" }, &Subject::default());
    tracing::info!("ready");

    served.wait();
    drop(stop);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(lasting.replica.leave());
    lasting.auditor.record(&Event::Server { what: "stopping" }, &Subject::default());
    lasting.auditor.close();
    tracing::info!("stopped");
    Ok(())
}

/// What programs of administrators reach, where there is a listener for them.
fn api(lasting: &Lasting, config: &Config, acts: &Arc<Operations>) -> Arc<Api> {
    let audit_file = match &config.audit.place {
        AuditPlace::File(path) => Some(path.clone()),
        AuditPlace::Stdout | AuditPlace::Syslog(_) => None,
    };
    let parts = api::Parts {
        operations: Arc::clone(acts),
        live: Arc::clone(&lasting.live),
        store: Arc::clone(&lasting.store),
        clock: Arc::clone(&lasting.clock),
        auditor: Arc::clone(&lasting.auditor),
        metrics: Arc::clone(&lasting.metrics),
        audit_file,
    };
    Api::new(parts, &config.admin)
}

/// What runs beside the workers.
struct Background<'a> {
    runtime: &'a Handle,
    shutdown: &'a Shutdown,
}

impl Background<'_> {
    /// Starts it; what is returned stops it when dropped.
    fn start(
        &self,
        lasting: &Arc<Lasting>,
        health: &Arc<Health>,
        operations: Option<TcpListener>,
        control: Option<(std::os::unix::net::UnixListener, Arc<Operations>)>,
        reloader: Reloader,
    ) -> anyhow::Result<watch::Sender<bool>> {
        let (stop, stopped) = watch::channel(false);
        if let Some(listener) = operations {
            let address = listener.local_addr()?;
            tracing::info!(listener = "operations", %address, "listening");
            let serving = probes::serve(listener, Arc::clone(health), stopped.clone());
            self.spawn("operations listener", serving);
        }
        if let Some((listener, operations)) = control {
            self.spawn("control socket", control::serve(listener, operations, stopped));
        }
        let (ask, asked) = mpsc::unbounded_channel();
        self.spawn("reload", reloader.run(asked));
        let auditor = Arc::clone(&lasting.auditor);
        self.spawn(
            "signals",
            follow_signals(self.shutdown.clone(), move || {
                // The audit log may have been rotated away.
                auditor.reopen();
                let _ = ask.send(Why::Signal);
            }),
        );
        let (health, shutdown) = (Arc::clone(health), self.shutdown.clone());
        self.runtime.spawn(async move {
            shutdown.reached(Stage::Leaving).await;
            health.drain();
        });
        self.runtime.spawn(prune(
            Arc::clone(&lasting.store),
            Arc::clone(&lasting.live),
            Arc::clone(&lasting.clock),
        ));
        self.runtime.spawn(Arc::clone(&lasting.tunnels).end_when_blind(lasting.lookout.clone()));
        self.runtime.spawn(count_revocations(Arc::clone(&lasting.live), Arc::clone(&lasting.metrics)));
        Ok(stop)
    }

    /// Serves administrators until the stop begins; what is in flight then is waited for.
    fn start_admin(
        &self,
        lasting: &Lasting,
        bound: listener::Bound,
        api: &Arc<Api>,
        pages: axum::Router,
    ) -> anyhow::Result<()> {
        tracing::info!(listener = "admin", address = %bound.address()?, "listening");
        let router = administration::router(api::router(api), pages);
        let (leave, left) = watch::channel(false);
        let (shutdown, holding) = (self.shutdown.clone(), self.shutdown.clone());
        self.runtime.spawn(async move {
            shutdown.reached(Stage::Draining).await;
            drop(leave);
        });
        if let Some(certificates) = bound.certificates() {
            let certificates = Arc::clone(certificates);
            self.runtime.spawn(tls::follow(certificates, Listener::Admin, Arc::clone(&lasting.metrics)));
        }
        let parts = listener::Parts {
            router,
            random: Arc::clone(&lasting.random),
            metrics: Arc::clone(&lasting.metrics),
            hold: Arc::new(move || holding.hold()),
        };
        self.spawn("administrators' listener", listener::serve(bound, parts, left));
        Ok(())
    }

    fn spawn(&self, what: &'static str, task: impl Future<Output = std::io::Result<()>> + Send + 'static) {
        self.runtime.spawn(async move {
            if let Err(error) = task.await {
                tracing::error!(what, %error, "a background part stopped");
            }
        });
    }
}

async fn prune(store: SharedStore, live: Arc<Live>, clock: SharedClock) {
    loop {
        tokio::time::sleep(PRUNE_EVERY).await;
        let now = clock.now();
        // Millions take seconds: on a thread of its own.
        let pruned = Arc::clone(&live);
        if let Err(error) = tokio::task::spawn_blocking(move || pruned.prune(now)).await {
            tracing::error!(%error, "what can no longer matter could not be dropped from memory");
        }
        match store.prune(now).await {
            Ok(0) => {}
            Ok(rows) => tracing::debug!(rows, "forgot what can no longer matter"),
            Err(error) => tracing::warn!(%error, "the store could not be pruned"),
        }
    }
}

async fn count_revocations(live: Arc<Live>, metrics: Arc<Metrics>) {
    loop {
        for (kind, held) in live.held() {
            metrics.feed.held(kind, held);
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

fn count(threads: usize) -> usize {
    if threads == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { threads }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("listen.operations: cannot listen on {address}"))
}
