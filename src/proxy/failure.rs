//! Why a request got no answer of the app or of our pages: one table from cause to status, log and metric.
//!
//! What the visitor sees is a status, a bland sentence and the request's id; what really happened stands in the
//! log under that id and nowhere else.

use http::StatusCode;
use pingora::{Error, ErrorSource, ErrorType};

use crate::metrics::{Reason, UpstreamError};

/// Every cause. The text of [`Self::Malformed`] says what is wrong with the request; it is for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The request can be read in two ways, or not at all.
    Malformed(&'static str),
    /// The client was too slow.
    ClientTooSlow,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// The body of a request to a path that logs in is larger than `limits.login_body_bytes`.
    LoginTooLarge,
    /// The user name that was typed is none, or not one that `login.name.allowed` takes.
    UserName,
    /// No app has this host.
    UnknownHost,
    /// TRACE, CONNECT.
    Method,
    /// `Expect` of something else than `100-continue`.
    Expectation,
    /// Too many fields, or too large a header.
    HeaderTooLarge,
    /// The session ended while the app was answering.
    SessionEnded,
    /// The user is blocked.
    Blocked,
    /// The user may not come from this address.
    Elsewhere,
    /// The user logs in again and again.
    TooManyLogins,
    /// A page of another origin wants a websocket in the name of the session.
    ForeignOrigin,
    /// The store failed, or the machine gave no random bytes.
    Store,
    /// This replica may have missed a revocation.
    Blind,
    /// The audit log cannot be written, and nothing may be granted without it.
    Audit,
    /// No upstream is well.
    NoUpstream,
    /// The upstream could not be reached, broke off, or spoke no HTTP.
    Upstream(UpstreamError),
    /// The upstream did not answer in time.
    UpstreamTooSlow(UpstreamError),
    /// The client is gone: there is nobody to answer.
    ClientGone,
    /// A fault of our own.
    Internal,
}

