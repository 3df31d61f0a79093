//! The composition root: configuration → parts → running servers. The only place that names concrete stores, sources
//! and senders.
//!
//! Order matters at the start: whatever can fail (keys, store, ports, certificates) fails before the first client is
//! answered, and every revocation that still matters is in memory before a session can be believed (I3).

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use pingora::{proxy::HttpProxy, server::configuration::ServerConf};
use tokio::{runtime::Handle, sync::watch};

use crate::{
    admin::{
        clock_watch::ClockWatch,
        control,
        operations::Operations,
        probes::{self, Health},
    },
    audit::{Auditor, Event, Subject},
    base::{
        clock::{SharedClock, SystemClock},
        keyring::Keyring,
        random::{SharedRandom, SystemRandom},
    },
    config::{Config, StoreConfig},
    factor::totp::Totp,
    gate::Gate,
    metrics::Metrics,
    proxy::{
        Parts, Proxy,
        edge::{self, Options, Shutdown, Stage, follow_signals},
        tunnel::Registry,
        upstreams::Upstreams,
    },
    session::{
        admission::Admissions, cookie::Names, live::Live, standing::Standings,
        upstream_cookies::UpstreamCookies,
    },
    store::{self, SharedStore},
    web::{self, Pages},
};

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
        StoreConfig::Memory => Ok(store::memory::open()),
    }
}

/// Opens a store as one end of a copy; no server may use it.
///
/// # Errors
/// When it cannot be opened, somebody else uses it, or it cannot be copied.
pub async fn open_portable(
    config: &StoreConfig,
    keyring: Arc<Keyring>,
) -> anyhow::Result<Arc<dyn store::portable::Portable>> {
    match config {
        StoreConfig::Sqlite { path } => {
            store::sqlite::open_portable(path, keyring).context("the store cannot be opened")
        }
        StoreConfig::Memory => anyhow::bail!("`store: memory` keeps nothing that could be copied"),
    }
}

/// Serves until a signal ends it.
///
/// # Errors
/// When something that is needed cannot be had: a port, a key, the store, a certificate.
pub fn run(config: Config) -> anyhow::Result<()> {
    let clock: SharedClock = Arc::new(SystemClock);
    let bound = edge::bind(&config.listen, &clock)?;
    let operations = config.listen.operations.map(listen).transpose()?;
    let control =
        config.listen.control.as_deref().map(control::bind).transpose().context("listen.control")?;

    let shared = Shared::build(&config, &clock)?;
    let watch = Arc::new(ClockWatch::new(
        Arc::clone(&clock),
        shared.pages.totp.drifts(),
        Arc::clone(&shared.metrics),
    ));
    let health = Health::new(Arc::clone(&shared.store), Arc::clone(&shared.metrics));
    let health = Arc::new(health.with_clock(Arc::clone(&watch)));
    health.revocations_loaded();

    let shutdown = Shutdown::new();
    let (http, https) = (bound.http_address(), bound.https_address());
    let options = Options {
        threads: config.threads,
        limits: config.limits.clone(),
        shutdown: config.shutdown.clone(),
        trusted_proxies: config.trusted_proxies.clone().into(),
        max_connections: 0,
        metrics: Arc::clone(&shared.metrics),
    };
    let mut proxies = shared.proxies(&config, count(config.threads))?.into_iter();
    let served = bound.serve(options, shutdown.clone(), |_| {
        #[expect(clippy::expect_used, reason = "one proxy was made for each worker, in the line above")]
        proxies.next().expect("as many proxies as workers")
    })?;

    for (listener, address) in [("http", http), ("https", https)] {
        if let Some(address) = address {
            tracing::info!(listener, %address, "listening");
        }
    }
    let stop = Background { runtime: served.handle(), shutdown: &shutdown }.start(
        &config,
        &shared,
        &health,
        operations,
        control,
        served.certificates().cloned(),
    )?;
    served.handle().spawn(async move { watch.follow().await });
    health.listeners_up();
    shared.auditor.record(&Event::Server { what: "started" }, &Subject::default());
    tracing::info!("ready");

    served.wait();
    drop(stop);
    shared.auditor.record(&Event::Server { what: "stopping" }, &Subject::default());
    shared.auditor.flush();
    tracing::info!("stopped");
    Ok(())
}

/// What all workers share.
struct Shared {
    clock: SharedClock,
    random: SharedRandom,
    store: SharedStore,
    live: Arc<Live>,
    names: Names,
    metrics: Arc<Metrics>,
    auditor: Arc<Auditor>,
    admissions: Arc<Admissions>,
    gate: Arc<Gate>,
    sealer: Arc<UpstreamCookies>,
    upstreams: Arc<Upstreams>,
    tunnels: Arc<Registry>,
    pages: Pages,
}

