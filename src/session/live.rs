//! The revocations that still matter, in memory: what a verified request is held against without any look-up
//! in a store. A counter changes with each new revocation, so that a session checked under the same count
//! needs no second check.
//!
//! Applying is monotone: an older epoch never replaces a newer one, of two `before` the later one counts, so the
//! order in which two feeds arrive cannot bring anything back to life. The counter moves *after* the maps have
//! changed: whoever reads the new count sees the new maps, and whoever read the old count before looking at the
//! maps will look again.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use papaya::{HashMap, ResizeMode};

use super::token::{Session, Trust};
use crate::{
    base::clock::UnixMillis,
    metrics::RevocationKind,
    model::{DeviceId, Epoch, Revocation, SessionId, SessionRecord, UserKey},
    store::RevocationSink,
};

/// The live set.
pub struct Live {
    generation: AtomicU64,
    /// Ended sessions, each with the moment from which on it cannot matter any more.
    sessions: Map<SessionId, UnixMillis>,
    /// The epoch that counts, for devices that changed hands.
    devices: Map<DeviceId, Mark<Epoch>>,
    /// Nothing that a user proved before this counts.
    users: Map<UserKey, Mark<UnixMillis>>,
    /// Who is blocked; and who is not any more, so that an older announcement does not block them again.
    blocks: Map<UserKey, Block>,
}

type Map<K, V> = HashMap<K, V, ahash::RandomState>;

/// One that grows in one go, for which only those wait who announce something. Grown bit by bit, as is the default, it is never
/// done with `update_or_insert`, and a look-up goes through a chain of tables: with a million revocations 9 µs instead of
/// 0.2 (`benches/revocations.rs`).
fn map<K, V>() -> Map<K, V> {
    HashMap::builder().hasher(ahash::RandomState::new()).resize_mode(ResizeMode::Blocking).build()
}

impl Default for Live {
    fn default() -> Self {
        Self {
            generation: AtomicU64::default(),
            sessions: map(),
            devices: map(),
            users: map(),
            blocks: map(),
        }
    }
}

/// The newest that was announced about a user's block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    version: u64,
    /// Of two announcements with one version the block counts: `true` is more than `false`.
    blocked: bool,
}

impl Block {
    /// Whether no older announcement can still be on its way.
    fn is_over(&self, now: UnixMillis) -> bool {
        !self.blocked && UnixMillis(self.version).plus(UNBLOCKED_FOR) <= now
    }
}

/// How long it is remembered that somebody is not blocked any more.
const UNBLOCKED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// A limit, and until when it matters. Both only grow.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark<T> {
    limit: T,
    until: UnixMillis,
}

impl<T: Ord + Copy> Mark<T> {
    fn raised(&self, other: &Self) -> Self {
        Self { limit: self.limit.max(other.limit), until: self.until.max(other.until) }
    }
}

impl Live {
    /// Changes with every new revocation. Read it *before* looking at what has been revoked.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether nothing has revoked this session, and its user is not blocked.
    pub fn session_lives(&self, session: &Session) -> bool {
        self.session_stands(session) && !self.is_blocked(&session.user)
    }

    /// Whether nothing has revoked this trust, and its user is not blocked.
    pub fn trust_lives(&self, trust: &Trust) -> bool {
        self.epoch_lives(trust.device, trust.epoch)
            && self.proof_lives(&trust.user, trust.proved_at)
            && !self.is_blocked(&trust.user)
    }

    /// Whether nothing that `user` proved at `at` has been voided since (reset, sign-out everywhere).
    pub fn proof_lives(&self, user: &UserKey, at: UnixMillis) -> bool {
        self.users.pin().get(user).is_none_or(|mark| at >= mark.limit)
    }

    /// Whether a session that has begun may still be alive, as far as revocations tell.
    pub fn record_stands(&self, user: &UserKey, record: &SessionRecord) -> bool {
        !self.has_ended(record.id)
            && self.epoch_lives(record.device, record.epoch)
            && self.proof_lives(user, record.started)
            && !self.is_blocked(user)
    }

    /// Whether the user is blocked.
    pub fn is_blocked(&self, user: &UserKey) -> bool {
        self.blocks.pin().get(user).is_some_and(|block| block.blocked)
    }

