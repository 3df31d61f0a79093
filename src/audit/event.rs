//! The closed list of events, and how one becomes the fields of a line.
//!
//! Fields follow NEN 7513 as far as a gate can know them: when (`time`, RFC 3339 in UTC), what (`event`, `outcome`),
//! about whom (`user`, `realm`), by whom when it was not the user (`actor`), why (`reason`), at which app, on which
//! device, from which address, in which request. Their names are a promise to whoever reads the log with a program:
//! `docs/audit.md` lists them all, and a test holds it to that.
//!
//! Must never hold: passwords, codes, keys, cookies.

use std::net::IpAddr;

use serde::Serialize;

use super::text;
use crate::{
    base::clock::UnixMillis,
    model::{AppId, DeviceId, Method, RequestId, UserKey},
};

/// What happened. A closed list.
#[derive(Clone, Debug)]
pub enum Event {
    /// The app accepted the first factor.
    FirstFactorPassed,
    /// The app refused the first factor (the typed name is kept as typed in `user`).
    FirstFactorRefused,
    /// A second factor was passed.
    SecondFactorPassed {
        /// How.
        method: Method,
    },
    /// A wrong answer.
    SecondFactorRefused {
        /// How.
        method: Method,
    },
    /// Too many wrong answers.
    LockedOut {
        /// Until an administrator acts (true), or for a while.
        hard: bool,
    },
    /// A session began.
    SessionStarted {
        /// `exempt`, `trust`, `factor` or `emergency`.
        ground: &'static str,
    },
    /// A session ended by logout or by a new login on the same browser.
    SessionEnded,
    /// An authenticator was confirmed.
    AuthenticatorEnrolled {
        /// Which kind.
        method: Method,
    },
    /// A device changed hands.
    DeviceTakenOver {
        /// Who had it.
        from: UserKey,
    },
    /// An administrator removed all authenticators.
    UserReset,
    /// An administrator blocked or unblocked.
    UserBlocked {
        /// Which.
        blocked: bool,
    },
    /// A blocked user tried to log in.
    BlockedLogin,
    /// A user tried to log in from an address that is not on their own list.
    LoginFromElsewhere,
    /// An administrator took wrong answers off.
    UserUnlocked,
    /// All sessions and trusts of a user were ended.
    UserSignedOut,
    /// Something that is set for a user was changed.
    UserChanged {
        /// What.
        what: &'static str,
    },
    /// A code was made by which a user may link a first authenticator.
    UserInvited,
    /// That code was used.
    InvitationUsed,
    /// Such a code was wrong, used or expired.
    InvitationRefused,
    /// One authenticator was removed.
    AuthenticatorRemoved {
        /// Which kind.
        method: Method,
    },
    /// Recovery codes were made by their user.
    RecoveryCodesMade,
    /// An authenticator got another name.
    AuthenticatorRenamed,
    /// A list of users was imported.
    UsersImported {
        /// So many had not been met.
        new: usize,
        /// So many others were changed.
        changed: usize,
    },
    /// The list of users was given out.
    UsersExported {
        /// So many as far as it came; `None`: it begins.
        users: Option<usize>,
        /// All that there are.
        is_whole: bool,
    },
    /// A token of the administrators' API was made.
    TokenMade {
        /// Its name.
        name: String,
    },
    /// One was revoked.
    TokenRevoked {
        /// Its name.
        name: String,
    },
    /// A token of the administrators' API was used: once an hour for each token and address.
    ApiUsed,
    /// A call of the administrators' API was refused.
    ApiRefused {
        /// `no_token`, `unknown_token`, `expired_token`, `revoked_token` or `scope`.
        why: &'static str,
        /// So many like it were refused since the last one that was written.
        left_out: u64,
    },
    /// The audit log was searched over the administrators' API: one page.
    AuditSearched,
    /// Emergency codes were made for a user.
    EmergencyCodesMade,
    /// Somebody got in with an emergency code.
    EmergencyUsed,
    /// An emergency code was wrong.
    EmergencyRefused,
    /// An administrator copied the store.
    StoreCopied,
    /// The server started, stopped, or reloaded.
    Server {
        /// `started`, `stopping`, `reloaded`, `reload_refused`.
        what: &'static str,
    },
}

