//! Every metric's name, unit and labels: nobody else makes a series. Those of an app, of the store and of the feed stand in
//! files of their own.
//!
//! All label sets of an app exist, at 0, as soon as the app is known, so that a rate or an alert never waits for
//! a first event. The labels are closed lists (`labels`) and configured app ids; a user, a path or
//! an address is never a label. Series are looked up once and then held: counting costs one atomic addition.
//!
//! Names follow the Prometheus conventions: base units (seconds), `_total` for counters.

mod apps;
mod feed;
mod labels;
mod mail;
mod series;
mod shared_store;
mod store;

use std::{collections::HashMap, marker::PhantomData, sync::Arc};

use parking_lot::RwLock;
use prometheus::{Gauge, GaugeVec, Histogram, IntCounter, IntGauge, Opts, Registry};

pub use self::{
    apps::AppMetrics,
    feed::FeedMetrics,
    labels::*,
    mail::MailMetrics,
    shared_store::{Counted, RedisMetrics},
    store::StoreMetrics,
};
use self::{
    apps::Families,
    series::{counter, counters, gauge, gauges, histogram, labelled, name, real_gauge, register, sure},
};

use crate::{
    base::clock::UnixMillis,
    model::{AppId, Method},
};

/// `app` of requests that belong to no configured app; no app id has an underscore.
pub const NO_APP: &str = "_none";

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One metric for each value of a label, looked up once.
#[derive(Clone)]
pub struct By<L, M> {
    metrics: Vec<M>,
    label: PhantomData<L>,
}

impl<L: Label, M> By<L, M> {
    fn new(make: impl FnMut(L) -> M) -> Self {
        Self { metrics: L::ALL.iter().copied().map(make).collect(), label: PhantomData }
    }

    /// The metric of one value. (It is always there; the type only spares a panic.)
    pub fn get(&self, label: L) -> Option<&M> {
        self.metrics.get(label.index())
    }
}

impl<L: Label> By<L, IntCounter> {
    /// Counts one.
    pub fn count(&self, label: L) {
        if let Some(counter) = self.get(label) {
            counter.inc();
        }
    }
}

impl<L: Label, M: Label> By<L, By<M, IntCounter>> {
    /// Counts one.
    pub fn count(&self, label: L, other: M) {
        if let Some(counters) = self.get(label) {
            counters.count(other);
        }
    }
}

/// All series, made once and handed to whoever counts.
pub struct Metrics {
    registry: Registry,
    families: Families,
    apps: RwLock<HashMap<String, Arc<AppMetrics>>>,
    no_app: Arc<AppMetrics>,
    /// `sluis_decision_seconds`: the gate's own time for one request.
    pub decision_seconds: Histogram,
    /// `sluis_challenges_total{method,outcome}`
    pub challenges: By<Method, By<Challenge, IntCounter>>,
    /// `sluis_enrolments_total{method,outcome}`
    pub enrolments: By<Method, By<Enrolment, IntCounter>>,
    /// `sluis_lockouts_total{kind}`
    pub lockouts: By<Lockout, IntCounter>,
    /// `sluis_store_operations_total{operation,outcome}` and `sluis_store_seconds{operation}`
    pub store: StoreMetrics,
    /// The series of the revocation feed.
    pub feed: FeedMetrics,
    /// The series of the connections to Redis.
    pub redis: RedisMetrics,
    /// The series of mail.
    pub mail: MailMetrics,
    /// `sluis_reloads_total{what,outcome}`
    pub reloads: By<Reloaded, By<ReloadOutcome, IntCounter>>,
    /// `sluis_connections{listener}`: open now.
    pub connections: By<Listener, IntGauge>,
    /// `sluis_admin_calls_total{outcome}`: calls of the administrators' API.
    pub admin_calls: By<AdminCall, IntCounter>,
    /// `sluis_audit_failures_total`: events that could not be written.
    pub audit_failures: IntCounter,
    /// `sluis_audit_failing`: 1 while the audit log cannot be written.
    pub audit_failing: IntGauge,
    /// `sluis_audit_sequence`: number of the last line of this replica's chain.
    pub audit_sequence: IntGauge,
    /// `sluis_audit_checkpoint_sequence`: number of the last checkpoint.
    pub audit_checkpoint: IntGauge,
    /// `sluis_clock_jumps_total`: jumps of the wall clock against the monotonic one.
    pub clock_jumps: IntCounter,
    /// `sluis_code_drift_seconds`: how far phones are ahead (+) of our clock, in the median over users.
    pub code_drift: IntGauge,
    /// `sluis_draining`: 1 after SIGTERM.
    pub draining: IntGauge,
    certificate_expiry: GaugeVec,
    configuration_loaded: Gauge,
    configuration_differs: IntGauge,
}

