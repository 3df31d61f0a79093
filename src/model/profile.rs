//! What administrators set for one user, and where a user is logged in.

use std::{fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{AppId, DeviceId, Epoch, Method, SessionId};
use crate::base::clock::UnixMillis;

/// What administrators have set for one user, beside what policy says for all.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// Where messages go.
    pub email: Option<String>,
    /// The authentication number (row A3), E.164: `+31612345678`.
    pub number: Option<String>,
    /// The language of messages: `nl`, `en`; else the app's.
    pub language: Option<String>,
    /// Addresses from which the user may come (row B13); empty: from anywhere.
    pub networks: Vec<IpNet>,
    /// The method that is offered first, where policy lets choose.
    pub preferred: Option<Method>,
    /// No second factor for a while.
    pub exemption: Option<PersonalExemption>,
    /// The right to link a first authenticator where policy asks for an invitation.
    pub invite: Option<Invite>,
    /// Emergency codes that were made and not used yet.
    pub emergency: Vec<Sealed>,
    /// What this user may do for others.
    pub role: Option<Role>,
    /// The password at the administrators' pages, hidden.
    pub password: Option<PasswordHash>,
    /// Wrong passwords in a row there (I8); wrong codes are counted elsewhere.
    pub password_failures: u32,
    /// No password is looked at before this moment.
    pub password_wait_until: UnixMillis,
}

/// A password as `argon2` hides it (PHC string). It is no secret like the password, and is not printed all the same.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(pub String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

impl Profile {
    /// What of this decides on every request, as it is at `now`.
    pub fn terms(&self, now: UnixMillis) -> Terms {
        Terms {
            networks: self.networks.clone().into(),
            exempt_until: self.exemption.as_ref().map(|e| e.until).filter(|until| *until > now),
        }
    }
}

/// An exemption for one person: it ends, and it has a reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PersonalExemption {
    /// When it ends.
    pub until: UnixMillis,
    /// Why, for the audit log.
    pub reason: String,
}

/// SHA-256 of a code that was shown once. It opens nothing: the code is not to be found from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CodeHash(pub [u8; 32]);

impl fmt::Display for CodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// A one-time code by which a user may link a first authenticator.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Invite {
    /// SHA-256 of the code, in hexadecimal digits: it has more than 112 bits (OWASP ASVS 6.5.2).
    pub hash: String,
    /// When it ends.
    pub until: UnixMillis,
}

/// A code of which only the hash is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sealed {
    /// SHA-256, in hexadecimal digits.
    pub hash: String,
    /// When it was made.
    pub made: UnixMillis,
    /// When it ends.
    pub until: UnixMillis,
}

/// What somebody may do at the administrators' pages and API.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads everything, changes nothing.
    Auditor,
    /// Resets, unlocks, invites.
    Helpdesk,
    /// Everything.
    Admin,
}

impl Role {
    /// All.
    pub const ALL: [Self; 3] = [Self::Auditor, Self::Helpdesk, Self::Admin];

    /// The name in configuration, API and log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auditor => "auditor",
            Self::Helpdesk => "helpdesk",
            Self::Admin => "admin",
        }
    }

    /// Reads what [`Self::name`] gave.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// What of a [`Profile`] decides on every request; a session carries it, so that no store is asked. Whoever changes it
/// voids the user's sessions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// Addresses from which the user may come; empty: from anywhere.
    pub networks: Arc<[IpNet]>,
    /// No second factor is asked before this moment.
    pub exempt_until: Option<UnixMillis>,
}

/// Where a user is logged in: sessions that have begun and may still be alive; and where they have been. It tells
/// people; it decides nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Presence {
    /// Oldest first.
    pub sessions: Vec<SessionRecord>,
    /// On which devices sessions have begun; that of the last one at the end.
    #[serde(default)]
    pub devices: Vec<KnownDevice>,
}

/// A device on which a user has been.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KnownDevice {
    /// Which one.
    pub id: DeviceId,
    /// When a session last began there.
    pub last: UnixMillis,
}

/// Whether a user was on a device before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encounter {
    /// On none that is known.
    First,
    /// On this one.
    Known,
    /// On others only.
    NewDevice,
}

impl Presence {
    /// So many are remembered of one user.
    pub const AT_MOST: usize = 50;

    /// A session has begun; what is over by `now` is forgotten, and the oldest when there are too many.
    pub fn begin(&mut self, session: SessionRecord, now: UnixMillis) -> Encounter {
        let encounter = self.meet(session.device, now);
        self.sessions.retain(|old| old.until > now && old.id != session.id);
        self.sessions.push(session);
        let too_many = self.sessions.len().saturating_sub(Self::AT_MOST);
        self.sessions.drain(..too_many);
        encounter
    }

