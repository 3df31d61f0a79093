//! The data set: one random id and one random secret for its life, cut into shards.
//!
//! Every shard has a marker with the id; every script looks at it first. The marker of shard 0 also holds the secret,
//! sealed under the key ring, from which names and sealing keys of all records are derived ([`RecordKeys`]): rotating
//! the ring seals that one box again and nothing else. A data set is made where there is none, in one step that two
//! replicas can take at once; from when it is whole, a shard without a marker is a loss, not something to be made.

use redis::Value;

use super::{
    OpenError,
    link::{Call, Link},
    scripts::Script,
};
use crate::{
    base::{
        keyring::{Keyring, Seal},
        random::{SharedRandom, bytes},
        record_keys::{RecordKeys, SECRET_BYTES},
        secret::SecretBytes,
    },
    config::shared::RedisConfig,
    model::UserKey,
    store::{Collection, Rekeyed, SealedCount, StoreError, StoreResult},
};

/// How records look; another number is another program's, or a later version's.
const FORMAT: u32 = 1;

/// One of the keys of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Key {
    /// Hash: which data set this is.
    Marker,
    /// Hash: number and mark of the last announcement, which run of the server gives leases out.
    Head,
    /// Stream: the announcements.
    Feed,
    /// Hash: announcements that still matter.
    Live,
    /// Sorted set: what can be forgotten when.
    Due,
    /// Hash: users.
    Users,
    /// Hash: devices.
    Devices,
    /// Hash: what happens once.
    Consumed,
    /// Hash: replicas' leases.
    Leases,
    /// Hash: names of sealed cookies (shard 0).
    Names,
    /// Hash: documents.
    Documents,
}

impl Key {
    /// Its name behind the shard's, which is also what its records are sealed to.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Marker => "marker",
            Self::Head => "head",
            Self::Feed => "feed",
            Self::Live => "live",
            Self::Due => "due",
            Self::Users => "users",
            Self::Devices => "devices",
            Self::Consumed => "consumed",
            Self::Leases => "leases",
            Self::Names => "names",
            Self::Documents => "documents",
        }
    }
}

/// Where a record is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub shard: usize,
    pub key: Key,
    pub field: Vec<u8>,
}

/// The data set that this process has opened.
pub(super) struct DataSet {
    id: String,
    prefix: String,
    shards: usize,
    keys: RecordKeys,
}

/// The part of all names of keys of one shard that decides its slot.
pub(super) fn tag(shard: usize) -> String {
    format!("{shard:02}")
}

fn key(prefix: &str, shard: usize, key: Key) -> Vec<u8> {
    format!("{prefix}:{{{}}}:{}", tag(shard), key.name()).into_bytes()
}

impl DataSet {
    /// Its shards.
    pub const fn shards(&self) -> usize {
        self.shards
    }

    /// A question about this data set: its marker is the first key, its id the first argument.
    pub fn call(&self, script: Script, shard: usize, keys: &[Key], args: Vec<Vec<u8>>) -> Call {
        let named = std::iter::once(&Key::Marker).chain(keys).map(|k| key(&self.prefix, shard, *k)).collect();
        let args = std::iter::once(self.id.clone().into_bytes()).chain(args).collect();
        Call { shard, script, keys: named, args, with_run: false, replicas: 0 }
    }

    /// The name of a key.
    pub fn key(&self, shard: usize, which: Key) -> Vec<u8> {
        key(&self.prefix, shard, which)
    }

    /// Where the record of a user is.
    pub fn user(&self, user: &UserKey) -> Place {
        self.place(Key::Users, &[b"user", user.realm.as_str().as_bytes(), user.name.as_str().as_bytes()])
    }

    /// Where a document is.
    pub fn document(&self, of: Collection, name: &str) -> Place {
        self.place(Key::Documents, &[b"document", of.name().as_bytes(), name.as_bytes()])
    }

    /// Where a record with a random id is; `kind` keeps ids of different kinds apart.
    pub fn by_id(&self, key: Key, kind: &str, id: &[u8; 16]) -> Place {
        self.place(key, &[kind.as_bytes(), id])
    }

    /// Where a cookie's name is: there are few, and they are read all at once.
    pub fn cookie(&self, app: &str, name: &str) -> Place {
        let place = self.place(Key::Names, &[b"cookie", app.as_bytes(), name.as_bytes()]);
        Place { shard: 0, ..place }
    }

    fn place(&self, key: Key, parts: &[&[u8]]) -> Place {
        let name = self.keys.name(parts);
        let (field, rest) = name.split_at(16);
        let number = rest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let shard = usize::try_from(number % (self.shards.max(1) as u64)).unwrap_or(0);
        Place { shard, key, field: field.to_vec() }
    }

