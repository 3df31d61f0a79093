//! What operations looks at, on a listener of its own: `/metrics`, `/livez`, `/readyz`.
//!
//! The probes answer as those of Kubernetes do: 200 or 503 and plain text, with `?verbose` one line for each check.
//! Ready is a replica that has loaded every revocation and accepts, and stays so until it stops. A store that several
//! replicas share is away from all of them at once: were they all unready then, the ingress would refuse connections where
//! Sluis itself can let running sessions go on, show the login page, and say in clear words that it will be back. So
//! after the first load the state of a shared store is shown (`?verbose`, `sluis_feed_sight`) and decides nothing here. A
//! replica that alone is cut off answers 503 as well and stays in: balancers that pass on a 503 to another replica help,
//! an alert on `sluis_feed_sight` tells. The embedded store belongs to one replica: when it fails, that one is
//! unready.
//!
//! They tell no visitor's data and no address of a backend; reasons of failures are in the log.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{HeaderName, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::{clock_watch::ClockWatch, http::connection};
use crate::{
    metrics::{self, Listener, Metrics},
    store::{
        SharedStore,
        feed::{Lookout, Sight},
    },
};

/// Whether this process should get requests. Whoever starts and stops the parts says so here.
pub struct Health {
    store: SharedStore,
    metrics: Arc<Metrics>,
    clock: Option<Arc<ClockWatch>>,
    lookout: Lookout,
    revocations: AtomicBool,
    listening: AtomicBool,
    draining: AtomicBool,
    configuration: Mutex<Option<String>>,
}

impl Health {
    /// Not ready yet.
    pub fn new(store: SharedStore, metrics: Arc<Metrics>) -> Self {
        let no = || AtomicBool::new(false);
        Self {
            store,
            metrics,
            clock: None,
            lookout: Lookout::default(),
            revocations: no(),
            listening: no(),
            draining: no(),
            configuration: Mutex::default(),
        }
    }

    /// Shows what is doubtful about the clock, too; that never makes anything unready.
    pub fn with_clock(mut self, clock: Arc<ClockWatch>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The store is shared with other replicas: what this one knows of it is shown, and no longer makes it unready.
    pub fn with_lookout(mut self, lookout: Lookout) -> Self {
        self.lookout = lookout;
        self
    }

    /// All revocations that matter are in memory.
    pub fn revocations_loaded(&self) {
        self.revocations.store(true, Ordering::Release);
    }

    /// The listeners of the proxy accept.
    pub fn listeners_up(&self) {
        self.listening.store(true, Ordering::Release);
    }

    /// A stop has begun: not ready from now on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.metrics.draining.set(1);
    }

    /// How what runs differs from what is in the configuration file; `None` when it does not. That never makes
    /// anything unready: what runs, runs.
    pub fn set_configuration(&self, differs: Option<String>) {
        *self.configuration.lock() = differs;
    }

    /// Lines that are shown and decide nothing.
    fn notes(&self) -> String {
        let note = |name: &str, doubt: Option<String>| match doubt {
            None => format!("[+]{name} ok\n"),
            Some(doubt) => format!("[!]{name} doubtful: {doubt}\n"),
        };
        let clock =
            self.clock.as_ref().map(|clock| note("clock", clock.doubt().map(|doubt| doubt.to_string())));
        let feed = (!self.lookout.is_alone()).then(|| match self.lookout.sight() {
            Sight::Clear => "[+]feed ok\n",
            Sight::Grace => "[!]feed away: running sessions go on, nobody logs in\n",
            Sight::Blind => "[!]feed blind: nobody with a session passes\n",
        });
        clock.unwrap_or_default()
            + feed.unwrap_or_default()
            + &note("configuration", self.configuration.lock().clone())
    }

    /// Whether a stop has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    async fn checks(&self) -> Vec<(&'static str, Result<(), &'static str>)> {
        let flag = |flag: &AtomicBool, wanted: bool, otherwise| {
            if flag.load(Ordering::Acquire) == wanted { Ok(()) } else { Err(otherwise) }
        };
        let ping = match tokio::time::timeout(PING_TIMEOUT, self.store.ping()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the store does not answer");
                Err("reason withheld")
            }
            Err(_) => Err("no answer in time"),
        };
        // Nobody else would be any better off: see the top of this page.
        let ping =
            if self.lookout.is_alone() || !self.revocations.load(Ordering::Acquire) { ping } else { Ok(()) };
        vec![
            ("store", ping),
            ("revocations", flag(&self.revocations, true, "not loaded yet")),
            ("listeners", flag(&self.listening, true, "not open yet")),
            ("draining", flag(&self.draining, false, "shutting down")),
        ]
    }
}

/// Serves metrics and probes until `stop` becomes true or its sender is gone.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(
    listener: std::net::TcpListener,
    health: Arc<Health>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let open = health.metrics.connections.get(Listener::Operations).cloned();
    let router = router(health);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // out of descriptors, mostly: let some close first
                    tracing::warn!(%error, "the operations listener cannot accept");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
            () = stopped(&mut stop) => return Ok(()),
        };
        let (router, open, mut stop) = (router.clone(), open.clone(), stop.clone());
        tokio::spawn(async move {
            let _place = place;
            if let Some(open) = &open {
                open.inc();
            }
            connection(stream, router, (), async move { stopped(&mut stop).await }).await;
            if let Some(open) = &open {
                open.dec();
            }
        });
    }
}

/// Answers when a stop was asked for.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn router(health: Arc<Health>) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(health)
}

async fn show_metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], health.metrics.render())
}

/// Alive: this answer itself is the check. What does not pass by a restart is no reason to restart.
async fn livez(RawQuery(query): RawQuery) -> impl IntoResponse {
    report("livez", is_verbose(query.as_deref()), &[("ping", Ok(()))], None)
}

async fn readyz(State(health): State<Arc<Health>>, RawQuery(query): RawQuery) -> impl IntoResponse {
    report("readyz", is_verbose(query.as_deref()), &health.checks().await, Some(health.notes()))
}

fn is_verbose(query: Option<&str>) -> bool {
    query.is_some_and(|q| q.split('&').any(|pair| pair == "verbose" || pair.starts_with("verbose=")))
}

type Report = (StatusCode, [(HeaderName, &'static str); 2], String);

/// `note` are lines that are shown but decide nothing.
fn report(name: &str, verbose: bool, checks: &[(&str, Result<(), &str>)], note: Option<String>) -> Report {
    let passed = checks.iter().all(|(_, outcome)| outcome.is_ok());
    let mut text = String::new();
    if verbose || !passed {
        for (check, outcome) in checks {
            text.push_str(&match outcome {
                Ok(()) => format!("[+]{check} ok\n"),
                Err(why) => format!("[-]{check} failed: {why}\n"),
            });
        }
        text.push_str(&note.unwrap_or_default());
        text.push_str(&format!("{name} check {}\n", if passed { "passed" } else { "failed" }));
    } else {
        text.push_str("ok\n");
    }
    let status = if passed { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, text)
}

/// Longer than this a probe does not wait for the store.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Scrapers and probes are few.
const MOST_CONNECTIONS: usize = 64;
/// After a failed accept.
const PAUSE: Duration = Duration::from_millis(100);
