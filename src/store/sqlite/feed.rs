//! Revocations: what is kept of them, and who is told. The rows themselves are the feed: an ended session, a
//! device that changed hands, a user whose proofs are void or who is blocked. So it never grows beyond what
//! still matters, and is loaded whole by whoever begins to follow.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Sqlite, StoreResult, millis, signed, unsigned,
    users::{key, make_id_of},
};
use crate::{
    base::clock::UnixMillis,
    model::{DeviceId, Epoch, Revocation, SessionId, UserKey},
    store::{Devices, Ownership, RevocationSink, Revocations},
};

/// What a group of commands has to tell once it is committed, in order.
#[derive(Default)]
pub(super) struct Feed(Vec<Entry>);

enum Entry {
    Announced(Revocation),
    Joined { sink: Arc<dyn RevocationSink>, present: Vec<Revocation> },
}

impl Feed {
    pub(super) fn announce(&mut self, revocation: Revocation) {
        self.0.push(Entry::Announced(revocation));
    }

    /// `sink` follows from here on; what is `present` already, it is told first.
    pub(super) fn join(&mut self, sink: Arc<dyn RevocationSink>, present: Vec<Revocation>) {
        self.0.push(Entry::Joined { sink, present });
    }

    /// A place in the feed, for [`Self::forget_from`].
    pub(super) fn mark(&self) -> usize {
        self.0.len()
    }

    /// Drops what a failed command wanted to tell.
    pub(super) fn forget_from(&mut self, mark: usize) {
        self.0.truncate(mark);
    }
}

/// Everybody who follows; the writer thread's own, so all see one order and none misses an entry.
#[derive(Default)]
pub(super) struct Followers(Vec<Arc<dyn RevocationSink>>);

impl Followers {
    pub(super) fn tell(&mut self, feed: Feed) {
        for entry in feed.0 {
            match entry {
                Entry::Announced(revocation) => self.0.iter().for_each(|sink| sink.apply(&revocation)),
                Entry::Joined { sink, present } => {
                    present.iter().for_each(|revocation| sink.apply(revocation));
                    self.0.push(sink);
                }
            }
        }
    }
}

#[async_trait]
impl Devices for Sqlite {
    async fn own(&self, device: DeviceId, user: &UserKey, until: UnixMillis) -> StoreResult<Ownership> {
        let user = user.clone();
        self.write(move |db, feed| {
            let owner = make_id_of(db, &user)?;
            let kept = db
                .prepare_cached(
                    "SELECT u.realm, u.name, d.epoch, d.until FROM devices d JOIN users u ON u.id = d.owner
                      WHERE d.device = ?1",
                )?
                .query_row([device.0.as_slice()], |row| {
                    Ok((key(row, 0, 1)?, unsigned(row.get(2)?), millis(row.get(3)?)))
                })
                .optional()?;
            let (epoch, until, taken_from) = match kept {
                None => (epoch_floor(db)?, until, None),
                Some((before, epoch, kept)) if before == user => (epoch, until.max(kept), None),
                // The earlier owner's tokens may live longer than the new one's.
                Some((before, epoch, kept)) => (epoch.saturating_add(1), until.max(kept), Some(before)),
            };
            db.prepare_cached(
                "INSERT INTO devices (device, owner, epoch, until, revoked_until)
                 VALUES (?1, ?2, ?3, ?4, CASE WHEN ?5 THEN ?4 ELSE 0 END)
                 ON CONFLICT (device) DO UPDATE SET owner = ?2, epoch = ?3, until = ?4,
                        revoked_until = CASE WHEN ?5 THEN ?4 ELSE revoked_until END",
            )?
            .execute(params![
                device.0.as_slice(),
                owner,
                signed(epoch),
                signed(until.0),
                taken_from.is_some()
            ])?;
            let epoch = Epoch(epoch);
            if taken_from.is_some() {
                feed.announce(Revocation::Device { device, epoch, until });
            }
            Ok(Ownership { epoch, taken_from })
        })
        .await
    }
}

#[async_trait]
impl Revocations for Sqlite {
    async fn end_session(&self, id: SessionId, until: UnixMillis) -> StoreResult<()> {
        self.write(move |db, feed| {
            let until = db
                .prepare_cached(
                    "INSERT INTO ended_sessions VALUES (?1, ?2)
                     ON CONFLICT (session) DO UPDATE SET until = max(until, ?2) RETURNING until",
                )?
                .query_row(params![id.0.as_slice(), signed(until.0)], |row| row.get(0))?;
            feed.announce(Revocation::Session { id, until: millis(until) });
            Ok(())
        })
        .await
    }

    async fn follow(&self, sink: Arc<dyn RevocationSink>, now: UnixMillis) -> StoreResult<()> {
        self.write(move |db, feed| {
            feed.join(sink, present(db, now)?);
            Ok(())
        })
        .await
    }
}

fn present(db: &Connection, now: UnixMillis) -> rusqlite::Result<Vec<Revocation>> {
    let mut all = Vec::new();
    let now = signed(now.0);
    let mut select = db.prepare("SELECT session, until FROM ended_sessions WHERE until > ?1")?;
    let mut rows = select.query([now])?;
    while let Some(row) = rows.next()? {
        all.push(Revocation::Session { id: SessionId(row.get(0)?), until: millis(row.get(1)?) });
    }
    let mut select =
        db.prepare("SELECT device, epoch, revoked_until FROM devices WHERE revoked_until > ?1")?;
    let mut rows = select.query([now])?;
    while let Some(row) = rows.next()? {
        all.push(Revocation::Device {
            device: DeviceId(row.get(0)?),
            epoch: Epoch(unsigned(row.get(1)?)),
            until: millis(row.get(2)?),
        });
    }
    let mut select =
        db.prepare("SELECT realm, name, void_before, void_until FROM users WHERE void_until > ?1")?;
    let mut rows = select.query([now])?;
    while let Some(row) = rows.next()? {
        let (before, until) = (millis(row.get(2)?), millis(row.get(3)?));
        all.push(Revocation::User { user: key(row, 0, 1)?, before, until });
    }
    let mut select = db.prepare("SELECT realm, name, block_version FROM users WHERE blocked = 1")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let version = unsigned(row.get(2)?);
        all.push(Revocation::Blocked { user: key(row, 0, 1)?, blocked: true, version });
    }
    Ok(all)
}

/// No device that is met anew starts below this: a forgotten device's epochs never come again.
pub(super) fn epoch_floor(db: &Connection) -> rusqlite::Result<u64> {
    let floor = db
        .prepare_cached("SELECT value FROM settings WHERE name = 'epoch-floor'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(floor.map(unsigned).unwrap_or_default())
}

/// Forgets devices whose tokens are all dead; raises the floor above their epochs.
pub(super) fn prune_devices(db: &Connection, now: UnixMillis) -> rusqlite::Result<usize> {
    let now = signed(now.0);
    let gone: Option<i64> =
        db.query_row("SELECT max(epoch) FROM devices WHERE until <= ?1", [now], |row| row.get(0))?;
    let Some(epoch) = gone else { return Ok(0) };
    let floor = epoch_floor(db)?.max(unsigned(epoch).saturating_add(1));
    db.execute("INSERT OR REPLACE INTO settings (name, value) VALUES ('epoch-floor', ?1)", [signed(floor)])?;
    db.execute("DELETE FROM devices WHERE until <= ?1", [now])
}
