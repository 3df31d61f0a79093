//! A small cache of live sessions, keyed by the whole session cookie and the whole device cookie.
//!
//! It answers "these very bytes were verified before", nothing more: whoever hits must still look at age, app and
//! revocation. Only verified sessions get in, so nobody without a genuine cookie can push others out. Its size is
//! fixed: sets of [`WAYS`] places, chosen by a keyed hash; a full set gives up its places in turn. Reading and
//! writing take no lock.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use arc_swap::ArcSwapOption;

use super::standing::LiveSession;

/// Places in a set.
const WAYS: usize = 8;
/// Sets; a power of two. 64 Ki places in all.
const SETS: usize = 8192;

/// The cache.
pub(super) struct Cache {
    hasher: ahash::RandomState,
    sets: Box<[Set]>,
}

#[derive(Default)]
struct Set {
    /// The hash of what stands in each place, to look at no other. Only a hint: the cookies are compared.
    tags: [AtomicU64; WAYS],
    places: [ArcSwapOption<LiveSession>; WAYS],
    next: AtomicUsize,
}

impl Cache {
    pub fn new() -> Self {
        Self::with_sets(SETS)
    }

    fn with_sets(sets: usize) -> Self {
        Self { hasher: ahash::RandomState::new(), sets: (0..sets.max(1)).map(|_| Set::default()).collect() }
    }

    /// The session of exactly these two cookies.
    pub fn get(&self, session: &str, device: &str) -> Option<Arc<LiveSession>> {
        let tag = self.tag(session);
        let set = self.set(tag)?;
        for (mark, place) in set.tags.iter().zip(&set.places) {
            if mark.load(Ordering::Acquire) == tag {
                let found = place.load();
                if let Some(live) = found.as_ref().filter(|live| live.is_of(session, device)) {
                    return Some(Arc::clone(live));
                }
            }
        }
        None
    }

    /// Keeps a session; it takes the place of one with the same session cookie, else of any other in a full set.
    pub fn put(&self, live: &Arc<LiveSession>) {
        let tag = self.tag(live.session_cookie());
        let Some(set) = self.set(tag) else { return };
        let place = set.find(tag).or_else(|| set.find(0)).unwrap_or_else(|| {
            // In turn, which is as good as chance here: the hash scatters sessions over the sets.
            set.next.fetch_add(1, Ordering::Relaxed) % WAYS
        });
        if let (Some(mark), Some(place)) = (set.tags.get(place), set.places.get(place)) {
            place.store(Some(Arc::clone(live)));
            mark.store(tag, Ordering::Release);
        }
    }

    /// Drops a session that is dead.
    pub fn remove(&self, live: &Arc<LiveSession>) {
        let tag = self.tag(live.session_cookie());
        let Some(set) = self.set(tag) else { return };
        for (mark, place) in set.tags.iter().zip(&set.places) {
            if mark.load(Ordering::Acquire) == tag {
                let old = place.compare_and_swap(live, None);
                if old.as_ref().is_some_and(|old| Arc::ptr_eq(old, live)) {
                    mark.store(0, Ordering::Release);
                }
            }
        }
    }

    /// Never 0, which marks an empty place.
    fn tag(&self, session: &str) -> u64 {
        self.hasher.hash_one(session) | 1
    }

    fn set(&self, tag: u64) -> Option<&Set> {
        let index = usize::try_from(tag >> 32).ok()? % self.sets.len();
        self.sets.get(index)
    }
}

impl Set {
    fn find(&self, tag: u64) -> Option<usize> {
        self.tags.iter().position(|mark| mark.load(Ordering::Relaxed) == tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(n: u32) -> Arc<LiveSession> {
        LiveSession::for_cache_test(&format!("session-{n}"), "device")
    }

    #[test]
    fn only_the_very_cookies_hit() {
        let cache = Cache::new();
        cache.put(&live(1));
        assert!(cache.get("session-1", "device").is_some());
        assert!(cache.get("session-1", "another").is_none(), "a session cookie without its device cookie");
        assert!(cache.get("session-2", "device").is_none());
    }

    #[test]
    fn it_never_grows_and_what_is_newest_is_there() {
        let cache = Cache::with_sets(4);
        for n in 0..10_000 {
            cache.put(&live(n));
            assert!(cache.get(&format!("session-{n}"), "device").is_some());
        }
        let kept = (0..10_000).filter(|n| cache.get(&format!("session-{n}"), "device").is_some()).count();
        assert_eq!(kept, 4 * WAYS);
    }

    #[test]
    fn a_second_put_replaces_and_remove_takes_only_the_one_meant() {
        let cache = Cache::with_sets(1);
        let (old, new) = (live(1), live(1));
        cache.put(&old);
        cache.put(&new);
        cache.remove(&old);
        assert!(cache.get("session-1", "device").is_some(), "the new one is another value");
        cache.remove(&new);
        assert!(cache.get("session-1", "device").is_none());
    }
}
