//! Signed tokens: a versioned binary body and HMAC-SHA-256, base64url without padding; the kind of
//! cookie is the signature's domain (design, section 6).
//!
//! On the wire: key id (4 bytes), body, tag (32 bytes), all of it in base64url (RFC 4648, section 5). The body is a
//! version byte and the fields in order: numbers big-endian, texts with their length (2 bytes) in front. Every
//! value has one encoding only, and [`verify`] takes nothing else: not another version, not a byte too many, not
//! an unused bit of the last base64 digit.
//!
//! What a token says is true for as long as the key is in the ring. Whether it still *counts* (age, revocation,
//! device) is judged by `standing` and `admission`, never here.

use std::{net::IpAddr, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ipnet::IpNet;

use crate::{
    base::{
        clock::UnixMillis,
        keyring::{KeyId, Keyring},
    },
    model::{
        AppId, CodeHash, DeviceId, Epoch, LoginId, MethodSet, Realm, SessionId, Terms, UserKey, UserName,
    },
};

/// The only version of a body that is written and read.
const VERSION: u8 = 1;
const TAG_BYTES: usize = 32;
/// Longer values are not even decoded: a browser keeps no cookie of more than 4096 bytes (RFC 6265bis, 5.7).
const MAX_VALUE_BYTES: usize = 4096;

/// "This browser profile is device D", made in `issued`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device {
    /// D
    pub id: DeviceId,
    /// When this token was made; an old one is renewed.
    pub issued: UnixMillis,
}

/// "User U proved a second factor on device D at time T by these methods."
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trust {
    /// U
    pub user: UserKey,
    /// D
    pub device: DeviceId,
    /// The epoch of D in which it was made.
    pub epoch: Epoch,
    /// T
    pub proved_at: UnixMillis,
    /// How.
    pub methods: MethodSet,
}

/// Why a challenge is pending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A login: passing it starts the session.
    Login,
    /// A running session needs a fresh proof: passing it goes on with the same session.
    StepUp {
        /// When that session started; its `max` counts from there.
        started: UnixMillis,
        /// The epoch of the device in that session: a takeover voids the step-up too.
        epoch: Epoch,
    },
}

/// A pending login: the first factor is done, the second is not. Opens nothing (threats D11).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pending {
    /// Completed at most once.
    pub login: LoginId,
    /// The session that it will become; the app's fresh cookies are sealed to it already.
    pub session: SessionId,
    /// Which app.
    pub app: AppId,
    /// Who.
    pub user: UserKey,
    /// On which device.
    pub device: DeviceId,
    /// Where the browser goes afterwards: a path and query of the same app.
    pub target: String,
    /// When the first factor was passed; it is void 10 minutes later.
    pub started: UnixMillis,
    /// Why.
    pub purpose: Purpose,
    /// The invitation whose code was shown with it; it is taken when the authenticator is kept, not before.
    pub invited: Option<CodeHash>,
}

/// A session: the only thing that lets a request through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// S
    pub id: SessionId,
    /// Which app.
    pub app: AppId,
    /// Who.
    pub user: UserKey,
    /// On which device.
    pub device: DeviceId,
    /// The epoch of the device in which it was made.
    pub epoch: Epoch,
    /// When it began.
    pub started: UnixMillis,
    /// When it was last seen (renewed at most once a minute).
    pub seen: UnixMillis,
    /// The last proof of a second factor; `None` = exempt.
    pub proved_at: Option<UnixMillis>,
    /// By which methods.
    pub methods: MethodSet,
    /// What administrators had set for this user when it began; whoever changes that voids the session.
    pub terms: Terms,
    /// It began by emergency access, proves nothing else, and ends then.
    pub emergency_until: Option<UnixMillis>,
}

impl Session {
    /// When it ends in any case, where sessions live so long at most.
    pub fn ends(&self, max: Duration) -> UnixMillis {
        let end = self.started.plus(max);
        self.emergency_until.map_or(end, |until| end.min(until))
    }
}

/// A body that can be signed under its own domain.
pub trait Token: Sized {
    /// The signature's domain: the kind of cookie.
    const DOMAIN: &'static str;
    /// Writes the versioned body.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads it; `None` for anything that [`Self::encode`] does not write.
    fn decode(body: &[u8]) -> Option<Self>;
}

