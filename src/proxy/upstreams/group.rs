//! One configured upstream: a name, the servers behind it, and what they have in common.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::HeaderValue;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};

use super::{backend::Backend, dial::Dialer};
use crate::{
    config::app::{Transport, Upstream},
    model::AppId,
};

/// One configured upstream: a name and the servers behind it.
pub(super) struct Group {
    upstream: Upstream,
    transport: Transport,
    pub(super) template: Template,
    pub(super) backends: ArcSwap<Vec<Arc<Backend>>>,
    pub(super) next: AtomicUsize,
}

/// What the servers of a group have in common.
pub(super) struct Template {
    pub(super) peer: HttpPeer,
    /// `Host` when the upstream is called by its own name.
    pub(super) host: Option<HeaderValue>,
    /// Its own name with port, for requests of ours.
    pub(super) own_name: HeaderValue,
    pub(super) health_path: Option<String>,
    pub(super) dialer: Dialer,
}

impl Group {
    /// The one among `known` when nothing about it has changed; else a new one, which takes over what is known of its
    /// servers.
    pub(super) fn make(
        upstream: &Upstream,
        transport: &Transport,
        known: &[Arc<Self>],
    ) -> io::Result<Arc<Self>> {
        let new = Self::new(upstream, transport)?;
        let Some(before) = known.iter().find(|group| group.is_same_server(&new)) else {
            return Ok(Arc::new(new));
        };
        let same_roots = before.template.dialer.own_roots() == new.template.dialer.own_roots();
        if before.transport == *transport && same_roots {
            before.note_addresses(&upstream.addresses);
            return Ok(Arc::clone(before));
        }
        for backend in new.backends.load().iter() {
            let present = before.backends.load();
            if let Some(known) = present.iter().find(|known| known.address == backend.address) {
                // Whether a server is well is known only where somebody goes on asking it.
                backend.take_over(known, transport.health_path.is_some());
            }
        }
        Ok(Arc::new(new))
    }

    fn is_same_server(&self, other: &Self) -> bool {
        let key = |group: &Self| (group.upstream.tls, group.upstream.port);
        key(self) == key(other) && self.upstream.host == other.upstream.host
    }

    pub(super) fn new(upstream: &Upstream, transport: &Transport) -> io::Result<Self> {
        let template = Template::new(upstream, transport)?;
        let group = Self {
            upstream: upstream.clone(),
            transport: transport.clone(),
            template,
            backends: ArcSwap::default(),
            next: AtomicUsize::new(0),
        };
        group.set_addresses(&upstream.addresses);
        Ok(group)
    }

    /// Servers that were there before keep what is known of them.
    pub(super) fn set_addresses(&self, addresses: &[SocketAddr]) {
        let before = self.backends.load();
        let mut backends: Vec<Arc<Backend>> = Vec::with_capacity(addresses.len());
        for address in addresses {
            if backends.iter().any(|backend| backend.address == *address) {
                continue;
            }
            let known = before.iter().find(|backend| backend.address == *address);
            backends.push(
                known.map_or_else(|| Arc::new(Backend::new(*address, &self.template.peer)), Arc::clone),
            );
        }
        self.backends.store(Arc::new(backends));
    }

    /// Takes the addresses that a name has now; true when they are others. None at all changes nothing: a name server
    /// that fails must not take the app down.
    pub(super) fn note_addresses(&self, found: &[SocketAddr]) -> bool {
        let mut found = found.to_vec();
        found.sort_unstable();
        found.dedup();
        let present = self.backends.load();
        let same = found.len() == present.len()
            && found.iter().all(|address| present.iter().any(|backend| backend.address == *address));
        let changed = !found.is_empty() && !same;
        if changed {
            self.set_addresses(&found);
        }
        changed
    }

    pub(super) async fn resolve(&self, app: &AppId) {
        let (host, port) = (self.upstream.host.as_str(), self.upstream.port);
        if is_address(host) {
            return;
        }
        match tokio::net::lookup_host((host, port)).await {
            Ok(found) => {
                let found: Vec<SocketAddr> = found.collect();
                if self.note_addresses(&found) {
                    tracing::info!(%app, host, addresses = ?found, "the addresses of an upstream changed");
                }
            }
            // The old addresses stay.
            Err(error) => tracing::warn!(%app, host, %error, "an upstream's name cannot be resolved"),
        }
    }
}

impl Template {
    pub(super) fn new(upstream: &Upstream, transport: &Transport) -> io::Result<Self> {
        let dialer = Dialer::new(upstream, transport)?;
        let unspecified = SocketAddr::from(([0, 0, 0, 0], upstream.port));
        // The name stands here also when it is an address: pingora verifies nothing without one.
        let mut peer = HttpPeer::new(unspecified, upstream.tls, without_brackets(&upstream.host).to_owned());
        let some = |limit: Duration| (!limit.is_zero()).then_some(limit);
        peer.options.connection_timeout = some(transport.connect_timeout);
        peer.options.total_connection_timeout = some(transport.connect_timeout);
        peer.options.read_timeout = some(transport.read_timeout);
        peer.options.write_timeout = some(transport.write_timeout);
        peer.options.idle_timeout = some(transport.idle_timeout);
        // Upgrades go through `tunnel` or not at all.
        peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        peer.options.verify_cert = transport.verify_certificate;
        peer.options.verify_hostname = transport.verify_certificate;
        peer.options.ca = dialer.authorities();
        // pingora's key of a kept connection does not say by which roots it was verified: this does.
        peer.group_key = dialer.own_roots();
        let default_port = if upstream.tls { 443 } else { 80 };
        let host = if upstream.host.contains(':') && !upstream.host.starts_with('[') {
            format!("[{}]", upstream.host)
        } else {
            upstream.host.clone()
        };
        let own_name = if upstream.port == default_port { host } else { format!("{host}:{}", upstream.port) };
        let own_name = HeaderValue::try_from(own_name).map_err(io::Error::other)?;
        Ok(Self {
            peer,
            host: (!transport.preserve_host).then(|| own_name.clone()),
            own_name,
            health_path: transport.health_path.clone(),
            dialer,
        })
    }
}

/// Whether a host is an address already, with or without brackets.
pub(super) fn is_address(host: &str) -> bool {
    without_brackets(host).parse::<std::net::IpAddr>().is_ok()
}

pub(super) fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}
