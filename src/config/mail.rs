//! `mail`, resolved: the way to people's mailboxes.

use std::{fmt, time::Duration};

use jiff::tz::TimeZone;

use super::shared::Password;
use crate::i18n::Language;

/// How messages are sent, and what they look like.
#[derive(Clone)]
pub struct Mail {
    /// Host name or address of the server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub security: MailSecurity,
    /// Roots for the server's certificate, PEM; the system's when `None`.
    pub roots: Option<Vec<u8>>,
    /// As whom Sluis logs in there.
    pub login: Option<(String, Password)>,
    /// The sender's name …
    pub from_name: Option<String>,
    /// … and address.
    pub from: String,
    /// The longest wait for a connection, and again for the server to take a message.
    pub timeout: Duration,
    /// For people for whom no language is set.
    pub language: Language,
    /// Of times in messages.
    pub time_zone: TimeZone,
    /// Who is told of emergency access; empty: the accounts with the role `admin`.
    pub administrators: Vec<String>,
}

/// How the connection to a server is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MailSecurity {
    /// TLS from the first byte (RFC 8314).
    Tls,
    /// TLS by STARTTLS, or nothing is sent (RFC 3207).
    Starttls,
    /// None.
    Plain,
}

impl fmt::Display for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.security {
            MailSecurity::Tls => "TLS",
            MailSecurity::Starttls => "STARTTLS",
            MailSecurity::Plain => "no TLS",
        };
        write!(f, "{}, port {}, {how}, from {}", self.host, self.port, self.from)?;
        self.login.as_ref().map_or(Ok(()), |(user, _)| write!(f, ", as {user}"))
    }
}