    /// Drops what can no longer matter.
    pub fn prune(&self, now: UnixMillis) {
        self.sessions.pin().retain(|_, until| *until > now);
        self.devices.pin().retain(|_, mark| mark.until > now);
        self.users.pin().retain(|_, mark| mark.until > now);
        self.blocks.pin().retain(|_, block| !block.is_over(now));
    }

    /// How many of each kind are held.
    pub fn held(&self) -> [(RevocationKind, usize); 4] {
        [
            (RevocationKind::Session, self.sessions.len()),
            (RevocationKind::Device, self.devices.len()),
            (RevocationKind::User, self.users.len()),
            (RevocationKind::Block, self.blocks.len()),
        ]
    }

    /// How many revocations are held.
    pub fn len(&self) -> usize {
        self.sessions.len() + self.devices.len() + self.users.len() + self.blocks.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing has revoked this session itself; its user may be blocked all the same.
    pub(super) fn session_stands(&self, session: &Session) -> bool {
        !self.has_ended(session.id)
            && self.epoch_lives(session.device, session.epoch)
            && self.proof_lives(&session.user, session.started)
            // The proof can be older than the session (trust): it must have outlived a reset as well.
            && session.proved_at.is_none_or(|at| self.proof_lives(&session.user, at))
    }

    /// Whether this session has been ended.
    pub(super) fn has_ended(&self, id: SessionId) -> bool {
        self.sessions.pin().contains_key(&id)
    }

    /// Whether a token of this epoch still counts on this device (I3).
    pub(super) fn epoch_lives(&self, device: DeviceId, epoch: Epoch) -> bool {
        self.devices.pin().get(&device).is_none_or(|mark| epoch >= mark.limit)
    }
}

impl RevocationSink for Live {
    fn apply(&self, revocation: &Revocation) {
        match revocation {
            Revocation::Session { id, until } => {
                self.sessions.pin().update_or_insert(*id, |old| (*old).max(*until), *until);
            }
            Revocation::Device { device, epoch, until } => {
                let mark = Mark { limit: *epoch, until: *until };
                self.devices.pin().update_or_insert(*device, |old| old.raised(&mark), mark);
            }
            Revocation::User { user, before, until } => {
                let mark = Mark { limit: *before, until: *until };
                self.users.pin().update_or_insert(user.clone(), |old| old.raised(&mark), mark);
            }
            Revocation::Blocked { user, blocked, version } => {
                let block = Block { version: *version, blocked: *blocked };
                self.blocks.pin().update_or_insert(user.clone(), |old| (*old).max(block), block);
            }
            // Ends nothing.
            Revocation::SealedName { .. } => return,
        }
        self.generation.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{AppId, MethodSet, Realm, Terms, UserName};

    fn user(name: &str) -> UserKey {
        UserKey { realm: Realm::new("care"), name: UserName::canonical(name) }
    }

    fn session(id: u8, epoch: u64, started: u64) -> Session {
        Session {
            id: SessionId([id; 16]),
            app: AppId::new("care"),
            user: user("anna"),
            device: DeviceId([9; 16]),
            epoch: Epoch(epoch),
            started: UnixMillis(started),
            seen: UnixMillis(started),
            proved_at: None,
            methods: MethodSet::EMPTY,
            terms: Terms::default(),
            emergency_until: None,
        }
    }

    fn device(epoch: u64, until: u64) -> Revocation {
        Revocation::Device { device: DeviceId([9; 16]), epoch: Epoch(epoch), until: UnixMillis(until) }
    }

    fn before(before: u64, until: u64) -> Revocation {
        Revocation::User { user: user("anna"), before: UnixMillis(before), until: UnixMillis(until) }
    }

    fn block(name: &str, blocked: bool, version: u64) -> Revocation {
        Revocation::Blocked { user: user(name), blocked, version }
    }

    #[test]
    fn each_kind_ends_what_it_names_and_moves_the_generation() {
        let live = Live::default();
        assert!(live.session_lives(&session(1, 3, 100)));
        let mut generation = live.generation();
        let cases = [
            (Revocation::Session { id: SessionId([1; 16]), until: UnixMillis(900) }, session(1, 3, 100)),
            (device(4, 900), session(2, 3, 100)),
            (before(101, 900), session(3, 4, 100)),
            (block("anna", true, 1), session(4, 4, 500)),
        ];
        for (revocation, dead) in cases {
            assert!(live.session_lives(&dead), "before {revocation:?}");
            live.apply(&revocation);
            assert!(!live.session_lives(&dead), "after {revocation:?}");
            assert_ne!(live.generation(), generation);
            generation = live.generation();
        }
        live.apply(&block("anna", false, 2));
        assert!(live.session_lives(&session(4, 4, 500)), "unblocked");
        assert!(!live.session_lives(&session(3, 4, 100)), "what was void before the block stays void");
    }

    #[test]
    fn i3_an_older_epoch_never_replaces_a_newer_one() {
        let live = Live::default();
        live.apply(&device(5, 900));
        live.apply(&device(4, 950));
        assert!(!live.session_lives(&session(1, 4, 0)));
        assert!(live.session_lives(&session(1, 5, 0)));
        live.apply(&before(500, 900));
        live.apply(&before(400, 950));
        assert!(!live.proof_lives(&user("anna"), UnixMillis(450)));
        assert!(live.proof_lives(&user("anna"), UnixMillis(500)));
        live.prune(UnixMillis(920));
        assert!(!live.session_lives(&session(1, 4, 600)), "the later of two ends counts");
    }

    /// Whoever loads the whole and then reads on may be told an older thing after a newer one.
    #[test]
    fn an_older_word_about_a_block_never_replaces_a_newer_one() {
        let (anna, told) = (user("anna"), |list: &[(bool, u64)]| {
            let live = Live::default();
            list.iter().for_each(|(blocked, version)| live.apply(&block("anna", *blocked, *version)));
            live
        });
        for (list, blocked) in [
            (&[(true, 1), (false, 2)][..], false),
            (&[(false, 2), (true, 1)], false),
            (&[(false, 2), (true, 3)], true),
            (&[(true, 3), (false, 2)], true),
            (&[(true, 2), (false, 2)], true),
            (&[(false, 2), (true, 2)], true),
        ] {
            assert_eq!(told(list).is_blocked(&anna), blocked, "{list:?}");
        }
        let live = told(&[(false, 1000)]);
        live.prune(UnixMillis(1000).plus(UNBLOCKED_FOR / 2));
        live.apply(&block("anna", true, 999));
        assert!(!live.is_blocked(&anna), "it is remembered for a while");
        live.prune(UnixMillis(1000).plus(UNBLOCKED_FOR));
        assert!(live.is_empty(), "not for ever");
    }

    #[test]
    fn a_proof_older_than_its_session_must_outlive_a_reset_too() {
        let live = Live::default();
        live.apply(&before(100, 900));
        let by_trust = Session { proved_at: Some(UnixMillis(90)), ..session(1, 0, 100) };
        assert!(!live.session_lives(&by_trust));
        assert!(live.session_lives(&session(1, 0, 100)));
    }

    #[test]
    fn pruning_drops_only_what_is_over_and_never_a_block() {
        let live = Live::default();
        live.apply(&Revocation::Session { id: SessionId([1; 16]), until: UnixMillis(10) });
        live.apply(&Revocation::Session { id: SessionId([2; 16]), until: UnixMillis(11) });
        live.apply(&block("bram", true, 1));
        live.prune(UnixMillis(10));
        assert_eq!(live.len(), 2);
        assert!(live.has_ended(SessionId([2; 16])) && live.is_blocked(&user("bram")));
    }

    #[test]
    fn what_was_announced_is_seen_by_every_later_reader() {
        let live = Arc::new(Live::default());
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let live = Arc::clone(&live);
                scope.spawn(move || {
                    for n in 0..500_u64 {
                        let mut id = [thread; 16];
                        id[..8].copy_from_slice(&n.to_be_bytes());
                        let generation = live.generation();
                        live.apply(&Revocation::Session { id: SessionId(id), until: UnixMillis(1) });
                        live.apply(&device(n, 1));
                        assert!(live.generation() >= generation + 2);
                        assert!(live.has_ended(SessionId(id)));
                        assert!(!live.epoch_lives(DeviceId([9; 16]), Epoch(n.saturating_sub(1))) || n == 0);
                    }
                });
            }
        });
        assert_eq!(live.len(), 2001);
        assert!(live.epoch_lives(DeviceId([9; 16]), Epoch(499)));
    }
}