impl Event {
    /// The name in `event`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::FirstFactorPassed => "first_factor_passed",
            Self::FirstFactorRefused => "first_factor_refused",
            Self::SecondFactorPassed { .. } => "second_factor_passed",
            Self::SecondFactorRefused { .. } => "second_factor_refused",
            Self::LockedOut { .. } => "locked_out",
            Self::SessionStarted { .. } => "session_started",
            Self::SessionEnded => "session_ended",
            Self::AuthenticatorEnrolled { .. } => "authenticator_enrolled",
            Self::DeviceTakenOver { .. } => "device_taken_over",
            Self::UserReset => "user_reset",
            Self::UserBlocked { blocked: true } => "user_blocked",
            Self::UserBlocked { blocked: false } => "user_unblocked",
            Self::BlockedLogin => "blocked_login",
            Self::LoginFromElsewhere => "login_from_elsewhere",
            Self::UserUnlocked => "user_unlocked",
            Self::UserSignedOut => "user_signed_out",
            Self::UserChanged { .. } => "user_changed",
            Self::UserInvited => "user_invited",
            Self::InvitationUsed => "invitation_used",
            Self::InvitationRefused => "invitation_refused",
            Self::AuthenticatorRemoved { .. } => "authenticator_removed",
            Self::RecoveryCodesMade => "recovery_codes_made",
            Self::AuthenticatorRenamed => "authenticator_renamed",
            Self::UsersImported { .. } => "users_imported",
            Self::UsersExported { .. } => "users_exported",
            Self::TokenMade { .. } => "token_made",
            Self::TokenRevoked { .. } => "token_revoked",
            Self::AuditSearched => "audit_searched",
            Self::ApiUsed => "api_used",
            Self::ApiRefused { .. } => "api_refused",
            Self::EmergencyCodesMade => "emergency_codes_made",
            Self::EmergencyUsed => "emergency_used",
            Self::EmergencyRefused => "emergency_refused",
            Self::StoreCopied => "store_copied",
            Self::Server { .. } => "server",
        }
    }

    /// `outcome`: whether what was tried came about.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::FirstFactorRefused
            | Self::SecondFactorRefused { .. }
            | Self::LockedOut { .. }
            | Self::BlockedLogin
            | Self::LoginFromElsewhere
            | Self::InvitationRefused
            | Self::EmergencyRefused
            | Self::ApiRefused { .. }
            | Self::UsersExported { users: Some(_), is_whole: false }
            | Self::Server { what: "reload_refused" } => Outcome::Failure,
            _ => Outcome::Success,
        }
    }

    /// Acts of administrators are on the disk before the next line is looked at.
    pub(super) fn is_urgent(&self) -> bool {
        // Of a list there can be a hundred thousand; the line that closes it brings them to the disk.
        if matches!(self, Self::UserChanged { what: IMPORTED }) {
            return false;
        }
        matches!(
            self,
            Self::UserReset
                | Self::UserBlocked { .. }
                | Self::UserUnlocked
                | Self::UserSignedOut
                | Self::UserChanged { .. }
                | Self::UserInvited
                | Self::UsersImported { .. }
                | Self::UsersExported { .. }
                | Self::TokenMade { .. }
                | Self::TokenRevoked { .. }
                | Self::EmergencyCodesMade
                | Self::EmergencyUsed
                | Self::StoreCopied
                | Self::Server { .. }
        )
    }
}

/// `detail` of [`Event::UserChanged`] for a user of a list.
pub const IMPORTED: &str = "imported";

/// Whether what was tried came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did.
    Success,
    /// It did not.
    Failure,
}

/// Who, from where, on which request.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Which app.
    pub app: Option<AppId>,
    /// Whom it is about.
    pub user: Option<UserKey>,
    /// On which device.
    pub device: Option<DeviceId>,
    /// From where.
    pub client: Option<IpAddr>,
    /// On which request.
    pub request_id: Option<RequestId>,
    /// Who acted, when it was an administrator (`cli:root`).
    pub actor: Option<String>,
    /// Why, as the administrator typed it; of any length and with any characters: what is written is bounded and
    /// escaped.
    pub reason: Option<String>,
}

/// What the log says about itself: how its chain goes on. Written by the writer alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// A chain begins; `detail` says why it does not go on from an older one.
    ChainStarted(&'static str),
    /// A process goes on where another one stopped or was killed.
    ChainResumed,
    /// First line of a file: `rotation`, `reopened`, `truncated` or `removed`.
    FileOpened(&'static str),
    /// What stands before is complete up to here.
    Checkpoint(&'static str),
    /// The master key has changed; the lines before are under this one.
    KeyChanged(String),
    /// The sink failed and works again; so many events are in the program's own log only.
    EventsLost {
        /// How many.
        lost: u64,
        /// When it began to fail.
        since: UnixMillis,
    },
    /// Retention deleted a rotated file.
    FileRemoved {
        /// Its name.
        file: String,
        /// Its last sequence number, when it can be read.
        last_seq: Option<u64>,
    },
}

impl Own {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::ChainStarted(_) => "chain_started",
            Self::ChainResumed => "chain_resumed",
            Self::FileOpened(_) => "file_opened",
            Self::Checkpoint(_) => "checkpoint",
            Self::KeyChanged(_) => "key_changed",
            Self::EventsLost { .. } => "events_lost",
            Self::FileRemoved { .. } => "file_removed",
        }
    }
}

