//! How a series is made and registered.

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector,
};

use super::labels::Label;

pub(super) fn name(label: impl Label) -> &'static str {
    label.name()
}

pub(super) fn labelled(family: &IntCounterVec, values: &[&str]) -> IntCounter {
    sure(family.get_metric_with_label_values(values))
}

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let counter = sure(IntCounter::new(name, help));
    register(registry, &counter);
    counter
}

pub(super) fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let family = sure(IntCounterVec::new(Opts::new(name, help), labels));
    register(registry, &family);
    family
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let gauge = sure(IntGauge::new(name, help));
    register(registry, &gauge);
    gauge
}

pub(super) fn real_gauge(registry: &Registry, name: &str, help: &str) -> Gauge {
    let gauge = sure(Gauge::new(name, help));
    register(registry, &gauge);
    gauge
}

pub(super) fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let family = sure(IntGaugeVec::new(Opts::new(name, help), labels));
    register(registry, &family);
    family
}

pub(super) fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let histogram = sure(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())));
    register(registry, &histogram);
    histogram
}

pub(super) fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> HistogramVec {
    let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let family = sure(HistogramVec::new(opts, labels));
    register(registry, &family);
    family
}

pub(super) fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: &C) {
    sure(registry.register(Box::new(collector.clone())));
}

#[expect(
    clippy::expect_used,
    reason = "fails only for a bad or double name, all of which stand in this module"
)]
pub(super) fn sure<T>(made: prometheus::Result<T>) -> T {
    made.expect("metric names and labels are right")
}
