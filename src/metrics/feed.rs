//! The series of the revocation feed.

use prometheus::{Counter, CounterVec, Gauge, Histogram, IntCounter, IntGauge, Opts, Registry};

use super::{
    By,
    labels::{FeedLoad, FeedSight, Label, RevocationKind, Went},
    series::{counters, gauge, gauges, histogram, labelled, name, real_gauge, register, sure},
};

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
    pub(super) fn register(r: &Registry) -> Self {
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

/// From one round trip to the end of a long lease.
const COMPLETION_BUCKETS: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
