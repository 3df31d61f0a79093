//! The app's own cookies, sealed to the session they belong to (I5; design, section 5).
//!
//! On the way down every `HttpOnly` cookie of the app, and every one named in the configuration, becomes a box
//! bound to app, cookie name and scope. On the way up a box is opened and put back; one that does not open, and a
//! plain value under a sealed name, is dropped: the app sees an anonymous user.
//!
//! A box on the wire is `s1.` and base64url of what the key ring sealed: the value, the attributes that came with
//! it, and their length (2 bytes). The attributes are kept so that the box can be made again for another scope.
//! Nothing else of a `Cookie` or `Set-Cookie` is changed by a byte.

use std::{ops::Range, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderValue;

use super::{
    cookie::{MAX_BYTES, Names, Pair, pairs},
    sealed_names::{SealedNames, Snapshot, contains},
    set_cookie::SetCookie,
};
use crate::{
    base::{
        clock::SharedClock,
        keyring::{Keyring, Seal},
        secret::SecretBytes,
    },
    config::App,
    model::{DeviceId, SessionId},
    store::{RevocationSink, SharedStore, StoreError},
};

/// Stands in front of a box; says its version.
const PREFIX: &[u8] = b"s1.";
/// Key id, nonce, tag, and the length of no attributes.
const LEAST_BOX_BYTES: usize = 4 + 12 + 16 + 2;

/// To what a box is bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Before login.
    Device(DeviceId),
    /// A session, or the pending login that will become it.
    Session(SessionId),
}

/// One cookie of the request that was opened, with what is needed to seal it again.
pub struct Opened {
    /// Its name.
    pub name: String,
    /// The app's value.
    pub value: SecretBytes,
    /// The attributes with which the app set it (`; Path=/; HttpOnly…`), byte for byte.
    pub attributes: Vec<u8>,
}

/// What one `Set-Cookie` of the app becomes.
pub enum Down {
    /// Goes on as it is (not sealed, or a deletion).
    Plain,
    /// Replaced by this.
    Sealed(HeaderValue),
    /// Removed: it has a name of ours, or cannot be sealed safely. The text is for the log.
    Dropped(&'static str),
}

/// Seals and opens the app's cookies.
pub struct UpstreamCookies {
    keyring: Arc<Keyring>,
    names: Names,
    clock: SharedClock,
    learned: Arc<SealedNames>,
}

impl UpstreamCookies {
    /// Hears of the names that other replicas learn; the same for all that [`Self::with_keys`] makes.
    pub fn names_learned_elsewhere(&self) -> Arc<dyn RevocationSink> {
        Arc::clone(&self.learned) as _
    }

    /// Puts it together; loads the names that are known to be sealed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load(
        keyring: Arc<Keyring>,
        store: SharedStore,
        names: Names,
        clock: SharedClock,
    ) -> Result<Self, StoreError> {
        Ok(Self { keyring, names, clock, learned: Arc::new(SealedNames::load(store).await?) })
    }

    /// The same with other keys; what one of them learns, both know.
    #[must_use]
    pub fn with_keys(&self, keyring: Arc<Keyring>) -> Self {
        let (names, clock) = (self.names.clone(), Arc::clone(&self.clock));
        Self { keyring, names, clock, learned: Arc::clone(&self.learned) }
    }

