//! Which server of an app gets a request.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderValue;
use pingora::upstreams::peer::HttpPeer;

use crate::config::App;

/// The upstream that was chosen for a request.
pub struct Chosen {
    /// How it is reached.
    pub peer: Box<HttpPeer>,
    /// `Host` when it is called by its own name instead of the client's.
    pub host: Option<HeaderValue>,
}

/// Where the apps run.
#[derive(Default)]
pub struct Upstreams {
    next: AtomicUsize,
}

impl Upstreams {
    /// One that takes them in turn.
    pub fn new() -> Self {
        Self::default()
    }

    /// An upstream of the app; `None` when none is well.
    pub fn choose(&self, app: &App) -> Option<Chosen> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let upstream = app.upstreams.get(turn.checked_rem(app.upstreams.len())?)?;
        let address = upstream.addresses.first()?;
        let mut peer = Box::new(HttpPeer::new(*address, upstream.tls, upstream.host.clone()));
        let transport = &app.transport;
        peer.options.connection_timeout = Some(transport.connect_timeout);
        peer.options.total_connection_timeout = Some(transport.connect_timeout);
        peer.options.read_timeout = Some(transport.read_timeout);
        peer.options.write_timeout = Some(transport.write_timeout);
        peer.options.idle_timeout = Some(transport.idle_timeout);
        peer.options.verify_cert = transport.verify_certificate;
        peer.options.verify_hostname = transport.verify_certificate;
        let host = match transport.preserve_host {
            true => None,
            false => HeaderValue::from_str(&format!("{}:{}", upstream.host, upstream.port)).ok(),
        };
        Some(Chosen { peer, host })
    }
}
