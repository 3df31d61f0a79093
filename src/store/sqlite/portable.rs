//! The file as one end of a copy: rows as records, and back.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    Sqlite, StoreError, StoreResult, documents,
    enrolments::authenticator,
    feed::epoch_floor,
    millis,
    sealed::{self, Place},
    signed, unsigned,
    users::{key, make_id_of},
};
use crate::{
    base::keyring::Keyring,
    model::{AppId, DeviceId, LoginId, SessionId},
    store::{
        AttemptState, Collection,
        portable::{Content, Cursor, Device, Key, Kind, Page, Person, Portable, Record, Void},
    },
};

/// In `settings`: the file is half a copy. Its value says whether it had nothing before.
pub(super) const UNFINISHED: &str = "unfinished-copy";

#[async_trait]
impl Portable for Sqlite {
    async fn content(&self) -> StoreResult<Content> {
        self.read(|db| {
            if let Some(alone) = unfinished(db)? {
                return Ok(Content::Unfinished { alone });
            }
            let some: bool = db.query_row(
                "SELECT EXISTS (SELECT 1 FROM users) OR EXISTS (SELECT 1 FROM devices)
                     OR EXISTS (SELECT 1 FROM ended_sessions) OR EXISTS (SELECT 1 FROM consumed_logins)
                     OR EXISTS (SELECT 1 FROM sealed_names) OR EXISTS (SELECT 1 FROM documents)",
                [],
                |row| row.get(0),
            )?;
            Ok(if some { Content::Data } else { Content::Nothing })
        })
        .await
    }

    async fn begin_import(&self, alone: bool) -> StoreResult<()> {
        self.write(move |db, _| {
            db.execute(
                "INSERT OR REPLACE INTO settings (name, value) VALUES (?1, ?2)",
                params![UNFINISHED, alone],
            )?;
            Ok(())
        })
        .await
    }

    async fn finish_import(&self) -> StoreResult<()> {
        self.write(|db, _| {
            db.execute("DELETE FROM settings WHERE name = ?1", [UNFINISHED])?;
            Ok(())
        })
        .await
    }

    async fn export(&self, kind: Kind, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        let (after, keyring) = (after.cloned(), self.ring.load_full());
        self.read(move |db| {
            let records = match kind {
                Kind::Users => people(db, after.as_ref(), limit, &keyring),
                Kind::Devices => rows(db, DEVICES, after.as_ref(), limit, |row| {
                    let id: [u8; 16] = row.get(0)?;
                    Ok((id.to_vec(), device(row)?))
                }),
                Kind::EndedSessions => rows(db, ENDED, after.as_ref(), limit, |row| {
                    let id: [u8; 16] = row.get(0)?;
                    Ok((id.to_vec(), Record::Session { id: SessionId(id), until: millis(row.get(1)?) }))
                }),
                Kind::ConsumedLogins => rows(db, CONSUMED, after.as_ref(), limit, |row| {
                    let id: [u8; 16] = row.get(0)?;
                    Ok((id.to_vec(), Record::Login { id: LoginId(id), until: millis(row.get(1)?) }))
                }),
                Kind::SealedNames => rows(db, NAMES, after.as_ref(), limit, |row| {
                    let (app, name): (String, String) = (row.get(0)?, row.get(1)?);
                    let place = format!("{app} {name}").into_bytes();
                    Ok((place, Record::SealedName { app: AppId::new(app), name }))
                }),
                Kind::Documents => papers(db, after.as_ref(), limit, &keyring),
            }?;
            let full = records.len() >= limit;
            let next = records.last().filter(|_| full).map(|(place, _)| Cursor(place.clone()));
            Ok(Page { records: records.into_iter().map(|(_, record)| record).collect(), next })
        })
        .await
    }

    async fn lookup(&self, keys: &[Key]) -> StoreResult<Vec<Option<Record>>> {
        let (keys, keyring) = (keys.to_vec(), self.ring.load_full());
        self.read(move |db| keys.iter().map(|key| find(db, key, &keyring)).collect()).await
    }

    async fn put(&self, records: Vec<Record>) -> StoreResult<()> {
        let keyring = self.ring.load_full();
        self.write(move |db, _| records.iter().try_for_each(|record| write(db, record, &keyring))).await
    }

    async fn epoch_floor(&self) -> StoreResult<u64> {
        self.read(|db| Ok(epoch_floor(db)?)).await
    }

    async fn raise_epoch_floor(&self, floor: u64) -> StoreResult<()> {
        self.write(move |db, _| {
            let floor = epoch_floor(db)?.max(floor);
            db.execute(
                "INSERT OR REPLACE INTO settings (name, value) VALUES ('epoch-floor', ?1)",
                [signed(floor)],
            )?;
            Ok(())
        })
        .await
    }
}

