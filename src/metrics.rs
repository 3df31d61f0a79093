//! Every metric's name, unit and labels: nobody else makes a series.
//!
//! All label sets of an app exist, at 0, as soon as the app is known, so that a rate or an alert never waits for
//! a first event. The labels are closed lists (`labels`) and configured app ids; a user, a path or
//! an address is never a label. Series are looked up once and then held: counting costs one atomic addition.
//!
//! Names follow the Prometheus conventions: base units (seconds), `_total` for counters.

mod labels;
mod redis;

use std::{
    collections::HashMap, future::Future, marker::PhantomData, sync::Arc, time::Duration, time::Instant,
};

use parking_lot::RwLock;
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, core::Collector,
};

pub use labels::*;
pub use redis::{Counted, RedisMetrics};

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

/// The series of one app, held by whoever serves it.
pub struct AppMetrics {
    /// `sluis_requests_total{app,outcome}`
    pub requests: By<Answered, IntCounter>,
    /// `sluis_decisions_total{app,reason}`
    pub decisions: By<Reason, IntCounter>,
    /// `sluis_upstream_errors_total{app,kind}`
    pub upstream_errors: By<UpstreamError, IntCounter>,
    /// `sluis_upstream_seconds{app}`: from the request sent to the header of the answer.
    pub upstream_seconds: Histogram,
    /// `sluis_first_factor_total{app,outcome}`
    pub first_factor: By<FirstFactor, IntCounter>,
    /// `sluis_takeovers_total{app}`
    pub takeovers: IntCounter,
    /// `sluis_sessions_started_total{app,ground}`
    pub sessions_started: By<SessionGround, IntCounter>,
    /// `sluis_sessions_ended_total{app}`: by logout or by a new login on the same browser.
    pub sessions_ended: IntCounter,
    /// `sluis_sealed_cookies_total{app,outcome}`
    pub sealed_cookies: By<SealedCookie, IntCounter>,
    /// `sluis_tunnels{app}`: websockets that are open now.
    pub tunnels: IntGauge,
}

/// The series of the store.
pub struct StoreMetrics {
    operations: By<StoreOperation, By<Went, IntCounter>>,
    seconds: By<StoreOperation, Histogram>,
}

impl StoreMetrics {
    /// Counts one operation that took `time`.
    pub fn observe(&self, operation: StoreOperation, time: Duration, ok: bool) {
        self.operations.count(operation, if ok { Went::Ok } else { Went::Failed });
        if let Some(histogram) = self.seconds.get(operation) {
            histogram.observe(time.as_secs_f64());
        }
    }

    /// Awaits one operation and counts it.
    ///
    /// # Errors
    /// What the operation answers.
    pub async fn timed<T, E>(
        &self,
        operation: StoreOperation,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let started = Instant::now();
        let answer = work.await;
        self.observe(operation, started.elapsed(), answer.is_ok());
        answer
    }
}

/// The series of the revocation feed. With a store of one replica they stay as they begin.
pub struct FeedMetrics {
    /// `sluis_feed_lag_entries`: announced, but not applied here.
    pub lag_entries: IntGauge,
    /// `sluis_feed_lag_seconds`: for how long something has been missing.
    pub lag_seconds: Gauge,
    /// `sluis_feed_lease_seconds`: rest of the lease; 0 when it has run out.
    pub lease_rest: Gauge,
    /// `sluis_feed_loads_total{reason}`
    pub loads: By<FeedLoad, IntCounter>,
    /// `sluis_feed_completions_total{outcome}`
    pub completions: By<Went, IntCounter>,
    /// `sluis_feed_completion_seconds`: how long a revocation waited for all replicas.
    pub completion_seconds: Histogram,
    sight: By<FeedSight, IntGauge>,
    sight_seconds: By<FeedSight, Counter>,
    revocations: By<RevocationKind, IntGauge>,
}