/// Signs a token: the value of its cookie.
pub fn issue<T: Token>(keyring: &Keyring, token: &T) -> String {
    let mut body = Vec::with_capacity(192);
    token.encode(&mut body);
    let (id, tag) = keyring.sign(T::DOMAIN, &[&body]);
    URL_SAFE_NO_PAD.encode([id.as_slice(), &body, &tag].concat())
}

/// Reads and verifies a cookie's value; says nothing about expiry or revocation.
pub fn verify<T: Token>(keyring: &Keyring, value: &str) -> Option<T> {
    if value.len() > MAX_VALUE_BYTES {
        return None;
    }
    let raw = URL_SAFE_NO_PAD.decode(value).ok()?;
    let (id, rest) = raw.split_first_chunk::<4>()?;
    let (body, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
    if keyring.verify(T::DOMAIN, *id, &[body], tag) { T::decode(body) } else { None }
}

/// The key that a cookie's value says it was signed by; nothing is verified.
pub fn signed_by(value: &str) -> Option<KeyId> {
    // Four bytes stand in the first six digits.
    let digits = value.as_bytes().first_chunk::<8>()?;
    let raw = URL_SAFE_NO_PAD.decode(digits).ok()?;
    raw.first_chunk().copied()
}

impl Token for Device {
    const DOMAIN: &'static str = "cookie/device";

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(&self.id.0);
        put_time(out, self.issued);
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut body = Reader::versioned(body)?;
        let token = Self { id: DeviceId(body.array()?), issued: body.time()? };
        body.end(token)
    }
}

impl Token for Trust {
    const DOMAIN: &'static str = "cookie/trust";

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_user(out, &self.user);
        out.extend_from_slice(&self.device.0);
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
        put_time(out, self.proved_at);
        out.extend_from_slice(&self.methods.bits().to_be_bytes());
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut body = Reader::versioned(body)?;
        let token = Self {
            user: body.user()?,
            device: DeviceId(body.array()?),
            epoch: Epoch(body.number()?),
            proved_at: body.time()?,
            methods: body.methods()?,
        };
        body.end(token)
    }
}

impl Token for Pending {
    const DOMAIN: &'static str = "cookie/login";

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(&self.login.0);
        out.extend_from_slice(&self.session.0);
        put_text(out, self.app.as_str());
        put_user(out, &self.user);
        out.extend_from_slice(&self.device.0);
        put_text(out, &self.target);
        put_time(out, self.started);
        match self.purpose {
            Purpose::Login => out.push(0),
            Purpose::StepUp { started, epoch } => {
                out.push(1);
                put_time(out, started);
                out.extend_from_slice(&epoch.0.to_be_bytes());
            }
        }
        match self.invited {
            None => out.push(0),
            Some(CodeHash(hash)) => {
                out.push(1);
                out.extend_from_slice(&hash);
            }
        }
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut body = Reader::versioned(body)?;
        let token = Self {
            login: LoginId(body.array()?),
            session: SessionId(body.array()?),
            app: AppId::new(body.text()?),
            user: body.user()?,
            device: DeviceId(body.array()?),
            target: body.text()?.to_owned(),
            started: body.time()?,
            purpose: match body.byte()? {
                0 => Purpose::Login,
                1 => Purpose::StepUp { started: body.time()?, epoch: Epoch(body.number()?) },
                _ => return None,
            },
            invited: match body.byte()? {
                0 => None,
                1 => Some(CodeHash(body.array()?)),
                _ => return None,
            },
        };
        body.end(token)
    }
}

impl Token for Session {
    const DOMAIN: &'static str = "cookie/session";

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(&self.id.0);
        put_text(out, self.app.as_str());
        put_user(out, &self.user);
        out.extend_from_slice(&self.device.0);
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
        put_time(out, self.started);
        put_time(out, self.seen);
        match self.proved_at {
            None => out.push(0),
            Some(at) => {
                out.push(1);
                put_time(out, at);
            }
        }
        out.extend_from_slice(&self.methods.bits().to_be_bytes());
        put_terms(out, &self.terms);
        put_time(out, self.emergency_until.unwrap_or_default());
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut body = Reader::versioned(body)?;
        let token = Self {
            id: SessionId(body.array()?),
            app: AppId::new(body.text()?),
            user: body.user()?,
            device: DeviceId(body.array()?),
            epoch: Epoch(body.number()?),
            started: body.time()?,
            seen: body.time()?,
            proved_at: match body.byte()? {
                0 => None,
                1 => Some(body.time()?),
                _ => return None,
            },
            methods: body.methods()?,
            terms: body.terms()?,
            emergency_until: Some(body.time()?).filter(|until| *until > UnixMillis(0)),
        };
        body.end(token)
    }
}