    /// Seals a record to its place.
    pub fn seal(&self, place: &Place, record: &SecretBytes) -> StoreResult<Vec<u8>> {
        let sealed = self.sealed_to(place, |parts| self.keys.seal(parts, record.expose()));
        sealed.map_err(|error| StoreError(error.to_string()))
    }

    /// Opens a record of this place.
    ///
    /// # Errors
    /// When it is another's, or was changed: that is never "not there" (I9).
    pub fn open(&self, place: &Place, boxed: &[u8]) -> StoreResult<SecretBytes> {
        self.sealed_to(place, |parts| self.keys.open(parts, boxed)).ok_or_else(|| {
            StoreError(format!(
                "a record in {} of shard {} does not open: it was changed or moved, or the keys are others",
                place.key.name(),
                place.shard
            ))
        })
    }

    /// Random bytes.
    pub fn draw<const N: usize>(&self) -> StoreResult<[u8; N]> {
        self.keys.draw().map_err(|error| StoreError(error.to_string()))
    }

    fn sealed_to<T>(&self, place: &Place, work: impl FnOnce(&[&[u8]]) -> T) -> T {
        let shard = (place.shard as u64).to_be_bytes();
        work(&[self.id.as_bytes(), &shard, place.key.name().as_bytes(), &place.field])
    }
}

/// What a marker says.
struct Marker {
    made: bool,
    id: String,
    format: String,
    shards: String,
    keys: Vec<u8>,
    whole: bool,
}

/// Finds the data set, or makes it where there is none and that is allowed.
pub(super) async fn open(
    link: &Link,
    config: &RedisConfig,
    keyring: &Keyring,
    random: SharedRandom,
) -> Result<DataSet, OpenError> {
    let fresh = Fresh::draw(config, keyring, &random)?;
    let first = marker(link, config, 0, config.initialise.then_some(&fresh)).await?;
    let Some(first) = first else {
        return Err(OpenError::NoDataSet { prefix: config.prefix.clone() });
    };
    if first.format != FORMAT.to_string() {
        return Err(OpenError::Format { found: first.format, known: FORMAT });
    }
    if first.shards != config.shards.to_string() {
        return Err(OpenError::Shards { found: first.shards, typed: config.shards });
    }
    let secret = keyring
        .open(Seal::AtRest, &aad(&first.id, &first.shards), &first.keys)
        .filter(|secret| secret.expose().len() == SECRET_BYTES)
        .ok_or(OpenError::WrongKey)?;
    let same = Fresh { id: first.id.clone(), keys: Vec::new() };
    for shard in 1..config.shards {
        let found = marker(link, config, shard, (!first.whole).then_some(&same)).await?;
        match found {
            Some(found) if found.id == first.id => {}
            Some(_) => return Err(OpenError::Mixed { shard }),
            None => return Err(OpenError::Lost { shard }),
        }
    }
    let set = DataSet {
        id: first.id,
        prefix: config.prefix.clone(),
        shards: config.shards,
        keys: RecordKeys::new(&secret, random),
    };
    if first.made {
        tracing::warn!(
            prefix = %set.prefix, shards = set.shards, data_set = %set.id,
            "there was no data set in this Redis: made an empty one; nobody has an authenticator in it"
        );
    }
    if !first.whole {
        change_marker(link, &set, "whole", b"", b"1").await?;
    }
    if !first.keys.starts_with(&keyring.current()) {
        let sealed = seal_secret(keyring, &set.id, &first.shards, &secret)?;
        if change_marker(link, &set, "keys", &first.keys, &sealed).await? {
            tracing::info!("the secret of the data set is sealed under the first key now");
        }
    }
    Ok(set)
}

/// Whether the secret of the data set is under the first key of this ring, under another one of it, or under none.
pub(super) async fn sealed_under(
    link: &Link,
    config: &RedisConfig,
    keyring: &Keyring,
) -> Result<SealedCount, OpenError> {
    let none = SealedCount::default();
    let Some(marker) = marker(link, config, 0, None).await? else { return Ok(none) };
    let opens = keyring.open(Seal::AtRest, &aad(&marker.id, &marker.shards), &marker.keys).is_some();
    Ok(match (opens, marker.keys.starts_with(&keyring.current())) {
        (false, _) => SealedCount { unknown: 1, ..none },
        (true, true) => SealedCount { first: 1, ..none },
        (true, false) => SealedCount { older: 1, ..none },
    })
}