    /// Writes the `Cookie` header for upstream into `out`, in place of what was there (empty = send none): ours
    /// removed, boxes of one of `scopes` opened, other boxes and plain values under sealed names (or what some
    /// app may read as one) dropped, pieces that are no cookies dropped, the rest as it came.
    pub fn up<'a>(
        &self,
        app: &App,
        lines: impl Iterator<Item = &'a [u8]>,
        scopes: &[Scope],
        out: &mut Vec<u8>,
    ) {
        out.clear();
        self.append_up(app, lines, scopes, out);
    }

    /// The same behind what stands in `out`, which stays as it is when nothing is to be sent.
    pub fn append_up<'a>(
        &self,
        app: &App,
        lines: impl Iterator<Item = &'a [u8]>,
        scopes: &[Scope],
        out: &mut Vec<u8>,
    ) {
        let first = out.len();
        let learned = self.learned.snapshot();
        for pair in
            lines.flat_map(pairs).filter(|pair| is_well_formed(pair) && !self.names.is_ours(pair.name))
        {
            let start = out.len();
            if start > first {
                out.extend_from_slice(b"; ");
            }
            if !self.put(app, &learned, &pair, scopes, out) {
                out.truncate(start);
            }
        }
    }

    /// The boxes of the request that open under one of `scopes`: what a login must seal again when the app keeps
    /// its cookie value.
    pub fn opened<'a>(
        &self,
        app: &App,
        lines: impl Iterator<Item = &'a [u8]>,
        scopes: &[Scope],
    ) -> Vec<Opened> {
        let open = |pair: Pair<'_>| {
            let mut plain = zeroize::Zeroizing::new(Vec::new());
            let Content::Plain(parts) = self.open(app, pair.name, pair.value, scopes, &mut plain) else {
                return None;
            };
            Some(Opened {
                name: std::str::from_utf8(pair.name).ok()?.to_owned(),
                value: SecretBytes::new(plain.get(parts.value)?.to_vec()),
                attributes: plain.get(parts.attributes)?.to_vec(),
            })
        };
        lines.flat_map(pairs).filter(is_well_formed).filter_map(open).collect()
    }

    /// Whether this `Set-Cookie` of the app needs a scope to be sealed to.
    pub fn needs_seal(&self, app: &App, set_cookie: &HeaderValue) -> bool {
        let cookie = SetCookie::parse(set_cookie.as_bytes());
        self.refusal(&cookie).is_none() && self.is_to_be_sealed(app, &cookie)
    }

    /// Seals one `Set-Cookie` of the app to `scope`. A name that is sealed for the first time is kept in the store
    /// before this answers.
    ///
    /// # Errors
    /// When the store fails; the answer must then not go out.
    pub async fn down(&self, app: &App, set_cookie: &HeaderValue, scope: Scope) -> Result<Down, StoreError> {
        let cookie = SetCookie::parse(set_cookie.as_bytes());
        if let Some(reason) = self.refusal(&cookie) {
            return Ok(Down::Dropped(reason));
        }
        if !self.is_to_be_sealed(app, &cookie) {
            return Ok(Down::Plain);
        }
        if cookie.is_http_only() {
            self.learned.learn(&app.id, cookie.name).await?;
        }
        self.seal(app, cookie.name, cookie.value, cookie.attributes, scope)
    }

    /// Seals an opened cookie again, to another scope: a `Set-Cookie` value.
    ///
    /// # Errors
    /// When no nonce can be drawn.
    pub fn reseal(&self, app: &App, opened: &Opened, scope: Scope) -> Result<HeaderValue, StoreError> {
        match self.seal(app, opened.name.as_bytes(), opened.value.expose(), &opened.attributes, scope)? {
            Down::Sealed(value) => Ok(value),
            // Another scope does not change the length, so what fitted once fits again.
            Down::Plain | Down::Dropped(_) => {
                Err(StoreError("a cookie could not be sealed again".to_owned()))
            }
        }
    }

    /// Writes one pair as upstream may see it; false = not at all.
    fn put(
        &self,
        app: &App,
        learned: &Snapshot,
        pair: &Pair<'_>,
        scopes: &[Scope],
        out: &mut Vec<u8>,
    ) -> bool {
        if pair.value.starts_with(PREFIX) {
            let start = out.len();
            out.extend_from_slice(pair.name);
            out.push(b'=');
            let value_start = out.len();
            match self.open(app, pair.name, pair.value, scopes, out) {
                Content::Plain(parts) => {
                    out.copy_within(parts.value.clone(), value_start);
                    out.truncate(value_start.saturating_add(parts.value.len()));
                    return true;
                }
                // Of another session, app or name: the app has no use for it, whatever its name.
                Content::Shut => return false,
                Content::NoBox => out.truncate(start),
            }
        }
        if !is_exempt(app, pair.name) && may_read_as_sealed(app, learned.of(&app.id), pair) {
            return false;
        }
        out.extend_from_slice(pair.whole);
        true
    }

    /// Opens a box behind what stands in `buffer`; the ranges of the answer point into it.
    fn open(&self, app: &App, name: &[u8], value: &[u8], scopes: &[Scope], buffer: &mut Vec<u8>) -> Content {
        let Some(text) = value.strip_prefix(PREFIX) else { return Content::NoBox };
        let start = buffer.len();
        buffer.resize(start.saturating_add(base64::decoded_len_estimate(text.len())), 0);
        let room = buffer.get_mut(start..).unwrap_or_default();
        let Ok(len) = URL_SAFE_NO_PAD.decode_slice(text, room) else { return Content::NoBox };
        let Some(boxed) = room.get_mut(..len).filter(|boxed| boxed.len() >= LEAST_BOX_BYTES) else {
            return Content::NoBox;
        };
        for scope in scopes {
            let plain = Binding::of(app, name, *scope)
                .with(|aad| self.keyring.open_in_place(Seal::UpstreamCookie, aad, boxed));
            if let Some(plain) = plain {
                return Parts::of(boxed, plain, start).map_or(Content::Shut, Content::Plain);
            }
        }
        Content::Shut
    }

    fn seal(
        &self,
        app: &App,
        name: &[u8],
        value: &[u8],
        attributes: &[u8],
        scope: Scope,
    ) -> Result<Down, StoreError> {
        let Ok(attributes_len) = u16::try_from(attributes.len()) else {
            return Ok(Down::Dropped("the attributes of an app's cookie are too long"));
        };
        let plain = zeroize::Zeroizing::new([value, attributes, &attributes_len.to_be_bytes()].concat());
        let boxed = Binding::of(app, name, scope)
            .with(|aad| self.keyring.seal(Seal::UpstreamCookie, aad, &plain))
            .map_err(|error| StoreError(error.to_string()))?;
        let mut out = Vec::with_capacity(name.len() + boxed.len() * 4 / 3 + attributes.len() + 8);
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(PREFIX);
        out.extend_from_slice(URL_SAFE_NO_PAD.encode(boxed).as_bytes());
        // A browser would keep nothing of it, without a word (RFC 6265bis, 5.6): name and value, without the `=`.
        if out.len() > MAX_BYTES + 1 {
            return Ok(Down::Dropped("an app's cookie is too large for a browser once sealed"));
        }
        out.extend_from_slice(attributes);
        let mut header = HeaderValue::from_maybe_shared(bytes::Bytes::from(out))
            .map_err(|_| StoreError("a sealed cookie is no header value".to_owned()))?;
        header.set_sensitive(true);
        Ok(Down::Sealed(header))
    }

    /// Why a `Set-Cookie` may not go to the browser at all.
    fn refusal(&self, cookie: &SetCookie<'_>) -> Option<&'static str> {
        if cookie.name.is_empty() {
            // It would come back as `value`, and a value such as `__Host-sluis-session=x` as a cookie of ours.
            Some("the app set a cookie without a name")
        } else if self.names.is_ours(cookie.name) {
            Some("the app set a cookie with a name of ours")
        } else {
            None
        }
    }

    fn is_to_be_sealed(&self, app: &App, cookie: &SetCookie<'_>) -> bool {
        !is_exempt(app, cookie.name)
            && (cookie.is_http_only()
                || is_sealed_by_config(app, cookie.name)
                || contains(self.learned.snapshot().of(&app.id), cookie.name))
            && !cookie.is_deletion(self.clock.now())
    }
}

