//! What the records look like inside their boxes: small, versioned, read completely or not at all.

use crate::{
    base::{clock::UnixMillis, secret::SecretBytes},
    model::{
        AppId, Authenticator, AuthenticatorId, DeviceId, Epoch, LoginId, Method, Realm, Revocation,
        SessionId, UserKey, UserName,
    },
    store::{AttemptState, Collection, Document as KeptDocument, UserRecord},
};

/// The first byte of every record.
const VERSION: u8 = 1;

/// Everything that is kept of a user.
#[derive(Clone)]
pub(super) struct Person {
    pub user: UserKey,
    pub first_seen_at: Option<UnixMillis>,
    pub last_login_at: Option<UnixMillis>,
    pub blocked: bool,
    /// Of the announcements of blocks: 0 when there was none.
    pub block_version: u64,
    pub attempts: AttemptState,
    /// What was proved before the first is void; that matters until the second.
    pub void: Option<(UnixMillis, UnixMillis)>,
    /// Oldest first.
    pub authenticators: Vec<Authenticator>,
}

impl Person {
    pub fn new(user: UserKey) -> Self {
        Self {
            user,
            first_seen_at: None,
            last_login_at: None,
            blocked: false,
            block_version: 0,
            attempts: AttemptState::default(),
            void: None,
            authenticators: Vec::new(),
        }
    }

    /// `None` for one who was only counted or reset, but never met.
    pub fn record(&self) -> Option<UserRecord> {
        Some(UserRecord {
            user: self.user.clone(),
            blocked: self.blocked,
            first_seen_at: self.first_seen_at?,
            last_login_at: self.last_login_at,
            authenticators: self.authenticators.len(),
            attempts: self.attempts,
        })
    }

    pub fn write(&self) -> SecretBytes {
        let mut out = Writer::new();
        out.user(&self.user);
        out.optional(self.first_seen_at);
        out.optional(self.last_login_at);
        out.byte(self.blocked.into());
        out.number(self.block_version);
        out.number(self.attempts.failures.into());
        out.number(self.attempts.wait_until.0);
        out.optional(self.void.map(|void| void.0));
        out.optional(self.void.map(|void| void.1));
        out.number(self.authenticators.len() as u64);
        for authenticator in &self.authenticators {
            out.authenticator(authenticator);
        }
        out.finish()
    }

    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader::new(bytes)?;
        let person = Self {
            user: input.user()?,
            first_seen_at: input.optional()?,
            last_login_at: input.optional()?,
            blocked: input.boolean()?,
            block_version: input.number()?,
            attempts: AttemptState {
                failures: input.number()?.try_into().ok()?,
                wait_until: UnixMillis(input.number()?),
            },
            void: match (input.optional()?, input.optional()?) {
                (Some(before), Some(until)) => Some((before, until)),
                _ => None,
            },
            authenticators: {
                let count = input.number()?;
                (0..count).map(|_| input.authenticator()).collect::<Option<_>>()?
            },
        };
        input.end(person)
    }
}

/// Who owns a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Device {
    pub device: DeviceId,
    pub owner: UserKey,
    pub epoch: Epoch,
    /// From when on no token of any owner so far can be alive.
    pub until: UnixMillis,
    /// The same for the owners before this one; zero when there was none.
    pub revoked_until: UnixMillis,
    /// When the last takeover was announced, by the server's clock; zero when there was none.
    pub announced_at: UnixMillis,
}

impl Device {
    pub fn write(&self) -> SecretBytes {
        let mut out = Writer::new();
        out.id(&self.device.0);
        out.user(&self.owner);
        out.number(self.epoch.0);
        out.number(self.until.0);
        out.number(self.revoked_until.0);
        out.number(self.announced_at.0);
        out.finish()
    }

    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader::new(bytes)?;
        let device = Self {
            device: DeviceId(input.id()?),
            owner: input.user()?,
            epoch: Epoch(input.number()?),
            until: UnixMillis(input.number()?),
            revoked_until: UnixMillis(input.number()?),
            announced_at: UnixMillis(input.number()?),
        };
        input.end(device)
    }
}