/// Puts the secret of the data set under the first key of this ring, if the ring opens it.
pub(super) async fn rekey(
    link: &Link,
    config: &RedisConfig,
    set: &DataSet,
    keyring: &Keyring,
) -> Result<Rekeyed, OpenError> {
    let Some(marker) = marker(link, config, 0, None).await?.filter(|marker| marker.id == set.id) else {
        return Err(OpenError::Lost { shard: 0 });
    };
    let Some(secret) = keyring.open(Seal::AtRest, &aad(&marker.id, &marker.shards), &marker.keys) else {
        return Ok(Rekeyed::Needed { secrets: 1 });
    };
    if marker.keys.starts_with(&keyring.current()) {
        return Ok(Rekeyed::Done { renewed: 0 });
    }
    let sealed = seal_secret(keyring, &marker.id, &marker.shards, &secret)?;
    // When another replica was faster, it has done the same.
    let renewed = change_marker(link, set, "keys", &marker.keys, &sealed).await?;
    Ok(Rekeyed::Done { renewed: renewed.into() })
}

/// What a new data set would be.
struct Fresh {
    id: String,
    keys: Vec<u8>,
}

impl Fresh {
    fn draw(config: &RedisConfig, keyring: &Keyring, random: &SharedRandom) -> Result<Self, OpenError> {
        let none = |error: crate::base::random::NoRandomness| OpenError::Server(error.to_string());
        let id: [u8; 16] = bytes(random.as_ref()).map_err(none)?;
        let secret: [u8; SECRET_BYTES] = bytes(random.as_ref()).map_err(none)?;
        let id = data_encoding::HEXLOWER.encode(&id);
        let secret = SecretBytes::new(secret.to_vec());
        let keys = seal_secret(keyring, &id, &config.shards.to_string(), &secret)?;
        Ok(Self { id, keys })
    }
}

fn seal_secret(
    keyring: &Keyring,
    id: &str,
    shards: &str,
    secret: &SecretBytes,
) -> Result<Vec<u8>, OpenError> {
    keyring
        .seal(Seal::AtRest, &aad(id, shards), secret.expose())
        .map_err(|error| OpenError::Server(error.to_string()))
}

fn aad(id: &str, shards: &str) -> Vec<u8> {
    format!("sluis/v1/redis/data set/{id}/{shards}").into_bytes()
}

/// The marker of a shard, made if need be and allowed.
async fn marker(
    link: &Link,
    config: &RedisConfig,
    shard: usize,
    make: Option<&Fresh>,
) -> Result<Option<Marker>, OpenError> {
    let keys = [Key::Marker, Key::Head, Key::Users].map(|k| key(&config.prefix, shard, k)).to_vec();
    let (id, sealed) = make.map_or_else(Default::default, |fresh| (fresh.id.clone(), fresh.keys.clone()));
    let args = vec![
        id.into_bytes(),
        FORMAT.to_string().into_bytes(),
        config.shards.to_string().into_bytes(),
        sealed,
    ];
    let call =
        Call { shard, script: Script::Create, keys, args, with_run: true, replicas: config.durability };
    let answer = link.call(call).await.map_err(|error| OpenError::Server(error.0))?;
    let Value::Array(parts) = answer else { return Err(odd()) };
    let mut parts = parts.into_iter();
    let mut number = || parts.next().and_then(|v| redis::from_redis_value::<u64>(v).ok());
    if number().ok_or_else(odd)? == 0 {
        return Ok(None);
    }
    let made = number().ok_or_else(odd)? == 1;
    let mut field = || parts.next().and_then(|v| redis::from_redis_value::<Vec<u8>>(v).ok()).ok_or_else(odd);
    let mut text = || field().and_then(|bytes| String::from_utf8(bytes).map_err(|_| odd()));
    let (id, format, shards) = (text()?, text()?, text()?);
    Ok(Some(Marker { made, id, format, shards, keys: field()?, whole: !field()?.is_empty() }))
}

/// Sets a field of the marker of shard 0 if it still is what the caller read.
pub(super) async fn change_marker(
    link: &Link,
    set: &DataSet,
    field: &str,
    old: &[u8],
    new: &[u8],
) -> Result<bool, OpenError> {
    let args = vec![field.as_bytes().to_vec(), old.to_vec(), new.to_vec()];
    let answer = link.call(set.call(Script::Mark, 0, &[], args)).await;
    answer.map(|value| value == Value::Int(1)).map_err(|error| OpenError::Server(error.0))
}

fn odd() -> OpenError {
    OpenError::Server("the marker of the data set cannot be read".to_owned())
}
