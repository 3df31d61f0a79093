//! What is kept of one request between pingora's phases. Small: one is made for every request.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use pingora::protocols::http::ServerSession;

use super::{Proxy, arrival::Arrival, edge, failure::Cause, intake::Accepted};
use crate::{
    base::clock::Stopwatch, config::Limits, gate::Permit, metrics::Answered, session::upstream_cookies::Scope,
};

/// One request, and the proxy of the configuration in which it began.
pub struct Taken {
    /// By which it is decided, forwarded and answered, to its end.
    pub proxy: Arc<Proxy>,
    /// How far it is.
    pub ctx: Context,
}

/// One request on its way.
pub struct Context {
    /// When its header had been read.
    pub started: Stopwatch,
    /// From where, and its id; set first of all.
    pub arrival: Option<Arrival>,
    /// Which app; set when it is accepted.
    pub accepted: Option<Accepted>,
    /// Why it may be forwarded; set by the gate.
    pub permit: Option<Permit>,
    /// To what the app's cookies in the answer are sealed.
    pub scope: Option<Scope>,
    /// Cookies of ours that go with the answer, whatever it is.
    pub cookies: Vec<HeaderValue>,
    /// `Host` for an upstream that is called by its own name.
    pub upstream_host: Option<HeaderValue>,
    /// When the request went to the upstream; again at each try.
    pub sent: Option<Stopwatch>,
    /// How long the upstream took to the header of its answer.
    pub upstream_time: Option<Duration>,
    /// Bytes of its body that have come.
    pub body_bytes: u64,
    /// The connection has been told that a body is coming, and not yet that it has ended.
    pub body_open: bool,
    /// The client's connection, when upstream connections belong to one (threats D19).
    pub bound_to: Option<u64>,
    /// How many servers could not be reached.
    pub tries: usize,
    /// What became of it.
    pub answered: Answered,
    /// Why it was refused or failed.
    pub cause: Option<Cause>,
}

impl Context {
    /// For a request whose header has just been read.
    pub fn new() -> Self {
        Self {
            started: Stopwatch::start(),
            arrival: None,
            accepted: None,
            permit: None,
            scope: None,
            cookies: Vec::new(),
            upstream_host: None,
            sent: None,
            upstream_time: None,
            body_bytes: 0,
            body_open: false,
            bound_to: None,
            tries: 0,
            answered: Answered::Refused,
            cause: None,
        }
    }

    /// The body goes on to the app: from now on the connection keeps its minimum rate (threats D20).
    pub fn begin_body(&mut self, session: &ServerSession) {
        if let Some(connection) = edge::of(session) {
            connection.body_begun();
            self.body_open = true;
        }
    }

    /// It has come, or nobody waits for it any more.
    pub fn end_body(&mut self, session: &ServerSession) {
        if std::mem::take(&mut self.body_open)
            && let Some(connection) = edge::of(session)
        {
            connection.body_ended();
        }
    }

    /// Counts a piece of the body. (How fast it comes is watched by the connection.)
    ///
    /// # Errors
    /// When it has become too large (threats D20).
    pub fn count_body(&mut self, bytes: usize, limits: &Limits) -> Result<(), Cause> {
        self.body_bytes = self.body_bytes.saturating_add(bytes as u64);
        let too_large = limits.body_bytes != 0 && self.body_bytes > limits.body_bytes;
        if too_large { Err(Cause::BodyTooLarge) } else { Ok(()) }
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}