    fn meet(&mut self, device: DeviceId, now: UnixMillis) -> Encounter {
        // What an earlier version kept knows no devices, but sessions.
        let from_sessions = self.sessions.iter().map(|s| KnownDevice { id: s.device, last: s.started });
        if self.devices.is_empty() {
            self.devices = from_sessions.collect();
        }
        self.devices.retain(|known| known.last.plus(DEVICE_LIVES) > now);
        let encounter = match self.devices.as_slice() {
            [] => Encounter::First,
            devices if devices.iter().any(|known| known.id == device) => Encounter::Known,
            _ => Encounter::NewDevice,
        };
        self.devices.retain(|known| known.id != device);
        self.devices.push(KnownDevice { id: device, last: now });
        let too_many = self.devices.len().saturating_sub(Self::AT_MOST);
        self.devices.drain(..too_many);
        encounter
    }

    /// A session has ended.
    pub fn end(&mut self, id: SessionId) {
        self.sessions.retain(|old| old.id != id);
    }

    /// Until when there is something to remember; `None` when there is nothing.
    pub fn until(&self) -> Option<UnixMillis> {
        let devices = self.devices.iter().map(|known| known.last.plus(DEVICE_LIVES));
        self.sessions.iter().map(|session| session.until).chain(devices).max()
    }
}

/// A session that has begun.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Which one.
    pub id: SessionId,
    /// At which app.
    pub app: AppId,
    /// On which device.
    pub device: DeviceId,
    /// In which of its epochs.
    pub epoch: Epoch,
    /// When.
    pub started: UnixMillis,
    /// When it ends in any case.
    pub until: UnixMillis,
    /// From which address.
    pub address: IpAddr,
    /// With what, as the browser says: at most [`Self::AGENT_BYTES`] bytes, one line.
    pub agent: String,
}

/// As long as the cookie of a device.
const DEVICE_LIVES: std::time::Duration = std::time::Duration::from_hours(400 * 24);

impl SessionRecord {
    /// So much of a `User-Agent` is kept.
    pub const AGENT_BYTES: usize = 200;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: u8, until: u64) -> SessionRecord {
        SessionRecord {
            id: SessionId([id; 16]),
            app: AppId::new("care"),
            device: DeviceId([1; 16]),
            epoch: Epoch(1),
            started: UnixMillis(1),
            until: UnixMillis(until),
            address: IpAddr::from([127, 0, 0, 1]),
            agent: "Firefox".to_owned(),
        }
    }

    #[test]
    fn what_is_over_is_forgotten_and_so_is_the_oldest_of_too_many() {
        let mut presence = Presence::default();
        presence.begin(session(1, 10), UnixMillis(0));
        presence.begin(session(2, 99), UnixMillis(10));
        assert_eq!(presence.sessions, [session(2, 99)]);
        for id in 3..=60 {
            presence.begin(session(id, 99), UnixMillis(10));
        }
        assert_eq!(presence.sessions.len(), Presence::AT_MOST);
        assert_eq!(presence.sessions.first().map(|s| s.id), Some(SessionId([11; 16])));
        presence.end(SessionId([60; 16]));
        assert_eq!(presence.sessions.last().map(|s| s.id), Some(SessionId([59; 16])));
    }

    #[test]
    fn a_device_is_new_once_and_never_the_first_one() {
        let on = |id: u8, device: u8| SessionRecord { device: DeviceId([device; 16]), ..session(id, 99) };
        let mut presence = Presence::default();
        assert_eq!(presence.begin(on(1, 1), UnixMillis(1)), Encounter::First);
        assert_eq!(presence.begin(on(2, 1), UnixMillis(200)), Encounter::Known, "its session is over");
        assert_eq!(presence.begin(on(3, 2), UnixMillis(300)), Encounter::NewDevice);
        assert_eq!(presence.begin(on(4, 2), UnixMillis(400)), Encounter::Known);
        presence.end(SessionId([4; 16]));
        assert_eq!(presence.begin(on(5, 1), UnixMillis(500)), Encounter::Known);
        let forgotten = UnixMillis(500).plus(DEVICE_LIVES);
        assert_eq!(presence.until(), Some(forgotten));
        assert_eq!(presence.begin(on(6, 3), forgotten), Encounter::First);

        let mut earlier: Presence = serde_json::from_value(serde_json::json!({
            "sessions": [serde_json::to_value(on(1, 1)).unwrap()]
        }))
        .unwrap();
        assert_eq!(earlier.begin(on(2, 2), UnixMillis(2)), Encounter::NewDevice);
    }

    #[test]
    fn documents_of_an_earlier_version_are_read() {
        let profile: Profile = serde_json::from_str(r#"{"email":"anna@example.nl"}"#).unwrap();
        assert_eq!(profile, Profile { email: Some("anna@example.nl".to_owned()), ..Profile::default() });
    }

    #[test]
    fn an_exemption_that_has_ended_is_none() {
        let exemption = PersonalExemption { until: UnixMillis(10), reason: "broken phone".to_owned() };
        let profile = Profile { exemption: Some(exemption), ..Profile::default() };
        assert_eq!(profile.terms(UnixMillis(9)).exempt_until, Some(UnixMillis(10)));
        assert_eq!(profile.terms(UnixMillis(10)).exempt_until, None);
    }
}
