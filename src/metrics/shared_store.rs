//! The series of the connections to Redis. With another store they stay as they begin.

use prometheus::{IntCounter, IntGauge, Registry};

use super::{By, Redirect, Went, counters, gauge, labelled, name};

/// What the client of Redis counts. A copy counts in the same series.
#[derive(Clone)]
pub struct RedisMetrics {
    /// `sluis_redis_connects_total{outcome}`
    pub connects: By<Went, IntCounter>,
    /// `sluis_redis_redirects_total{kind}`
    pub redirects: By<Redirect, IntCounter>,
    connections: IntGauge,
    in_flight: IntGauge,
    waiting: IntGauge,
}

/// One more, until it is dropped.
pub struct Counted(IntGauge);

impl Counted {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl RedisMetrics {
    /// Series that nobody looks at: for commands on the command line.
    pub fn unseen() -> Self {
        Self::register(&Registry::new())
    }

    pub(super) fn register(r: &Registry) -> Self {
        let connects = counters(
            r,
            "sluis_redis_connects_total",
            "Connections to a Redis master that were tried, by outcome.",
            &["outcome"],
        );
        let redirects = counters(
            r,
            "sluis_redis_redirects_total",
            "Questions that had to be asked again because the server is not, or not yet, the right one, by kind.",
            &["kind"],
        );
        Self {
            connects: By::new(|o| labelled(&connects, &[name(o)])),
            redirects: By::new(|k| labelled(&redirects, &[name(k)])),
            connections: gauge(
                r,
                "sluis_redis_connections",
                "Connections to Redis masters that are open now.",
            ),
            in_flight: gauge(
                r,
                "sluis_redis_commands_in_flight",
                "Questions to Redis without an answer so far, those that wait for a connection included.",
            ),
            waiting: gauge(
                r,
                "sluis_redis_waiting",
                "Questions that wait because as many as are allowed already wait for replicas of Redis (durability).",
            ),
        }
    }

    /// A connection is open.
    pub fn open(&self) -> Counted {
        Counted::new(&self.connections)
    }

    /// A question is asked.
    pub fn ask(&self) -> Counted {
        Counted::new(&self.in_flight)
    }

    /// Somebody waits for others to be done.
    pub fn wait(&self) -> Counted {
        Counted::new(&self.waiting)
    }
}
