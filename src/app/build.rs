//! From a configuration to working parts. What lasts as long as the process ([`Lasting`]) is made once; what follows from
//! the configuration ([`Built`]) is made whole, each time, before any of it is used.

use std::sync::Arc;

use anyhow::Context as _;
use pingora::{proxy::HttpProxy, server::configuration::ServerConf};

use super::{
    auditing, keyring, open_auditor,
    replica::{self, Replica},
};
use crate::{
    audit::Auditor,
    base::{
        clock::SharedClock,
        keyring::Keyring,
        random::{SharedRandom, SystemRandom},
    },
    config::Config,
    deliver::{
        mail::Mailer,
        notices::{Courier, Notices},
    },
    factor::{Factors, drift::Drifts, recovery::Recovery, totp::Totp},
    gate::Gate,
    metrics::Metrics,
    model::Revocation,
    proxy::{Current, Parts, Proxy, edge, tunnel::Registry, upstreams::Upstreams},
    session::{
        admission::Admissions, cookie::Names, live::Live, standing::Standings,
        upstream_cookies::UpstreamCookies,
    },
    store::{SharedStore, StoreError, feed::Lookout},
    throttle::allowance::Allowances,
    web::{self, Pages},
};

/// What lasts as long as the process, whatever the configuration becomes.
pub(super) struct Lasting {
    pub clock: SharedClock,
    pub random: SharedRandom,
    pub store: SharedStore,
    pub live: Arc<Live>,
    pub names: Names,
    pub metrics: Arc<Metrics>,
    pub auditor: Arc<Auditor>,
    pub tunnels: Arc<Registry>,
    pub drifts: Arc<Drifts>,
    pub allowances: Arc<Allowances>,
    pub lookout: Lookout,
    pub notices: Arc<Notices>,
    /// The feed's leases are given up when this goes.
    pub replica: Replica,
}

impl Lasting {
    /// Opens the store and everything else that is opened once. Every revocation that matters is in memory when this
    /// answers.
    pub fn open(config: &Config, clock: &SharedClock) -> anyhow::Result<(Self, UpstreamCookies, Courier)> {
        let keyring = keyring(config)?;
        let ids: Vec<String> = config.apps.iter().map(|app| app.id.to_string()).collect();
        let metrics = Arc::new(Metrics::new(&ids));
        let (store, replica) = replica::open(config, clock, &metrics)?;
        let lookout = replica.lookout();
        let auditor = open_auditor(config, &keyring, clock, &SystemRandom, auditing::meters(&metrics))?;
        let auditor = Arc::new(auditor);
        let random: SharedRandom = Arc::new(SystemRandom);
        let (notices, courier) = Notices::new(
            mailer(config)?,
            Arc::clone(&store),
            Arc::clone(clock),
            Arc::clone(&random),
            Arc::clone(&metrics),
        );
        let live = Arc::new(Live::default());
        let tunnels = Registry::new();
        let names = Names::new(config.insecure_cookies);
        // The store answers on a thread of its own: any runtime can wait for it.
        let waiting = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sealer = waiting.block_on(async {
            // Both at once: a shared store is loaded once for all who join together.
            let now = clock.now();
            tokio::try_join!(
                store.follow(Arc::clone(&live) as _, now),
                store.follow(Arc::clone(&tunnels) as _, now),
            )?;
            if let Ok(count) = store.sealed().await
                && count.unknown > 0
            {
                tracing::error!(
                    authenticators = count.unknown,
                    "sealed with keys that are not in the configuration: their users cannot pass; put the keys back"
                );
            }
            let sealer =
                UpstreamCookies::load(keyring, Arc::clone(&store), names.clone(), Arc::clone(clock)).await?;
            if !lookout.is_alone() {
                let names = sealer.names_learned_elsewhere();
                store.follow(Arc::clone(&names), clock.now()).await?;
                // Whatever was learned between the two.
                for (app, name) in store.sealed_names().await? {
                    names.apply(&Revocation::SealedName { app, name });
                }
            }
            Ok::<_, StoreError>(sealer)
        })?;
        let lasting = Self {
            clock: Arc::clone(clock),
            random,
            store,
            live,
            names,
            metrics,
            auditor,
            tunnels,
            drifts: Arc::default(),
            allowances: Arc::default(),
            lookout,
            notices,
            replica,
        };
        Ok((lasting, sealer, courier))
    }
}

/// The mailer of a configuration that has one. Reads the system's roots.
pub(super) fn mailer(config: &Config) -> anyhow::Result<Option<Mailer>> {
    config.mail.clone().map(Mailer::new).transpose().context("mail")
}

/// What follows from one configuration.
pub(super) struct Built {
    pub config: Config,
    pub keyring: Arc<Keyring>,
    pub upstreams: Arc<Upstreams>,
    pub sealer: Arc<UpstreamCookies>,
    gate: Arc<Gate>,
    admissions: Arc<Admissions>,
    pages: Pages,
}

impl Built {
    /// The first one.
    pub fn first(lasting: &Lasting, config: Config, sealer: UpstreamCookies) -> anyhow::Result<Self> {
        let keyring = keyring(&config)?;
        let upstreams = Upstreams::new(config.apps.iter().map(AsRef::as_ref))?;
        Ok(Self::make(lasting, config, keyring, upstreams, sealer))
    }