/// What a killed process left of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Torn {
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// The fields of an event, in their order.
#[derive(Serialize, Default)]
struct Body<'a> {
    time: String,
    event: &'a str,
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    realm: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    torn_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    torn_sha256: Option<&'a str>,
}

/// An event on its way to its line.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// RFC 3339.
    pub time: String,
    /// Its name.
    pub name: &'static str,
    /// Whether what was tried came about.
    pub outcome: Outcome,
    /// Its fields as they stand in the line: `"time":"…","event":…`, ASCII only.
    pub body: String,
}

/// An event of somebody.
pub(super) fn entry(event: &Event, subject: &Subject, now: UnixMillis) -> Entry {
    let (mut method, mut detail, mut previous_user, mut left) = (None, None, None, None);
    let counts = match event {
        Event::UsersImported { new, changed } => Some(format!("new={new} changed={changed}")),
        Event::UsersExported { users: Some(users), .. } => Some(format!("users={users}")),
        _ => None,
    };
    match event {
        Event::SecondFactorPassed { method: m }
        | Event::SecondFactorRefused { method: m }
        | Event::AuthenticatorEnrolled { method: m }
        | Event::AuthenticatorRemoved { method: m } => method = Some(m.name()),
        Event::LockedOut { hard } => detail = Some(if *hard { "hard" } else { "soft" }),
        Event::SessionStarted { ground } => detail = Some(*ground),
        Event::DeviceTakenOver { from } => previous_user = Some(text::bounded(from.name.as_str())),
        Event::Server { what } | Event::UserChanged { what } => detail = Some(*what),
        Event::UsersExported { users: None, .. } => detail = Some("begun"),
        Event::ApiRefused { why, left_out } => {
            detail = Some(*why);
            left = (*left_out > 0).then_some(*left_out);
        }
        Event::TokenMade { name } | Event::TokenRevoked { name } => detail = Some(text::bounded(name)),
        _ => {}
    }
    let body = Body {
        time: now.rfc3339(),
        event: event.name(),
        outcome: Some(event.outcome()),
        user: subject.user.as_ref().map(|u| text::bounded(u.name.as_str())),
        realm: subject.user.as_ref().map(|u| u.realm.as_str()),
        app: subject.app.as_ref().map(AppId::as_str),
        device: subject.device.map(|d| d.to_string()),
        address: subject.client.map(|c| c.to_canonical()),
        request_id: subject.request_id.as_ref().map(RequestId::as_str),
        actor: subject.actor.as_deref().map(text::bounded),
        reason: subject.reason.as_deref().map(text::bounded),
        method,
        detail: detail.or(counts.as_deref()),
        previous_user,
        left_out: left,
        ..Body::default()
    };
    Entry { name: event.name(), outcome: event.outcome(), body: text::fields(&body), time: body.time }
}

/// The same for what the log says about itself. `torn` is what stands before this line and is none.
pub(super) fn own_entry(own: &Own, torn: Option<&Torn>, now: UnixMillis) -> Entry {
    let mut body = Body {
        time: now.rfc3339(),
        event: own.name(),
        outcome: Some(Outcome::Success),
        torn_bytes: torn.map(|t| t.bytes),
        torn_sha256: torn.map(|t| t.sha256.as_str()),
        ..Body::default()
    };
    match own {
        Own::ChainStarted(why) | Own::FileOpened(why) | Own::Checkpoint(why) => body.detail = Some(why),
        Own::ChainResumed => {}
        Own::KeyChanged(previous) => body.previous_key = Some(previous),
        Own::EventsLost { lost, since } => {
            body.outcome = Some(Outcome::Failure);
            body.lost = Some(*lost);
            body.since = Some(since.rfc3339());
        }
        Own::FileRemoved { file, last_seq } => {
            body.file = Some(text::bounded(file));
            body.last_seq = *last_seq;
        }
    }
    let outcome = body.outcome.unwrap_or(Outcome::Success);
    Entry { name: own.name(), outcome, body: text::fields(&body), time: body.time }
}
