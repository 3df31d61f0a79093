//! Who called, and who was refused: counted always, written to the audit log within bounds.
//!
//! Whoever can reach the listener can be refused as often as they like, and must not be able to fill the disk of the log by
//! it: of the refusals of nobody in particular, and of those of each known token, a few are written at once and then
//! one every two seconds; the next line says how many were left out. Calls beyond the rate are counted only. Acts have events of
//! their own, wherever they come from; of calls that only read, the first one in an hour of each token and address is
//! written.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::limiter::Limiter;
use crate::{
    admin::{
        listener::Arrival,
        tokens::{Caller, Worthless},
    },
    audit::{Auditor, Event, Subject},
    base::clock::SharedClock,
    metrics::{AdminCall, Metrics},
};

/// Why a call is refused.
pub(super) enum Refused<'a> {
    /// Nothing was presented.
    NoToken,
    /// A token that is worth nothing.
    Token(&'a Worthless),
    /// A token without the scope of the route.
    Scope(&'a Caller),
}

impl Refused<'_> {
    fn call(&self) -> AdminCall {
        match self {
            Self::NoToken => AdminCall::NoToken,
            Self::Token(Worthless::Unknown) => AdminCall::UnknownToken,
            Self::Token(Worthless::Expired { .. }) => AdminCall::ExpiredToken,
            Self::Token(Worthless::Revoked { .. }) => AdminCall::RevokedToken,
            Self::Scope(_) => AdminCall::Scope,
        }
    }

    /// Id and name of the token, where one is known.
    fn who(&self) -> Option<(&str, &str)> {
        match self {
            Self::NoToken | Self::Token(Worthless::Unknown) => None,
            Self::Token(Worthless::Expired { id, actor } | Worthless::Revoked { id, actor }) => {
                Some((id, actor))
            }
            Self::Scope(caller) => Some((caller.id(), caller.actor())),
        }
    }
}

/// Counts and writes.
pub(super) struct Register {
    auditor: Arc<Auditor>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
    /// Refusals that are written, of each token; `None`: of whoever has none.
    written: Limiter<Option<String>>,
    /// Those that were not.
    left_out: Mutex<HashMap<Option<String>, u64>>,
    /// Calls that are let in, of each token and address.
    used: Limiter<(String, IpAddr)>,
}

impl Register {
    pub fn new(auditor: Arc<Auditor>, metrics: Arc<Metrics>, clock: SharedClock) -> Self {
        let (written, used) = (Limiter::new(REFUSALS_A_MINUTE), Limiter::every(USE_WRITTEN_EVERY));
        Self { auditor, metrics, clock, written, left_out: Mutex::default(), used }
    }

    /// Counts one that is not written.
    pub fn counted(&self, call: AdminCall) {
        self.metrics.admin_calls.count(call);
    }

    /// It is let in. `from`: its address, or the network that one host has for itself.
    pub fn admitted(&self, caller: &Caller, from: IpAddr, arrival: &Arrival) {
        self.counted(AdminCall::Admitted);
        if self.used.charge((caller.id().to_owned(), from), self.clock.now()).is_ok() {
            self.auditor.record(&Event::ApiUsed, &subject(Some(caller.actor()), arrival));
        }
    }

    /// It is not.
    pub fn refused(&self, refused: &Refused<'_>, arrival: &Arrival) {
        let call = refused.call();
        self.counted(call);
        let (id, actor) = refused.who().unzip();
        let id = id.map(str::to_owned);
        if self.written.charge(id.clone(), self.clock.now()).is_err() {
            let mut left_out = self.left_out.lock();
            let count = left_out.entry(id).or_default();
            *count = count.saturating_add(1);
            return;
        }
        let left_out = self.left_out.lock().remove(&id).unwrap_or_default();
        let event = Event::ApiRefused { why: crate::metrics::Label::name(call), left_out };
        self.auditor.record(&event, &subject(actor, arrival));
    }
}

fn subject(actor: Option<&str>, arrival: &Arrival) -> Subject {
    Subject {
        actor: actor.map(str::to_owned),
        client: Some(arrival.client),
        request_id: Some(arrival.request_id.clone()),
        ..Subject::default()
    }
}

/// Written of each token, and of all that have none together: some 25 MB a day while somebody keeps at it.
const REFUSALS_A_MINUTE: u32 = 30;
const USE_WRITTEN_EVERY: Duration = Duration::from_hours(1);
