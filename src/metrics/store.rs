//! The series of the store.

use std::{future::Future, time::Duration};

use prometheus::{Histogram, IntCounter, Registry};

use super::{
    By,
    labels::{StoreOperation, Went},
    series::{counters, histograms, labelled, name, sure},
};
use crate::base::clock::Stopwatch;

/// The series of the store.
pub struct StoreMetrics {
    operations: By<StoreOperation, By<Went, IntCounter>>,
    seconds: By<StoreOperation, Histogram>,
}

impl StoreMetrics {
    pub(super) fn register(r: &Registry) -> Self {
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
        Self {
            operations: By::new(|op| By::new(|o| labelled(&operations, &[name(op), name(o)]))),
            seconds: By::new(|op| sure(seconds.get_metric_with_label_values(&[name(op)]))),
        }
    }

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
        let started = Stopwatch::start();
        let answer = work.await;
        self.observe(operation, started.elapsed(), answer.is_ok());
        answer
    }
}

/// A durable write takes milliseconds.
const STORE_BUCKETS: &[f64] =
    &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