/// What is in a cookie's value.
enum Content {
    /// A box that opens.
    Plain(Parts),
    /// A box that does not.
    Shut,
    /// No box.
    NoBox,
}

/// Where value and attributes stand in an opened buffer.
struct Parts {
    value: Range<usize>,
    attributes: Range<usize>,
}

impl Parts {
    /// `plain` is a range of `boxed`, which begins at `offset` of the buffer.
    fn of(boxed: &[u8], plain: Range<usize>, offset: usize) -> Option<Self> {
        let start = offset.checked_add(plain.start)?;
        let (rest, len) = boxed.get(plain)?.split_last_chunk::<2>()?;
        let value_len = rest.len().checked_sub(usize::from(u16::from_be_bytes(*len)))?;
        let middle = start.checked_add(value_len)?;
        Some(Self { value: start..middle, attributes: middle..start.checked_add(rest.len())? })
    }
}

/// What a box is bound to: version, app, name and scope, each text with its length in front, so that no two
/// bindings give the same bytes.
struct Binding<'a> {
    app: &'a [u8],
    name: &'a [u8],
    scope: Scope,
}

impl<'a> Binding<'a> {
    fn of(app: &'a App, name: &'a [u8], scope: Scope) -> Self {
        Self { app: app.id.as_str().as_bytes(), name, scope }
    }

