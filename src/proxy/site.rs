//! One app as the proxy needs it: what follows from its configuration, worked out once for each configuration.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ahash::AHashMap;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora::upstreams::peer::{HttpPeer, Peer as _};

use super::{
    failure::Cause,
    headers::Managed,
    upstreams::{Chosen, Pool, Server, Upstreams},
};
use crate::{
    config::App,
    metrics::{AppMetrics, Metrics},
    session::standing::LiveSession,
};

/// One protected app.
pub struct Site {
    /// Its configuration.
    pub app: Arc<App>,
    /// Request headers that no client may send.
    pub managed: Managed,
    /// Its counters.
    pub metrics: Arc<AppMetrics>,
    /// Where it runs.
    pub pool: Option<Arc<Pool>>,
    /// What tells the app who the user is.
    identity: Vec<(Bytes, Tells)>,
    /// The app authenticates connections (NTLM, Negotiate): upstream connections are not shared (threats D19).
    binds_connections: AtomicBool,
}

/// What an identity header carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tells {
    User,
    Methods,
    ProvedAt,
}

impl Site {
    /// Works out what is needed for each request.
    pub fn new(app: Arc<App>, metrics: &Metrics, upstreams: &Upstreams) -> Self {
        let told = [
            (&app.headers.user, Tells::User),
            (&app.headers.methods, Tells::Methods),
            (&app.headers.proved_at, Tells::ProvedAt),
        ];
        let identity =
            told.into_iter().filter_map(|(name, tells)| Some((titled(name.as_ref()?), tells))).collect();
        Self {
            managed: Managed::new(&app.headers),
            metrics: metrics.app(&app.id),
            pool: upstreams.pool(&app.id).cloned(),
            identity,
            binds_connections: AtomicBool::new(false),
            app,
        }
    }

    /// The identity headers of a session: rendered at its first request, then kept with it.
    pub fn identity<'a>(
        &'a self,
        live: &'a LiveSession,
    ) -> impl Iterator<Item = (&'a Bytes, &'a HeaderValue)> {
        let session = live.session();
        let values = live.rendered.get_or_init(|| {
            let render = |(name, tells): &(Bytes, Tells)| {
                let text = match tells {
                    Tells::User => session.user.name.as_str().to_owned(),
                    Tells::Methods if session.emergency_until.is_some() => "emergency".to_owned(),
                    Tells::Methods if session.proved_at.is_none() => "exempt".to_owned(),
                    Tells::Methods => session.methods.iter().map(|m| m.name()).collect::<Vec<_>>().join(","),
                    Tells::ProvedAt => session.proved_at.map(|at| at.rfc3339()).unwrap_or_default(),
                };
                // What cannot stand in a header is sent empty: never left to the client, never guessed.
                let value = HeaderValue::from_bytes(text.as_bytes()).unwrap_or(HeaderValue::from_static(""));
                let name = HeaderName::from_bytes(name).unwrap_or(http::header::WARNING);
                (name, value)
            };
            self.identity.iter().map(render).collect()
        });
        self.identity.iter().map(|(name, _)| name).zip(values.iter().map(|(_, value)| value))
    }

    /// A server for a request.
    ///
    /// # Errors
    /// When the app has none whose address is known.
    pub fn choose(&self) -> Result<Chosen<'_>, Cause> {
        self.pool.as_ref().and_then(|pool| pool.choose()).ok_or(Cause::NoUpstream)
    }

    /// The same for a request that does not go through pingora's connector.
    ///
    /// # Errors
    /// When the app has none whose address is known.
    pub fn pick(&self) -> Result<Server<'_>, Cause> {
        self.pool.as_ref().and_then(|pool| pool.pick()).ok_or(Cause::NoUpstream)
    }

    /// Notes that a connection to a server failed before anything was sent. Whether another one can be tried.
    pub fn failed(&self, peer: &HttpPeer) -> bool {
        match (&self.pool, peer.address().as_inet()) {
            (Some(pool), Some(address)) => pool.failed(*address),
            _ => false,
        }
    }

    /// Notes that a connection to a server came about.
    pub fn succeeded(&self, peer: &HttpPeer) {
        if let (Some(pool), Some(address)) = (&self.pool, peer.address().as_inet()) {
            pool.succeeded(*address);
        }
    }

    /// Whether the app authenticates connections instead of requests.
    pub fn binds_connections(&self) -> bool {
        self.binds_connections.load(Ordering::Relaxed)
    }

    /// Notes that it does.
    pub fn note_bound_connections(&self) {
        if !self.binds_connections.swap(true, Ordering::Relaxed) {
            tracing::info!(
                app = %self.app.id,
                "the app authenticates connections (NTLM or Negotiate): its connections are no longer shared"
            );
        }
    }
}

/// The apps by host.
pub struct Sites {
    sites: Vec<Site>,
    by_host: AHashMap<String, usize>,
    other: Option<usize>,
}

impl Sites {
    /// Puts it together.
    pub fn new(apps: Vec<Arc<App>>, metrics: &Metrics, upstreams: &Upstreams) -> Self {
        let mut by_host = AHashMap::new();
        let mut other = None;
        for (place, app) in apps.iter().enumerate() {
            for host in &app.hosts {
                if host == "*" {
                    other = Some(place);
                } else {
                    by_host.insert(host.clone(), place);
                }
            }
        }
        let sites = apps.into_iter().map(|app| Site::new(app, metrics, upstreams)).collect();
        Self { sites, by_host, other }
    }

    /// Takes over what was learned of the same apps under an earlier configuration.
    pub fn remember(&self, before: &Self) {
        for site in &self.sites {
            let known = before.sites.iter().find(|known| known.app.id == site.app.id);
            if known.is_some_and(Site::binds_connections) {
                site.binds_connections.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The place of the app that serves a canonical host.
    pub fn find(&self, host: &str) -> Option<usize> {
        self.by_host.get(host).copied().or(self.other)
    }

    /// The app at a place.
    pub fn get(&self, place: usize) -> Option<&Site> {
        self.sites.get(place)
    }
}

/// `remote-user` → `Remote-User`: some old apps read names by case.
fn titled(name: &HeaderName) -> Bytes {
    let mut after_dash = true;
    let titled = name.as_str().chars().map(|c| {
        let c = if after_dash { c.to_ascii_uppercase() } else { c };
        after_dash = c == '-';
        c
    });
    titled.collect::<String>().into()
}

/// How many servers are tried for one request.
pub const MOST_TRIES: usize = 3;