/// Whether the file is half a copy, and whether it had nothing before that.
pub(super) fn unfinished(db: &Connection) -> rusqlite::Result<Option<bool>> {
    db.query_row("SELECT value FROM settings WHERE name = ?1", [UNFINISHED], |row| row.get(0)).optional()
}

const DEVICES: &str = "SELECT d.device, u.realm, u.name, d.epoch, d.until, d.revoked_until
       FROM devices d JOIN users u ON u.id = d.owner WHERE d.device > ?1 ORDER BY d.device LIMIT ?2";
const DEVICE: &str = "SELECT d.device, u.realm, u.name, d.epoch, d.until, d.revoked_until
       FROM devices d JOIN users u ON u.id = d.owner WHERE d.device = ?1";
const ENDED: &str = "SELECT session, until FROM ended_sessions WHERE session > ?1 ORDER BY session LIMIT ?2";
const CONSUMED: &str = "SELECT login, until FROM consumed_logins WHERE login > ?1 ORDER BY login LIMIT ?2";
/// App ids have no space, so the order of the two together is the order of the key.
const NAMES: &str = "SELECT app, name FROM sealed_names WHERE CAST(app || ' ' || name AS BLOB) > ?1
      ORDER BY CAST(app || ' ' || name AS BLOB) LIMIT ?2";
const PEOPLE: &str = "SELECT id, realm, name, first_seen_at, last_login_at, blocked, failures, wait_until,
        void_before, void_until, block_version FROM users";