/// Networks with their number (1 byte) in front, each as family, length of its prefix, and address; then the end of the
/// exemption, 0 when there is none. More networks than fit would be a cookie that no browser keeps: `admin` bounds them.
fn put_terms(out: &mut Vec<u8>, terms: &Terms) {
    let networks = &terms.networks;
    // Too many becomes a number that nobody reads: never a shorter list, which could end up empty.
    out.push(u8::try_from(networks.len()).ok().filter(|n| *n < u8::MAX).unwrap_or(u8::MAX));
    for network in networks.iter() {
        match network {
            IpNet::V4(v4) => {
                out.extend_from_slice(&[4, v4.prefix_len()]);
                out.extend_from_slice(&v4.addr().octets());
            }
            IpNet::V6(v6) => {
                out.extend_from_slice(&[6, v6.prefix_len()]);
                out.extend_from_slice(&v6.addr().octets());
            }
        }
    }
    put_time(out, terms.exempt_until.unwrap_or_default());
}

fn put_time(out: &mut Vec<u8>, at: UnixMillis) {
    out.extend_from_slice(&at.0.to_be_bytes());
}

fn put_user(out: &mut Vec<u8>, user: &UserKey) {
    put_text(out, user.realm.as_str());
    put_text(out, user.name.as_str());
}

/// A text that is too long for its length field becomes one that nobody reads: never a shorter text, whose rest
/// would be taken for the fields that follow.
fn put_text(out: &mut Vec<u8>, text: &str) {
    match u16::try_from(text.len()) {
        Ok(len) if len < u16::MAX => {
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        _ => out.extend_from_slice(&u16::MAX.to_be_bytes()),
    }
}

/// Reads a body from its beginning; every step answers `None` when there is too little.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn versioned(body: &'a [u8]) -> Option<Self> {
        let (version, rest) = body.split_first()?;
        (*version == VERSION).then_some(Self(rest))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn time(&mut self) -> Option<UnixMillis> {
        self.number().map(UnixMillis)
    }

    fn text(&mut self) -> Option<&'a str> {
        let len = u16::from_be_bytes(self.array()?);
        if len == u16::MAX {
            return None;
        }
        let (head, rest) = self.0.split_at_checked(usize::from(len))?;
        self.0 = rest;
        std::str::from_utf8(head).ok()
    }

    fn user(&mut self) -> Option<UserKey> {
        Some(UserKey { realm: Realm::new(self.text()?), name: UserName::canonical(self.text()?) })
    }

    fn terms(&mut self) -> Option<Terms> {
        let count = self.byte().filter(|n| *n < u8::MAX)?;
        let networks = (0..count).map(|_| self.network()).collect::<Option<Vec<_>>>()?;
        let exempt_until = self.time()?;
        Some(Terms {
            networks: networks.into(),
            exempt_until: (exempt_until > UnixMillis(0)).then_some(exempt_until),
        })
    }

    fn network(&mut self) -> Option<IpNet> {
        let (family, prefix) = (self.byte()?, self.byte()?);
        let address = match family {
            4 => IpAddr::from(self.array::<4>()?),
            6 => IpAddr::from(self.array::<16>()?),
            _ => return None,
        };
        IpNet::new(address, prefix).ok()
    }

    fn methods(&mut self) -> Option<MethodSet> {
        let bits = u16::from_be_bytes(self.array()?);
        let set = MethodSet::from_bits(bits);
        // A method that this version does not know is not one that it may count.
        (set.bits() == bits).then_some(set)
    }

    fn end<T>(self, token: T) -> Option<T> {
        self.0.is_empty().then_some(token)
    }
}

#[cfg(test)]
mod tests;