impl Cause {
    /// The status of the answer; `None` when there is nobody to answer.
    pub const fn status(self) -> Option<StatusCode> {
        Some(match self {
            Self::Malformed(_) | Self::UserName => StatusCode::BAD_REQUEST,
            Self::SessionEnded => StatusCode::UNAUTHORIZED,
            Self::Blocked | Self::Elsewhere | Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::TooManyLogins => StatusCode::TOO_MANY_REQUESTS,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::ClientTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge | Self::LoginTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::UnknownHost => StatusCode::MISDIRECTED_REQUEST,
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Upstream(_) => StatusCode::BAD_GATEWAY,
            Self::Store | Self::Blind | Self::Audit | Self::NoUpstream => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamTooSlow(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ClientGone => return None,
        })
    }

    /// The name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::ClientTooSlow => "client_too_slow",
            Self::BodyTooLarge => "body_too_large",
            Self::LoginTooLarge => "login_too_large",
            Self::UserName => "user_name",
            Self::UnknownHost => "unknown_host",
            Self::Method => "method",
            Self::Expectation => "expectation",
            Self::HeaderTooLarge => "header_too_large",
            Self::SessionEnded => "session_ended",
            Self::Blocked => "blocked",
            Self::Elsewhere => "elsewhere",
            Self::TooManyLogins => "too_many_logins",
            Self::ForeignOrigin => "foreign_origin",
            Self::Store => "store",
            Self::Blind => "blind",
            Self::Audit => "audit",
            Self::NoUpstream => "no_upstream",
            Self::Upstream(_) => "upstream",
            Self::UpstreamTooSlow(_) => "upstream_too_slow",
            Self::ClientGone => "client_gone",
            Self::Internal => "internal",
        }
    }

    /// What is wrong with the request, for the log.
    pub const fn detail(self) -> Option<&'static str> {
        match self {
            Self::Malformed(detail) => Some(detail),
            Self::LoginTooLarge => Some("a request to a watched path is larger than limits.login_body_bytes"),
            Self::UserName => Some("the user name is not one that login.name takes"),
            _ => None,
        }
    }

    /// The decision that is counted for a request that was refused before the gate saw it.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Malformed(_) | Self::Method | Self::Expectation | Self::HeaderTooLarge => {
                Some(Reason::Ambiguous)
            }
            Self::UnknownHost => Some(Reason::UnknownHost),
            Self::Blocked => Some(Reason::Blocked),
            Self::Elsewhere => Some(Reason::Elsewhere),
            Self::Store | Self::Audit => Some(Reason::Unavailable),
            Self::Blind => Some(Reason::Blind),
            _ => None,
        }
    }

    /// How the upstream failed, when it did.
    pub const fn upstream(self) -> Option<UpstreamError> {
        match self {
            Self::Upstream(kind) | Self::UpstreamTooSlow(kind) => Some(kind),
            Self::NoUpstream => Some(UpstreamError::NoneHealthy),
            _ => None,
        }
    }

    /// As pingora carries it through its phases.
    pub fn into_error(self) -> Box<Error> {
        let status = self.status().map_or(0, |s| s.as_u16());
        Error::explain(ErrorType::CustomCode(self.name(), status), "refused by the proxy")
    }

    /// What an error of pingora means. What is not known is a fault of our own: a bland 500.
    pub fn of(error: &Error) -> Self {
        if let ErrorType::CustomCode(name, _) | ErrorType::Custom(name) = error.etype() {
            return Self::carried(name);
        }
        match error.esource() {
            ErrorSource::Upstream => Self::of_upstream(error.etype()),
            ErrorSource::Downstream => match error.etype() {
                ErrorType::ReadTimedout => Self::ClientTooSlow,
                ErrorType::ReadError
                | ErrorType::WriteError
                | ErrorType::WriteTimedout
                | ErrorType::ConnectionClosed
                | ErrorType::ConnectError
                | ErrorType::H2Error => Self::ClientGone,
                _ => Self::Malformed("refused by the HTTP layer"),
            },
            ErrorSource::Internal | ErrorSource::Unset => Self::Internal,
        }
    }

    fn of_upstream(error: &ErrorType) -> Self {
        use UpstreamError as Kind;
        match error {
            ErrorType::ConnectTimedout => Self::UpstreamTooSlow(Kind::ConnectTimeout),
            ErrorType::TLSHandshakeTimedout => Self::UpstreamTooSlow(Kind::Tls),
            ErrorType::ReadTimedout => Self::UpstreamTooSlow(Kind::ReadTimeout),
            ErrorType::WriteTimedout => Self::UpstreamTooSlow(Kind::WriteTimeout),
            ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::SocketError
            | ErrorType::BindError => Self::Upstream(Kind::Connect),
            ErrorType::TLSHandshakeFailure
            | ErrorType::TLSWantX509Lookup
            | ErrorType::InvalidCert
            | ErrorType::HandshakeError => Self::Upstream(Kind::Tls),
            ErrorType::ReadError | ErrorType::ConnectionClosed => Self::Upstream(Kind::Read),
            ErrorType::WriteError => Self::Upstream(Kind::Write),
            ErrorType::InvalidHTTPHeader
            | ErrorType::H1Error
            | ErrorType::H2Error
            | ErrorType::H2Downgrade
            | ErrorType::InvalidH2 => Self::Upstream(Kind::Protocol),
            _ => Self::Upstream(Kind::Other),
        }
    }

    /// The cause behind a name that [`Self::into_error`] gave to an error.
    fn carried(name: &str) -> Self {
        const CARRIED: [Cause; 10] = [
            Cause::Malformed("refused while forwarding"),
            Cause::ClientTooSlow,
            Cause::BodyTooLarge,
            Cause::Store,
            Cause::Audit,
            Cause::NoUpstream,
            Cause::SessionEnded,
            Cause::Blocked,
            Cause::ClientGone,
            Cause::Upstream(UpstreamError::Other),
        ];
        CARRIED.into_iter().find(|cause| cause.name() == name).unwrap_or(Self::Internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pingora_reports_becomes_a_status() {
        let table = [
            (Error::new_up(ErrorType::ConnectRefused), Some(502)),
            (Error::new_up(ErrorType::InvalidCert), Some(502)),
            (Error::new_up(ErrorType::InvalidHTTPHeader), Some(502)),
            (Error::new_up(ErrorType::ConnectionClosed), Some(502)),
            (Error::new_up(ErrorType::ConnectTimedout), Some(504)),
            (Error::new_up(ErrorType::ReadTimedout), Some(504)),
            (Error::new_down(ErrorType::ReadTimedout), Some(408)),
            (Error::new_down(ErrorType::InvalidHTTPHeader), Some(400)),
            (Error::new_down(ErrorType::WriteError), None),
            (Error::new_down(ErrorType::ConnectionClosed), None),
            (Error::new(ErrorType::UnknownError), Some(500)),
            (Error::new_in(ErrorType::InvalidHTTPHeader), Some(500)),
            (Error::new_str("a type nobody knows"), Some(500)),
        ];
        for (error, status) in table {
            assert_eq!(Cause::of(&error).status().map(|s| s.as_u16()), status, "{error}");
        }
    }

    /// [I9] A refusal stays what it was on its way through pingora, also when pingora says whose fault it is.
    #[test]
    fn i9_a_cause_survives_pingora() {
        for cause in
            [Cause::BodyTooLarge, Cause::Store, Cause::NoUpstream, Cause::ClientTooSlow, Cause::SessionEnded]
        {
            assert_eq!(Cause::of(&cause.into_error()), cause);
            assert_eq!(Cause::of(&cause.into_error().into_up()), cause);
            assert_eq!(Cause::of(&cause.into_error().into_down()), cause);
        }
    }
}