impl FeedMetrics {
    fn register(r: &Registry) -> Self {
        let lag_seconds = real_gauge(
            r,
            "sluis_feed_lag_seconds",
            "For how long this replica has been missing an announced revocation, in seconds.",
        );
        let lease_rest = real_gauge(
            r,
            "sluis_feed_lease_seconds",
            "Rest of this replica's lease, in seconds; 0 when it has run out or none is needed.",
        );
        let loads = counters(
            r,
            "sluis_feed_loads_total",
            "Times a shard of the feed was loaded, by reason.",
            &["reason"],
        );
        let completions = counters(
            r,
            "sluis_feed_completions_total",
            "Revocations that waited for all replicas, by outcome.",
            &["outcome"],
        );
        let sight = gauges(
            r,
            "sluis_feed_sight",
            "1 for what this replica knows of revocations: all (clear), or perhaps not all (grace, blind).",
            &["sight"],
        );
        let sight_seconds = sure(CounterVec::new(
            Opts::new("sluis_feed_sight_seconds_total", "Time spent with each sight, in seconds."),
            &["sight"],
        ));
        register(r, &sight_seconds);
        let revocations =
            gauges(r, "sluis_revocations", "Revocations in memory that still matter, by kind.", &["kind"]);
        let feed = Self {
            lag_entries: gauge(
                r,
                "sluis_feed_lag_entries",
                "Revocations that are announced and not yet applied by this replica.",
            ),
            lag_seconds,
            lease_rest,
            loads: By::new(|l| labelled(&loads, &[name(l)])),
            completions: By::new(|o| labelled(&completions, &[name(o)])),
            completion_seconds: histogram(
                r,
                "sluis_feed_completion_seconds",
                "Time until a revocation was applied by all replicas, in seconds.",
                COMPLETION_BUCKETS,
            ),
            sight: By::new(|s| sure(sight.get_metric_with_label_values(&[name(s)]))),
            sight_seconds: By::new(|s| sure(sight_seconds.get_metric_with_label_values(&[name(s)]))),
            revocations: By::new(|k| sure(revocations.get_metric_with_label_values(&[name(k)]))),
        };
        feed.seen(FeedSight::Clear, 0.0);
        feed
    }

    /// The sight is this now, and was for so many seconds.
    pub fn seen(&self, sight: FeedSight, seconds: f64) {
        for other in FeedSight::ALL {
            if let Some(gauge) = self.sight.get(*other) {
                gauge.set(i64::from(*other == sight));
            }
        }
        if let Some(counter) = self.sight_seconds.get(sight) {
            counter.inc_by(seconds);
        }
    }

