//! The tunnels that are open now, so that a revocation ends them at once (design, section 7; I3).
//!
//! A tunnel is opened once and then asks nobody; without this, a websocket would outlive its session. So each one
//! says on whose behalf it runs, and every announced revocation ends those that it concerns.
//!
//! To leave no gap, enter *before* the session is looked at for the last time: a revocation then either is seen by
//! that look, or finds the entry.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    base::clock::UnixMillis,
    model::{DeviceId, Epoch, Revocation, SessionId, UserKey},
    session::token::Session,
    store::RevocationSink,
};

/// On whose behalf a tunnel runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The session.
    pub session: SessionId,
    /// Who.
    pub user: UserKey,
    /// On which device.
    pub device: DeviceId,
    /// The device's epoch in which the session was made.
    pub epoch: Epoch,
    /// When the session began.
    pub started: UnixMillis,
}

impl From<&Session> for Owner {
    fn from(session: &Session) -> Self {
        Self {
            session: session.id,
            user: session.user.clone(),
            device: session.device,
            epoch: session.epoch,
            started: session.started,
        }
    }
}

impl Owner {
    fn is_ended_by(&self, revocation: &Revocation) -> bool {
        match revocation {
            Revocation::Session { id, .. } => self.session == *id,
            Revocation::Device { device, epoch, .. } => self.device == *device && self.epoch < *epoch,
            Revocation::User { user, before, .. } => self.user == *user && self.started < *before,
            Revocation::Blocked { user, blocked, .. } => *blocked && self.user == *user,
            Revocation::SealedName { .. } => false,
        }
    }
}

/// All open tunnels of this process.
#[derive(Default)]
pub struct Registry {
    live: Mutex<HashMap<u64, (Owner, watch::Sender<bool>), ahash::RandomState>>,
    next: AtomicU64,
}

impl Registry {
    /// None yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Enters a tunnel; it is listed until the answer is dropped. Without an owner (an anonymous path) nothing
    /// ends it.
    pub fn enter(self: &Arc<Self>, owner: Option<Owner>) -> Entry {
        let (end, ended) = watch::channel(false);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        match owner {
            Some(owner) => {
                self.live.lock().insert(id, (owner, end));
                Entry { ended, listed: Some((Arc::clone(self), id)) }
            }
            None => Entry { ended, listed: None },
        }
    }

    /// How many are open that belong to somebody.
    pub fn len(&self) -> usize {
        self.live.lock().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl RevocationSink for Registry {
    fn apply(&self, revocation: &Revocation) {
        for (owner, end) in self.live.lock().values() {
            if owner.is_ended_by(revocation) {
                end.send_replace(true);
            }
        }
    }
}

/// A tunnel's place in the registry.
pub struct Entry {
    ended: watch::Receiver<bool>,
    listed: Option<(Arc<Registry>, u64)>,
}

impl Entry {
    /// Whether it has been revoked.
    pub fn is_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Waits until it is revoked; for ever without an owner.
    pub async fn ended(&mut self) {
        if self.ended.wait_for(|ended| *ended).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some((registry, id)) = self.listed.take() {
            registry.live.lock().remove(&id);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{Realm, UserName};

    pub(in crate::proxy::tunnel) fn owner(name: &str, device: u8) -> Owner {
        Owner {
            session: SessionId([device; 16]),
            user: user(name),
            device: DeviceId([device; 16]),
            epoch: Epoch(1),
            started: UnixMillis(1000),
        }
    }

    pub(in crate::proxy::tunnel) fn user(name: &str) -> UserKey {
        UserKey { realm: Realm::new("care"), name: UserName::canonical(name) }
    }

    #[test]
    fn i3_a_revocation_ends_the_tunnels_that_it_concerns_and_no_others() {
        let until = UnixMillis(u64::MAX);
        let device = |device: u8, epoch| Revocation::Device {
            device: DeviceId([device; 16]),
            epoch: Epoch(epoch),
            until,
        };
        let by_user = |name, before| Revocation::User { user: user(name), before: UnixMillis(before), until };
        let block = |name, blocked| Revocation::Blocked { user: user(name), blocked, version: 1 };
        let session = |id: u8| Revocation::Session { id: SessionId([id; 16]), until };
        for (revocation, ends) in [
            (session(1), true),
            (session(2), false),
            (device(1, 2), true),
            (device(1, 1), false),
            (device(2, 2), false),
            (by_user("anna", 1001), true),
            (by_user("anna", 1000), false),
            (by_user("bram", 1001), false),
            (block("anna", true), true),
            (block("anna", false), false),
            (block("bram", true), false),
        ] {
            let registry = Registry::new();
            let entry = registry.enter(Some(owner("anna", 1)));
            let anonymous = registry.enter(None);
            registry.apply(&revocation);
            assert_eq!(entry.is_ended(), ends, "{revocation:?}");
            assert!(!anonymous.is_ended());
            assert_eq!(registry.len(), 1);
            drop(entry);
            assert!(registry.is_empty());
        }
    }
}
