//! The tunnels that are open now, so that a revocation ends them at once (design, section 7; I3).
//!
//! A tunnel is opened once and then asks nobody; without this, a websocket would outlive its session. So each one
//! says on whose behalf it runs, and every announced revocation ends those that it concerns.
//!
//! To leave no gap, enter *before* the session is looked at for the last time: a revocation then either is seen by
//! that look, or finds the entry.
//!
//! A tunnel outlives a change of the configuration, too, unless its app is gone, or the key that signed its session.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    base::{clock::UnixMillis, keyring::KeyId},
    model::{AppId, DeviceId, Epoch, Revocation, SessionId, UserKey},
    session::standing::LiveSession,
    store::{
        RevocationSink,
        feed::{Lookout, Sight},
    },
};

/// On whose behalf a tunnel runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The key that signed the session.
    pub key: KeyId,
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

impl From<&LiveSession> for Owner {
    fn from(live: &LiveSession) -> Self {
        let session = live.session();
        Self {
            key: live.signed_by(),
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

/// What the present configuration has.
struct Present {
    apps: Vec<AppId>,
    keys: Vec<KeyId>,
}

impl Present {
    fn has(&self, app: &AppId, owner: Option<&Owner>) -> bool {
        self.apps.contains(app) && owner.is_none_or(|owner| self.keys.contains(&owner.key))
    }
}

struct Open {
    app: AppId,
    /// `None` on an anonymous path: then no revocation ends it.
    owner: Option<Owner>,
    end: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    open: HashMap<u64, Open, ahash::RandomState>,
    /// `None` until somebody has said it.
    present: Option<Present>,
}

/// All open tunnels of this process.
#[derive(Default)]
pub struct Registry {
    state: Mutex<State>,
    next: AtomicU64,
}

impl Registry {
    /// None yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Enters a tunnel to this app; it is listed until the answer is dropped. Without an owner (an anonymous path) no
    /// revocation ends it.
    pub fn enter(self: &Arc<Self>, app: &AppId, owner: Option<Owner>) -> Entry {
        let (end, ended) = watch::channel(false);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        if state.present.as_ref().is_some_and(|present| !present.has(app, owner.as_ref())) {
            // It was permitted just before the configuration changed.
            end.send_replace(true);
        }
        state.open.insert(id, Open { app: app.clone(), owner, end });
        Entry { ended, registry: Arc::clone(self), id }
    }

    /// The configuration has changed: ends the tunnels to apps that it does not have, and those of sessions that a key
    /// signed which it does not have.
    pub fn keep(&self, apps: Vec<AppId>, keys: Vec<KeyId>) {
        let mut state = self.state.lock();
        let present = Present { apps, keys };
        for open in state.open.values().filter(|open| !present.has(&open.app, open.owner.as_ref())) {
            open.end.send_replace(true);
        }
        state.present = Some(present);
    }

    /// Ends every tunnel that belongs to somebody whenever this replica may have missed a revocation: a tunnel asks
    /// nobody again.
    pub async fn end_when_blind(self: Arc<Self>, lookout: Lookout) {
        if lookout.is_alone() {
            return;
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if lookout.sight() == Sight::Blind {
                for open in self.state.lock().open.values().filter(|open| open.owner.is_some()) {
                    open.end.send_replace(true);
                }
            }
        }
    }

    /// How many are open that belong to somebody.
    pub fn len(&self) -> usize {
        self.state.lock().open.values().filter(|open| open.owner.is_some()).count()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How often it is looked whether this replica is blind.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl RevocationSink for Registry {
    fn apply(&self, revocation: &Revocation) {
        for open in self.state.lock().open.values() {
            if open.owner.as_ref().is_some_and(|owner| owner.is_ended_by(revocation)) {
                open.end.send_replace(true);
            }
        }
    }
}

/// A tunnel's place in the registry.
pub struct Entry {
    ended: watch::Receiver<bool>,
    registry: Arc<Registry>,
    id: u64,
}

impl Entry {
    /// Whether it is to end.
    pub fn is_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Waits until it is to end.
    pub async fn ended(&mut self) {
        if self.ended.wait_for(|ended| *ended).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.state.lock().open.remove(&self.id);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{Realm, UserName};

    pub(in crate::proxy::tunnel) fn owner(name: &str, device: u8) -> Owner {
        Owner {
            key: [1; 4],
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
            let entry = registry.enter(&AppId::new("ecd"), Some(owner("anna", 1)));
            let anonymous = registry.enter(&AppId::new("ecd"), None);
            registry.apply(&revocation);
            assert_eq!(entry.is_ended(), ends, "{revocation:?}");
            assert!(!anonymous.is_ended());
            assert_eq!(registry.len(), 1);
            drop(entry);
            assert!(registry.is_empty());
        }
    }
    #[test]
    fn what_the_configuration_no_longer_has_ends() {
        let registry = Registry::new();
        let (ecd, wiki) = (AppId::new("ecd"), AppId::new("wiki"));
        let by_new_key = Owner { key: [2; 4], ..owner("bram", 2) };
        let all = [
            registry.enter(&ecd, Some(owner("anna", 1))),
            registry.enter(&ecd, None),
            registry.enter(&wiki, Some(owner("anna", 1))),
            registry.enter(&wiki, None),
            registry.enter(&ecd, Some(by_new_key)),
        ];
        let ended = || all.each_ref().map(Entry::is_ended);
        registry.keep(vec![ecd.clone(), wiki.clone()], vec![[1; 4], [2; 4]]);
        assert_eq!(ended(), [false; 5]);
        registry.keep(vec![ecd.clone()], vec![[1; 4], [2; 4]]);
        assert_eq!(ended(), [false, false, true, true, false], "an app is gone");
        registry.keep(vec![ecd.clone()], vec![[2; 4]]);
        assert_eq!(ended(), [true, false, true, true, false], "a key is gone");
        // One that was permitted before, and is entered after.
        assert!(registry.enter(&wiki, None).is_ended());
        assert!(registry.enter(&ecd, Some(owner("anna", 1))).is_ended());
        assert!(!registry.enter(&ecd, None).is_ended());
    }
}
