//! Every value that a label can have: closed lists, so that no user, path or address can become one.

use crate::model::Method;

/// A closed list of values of one label.
pub trait Label: Copy + 'static {
    /// All values; a value stands at its own [`Self::index`].
    const ALL: &'static [Self];

    /// The value as the series carries it.
    fn name(self) -> &'static str;

    /// Its place in [`Self::ALL`].
    fn index(self) -> usize;
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {
            $($(#[$value_doc])* $value,)+
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$value,)+];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label!(
    /// What became of a message: `outcome` of `sluis_mail_total`.
    MailOutcome {
        /// The server has taken it.
        Sent = "sent",
        /// The server refused it for good.
        Refused = "refused",
        /// Given up: no server, or one that could not take it, again and again.
        Failed = "failed",
        /// Handed over, and no answer came: it may have arrived, and is not sent again.
        Unknown = "unknown",
        /// Too many wait already.
        Full = "full",
        /// Its user has no address.
        NoAddress = "no_address",
        /// As many of this kind went to this user a short while ago.
        TooSoon = "too_soon",
    }
);

label!(
    /// What became of a request: `outcome` of `sluis_requests_total`.
    Answered {
        /// The app answered (also an anonymous path).
        Forwarded = "forwarded",
        /// One of our own pages.
        Own = "own",
        /// A watched login, sent to the app and judged.
        Login = "login",
        /// Sent to log in or to the challenge.
        Challenge = "challenge",
        /// 4xx of our own: malformed, too large, blocked, unknown host.
        Refused = "refused",
        /// 5xx of our own: store, upstream or a limit of time.
        Unavailable = "unavailable",
    }
);

label!(
    /// Why the gate decided as it did: `reason` of `sluis_decisions_total`.
    Reason {
        /// Forwarded: a live session.
        Session = "session",
        /// Forwarded: an anonymous path.
        Anonymous = "anonymous",
        /// Forwarded: a watched login.
        Login = "login",
        /// Forwarded: a logout.
        Logout = "logout",
        /// One of our own pages.
        Own = "own",
        /// Challenged: nobody has logged in.
        NoSession = "no_session",
        /// Challenged: the first factor is done, the second is not.
        Pending = "pending",
        /// Challenged: the proof of a running session is too old.
        ProofTooOld = "proof_too_old",
        /// Refused: the user is blocked.
        Blocked = "blocked",
        /// Refused: the user may not come from this address.
        Elsewhere = "elsewhere",
        /// Refused: not one clear request (400).
        Ambiguous = "ambiguous",
        /// Refused: no app has this host.
        UnknownHost = "unknown_host",
        /// This replica may have missed a revocation.
        Blind = "blind",
        /// The decision could not be made.
        Unavailable = "unavailable",
    }
);

label!(
    /// How an upstream failed: `kind` of `sluis_upstream_errors_total`.
    UpstreamError {
        /// No upstream is well.
        NoneHealthy = "none_healthy",
        /// No connection.
        Connect = "connect",
        /// No connection in time.
        ConnectTimeout = "connect_timeout",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The connection broke while the answer was read.
        Read = "read",
        /// No answer in time.
        ReadTimeout = "read_timeout",
        /// The connection broke while the request was written.
        Write = "write",
        /// The request could not be written in time.
        WriteTimeout = "write_timeout",
        /// What came was no HTTP.
        Protocol = "protocol",
        /// Something else.
        Other = "other",
    }
);

label!(
    /// What a replica knows of revocations: `sight` of `sluis_feed_sight`.
    FeedSight {
        /// All that is complete.
        Clear = "clear",
        /// Perhaps not all: running sessions go on for a while.
        Grace = "grace",
        /// Perhaps not all: nobody passes.
        Blind = "blind",
    }
);

label!(
    /// Why a shard was loaded: `reason` of `sluis_feed_loads_total`.
    FeedLoad {
        /// The process has started.
        Start = "start",
        /// Another part of the process wants to know.
        Joined = "joined",
        /// Something was missing in what was read.
        Gap = "gap",
        /// The backend does not know where this replica says to be: it has lost writes, or too much has happened.
        Refused = "refused",
    }
);

label!(
    /// What is revoked: `kind` of `sluis_revocations`.
    RevocationKind {
        /// A session.
        Session = "session",
        /// What an earlier owner of a device had on it.
        Device = "device",
        /// What a user proved before some moment.
        User = "user",
        /// A user.
        Block = "block",
    }
);

label!(
    /// What became of a first factor: `outcome` of `sluis_first_factor_total`.
    FirstFactor {
        /// The app accepted it.
        Passed = "passed",
        /// The app refused it.
        Refused = "refused",
        /// The app accepted it, but the user is blocked.
        Blocked = "blocked",
        /// The app accepted it, but the user may not come from this address.
        Elsewhere = "elsewhere",
        /// The app accepted it, but this user's sessions begin and end too often.
        TooMany = "too_many",
        /// The form could not be read in one way only (400).
        BadForm = "bad_form",
        /// App or store failed.
        Unavailable = "unavailable",
    }
);

label!(
    /// What became of a second factor: `outcome` of `sluis_challenges_total`.
    Challenge {
        /// Right, and spent.
        Passed = "passed",
        /// Wrong.
        Wrong = "wrong",
        /// Right, but spent already.
        AlreadyUsed = "already_used",
        /// Right on a clock that is too far off.
        ClockOff = "clock_off",
        /// Not looked at: too many wrong ones lately.
        Wait = "wait",
        /// Not looked at: locked.
        Locked = "locked",
        /// The user has no authenticator of this kind.
        NotEnrolled = "not_enrolled",
        /// The store failed.
        Unavailable = "unavailable",
    }
);

label!(
    /// What became of an enrolment: `outcome` of `sluis_enrolments_total`.
    Enrolment {
        /// Shown to a user.
        Offered = "offered",
        /// The first code was right.
        Confirmed = "confirmed",
        /// The first code was wrong, or came too soon or too late.
        Wrong = "wrong",
        /// The user has as many as allowed.
        TooMany = "too_many",
        /// The invitation was wrong, used or expired.
        NotInvited = "not_invited",
        /// Enrolment is closed for this user or network.
        Closed = "closed",
        /// The store failed.
        Unavailable = "unavailable",
    }
);

label!(
    /// `kind` of `sluis_lockouts_total`.
    Lockout {
        /// For a while.
        Soft = "soft",
        /// Until an administrator acts.
        Hard = "hard",
    }
);

label!(
    /// Why a session began: `ground` of `sluis_sessions_started_total`.
    SessionGround {
        /// Policy asks no second factor.
        Exempt = "exempt",
        /// Proved on this device, not long ago.
        Trust = "trust",
        /// Proved just now.
        Factor = "factor",
        /// With an emergency code.
        Emergency = "emergency",
    }
);

label!(
    /// What became of a cookie of the app: `outcome` of `sluis_sealed_cookies_total`.
    SealedCookie {
        /// On the way down: sealed.
        Sealed = "sealed",
        /// On the way down: would be too large for a browser once sealed; removed.
        DroppedTooLarge = "dropped_too_large",
        /// On the way down: has a name of ours; removed.
        DroppedOurs = "dropped_ours",
        /// On the way down: could not be read as a cookie; removed.
        DroppedMalformed = "dropped_malformed",
        /// On the way up: opened.
        Opened = "opened",
        /// On the way up: a box of another session, or a plain value under a sealed name; removed.
        DroppedForeign = "dropped_foreign",
    }
);

label!(
    /// A verb of the store: `operation` of `sluis_store_operations_total` and `sluis_store_seconds`.
    StoreOperation {
        /// `Enrolments::authenticators`
        Authenticators = "authenticators",
        /// `Enrolments::add`
        AddAuthenticator = "add_authenticator",
        /// `Enrolments::advance_step`
        AdvanceStep = "advance_step",
        /// `Enrolments::rename`
        RenameAuthenticator = "rename_authenticator",
        /// `Enrolments::remove`, `Enrolments::remove_spare`
        RemoveAuthenticator = "remove_authenticator",
        /// `Users::note_seen`
        NoteSeen = "note_seen",
        /// `Users::user`
        User = "user",
        /// `Users::list`
        ListUsers = "list_users",
        /// `Users::reset`
        ResetUser = "reset_user",
        /// `Users::sign_out`
        SignOut = "sign_out",
        /// `Documents::document`
        Document = "document",
        /// `Documents::swap_document`
        SwapDocument = "swap_document",
        /// `Documents::documents`
        Documents = "documents",
        /// `Users::set_blocked`
        SetBlocked = "set_blocked",
        /// `OneTime::consume`
        Consume = "consume",
        /// `Attempts::attempts`
        Attempts = "attempts",
        /// `Attempts::swap_attempts`
        SwapAttempts = "swap_attempts",
        /// `Devices::own`
        OwnDevice = "own_device",
        /// `Revocations::end_session`
        EndSession = "end_session",
        /// `Revocations::follow`
        Follow = "follow",
        /// `SealedNames::learn_sealed_name`
        LearnSealedName = "learn_sealed_name",
        /// `SealedNames::sealed_names`
        SealedNames = "sealed_names",
        /// `Upkeep::ping`
        Ping = "ping",
        /// `Upkeep::prune`
        Prune = "prune",
        /// `Upkeep::backup`
        Backup = "backup",
        /// Count of secrets by key.
        Sealed = "sealed",
        /// Change of the keys.
        Rekey = "rekey",
    }
);

label!(
    /// Whether something went well: `outcome` of store operations.
    Went {
        /// It did.
        Ok = "ok",
        /// It did not.
        Failed = "failed",
    }
);

label!(
    /// Why a question was asked again: `kind` of `sluis_redis_redirects_total`.
    Redirect {
        /// Another node of the Cluster has the slot.
        Moved = "moved",
        /// Another node has it for this one question: the slot is moving.
        Ask = "ask",
        /// The slot is moving, and what was asked for is partly here and partly there.
        Midway = "midway",
        /// The server is not the master, or not yet.
        Elsewhere = "elsewhere",
    }
);

label!(
    /// `what` of `sluis_reloads_total`.
    Reloaded {
        /// The certificate and its key.
        Certificate = "certificate",
        /// The configuration file.
        Configuration = "configuration",
    }
);

label!(
    /// `outcome` of `sluis_reloads_total`.
    ReloadOutcome {
        /// The new one counts.
        Done = "done",
        /// The new one has faults; the old one goes on.
        Refused = "refused",
    }
);

label!(
    /// What became of a call of the administrators' API: `outcome` of `sluis_admin_calls_total`.
    AdminCall {
        /// It was let in; what became of it then is another thing.
        Admitted = "admitted",
        /// Neither a token nor a certificate.
        NoToken = "no_token",
        /// A token that nobody made.
        UnknownToken = "unknown_token",
        /// A token that has ended.
        ExpiredToken = "expired_token",
        /// A token that was revoked.
        RevokedToken = "revoked_token",
        /// Without the scope of the route.
        Scope = "scope",
        /// Too many of this address or token.
        TooMany = "too_many",
        /// Nobody could say who it is: the store failed.
        Unavailable = "unavailable",
    }
);

label!(
    /// Where connections come in: `listener` of `sluis_connections` and `sluis_certificate_expiry_seconds`.
    Listener {
        /// Plain HTTP.
        Http = "http",
        /// HTTPS.
        Https = "https",
        /// `/metrics` and probes.
        Operations = "operations",
        /// The administrators' pages and API.
        Admin = "admin",
        /// The Unix socket of the command line.
        Control = "control",
    }
);

impl Label for Method {
    const ALL: &'static [Self] = Self::ALL;

    fn name(self) -> &'static str {
        Self::name(self)
    }

    fn index(self) -> usize {
        // Its number is what tokens have, and not all numbers are taken.
        Self::ALL.iter().position(|method| *method == self).unwrap_or(Self::ALL.len())
    }
}