    /// So many of a kind are in memory.
    pub fn held(&self, kind: RevocationKind, count: usize) {
        if let Some(gauge) = self.revocations.get(kind) {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
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
    /// `sluis_reloads_total{what,outcome}`
    pub reloads: By<Reloaded, By<ReloadOutcome, IntCounter>>,
    /// `sluis_connections{listener}`: open now.
    pub connections: By<Listener, IntGauge>,
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
        let operations = counters(
            r,
            "sluis_store_operations_total",
            "Operations of the store, by outcome.",
            &["operation", "outcome"],
        );
        let seconds = histograms(
            r,
            "sluis_store_seconds",
            "Time that an operation of the store took, in seconds.",
            &["operation"],
            STORE_BUCKETS,
        );
        let reloads = counters(
            r,
            "sluis_reloads_total",
            "Reloads, by what was reloaded and outcome.",
            &["what", "outcome"],
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
            store: StoreMetrics {
                operations: By::new(|op| By::new(|o| labelled(&operations, &[name(op), name(o)]))),
                seconds: By::new(|op| sure(seconds.get_metric_with_label_values(&[name(op)]))),
            },
            feed: FeedMetrics::register(r),
            redis: RedisMetrics::register(r),
            reloads: By::new(|w| By::new(|o| labelled(&reloads, &[name(w), name(o)]))),
            connections: By::new(|l| sure(connections.get_metric_with_label_values(&[name(l)]))),
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
            configuration_loaded: floating(
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

/// The families with an `app` label, from which the series of a new app are made.
struct Families {
    requests: IntCounterVec,
    decisions: IntCounterVec,
    upstream_errors: IntCounterVec,
    upstream_seconds: HistogramVec,
    first_factor: IntCounterVec,
    takeovers: IntCounterVec,
    sessions_started: IntCounterVec,
    sessions_ended: IntCounterVec,
    sealed_cookies: IntCounterVec,
    tunnels: IntGaugeVec,
}

impl Families {
    fn register(r: &Registry) -> Self {
        Self {
            requests: counters(
                r,
                "sluis_requests_total",
                "Requests, by what became of them.",
                &["app", "outcome"],
            ),
            decisions: counters(
                r,
                "sluis_decisions_total",
                "Decisions of the gate, by reason.",
                &["app", "reason"],
            ),
            upstream_errors: counters(
                r,
                "sluis_upstream_errors_total",
                "Failures of an upstream, by kind.",
                &["app", "kind"],
            ),
            upstream_seconds: histograms(
                r,
                "sluis_upstream_seconds",
                "Time from the request sent to the header of the app's answer, in seconds.",
                &["app"],
                UPSTREAM_BUCKETS,
            ),
            first_factor: counters(
                r,
                "sluis_first_factor_total",
                "Watched logins, by outcome.",
                &["app", "outcome"],
            ),
            takeovers: counters(
                r,
                "sluis_takeovers_total",
                "Logins by somebody else than the last owner of the device.",
                &["app"],
            ),
            sessions_started: counters(
                r,
                "sluis_sessions_started_total",
                "Sessions that began, by ground.",
                &["app", "ground"],
            ),
            sessions_ended: counters(
                r,
                "sluis_sessions_ended_total",
                "Sessions ended by logout or by a new login on the same browser.",
                &["app"],
            ),
            sealed_cookies: counters(
                r,
                "sluis_sealed_cookies_total",
                "Cookies of the app, by what became of them.",
                &["app", "outcome"],
            ),
            tunnels: gauges(r, "sluis_tunnels", "Websockets that are open now.", &["app"]),
        }
    }

    fn drop_app(&self, app: &str) {
        drop_each::<Answered, _>(&self.requests, app);
        drop_each::<Reason, _>(&self.decisions, app);
        drop_each::<UpstreamError, _>(&self.upstream_errors, app);
        drop_each::<FirstFactor, _>(&self.first_factor, app);
        drop_each::<SessionGround, _>(&self.sessions_started, app);
        drop_each::<SealedCookie, _>(&self.sealed_cookies, app);
        let _ = self.upstream_seconds.remove_label_values(&[app]);
        let _ = self.takeovers.remove_label_values(&[app]);
        let _ = self.sessions_ended.remove_label_values(&[app]);
        let _ = self.tunnels.remove_label_values(&[app]);
    }

    fn app(&self, app: &str) -> AppMetrics {
        AppMetrics {
            requests: By::new(|o| labelled(&self.requests, &[app, name(o)])),
            decisions: By::new(|reason| labelled(&self.decisions, &[app, name(reason)])),
            upstream_errors: By::new(|kind| labelled(&self.upstream_errors, &[app, name(kind)])),
            upstream_seconds: sure(self.upstream_seconds.get_metric_with_label_values(&[app])),
            first_factor: By::new(|o| labelled(&self.first_factor, &[app, name(o)])),
            takeovers: labelled(&self.takeovers, &[app]),
            sessions_started: By::new(|g| labelled(&self.sessions_started, &[app, name(g)])),
            sessions_ended: labelled(&self.sessions_ended, &[app]),
            sealed_cookies: By::new(|o| labelled(&self.sealed_cookies, &[app, name(o)])),
            tunnels: sure(self.tunnels.get_metric_with_label_values(&[app])),
        }
    }
}

fn drop_each<L: Label, P: prometheus::core::MetricVecBuilder>(
    family: &prometheus::core::MetricVec<P>,
    app: &str,
) {
    for label in L::ALL {
        // One that is not there needs no dropping.
        let _ = family.remove_label_values(&[app, label.name()]);
    }
}

fn name(label: impl Label) -> &'static str {
    label.name()
}

fn floating(registry: &Registry, name: &str, help: &str) -> Gauge {
    let gauge = sure(Gauge::new(name, help));
    register(registry, &gauge);
    gauge
}

fn labelled(family: &IntCounterVec, values: &[&str]) -> IntCounter {
    sure(family.get_metric_with_label_values(values))
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let counter = sure(IntCounter::new(name, help));
    register(registry, &counter);
    counter
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let family = sure(IntCounterVec::new(Opts::new(name, help), labels));
    register(registry, &family);
    family
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let gauge = sure(IntGauge::new(name, help));
    register(registry, &gauge);
    gauge
}

fn real_gauge(registry: &Registry, name: &str, help: &str) -> Gauge {
    let gauge = sure(Gauge::new(name, help));
    register(registry, &gauge);
    gauge
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let family = sure(IntGaugeVec::new(Opts::new(name, help), labels));
    register(registry, &family);
    family
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let histogram = sure(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())));
    register(registry, &histogram);
    histogram
}

fn histograms(registry: &Registry, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let family = sure(HistogramVec::new(opts, labels));
    register(registry, &family);
    family
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: &C) {
    sure(registry.register(Box::new(collector.clone())));
}

#[expect(
    clippy::expect_used,
    reason = "fails only for a bad or double name, all of which stand on this page"
)]
fn sure<T>(made: prometheus::Result<T>) -> T {
    made.expect("metric names and labels are right")
}

/// A decision takes microseconds.
const DECISION_BUCKETS: &[f64] =
    &[0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.01];
/// A durable write takes milliseconds.
const STORE_BUCKETS: &[f64] =
    &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// From one round trip to the end of a long lease.
const COMPLETION_BUCKETS: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
/// Apps answer in milliseconds to minutes.
const UPSTREAM_BUCKETS: &[f64] =
    &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

#[cfg(test)]
mod tests;