    /// The next one: what has not changed goes on. Reads files.
    pub fn after(&self, lasting: &Lasting, config: Config) -> anyhow::Result<Self> {
        let keyring = match keyring(&config)? {
            same if same.ids().eq(self.keyring.ids()) => Arc::clone(&self.keyring),
            other => other,
        };
        let upstreams = self.upstreams.after(config.apps.iter().map(AsRef::as_ref))?;
        let sealer = self.sealer.with_keys(Arc::clone(&keyring));
        Ok(Self::make(lasting, config, keyring, upstreams, sealer))
    }

    fn make(
        lasting: &Lasting,
        config: Config,
        keyring: Arc<Keyring>,
        upstreams: Upstreams,
        sealer: UpstreamCookies,
    ) -> Self {
        let Lasting { clock, random, store, live, names, metrics, auditor, drifts, .. } = lasting;
        // A new one each time: what it remembers of cookies was judged by the keys and limits of its configuration.
        let standings = Arc::new(Standings::new(Arc::clone(&keyring), Arc::clone(live)));
        let admissions = Arc::new(
            Admissions::new(
                Arc::clone(store),
                Arc::clone(&keyring),
                Arc::clone(live),
                names.clone(),
                Arc::clone(clock),
                Arc::clone(random),
            )
            .with_prefix(&config.prefix)
            .with_lookout(lasting.lookout.clone())
            .with_allowances(Arc::clone(&lasting.allowances))
            .with_notices(Arc::clone(&lasting.notices)),
        );
        let gate = Arc::new(Gate::new(
            Arc::clone(&standings),
            Arc::clone(&admissions),
            Arc::clone(clock),
            config.prefix.clone(),
        ));
        let totp = Totp::new(Arc::clone(store), Arc::clone(&keyring), Arc::clone(clock));
        let totp = Arc::new(totp.with_drifts(Arc::clone(drifts)));
        let recovery = Arc::new(Recovery::new(Arc::clone(store), Arc::clone(clock), Arc::clone(random)));
        let factors = Factors::new(vec![Arc::clone(&totp) as _, Arc::clone(&recovery) as _]);
        let pages = Pages {
            prefix: config.prefix.as_str().into(),
            standings,
            admissions: Arc::clone(&admissions),
            store: Arc::clone(store),
            factors: Arc::new(factors),
            totp,
            recovery,
            names: names.clone(),
            keyring: Arc::clone(&keyring),
            clock: Arc::clone(clock),
            metrics: Arc::clone(metrics),
            auditor: Arc::clone(auditor),
            notices: Arc::clone(&lasting.notices),
        };
        let (upstreams, sealer) = (Arc::new(upstreams), Arc::new(sealer));
        Self { config, keyring, upstreams, sealer, gate, admissions, pages }
    }

    /// What the administrators' pages work with: the same parts, by other names of cookies.
    pub fn desk_pages(&self, lasting: &Lasting, insecure: bool) -> Pages {
        let names = Names::of_administrators(insecure);
        let admissions = Admissions::new(
            Arc::clone(&lasting.store),
            Arc::clone(&self.keyring),
            Arc::clone(&lasting.live),
            names.clone(),
            Arc::clone(&lasting.clock),
            Arc::clone(&lasting.random),
        );
        Pages {
            prefix: "/.sluis".into(),
            standings: Arc::new(Standings::new(Arc::clone(&self.keyring), Arc::clone(&lasting.live))),
            admissions: Arc::new(
                admissions
                    .with_lookout(lasting.lookout.clone())
                    .with_allowances(Arc::clone(&lasting.allowances))
                    .with_notices(Arc::clone(&lasting.notices)),
            ),
            names,
            ..self.pages.clone()
        }
    }

    /// What a worker's proxy works with.
    pub fn parts(&self, lasting: &Lasting) -> Parts {
        Parts {
            apps: self.config.apps.clone(),
            limits: self.config.limits.clone(),
            trusted_proxies: self.config.trusted_proxies.clone(),
            prefix: self.config.prefix.as_str().into(),
            names: lasting.names.clone(),
            gate: Arc::clone(&self.gate),
            admissions: Arc::clone(&self.admissions),
            sealer: Arc::clone(&self.sealer),
            upstreams: Arc::clone(&self.upstreams),
            tunnels: Arc::clone(&lasting.tunnels),
            pages: web::router(self.pages.clone()),
            clock: Arc::clone(&lasting.clock),
            metrics: Arc::clone(&lasting.metrics),
            auditor: Arc::clone(&lasting.auditor),
        }
    }

    /// One proxy for each worker, and by what each is changed. They share everything but their pools of upstream
    /// connections.
    pub fn proxies(
        &self,
        lasting: &Lasting,
        count: usize,
    ) -> anyhow::Result<(Vec<HttpProxy<Current>>, Vec<Current>)> {
        let conf =
            Arc::new(ServerConf { upstream_keepalive_pool_size: POOL_PER_WORKER, ..ServerConf::default() });
        let make = |_| {
            let current = Current::new(Proxy::new(self.parts(lasting), lasting.random.as_ref())?);
            let mut proxy = HttpProxy::new(current.clone(), Arc::clone(&conf));
            edge::limit(&mut proxy, &self.config.limits);
            proxy.handle_init_modules();
            Ok((proxy, current))
        };
        (0..count).map(make).collect()
    }

    /// What of it concerns the edge.
    pub fn settings(&self) -> edge::Settings {
        edge::Settings {
            limits: self.config.limits.clone(),
            shutdown: self.config.shutdown.clone(),
            trusted_proxies: self.config.trusted_proxies.clone(),
            max_connections: super::descriptors::connections(&self.config.limits),
        }
    }
}

/// Unused upstream connections that one worker keeps.
const POOL_PER_WORKER: usize = 512;