impl Shared {
    fn build(config: &Config, clock: &SharedClock) -> anyhow::Result<Self> {
        let random: SharedRandom = Arc::new(SystemRandom);
        let keyring = keyring(config)?;
        let ids: Vec<String> = config.apps.iter().map(|app| app.id.to_string()).collect();
        let metrics = Arc::new(Metrics::new(&ids));
        let store = store::metered::metered(open_store(config)?, Arc::clone(&metrics));
        let auditor = Arc::new(
            Auditor::open(&config.audit, Arc::clone(clock), metrics.audit_failures.clone())
                .context("audit")?,
        );

        let live = Arc::new(Live::default());
        let tunnels = Registry::new();
        let names = Names::new(config.insecure_cookies);
        // The store answers on a thread of its own: any runtime can wait for it.
        let waiting = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sealer = waiting.block_on(async {
            store.follow(Arc::clone(&live) as _, clock.now()).await?;
            store.follow(Arc::clone(&tunnels) as _, clock.now()).await?;
            UpstreamCookies::load(Arc::clone(&keyring), Arc::clone(&store), names.clone(), Arc::clone(clock))
                .await
        })?;
        drop(waiting);

        let standings = Arc::new(Standings::new(Arc::clone(&keyring), Arc::clone(&live)));
        let admissions = Arc::new(
            Admissions::new(
                Arc::clone(&store),
                Arc::clone(&keyring),
                Arc::clone(&live),
                names.clone(),
                Arc::clone(clock),
                Arc::clone(&random),
            )
            .with_prefix(&config.prefix),
        );
        let gate = Arc::new(Gate::new(
            Arc::clone(&standings),
            Arc::clone(&admissions),
            Arc::clone(clock),
            config.prefix.clone(),
        ));
        let totp = Arc::new(Totp::new(Arc::clone(&store), Arc::clone(&keyring), Arc::clone(clock)));
        let pages = Pages {
            prefix: config.prefix.as_str().into(),
            standings,
            admissions: Arc::clone(&admissions),
            totp,
            names: names.clone(),
            keyring,
            clock: Arc::clone(clock),
            metrics: Arc::clone(&metrics),
            auditor: Arc::clone(&auditor),
        };
        let upstreams = Arc::new(Upstreams::new(config.apps.iter().map(AsRef::as_ref))?);
        Ok(Self {
            clock: Arc::clone(clock),
            random,
            store,
            live,
            names,
            metrics,
            auditor,
            admissions,
            gate,
            sealer: Arc::new(sealer),
            upstreams,
            tunnels,
            pages,
        })
    }

    /// One proxy for each worker: they share everything but their pools of upstream connections.
    fn proxies(&self, config: &Config, count: usize) -> anyhow::Result<Vec<HttpProxy<Proxy>>> {
        let conf =
            Arc::new(ServerConf { upstream_keepalive_pool_size: POOL_PER_WORKER, ..ServerConf::default() });
        (0..count)
            .map(|_| {
                let parts = Parts {
                    apps: config.apps.clone(),
                    limits: config.limits.clone(),
                    trusted_proxies: config.trusted_proxies.clone(),
                    prefix: config.prefix.as_str().into(),
                    names: self.names.clone(),
                    gate: Arc::clone(&self.gate),
                    admissions: Arc::clone(&self.admissions),
                    sealer: Arc::clone(&self.sealer),
                    upstreams: Arc::clone(&self.upstreams),
                    tunnels: Arc::clone(&self.tunnels),
                    pages: web::router(self.pages.clone()),
                    clock: Arc::clone(&self.clock),
                    metrics: Arc::clone(&self.metrics),
                    auditor: Arc::clone(&self.auditor),
                };
                let mut proxy = HttpProxy::new(Proxy::new(parts, self.random.as_ref())?, Arc::clone(&conf));
                edge::limit(&mut proxy, &config.limits);
                proxy.handle_init_modules();
                Ok(proxy)
            })
            .collect()
    }
}

/// Unused upstream connections that one worker keeps.
const POOL_PER_WORKER: usize = 512;

/// What runs beside the workers.
struct Background<'a> {
    runtime: &'a Handle,
    shutdown: &'a Shutdown,
}

impl Background<'_> {
    /// Starts it; what is returned stops it when dropped.
    fn start(
        &self,
        config: &Config,
        shared: &Shared,
        health: &Arc<Health>,
        operations: Option<TcpListener>,
        control: Option<std::os::unix::net::UnixListener>,
        certificates: Option<Arc<edge::tls::Certificates>>,
    ) -> anyhow::Result<watch::Sender<bool>> {
        let (stop, stopped) = watch::channel(false);
        if let Some(listener) = operations {
            let address = listener.local_addr()?;
            tracing::info!(listener = "operations", %address, "listening");
            let serving = probes::serve(listener, Arc::clone(health), stopped.clone());
            self.spawn("operations listener", serving);
        }
        if let Some(listener) = control {
            let operations = Operations::new(
                Arc::clone(&shared.store),
                config.apps.clone(),
                Arc::clone(&shared.auditor),
                Arc::clone(&shared.clock),
            );
            self.spawn("control socket", control::serve(listener, Arc::new(operations), stopped));
        }
        let metrics = Arc::clone(&shared.metrics);
        self.spawn(
            "signals",
            follow_signals(self.shutdown.clone(), move || {
                if let Some(certificates) = &certificates {
                    edge::reload_certificates(certificates, &metrics);
                }
            }),
        );
        let (health, shutdown) = (Arc::clone(health), self.shutdown.clone());
        self.runtime.spawn(async move {
            shutdown.reached(Stage::Leaving).await;
            health.drain();
        });
        shared.upstreams.tend(self.runtime);
        self.runtime.spawn(prune(
            Arc::clone(&shared.store),
            Arc::clone(&shared.live),
            Arc::clone(&shared.clock),
        ));
        Ok(stop)
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
        live.prune(now);
        match store.prune(now).await {
            Ok(0) => {}
            Ok(rows) => tracing::debug!(rows, "forgot what can no longer matter"),
            Err(error) => tracing::warn!(%error, "the store could not be pruned"),
        }
    }
}

fn count(threads: usize) -> usize {
    if threads == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { threads }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("listen.operations: cannot listen on {address}"))
}