    /// Hands the bytes over; on the stack, unless a name is very long.
    fn with<T>(&self, then: impl FnOnce(&[u8]) -> T) -> T {
        let (kind, id) = match self.scope {
            Scope::Device(id) => (b"d", id.0),
            Scope::Session(id) => (b"s", id.0),
        };
        let app_len = (self.app.len() as u64).to_be_bytes();
        let name_len = (self.name.len() as u64).to_be_bytes();
        let parts: [&[u8]; 7] = [b"1", &app_len, self.app, &name_len, self.name, kind, &id];
        let mut stack = [0_u8; 192];
        let mut rest = stack.as_mut_slice();
        for part in parts {
            let Some((head, tail)) = rest.split_at_mut_checked(part.len()) else {
                return then(&parts.concat());
            };
            head.copy_from_slice(part);
            rest = tail;
        }
        let unused = rest.len();
        then(stack.get(..stack.len().saturating_sub(unused)).unwrap_or_default())
    }
}

/// Named, and without control characters; a tab inside a value is none (RFC 6265bis, 5.6).
fn is_well_formed(pair: &Pair<'_>) -> bool {
    let controls = |found: bool, b: &u8| found | (*b < 0x20 && *b != b'\t') | (*b == 0x7f);
    !pair.name.is_empty() && !pair.whole.iter().fold(false, controls)
}

fn is_exempt(app: &App, name: &[u8]) -> bool {
    app.cookies.exempt.iter().any(|exempt| exempt.as_bytes() == name)
}

/// Whether some app would find a sealed name in this pair. PHP reads `my.sid`, `my sid` and (once) `my%2Esid` as
/// `my_sid`, ASP.NET minds no case; old parsers split at commas (RFC 2109) or white space too.
fn may_read_as_sealed(app: &App, learned: &[Box<[u8]>], pair: &Pair<'_>) -> bool {
    let is_sealed = |name: &[u8]| {
        is_sealed_by_config(app, name)
            || contains(learned, name)
            || sealed_by_config(app).any(|known| spelling::same(known.as_bytes(), name))
            || learned.iter().any(|known| spelling::same(known, name))
    };
    is_sealed(pair.name) || spelling::hidden_names(pair.whole).any(is_sealed)
}

/// Sealed although nobody has seen it `HttpOnly`. The cookie that tells a login is always one of them: a plain one
/// would be a session of before the installation.
fn is_sealed_by_config(app: &App, name: &[u8]) -> bool {
    sealed_by_config(app).any(|known| known.as_bytes() == name)
}

fn sealed_by_config(app: &App) -> impl Iterator<Item = &String> {
    app.login.success.cookie.iter().chain(&app.cookies.seal)
}

mod spelling;
#[cfg(test)]
mod tests;
