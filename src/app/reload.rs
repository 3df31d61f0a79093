//! A new configuration without a restart: read, built whole beside the old one, then put in its place.
//!
//! Promises: a configuration with any fault is refused as a whole and the old one goes on; until everything new has been
//! made nothing is replaced; each request goes by one configuration from its beginning to its end. Connections,
//! requests, tunnels and sessions go on; what is known of upstreams that did not change stays with them. Requests
//! for an app that is gone are requests for an unknown host, and its tunnels end.
//!
//! What a running process cannot change ([`fixed`]) stays as it was started, is named in a warning, and waits for a
//! restart; everything else of that configuration counts at once.

use std::{path::PathBuf, sync::Arc};

use tokio::{runtime::Handle, sync::mpsc};

use super::{
    build::{Built, Lasting, mailer},
    files::Watch,
    front_desk::FrontDesk,
};
use crate::{
    admin::{api::Api, operations::Operations, probes::Health},
    audit::{Event, Subject},
    config::{self, Config, Faults, Loaded, Print, Reading, Secrets},
    log,
    metrics::{Listener, ReloadOutcome, Reloaded},
    proxy::{Current, edge::SharedSettings},
    store::Rekeyed,
    tls::{self, Certificates},
};

/// Where the configuration comes from.
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// The files on which it depends, as they were before they were read at the start.
    pub files: Vec<(PathBuf, Print)>,
    /// The filter of the log.
    pub log: log::Filter,
}

/// Why the configuration is read again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// SIGHUP.
    Signal,
    /// A file has changed.
    Files,
}

impl Why {
    fn name(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Files => "files",
        }
    }
}

/// The parts of a running server to which a new configuration is told.
pub(super) struct Listeners {
    /// One for each worker.
    pub proxies: Vec<Current>,
    pub settings: SharedSettings,
    pub certificates: Option<Arc<Certificates>>,
    pub admin_certificates: Option<Arc<Certificates>>,
    pub front_desk: Option<Arc<FrontDesk>>,
    pub operations: Option<Arc<Operations>>,
    pub api: Arc<Api>,
    pub health: Arc<Health>,
}

/// Reads the configuration again, whenever it is told to or the files have changed.
pub(super) struct Reloader {
    source: Source,
    lasting: Arc<Lasting>,
    listeners: Listeners,
    /// What cannot change, as it was at the start.
    fixed: Vec<(&'static str, String)>,
    present: Arc<Built>,
}

impl Reloader {
    pub fn new(source: Source, lasting: Arc<Lasting>, present: Built, listeners: Listeners) -> Self {
        let fixed = fixed(&present.config);
        lasting.tunnels.keep(ids(&present.config), present.keyring.ids().collect());
        lasting.metrics.configuration_loaded(lasting.clock.now(), false);
        Self { source, lasting, listeners, fixed, present: Arc::new(present) }
    }

    /// Runs for ever. `asked`: somebody wants it read again.
    pub async fn run(mut self, mut asked: mpsc::UnboundedReceiver<Why>) -> std::io::Result<()> {
        let mut watch = Watch::new(std::mem::take(&mut self.source.files));
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let why = tokio::select! {
                Some(why) = asked.recv() => why,
                _ = look.tick() => {
                    let (looked, changed) = blocking(move || {
                        let changed = watch.has_changed();
                        (watch, changed)
                    })
                    .await?;
                    watch = looked;
                    if !changed {
                        continue;
                    }
                    Why::Files
                }
            };
            watch = self.reload(why).await?;
        }
    }

    async fn reload(&mut self, why: Why) -> std::io::Result<Watch> {
        let file = self.source.file.clone();
        let environment = |name: &str| std::env::var(name).ok();
        let read = move || config::read_file(&file, &environment, Secrets::Needed);
        let Reading { files, outcome } = blocking(read).await?;
        let taken = match outcome {
            Ok(loaded) => self.take(why, loaded).await,
            Err(faults) => Err(faults),
        };
        let (outcome, what) = match taken {
            Ok(()) => (ReloadOutcome::Done, "reloaded"),
            Err(Faults(faults)) => {
                self.refuse(why, &faults);
                (ReloadOutcome::Refused, "reload_refused")
            }
        };
        self.lasting.metrics.reloads.count(Reloaded::Configuration, outcome);
        self.lasting.auditor.record(&Event::Server { what }, &Subject::default());
        Ok(Watch::new(files))
    }

    fn refuse(&self, why: Why, faults: &[String]) {
        for fault in faults {
            tracing::error!(fault, "a fault in the new configuration");
        }
        tracing::error!(
            faults = faults.len(),
            why = why.name(),
            "the new configuration was refused as a whole; the old one goes on"
        );
        self.lasting.metrics.configuration_refused();
        let since = self.lasting.clock.now().rfc3339();
        self.listeners.health.set_configuration(Some(format!("refused at {since}, an earlier one runs")));
    }