impl Metrics {
    /// Registers every series. `apps` are the configured app ids.
    pub fn new(apps: &[String]) -> Self {
        let registry = Registry::new();
        let r = &registry;
        let families = Families::register(r);
        let no_app = Arc::new(families.app(NO_APP));
        let challenges = counters(
            r,
            "sluis_challenges_total",
            "Answers to a second factor, by method and outcome.",
            &["method", "outcome"],
        );
        let enrolments = counters(
            r,
            "sluis_enrolments_total",
            "Enrolments of an authenticator, by method and outcome.",
            &["method", "outcome"],
        );
        let lockouts = counters(
            r,
            "sluis_lockouts_total",
            "Users locked out by wrong answers: for a while (soft) or until an administrator acts (hard).",
            &["kind"],
        );
        let reloads = counters(
            r,
            "sluis_reloads_total",
            "Reloads, by what was reloaded and outcome.",
            &["what", "outcome"],
        );
        let admin_calls = counters(
            r,
            "sluis_admin_calls_total",
            "Calls of the administrators' API, by whether they were let in.",
            &["outcome"],
        );
        let connections =
            gauges(r, "sluis_connections", "Connections that are open now, by listener.", &["listener"]);
        let certificate_expiry = sure(GaugeVec::new(
            Opts::new(
                "sluis_certificate_expiry_seconds",
                "When the certificate in use expires, in seconds since 1970. Only for listeners with TLS.",
            ),
            &["listener"],
        ));
        register(r, &certificate_expiry);
        let build = sure(Gauge::with_opts(
            Opts::new("sluis_build_info", "Always 1; the label says which build runs.")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        ));
        register(r, &build);
        build.set(1.0);

        let metrics = Self {
            decision_seconds: histogram(
                r,
                "sluis_decision_seconds",
                "Time the gate took to decide on one request, in seconds.",
                DECISION_BUCKETS,
            ),
            challenges: By::new(|m: Method| By::new(|o| labelled(&challenges, &[m.name(), name(o)]))),
            enrolments: By::new(|m: Method| By::new(|o| labelled(&enrolments, &[m.name(), name(o)]))),
            lockouts: By::new(|k| labelled(&lockouts, &[name(k)])),
            store: StoreMetrics::register(r),
            feed: FeedMetrics::register(r),
            redis: RedisMetrics::register(r),
            mail: MailMetrics::register(r),
            reloads: By::new(|w| By::new(|o| labelled(&reloads, &[name(w), name(o)]))),
            connections: By::new(|l| sure(connections.get_metric_with_label_values(&[name(l)]))),
            admin_calls: By::new(|o| labelled(&admin_calls, &[name(o)])),
            audit_failures: counter(
                r,
                "sluis_audit_failures_total",
                "Audit events that could not be written.",
            ),
            audit_failing: gauge(r, "sluis_audit_failing", "1 while the audit log cannot be written."),
            audit_sequence: gauge(
                r,
                "sluis_audit_sequence",
                "Number of the last line of this replica's chain of audit lines.",
            ),
            audit_checkpoint: gauge(
                r,
                "sluis_audit_checkpoint_sequence",
                "Number of the last checkpoint in this replica's chain of audit lines.",
            ),
            clock_jumps: counter(
                r,
                "sluis_clock_jumps_total",
                "Jumps of the wall clock by more than 10 s against the monotonic one.",
            ),
            code_drift: gauge(
                r,
                "sluis_code_drift_seconds",
                "How far the clocks of phones are ahead of the server's, in the median over users; 0 while unknown.",
            ),
            draining: gauge(r, "sluis_draining", "1 from SIGTERM on, else 0."),
            configuration_loaded: real_gauge(
                r,
                "sluis_configuration_loaded_timestamp_seconds",
                "When the configuration that runs was loaded, in seconds since 1970.",
            ),
            configuration_differs: gauge(
                r,
                "sluis_configuration_differs",
                "1 when what runs is not what the configuration file says: it was refused, or waits for a restart.",
            ),
            certificate_expiry,
            apps: RwLock::default(),
            no_app,
            families,
            registry,
        };
        for app in apps {
            metrics.app(&AppId::new(app.as_str()));
        }
        metrics
    }

    /// The series of an app; made at 0 when they are new (a reload added the app). Look them up once and hold them.
    pub fn app(&self, app: &AppId) -> Arc<AppMetrics> {
        if let Some(found) = self.apps.read().get(app.as_str()) {
            return found.clone();
        }
        self.apps
            .write()
            .entry(app.as_str().to_owned())
            .or_insert_with(|| Arc::new(self.families.app(app.as_str())))
            .clone()
    }

    /// The series of requests that belong to no app ([`NO_APP`]).
    pub fn no_app(&self) -> &Arc<AppMetrics> {
        &self.no_app
    }

    /// Drops the series of all other apps. Who still counts for one of them counts for nobody.
    pub fn keep_apps(&self, apps: &[AppId]) {
        self.apps.write().retain(|app, _| {
            let kept = apps.iter().any(|id| id.as_str() == app);
            if !kept {
                self.families.drop_app(app);
            }
            kept
        });
    }

    /// A configuration counts from now on; `partly`: something of it waits for a restart.
    pub fn configuration_loaded(&self, now: UnixMillis, partly: bool) {
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit in 53 bits")]
        self.configuration_loaded.set(now.secs() as f64);
        self.configuration_differs.set(i64::from(partly));
    }

    /// What is in the file was refused.
    pub fn configuration_refused(&self) {
        self.configuration_differs.set(1);
    }

    /// Says when the certificate of a listener expires, in seconds since 1970.
    pub fn certificate_expires(&self, listener: Listener, unix_secs: i64) {
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit in 53 bits")]
        sure(self.certificate_expiry.get_metric_with_label_values(&[name(listener)])).set(unix_secs as f64);
    }

    /// All series in the Prometheus text format.
    pub fn render(&self) -> String {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

/// A decision takes microseconds.
const DECISION_BUCKETS: &[f64] =
    &[0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.01];

#[cfg(test)]
mod tests;