/// A page of a table whose key is one string of bytes; with each record its key.
fn rows(
    db: &Connection,
    select: &str,
    after: Option<&Cursor>,
    limit: usize,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<(Vec<u8>, Record)>,
) -> StoreResult<Vec<(Vec<u8>, Record)>> {
    let after = after.map(|cursor| cursor.0.as_slice()).unwrap_or_default();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut select = db.prepare_cached(select)?;
    let rows = select.query_map(params![after, limit], |row| read(row))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn people(
    db: &Connection,
    after: Option<&Cursor>,
    limit: usize,
    keyring: &Keyring,
) -> StoreResult<Vec<(Vec<u8>, Record)>> {
    let after = after.and_then(|cursor| Some(i64::from_be_bytes(cursor.0.as_slice().try_into().ok()?)));
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut select = db.prepare_cached(&format!("{PEOPLE} WHERE id > ?1 ORDER BY id LIMIT ?2"))?;
    let mut rows = select.query(params![after.unwrap_or(i64::MIN), limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        found.push((id.to_be_bytes().to_vec(), Record::User(Box::new(person(db, row, keyring)?))));
    }
    Ok(found)
}

/// Names of collections have no space, so the order of the two together is the order of the key.
fn papers(
    db: &Connection,
    after: Option<&Cursor>,
    limit: usize,
    keyring: &Keyring,
) -> StoreResult<Vec<(Vec<u8>, Record)>> {
    let (of, name) = match after {
        None => (String::new(), String::new()),
        Some(Cursor(bytes)) => {
            let odd = || StoreError("a cursor that cannot be read".to_owned());
            let (of, name) =
                std::str::from_utf8(bytes).ok().and_then(|t| t.split_once(' ')).ok_or_else(odd)?;
            (of.to_owned(), name.to_owned())
        }
    };
    let mut select = db.prepare_cached(
        "SELECT collection, name FROM documents WHERE (collection, name) > (?1, ?2)
          ORDER BY collection, name LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = select.query_map(params![of, name, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let names: Vec<(String, String)> = rows.collect::<rusqlite::Result<_>>()?;
    let mut found = Vec::with_capacity(names.len());
    for (collection, name) in names {
        let odd =
            || StoreError(format!("the collection {collection} is not known: a later version wrote it?"));
        let of = Collection::parse(&collection).ok_or_else(odd)?;
        if let Some(document) = documents::find(db, keyring, of, &name)? {
            found
                .push((format!("{collection} {name}").into_bytes(), Record::Document { of, name, document }));
        }
    }
    Ok(found)
}

fn person(db: &Connection, row: &Row<'_>, keyring: &Keyring) -> StoreResult<Person> {
    let user = key(row, 1, 2)?;
    let mut select = db.prepare_cached(
        "SELECT id, method, name, confirmed_at, last_used_at, secret, last_step, drift_steps
           FROM authenticators WHERE user = ?1 ORDER BY seq",
    )?;
    let mut rows = select.query([row.get::<_, i64>(0)?])?;
    let mut authenticators = Vec::new();
    while let Some(row) = rows.next()? {
        authenticators.push(authenticator(row, &user, keyring)?);
    }
    let moment = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.map(millis));
    let void = moment(8)?.zip(moment(9)?).map(|(before, until)| Void { before, until });
    Ok(Person {
        first_seen_at: moment(3)?,
        last_login_at: moment(4)?,
        blocked: row.get(5)?,
        block_version: unsigned(row.get(10)?),
        attempts: AttemptState { failures: row.get(6)?, wait_until: millis(row.get(7)?) },
        void,
        authenticators,
        user,
    })
}

fn device(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record::Device(Device {
        id: DeviceId(row.get(0)?),
        owner: key(row, 1, 2)?,
        epoch: unsigned(row.get(3)?),
        until: millis(row.get(4)?),
        revoked_until: millis(row.get(5)?),
    }))
}

fn find(db: &Connection, key: &Key, keyring: &Keyring) -> StoreResult<Option<Record>> {
    let until = |select: &str, id: &[u8; 16]| {
        let found = db.prepare_cached(select)?.query_row([id.as_slice()], |row| row.get(0)).optional()?;
        Ok::<_, StoreError>(found.map(millis))
    };
    Ok(match key {
        Key::User(user) => {
            let mut select = db.prepare_cached(&format!("{PEOPLE} WHERE realm = ?1 AND name = ?2"))?;
            let mut rows = select.query([user.realm.as_str(), user.name.as_str()])?;
            match rows.next()? {
                Some(row) => Some(Record::User(Box::new(person(db, row, keyring)?))),
                None => None,
            }
        }
        Key::Device(id) => db.prepare_cached(DEVICE)?.query_row([id.0.as_slice()], device).optional()?,
        Key::Session(id) => until("SELECT until FROM ended_sessions WHERE session = ?1", &id.0)?
            .map(|until| Record::Session { id: *id, until }),
        Key::Login(id) => until("SELECT until FROM consumed_logins WHERE login = ?1", &id.0)?
            .map(|until| Record::Login { id: *id, until }),
        Key::SealedName(app, name) => db
            .prepare_cached("SELECT 1 FROM sealed_names WHERE app = ?1 AND name = ?2")?
            .exists([app.as_str(), name])?
            .then(|| Record::SealedName { app: app.clone(), name: name.clone() }),
        Key::Document(of, name) => documents::find(db, keyring, *of, name)?
            .map(|document| Record::Document { of: *of, name: name.clone(), document }),
    })
}

fn write(db: &Connection, record: &Record, keyring: &Keyring) -> StoreResult<()> {
    match record {
        Record::User(person) => return write_person(db, person, keyring),
        Record::Document { of, name, document } => {
            return documents::write(db, keyring, *of, name, document);
        }
        Record::Device(device) => db
            .prepare_cached(
                "INSERT OR REPLACE INTO devices (device, owner, epoch, until, revoked_until)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                device.id.0.as_slice(),
                make_id_of(db, &device.owner)?,
                signed(device.epoch),
                signed(device.until.0),
                signed(device.revoked_until.0)
            ])?,
        Record::Session { id, until } => db
            .prepare_cached("INSERT OR REPLACE INTO ended_sessions VALUES (?1, ?2)")?
            .execute(params![id.0.as_slice(), signed(until.0)])?,
        Record::Login { id, until } => db
            .prepare_cached("INSERT OR REPLACE INTO consumed_logins VALUES (?1, ?2)")?
            .execute(params![id.0.as_slice(), signed(until.0)])?,
        Record::SealedName { app, name } => db
            .prepare_cached("INSERT OR IGNORE INTO sealed_names VALUES (?1, ?2)")?
            .execute([app.as_str(), name])?,
    };
    Ok(())
}

fn write_person(db: &Connection, person: &Person, keyring: &Keyring) -> StoreResult<()> {
    let owner = make_id_of(db, &person.user)?;
    db.prepare_cached(
        "UPDATE users SET first_seen_at = ?2, last_login_at = ?3, blocked = ?4, failures = ?5, wait_until = ?6,
                void_before = ?7, void_until = ?8, block_version = ?9 WHERE id = ?1",
    )?
    .execute(params![
        owner,
        person.first_seen_at.map(|t| signed(t.0)),
        person.last_login_at.map(|t| signed(t.0)),
        person.blocked,
        person.attempts.failures,
        signed(person.attempts.wait_until.0),
        person.void.map(|v| signed(v.before.0)),
        person.void.map(|v| signed(v.until.0)),
        signed(person.block_version),
    ])?;
    db.prepare_cached("DELETE FROM authenticators WHERE user = ?1")?.execute([owner])?;
    for a in &person.authenticators {
        let method = a.method.name();
        let secret = sealed::seal(keyring, &Place::of(&person.user, &a.id, method), &a.secret)?;
        db.prepare_cached(
            "INSERT INTO authenticators
               (id, user, method, name, confirmed_at, last_used_at, secret, last_step, drift_steps)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            a.id.0.as_slice(),
            owner,
            method,
            a.name,
            signed(a.confirmed_at.0),
            a.last_used_at.map(|t| signed(t.0)),
            secret,
            signed(a.last_step),
            a.drift_steps
        ])?;
    }
    Ok(())
}
