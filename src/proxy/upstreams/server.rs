//! The server that a request was given, in the two forms in which it is wanted.

use std::{io, sync::Arc, time::Duration};

use http::HeaderValue;
use pingora::upstreams::peer::HttpPeer;

use super::{Pool, backend::Backend, group::Group};
use crate::proxy::edge;

/// A server for one request.
pub struct Chosen<'a> {
    /// For pingora; the caller may change options of it.
    pub peer: Box<HttpPeer>,
    /// What to send as `Host`; `None` = what the client sent.
    pub host: Option<HeaderValue>,
    group: &'a Group,
}

impl<'a> Chosen<'a> {
    pub(super) fn new(group: &'a Group, backend: &Backend) -> Self {
        Self { peer: Box::new(backend.peer.clone()), host: group.template.host.clone(), group }
    }

    /// Connects to it, outside of pingora's pool: for tunnels. Within the app's connect time-out.
    ///
    /// # Errors
    /// When no connection comes about in time.
    pub async fn dial(&self) -> io::Result<edge::Transport> {
        use pingora::upstreams::peer::Peer;
        let address = self.peer.address().as_inet().copied().ok_or(io::ErrorKind::InvalidInput)?;
        self.group.template.dialer.dial(address).await
    }
}

/// A server for one request that does not go through pingora's connector.
pub struct Server<'a> {
    pub(super) pool: &'a Pool,
    pub(super) group: &'a Group,
    pub(super) backend: Arc<Backend>,
}

/// How long parts of an exchange may take; `None` = for ever.
#[derive(Clone, Copy)]
pub struct Times {
    /// Silence of the server.
    pub read: Option<Duration>,
    /// Sending the request.
    pub write: Option<Duration>,
    /// A connection that is kept unused.
    pub idle: Option<Duration>,
}

impl Server<'_> {
    /// Which one it is: connections to it serve no other.
    pub fn id(&self) -> u64 {
        self.backend.id
    }

    /// What to send as `Host`; `None` = what the client sent.
    pub fn host(&self) -> Option<HeaderValue> {
        self.group.template.host.clone()
    }

    /// The app's time-outs.
    pub fn times(&self) -> Times {
        let options = &self.group.template.peer.options;
        Times { read: options.read_timeout, write: options.write_timeout, idle: options.idle_timeout }
    }

    /// Connects, within the app's connect time-out.
    ///
    /// # Errors
    /// When no connection comes about in time.
    pub async fn dial(&self) -> io::Result<edge::Transport> {
        self.group.template.dialer.dial(self.backend.address).await
    }

    /// Notes that a connection came about.
    pub fn succeeded(&self) {
        self.pool.succeeded(self.backend.address);
    }

    /// Notes that none did. Whether another server can be tried.
    pub fn failed(&self) -> bool {
        self.pool.failed(self.backend.address)
    }
}