/// A document, or the place where one was.
#[derive(Clone, PartialEq)]
pub(super) struct Document {
    pub of: Collection,
    pub name: String,
    /// `None`: it was removed.
    pub document: Option<KeptDocument>,
}

impl Document {
    pub fn write(&self) -> SecretBytes {
        let mut out = Writer::new();
        out.text(self.of.name());
        out.text(&self.name);
        out.byte(self.document.is_some().into());
        if let Some(document) = &self.document {
            out.optional(document.until);
            out.bytes(document.body.expose());
        }
        out.finish()
    }

    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader::new(bytes)?;
        let document = Self {
            of: Collection::parse(&input.text()?)?,
            name: input.text()?,
            document: match input.boolean()? {
                false => None,
                true => Some(KeptDocument {
                    until: input.optional()?,
                    body: SecretBytes::new(input.bytes()?.to_vec()),
                }),
            },
        };
        input.end(document)
    }
}

/// An announcement.
pub(super) fn write_revocation(revocation: &Revocation) -> SecretBytes {
    let mut out = Writer::new();
    match revocation {
        Revocation::Session { id, until } => {
            out.byte(b's');
            out.id(&id.0);
            out.number(until.0);
        }
        Revocation::Device { device, epoch, until } => {
            out.byte(b'd');
            out.id(&device.0);
            out.number(epoch.0);
            out.number(until.0);
        }
        Revocation::User { user, before, until } => {
            out.byte(b'u');
            out.user(user);
            out.number(before.0);
            out.number(until.0);
        }
        Revocation::Blocked { user, blocked, version } => {
            out.byte(b'b');
            out.user(user);
            out.byte((*blocked).into());
            out.number(*version);
        }
        Revocation::SealedName { app, name } => {
            out.byte(b'n');
            out.text(app.as_str());
            out.text(name);
        }
    }
    out.finish()
}

/// Reads what [`write_revocation`] wrote.
pub(super) fn read_revocation(bytes: &[u8]) -> Option<Revocation> {
    let mut input = Reader::new(bytes)?;
    let revocation = match input.byte()? {
        b's' => Revocation::Session { id: SessionId(input.id()?), until: UnixMillis(input.number()?) },
        b'd' => Revocation::Device {
            device: DeviceId(input.id()?),
            epoch: Epoch(input.number()?),
            until: UnixMillis(input.number()?),
        },
        b'u' => Revocation::User {
            user: input.user()?,
            before: UnixMillis(input.number()?),
            until: UnixMillis(input.number()?),
        },
        b'b' => {
            Revocation::Blocked { user: input.user()?, blocked: input.boolean()?, version: input.number()? }
        }
        b'n' => Revocation::SealedName { app: AppId::new(input.text()?), name: input.text()? },
        _ => return None,
    };
    input.end(revocation)
}

/// A login that was completed.
pub(super) fn write_login(login: LoginId, until: UnixMillis) -> SecretBytes {
    let mut out = Writer::new();
    out.id(&login.0);
    out.number(until.0);
    out.finish()
}

/// Reads what [`write_login`] wrote.
pub(super) fn read_login(bytes: &[u8]) -> Option<(LoginId, UnixMillis)> {
    let mut input = Reader::new(bytes)?;
    let login = (LoginId(input.id()?), UnixMillis(input.number()?));
    input.end(login)
}

struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Self {
        Self(vec![VERSION])
    }

    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn optional(&mut self, at: Option<UnixMillis>) {
        self.byte(at.is_some().into());
        if let Some(at) = at {
            self.number(at.0);
        }
    }

    fn id(&mut self, id: &[u8; 16]) {
        self.0.extend_from_slice(id);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn user(&mut self, user: &UserKey) {
        self.text(user.realm.as_str());
        self.text(user.name.as_str());
    }

    fn authenticator(&mut self, authenticator: &Authenticator) {
        self.id(&authenticator.id.0);
        self.text(authenticator.method.name());
        self.text(&authenticator.name);
        self.number(authenticator.confirmed_at.0);
        self.optional(authenticator.last_used_at);
        self.bytes(authenticator.secret.expose());
        self.number(authenticator.last_step);
        self.0.extend_from_slice(&authenticator.drift_steps.to_be_bytes());
    }

    fn finish(self) -> SecretBytes {
        SecretBytes::new(self.0)
    }
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    /// `None` when another version wrote it.
    fn new(bytes: &'b [u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
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

    fn boolean(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Outer `None`: not readable.
    #[expect(clippy::option_option, reason = "what is not readable is not what is not there")]
    fn optional(&mut self) -> Option<Option<UnixMillis>> {
        if self.boolean()? { self.number().map(|number| Some(UnixMillis(number))) } else { Some(None) }
    }

    fn id(&mut self) -> Option<[u8; 16]> {
        self.array()
    }

    fn bytes(&mut self) -> Option<&'b [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn text(&mut self) -> Option<String> {
        self.bytes().and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
    }

    fn user(&mut self) -> Option<UserKey> {
        Some(UserKey { realm: Realm::new(self.text()?), name: UserName::canonical(self.text()?) })
    }

    fn authenticator(&mut self) -> Option<Authenticator> {
        Some(Authenticator {
            id: AuthenticatorId(self.id()?),
            method: Method::parse(&self.text()?)?,
            name: self.text()?,
            confirmed_at: UnixMillis(self.number()?),
            last_used_at: self.optional()?,
            secret: SecretBytes::new(self.bytes()?.to_vec()),
            last_step: self.number()?,
            drift_steps: self.array().map(i8::from_be_bytes)?,
        })
    }

    /// Nothing may be left.
    fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::{NOW, authenticator, user};

    #[test]
    fn records_read_back_whole_or_not_at_all() {
        let person = Person {
            first_seen_at: Some(NOW),
            blocked: true,
            block_version: 7,
            attempts: AttemptState { failures: 3, wait_until: NOW },
            void: Some((NOW, UnixMillis(NOW.0 + 1))),
            authenticators: vec![authenticator(1), authenticator(2)],
            ..Person::new(user("anna"))
        };
        let bytes = person.write();
        let read = Person::read(bytes.expose()).unwrap();
        assert_eq!(read.write().expose(), bytes.expose());
        assert_eq!((read.record(), read.void), (person.record(), person.void));
        for cut in 0..bytes.expose().len() {
            assert!(Person::read(&bytes.expose()[..cut]).is_none(), "{cut}");
        }
        assert!(Person::read(&[bytes.expose(), &[0]].concat()).is_none());

        let device = Device {
            device: DeviceId([1; 16]),
            owner: user("anna"),
            epoch: Epoch(9),
            until: NOW,
            revoked_until: UnixMillis(0),
            announced_at: UnixMillis(5),
        };
        assert_eq!(Device::read(device.write().expose()), Some(device));
        for document in
            [None, Some(KeptDocument { body: SecretBytes::new(b"{}".to_vec()), until: Some(NOW) })]
        {
            let document = Document { of: Collection::Tokens, name: "a".to_owned(), document };
            assert!(Document::read(document.write().expose()) == Some(document));
        }
        for revocation in [
            Revocation::Session { id: SessionId([1; 16]), until: NOW },
            Revocation::Device { device: DeviceId([1; 16]), epoch: Epoch(2), until: NOW },
            Revocation::User { user: user("anna"), before: NOW, until: UnixMillis(NOW.0 + 1) },
            Revocation::Blocked { user: user("eve"), blocked: true, version: 3 },
            Revocation::SealedName { app: AppId::new("records"), name: "sid".to_owned() },
        ] {
            assert_eq!(read_revocation(write_revocation(&revocation).expose()), Some(revocation));
        }
    }
}
