//! The series that each app has of its own.

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{
    By,
    labels::{Answered, FirstFactor, Label, Reason, SealedCookie, SessionGround, UpstreamError},
    series::{counters, gauges, histograms, labelled, name, sure},
};

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

/// The families with an `app` label, from which the series of a new app are made.
pub(super) struct Families {
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
    pub(super) fn register(r: &Registry) -> Self {
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

    pub(super) fn drop_app(&self, app: &str) {
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

    /// The series of one app, at 0 when they are new.
    pub(super) fn app(&self, app: &str) -> AppMetrics {
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

/// Apps answer in milliseconds to minutes.
const UPSTREAM_BUCKETS: &[f64] =
    &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
