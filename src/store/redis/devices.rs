//! Devices and their owners, ended sessions, and logins that are completed once.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    Redis,
    backend::{Backend, Change, ENDED, Write, read, unreadable},
    data_set::{Key, Place},
    record::{Device, read_revocation, write_login, write_revocation},
    scripts::Script,
};
use crate::{
    base::clock::UnixMillis,
    model::{DeviceId, Epoch, LoginId, Revocation, SessionId, UserKey},
    store::{Devices, OneTime, Ownership, RevocationSink, Revocations, StoreResult},
};

/// A takeover is announced again to whoever asks within this time: they may not have heard that it was complete.
const ANNOUNCED_AGAIN: Duration = Duration::from_secs(600);

#[async_trait]
impl Devices for Redis {
    async fn own(&self, device: DeviceId, user: &UserKey, until: UnixMillis) -> StoreResult<Ownership> {
        let place = self.backend.set.by_id(Key::Devices, "device", &device.0);
        let owned = self.backend.change(&place, true, |kept| {
            let before = match &kept.plain {
                None => None,
                Some(plain) => Some(Device::read(plain.expose()).ok_or_else(|| unreadable(Key::Devices))?),
            };
            // By the server's time: so an epoch never comes again when a record was forgotten, nor when a server
            // that takes over for another did not have its last writes.
            let least = kept.floor.max(kept.now.0);
            let mut taken_from = None;
            let record = match before {
                None => Device {
                    device,
                    owner: user.clone(),
                    epoch: Epoch(least),
                    until,
                    revoked_until: UnixMillis::default(),
                    announced_at: UnixMillis::default(),
                },
                Some(before) if before.owner == *user => Device { until: before.until.max(until), ..before },
                Some(before) => {
                    // The earlier owner's tokens may live longer than the new one's.
                    let until = before.until.max(until);
                    taken_from = Some(before.owner);
                    Device {
                        device,
                        owner: user.clone(),
                        epoch: Epoch(before.epoch.0.saturating_add(1).max(least)),
                        until,
                        revoked_until: until,
                        announced_at: kept.now,
                    }
                }
            };
            // Whoever took the device, but lost the connection before it was complete everywhere, comes again as
            // its owner: then it must be complete as well before they hear so (I3).
            let lately = record.announced_at != UnixMillis::default()
                && kept.now.since(record.announced_at) < ANNOUNCED_AGAIN;
            let announce = lately.then_some(Revocation::Device {
                device,
                epoch: record.epoch,
                until: record.revoked_until,
            });
            let answer = Ownership { epoch: record.epoch, taken_from };
            Ok(Change::Write(Write { record: record.write(), due: Some(record.until), announce, answer }))
        });
        let (ownership, position) = owned.await?;
        self.complete(position.map(|position| (place.shard, position))).await?;
        Ok(ownership)
    }
}

#[async_trait]
impl OneTime for Redis {
    async fn consume(&self, login: LoginId, until: UnixMillis) -> StoreResult<bool> {
        consume(&self.backend, login, until).await
    }
}

pub(super) async fn consume(backend: &Backend, login: LoginId, until: UnixMillis) -> StoreResult<bool> {
    let place = backend.set.by_id(Key::Consumed, "login", &login.0);
    let answers = consume_several(backend, place.shard, vec![(place, login, until)]).await?;
    Ok(answers.first() == Some(&true))
}

/// Of each login of one shard whether it was not consumed before. The mark is random, and behind it stands, sealed, what
/// it marks: for a copy to another store.
pub(super) async fn consume_several(
    backend: &Backend,
    shard: usize,
    logins: Vec<(Place, LoginId, UnixMillis)>,
) -> StoreResult<Vec<bool>> {
    let set = &backend.set;
    let mut args = Vec::with_capacity(logins.len().saturating_mul(4));
    for (place, login, until) in logins {
        let token: [u8; 8] = set.draw()?;
        let mark = [token.as_slice(), &set.seal(&place, &write_login(login, until))?].concat();
        let member = [b"c".as_slice(), &place.field].concat();
        args.extend([place.field, mark, member, until.0.to_string().into_bytes()]);
    }
    let mut call = set.call(Script::Consume, shard, &[Key::Consumed, Key::Due], args);
    call.replicas = backend.config.durability;
    let marked: Vec<u64> = read(backend.call(call).await?)?;
    Ok(marked.into_iter().map(|marked| marked == 1).collect())
}

#[async_trait]
impl Revocations for Redis {
    async fn end_session(&self, id: SessionId, until: UnixMillis) -> StoreResult<()> {
        // The announcement that still matters is all that is kept of an ended session.
        let mut place = self.backend.set.by_id(Key::Live, "session", &id.0);
        place.field.insert(0, ENDED);
        let ended = self.backend.change(&place, true, |kept| {
            let before = kept.plain.as_ref().map(|plain| read_revocation(plain.expose()));
            let until = match before {
                None => until,
                Some(Some(Revocation::Session { until: before, .. })) => before.max(until),
                Some(_) => return Err(unreadable(Key::Live)),
            };
            let revocation = Revocation::Session { id, until };
            let record = write_revocation(&revocation);
            Ok(Change::Write(Write { record, due: None, announce: Some(revocation), answer: () }))
        });
        let ((), position) = ended.await?;
        self.complete(position.map(|position| (place.shard, position))).await
    }

    async fn follow(&self, sink: Arc<dyn RevocationSink>, now: UnixMillis) -> StoreResult<()> {
        self.follow_feed(sink, now).await
    }
}