    /// Makes everything, and when all is made puts it in place.
    async fn take(&mut self, why: Why, loaded: Loaded) -> Result<(), Faults> {
        let Loaded { config, warnings } = loaded;
        let (present, lasting) = (Arc::clone(&self.present), Arc::clone(&self.lasting));
        let (of_https, of_admin) =
            (self.listeners.certificates.clone(), self.listeners.admin_certificates.clone());
        let (next, pairs, mailer) = blocking(move || {
            let https = config.listen.https.as_ref().map(|https| (&https.certificate_file, &https.key_file));
            let admin = config.listen.admin.as_ref().and_then(|admin| admin.tls.as_ref());
            let admin = admin.map(|tls| (&tls.certificate_file, &tls.key_file));
            let all = [(Listener::Https, of_https.zip(https)), (Listener::Admin, of_admin.zip(admin))];
            let mut pairs = Vec::new();
            for (listener, pair) in all {
                if let Some((present, (certificate, key))) = pair {
                    let ready = present.prepare(certificate, key).map_err(anyhow::Error::msg)?;
                    pairs.push((listener, present, ready));
                }
            }
            let mailer = mailer(&config)?;
            Ok((present.after(&lasting, config)?, pairs, mailer))
        })
        .await
        .map_err(anyhow::Error::from)
        .flatten()
        .map_err(|error| Faults(vec![format!("{}: {error:#}", self.source.file.display())]))?;
        self.change_keys(&next).await?;

        // From here on nothing fails.
        for warning in &warnings {
            tracing::warn!(file = %self.source.file.display(), "{warning}");
        }
        for proxy in &self.listeners.proxies {
            proxy.replace(next.parts(&self.lasting));
        }
        let before = std::mem::replace(&mut self.present, Arc::new(next));
        let (next, lasting) = (&self.present, &self.lasting);
        if !Arc::ptr_eq(&before.keyring, &next.keyring) {
            lasting.auditor.rekey(&next.keyring);
        }
        lasting.tunnels.keep(ids(&next.config), next.keyring.ids().collect());
        self.listeners.settings.replace(next.settings());
        for (listener, certificates, ready) in pairs {
            tls::take(ready, &certificates, listener, &lasting.metrics);
        }
        if let Some(front_desk) = &self.listeners.front_desk {
            front_desk.replace(lasting, next);
        }
        if let Some(operations) = &self.listeners.operations {
            operations.set_apps(next.config.apps.clone());
        }
        self.listeners.api.set(&next.config.admin);
        lasting.notices.replace(mailer);
        self.source.log.set(&next.config.log);
        before.upstreams.retire(&next.upstreams);
        next.upstreams.tend(&Handle::current());
        lasting.metrics.keep_apps(&ids(&next.config));
        self.tell(why, &before.config, &next.config);
        Ok(())
    }

    /// The store seals by the new keys before anybody else does, so that nothing can be left behind.
    async fn change_keys(&self, next: &Built) -> Result<(), Faults> {
        if Arc::ptr_eq(&next.keyring, &self.present.keyring) {
            return Ok(());
        }
        let fault = |text: String| Faults(vec![format!("{}: keys: {text}", self.source.file.display())]);
        match self.lasting.store.rekey(Arc::clone(&next.keyring)).await {
            Ok(Rekeyed::Done { .. }) => Ok(()),
            Ok(Rekeyed::Needed { secrets }) => Err(fault(format!(
                "{secrets} secrets in the store are sealed by a key that is no longer in the list and would be \
                 lost; allowed: the new key in front of the one in use, which can go once that was loaded"
            ))),
            Err(error) => Err(fault(error.to_string())),
        }
    }

    fn tell(&self, why: Why, before: &Config, next: &Config) {
        let not_in = |some: &Config, other: &Config| -> String {
            let other = ids(other);
            let ids = ids(some).into_iter().filter(|id| !other.contains(id));
            ids.map(|id| id.to_string()).collect::<Vec<_>>().join(", ")
        };
        tracing::info!(
            why = why.name(),
            apps = next.apps.len(),
            added = not_in(next, before),
            removed = not_in(before, next),
            "the configuration was reloaded"
        );
        let waiting: Vec<&str> = fixed(next)
            .into_iter()
            .zip(&self.fixed)
            .filter(|((_, new), (_, running))| new != running)
            .map(|((key, _), _)| key)
            .collect();
        let waits = (!waiting.is_empty()).then(|| waiting.join(", "));
        if let Some(keys) = &waits {
            tracing::warn!(
                keys,
                "these keys have changed and wait for a restart; the rest counts from now on"
            );
        }
        self.lasting.metrics.configuration_loaded(self.lasting.clock.now(), waits.is_some());
        let note = waits.map(|keys| format!("waits for a restart: {keys}"));
        self.listeners.health.set_configuration(note);
    }
}

/// The keys that a running process cannot change, with their values.
fn fixed(config: &Config) -> Vec<(&'static str, String)> {
    let listen = &config.listen;
    let https = listen.https.as_ref();
    let http2 = https.filter(|https| https.http2);
    vec![
        ("listen.http", format!("{:?}", listen.http)),
        (
            "listen.https",
            format!("{:?}", https.map(|https| (https.address, https.proxy_protocol, https.http2))),
        ),
        ("listen.operations", format!("{:?}", listen.operations)),
        (
            "listen.admin",
            format!("{:?}", listen.admin.as_ref().map(|admin| (admin.address, admin.tls.is_some()))),
        ),
        ("listen.control", format!("{:?}", listen.control)),
        ("threads", config.threads.to_string()),
        ("insecure_cookies", config.insecure_cookies.to_string()),
        ("store", format!("{:?}", config.store)),
        ("revocation", format!("{:?}", config.revocation)),
        ("audit", format!("{:?}", config.audit)),
        ("log.format", config.log.json.to_string()),
        // pingora takes these two once for HTTP/2.
        ("limits.header_bytes (HTTP/2)", format!("{:?}", http2.map(|_| config.limits.header_bytes))),
        (
            "limits.keepalive_timeout (HTTP/2)",
            format!("{:?}", http2.map(|_| config.limits.keepalive_timeout)),
        ),
    ]
}

fn ids(config: &Config) -> Vec<crate::model::AppId> {
    config.apps.iter().map(|app| app.id.clone()).collect()
}

/// Work that reads files or asks name servers, away from the thread that accepts connections.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)
}

const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(1);
