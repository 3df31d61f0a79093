//! The conversation with a mail server (RFC 5321), by `lettre`.
//!
//! Why its connections are driven by hand, and not by its pool: a message is *at risk of being sent twice* from the
//! moment at which its bytes go out until the server has answered. Only who drives the steps knows on which side of that
//! moment something went wrong ([`Undelivered`]). And only a connection whose whole transaction was answered is used again:
//! one that was given up in the middle would take a late answer for that to the next command.
//!
//! Every wait has an end: each of the two halves (up to the server's readiness, then the message and its answer) has
//! `mail.timeout`. lettre's own covers the connect alone.

use std::{fmt, time::Duration};

use lettre::transport::smtp::{
    authentication::{Credentials, Mechanism},
    client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters},
    commands::{Data, Mail as MailFrom, Rcpt},
    extension::{ClientId, Extension, MailParameter},
    response::{Response, Severity},
};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::letter::Letter;
use crate::base::clock::Stopwatch;
use crate::config::{Mail, mail::MailSecurity, shared::Password};

/// Why a message was not sent.
#[derive(Debug)]
pub enum Undelivered {
    /// The server does not have it; another time it may take it.
    Later(Cause),
    /// The server refused it for good.
    Never(Cause),
    /// It was handed over, and no answer came: the server may have it.
    Unknown(Cause),
}

/// What went wrong, for two kinds of readers.
#[derive(Debug)]
pub struct Cause {
    /// Without anybody's address: for logs.
    pub brief: String,
    /// As the server said it.
    pub full: String,
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Later(cause) | Self::Never(cause) | Self::Unknown(cause)) = self;
        f.write_str(&cause.full)
    }
}

/// What a server was found to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Whether the connection is protected.
    pub encrypted: bool,
    /// Whether Sluis has logged in.
    pub authenticated: bool,
}

/// Talks to one server, over a few connections that are kept for a while.
pub struct Mailer {
    config: Mail,
    tls: Option<TlsParameters>,
    hello: ClientId,
    idle: Mutex<Vec<(AsyncSmtpConnection, Stopwatch)>>,
}

impl Mailer {
    /// Makes it ready; connects to nothing. Reads the system's roots where TLS is spoken by them.
    ///
    /// # Errors
    /// When the roots cannot be used.
    pub fn new(config: Mail) -> anyhow::Result<Self> {
        let tls = match config.security {
            MailSecurity::Plain => None,
            MailSecurity::Tls | MailSecurity::Starttls => {
                let mut builder = TlsParameters::builder(config.host.clone());
                if let Some(pem) = &config.roots {
                    builder = builder
                        .certificate_store(CertificateStore::None)
                        .add_root_certificate(Certificate::from_pem(pem)?);
                }
                Some(builder.build()?)
            }
        };
        // RFC 5321, section 4.1.4, asks for a name that exists: the domain whose mail this is.
        let domain =
            config.from.rsplit_once('@').map(|(_, domain)| domain).filter(|domain| domain.is_ascii());
        let hello = domain.map_or_else(ClientId::default, |domain| ClientId::Domain(domain.to_owned()));
        Ok(Self { config, tls, hello, idle: Mutex::default() })
    }

    /// How it is configured.
    pub const fn config(&self) -> &Mail {
        &self.config
    }

    /// Hands a message over. When this answers well, the server has taken it.
    ///
    /// # Errors
    /// When it has not, or may not have.
    pub async fn send(&self, letter: &Letter) -> Result<(), Undelivered> {
        let wait = self.config.timeout;
        let ready = timeout(wait, self.ready(letter)).await;
        let mut line = ready.map_err(|_| Undelivered::Later(too_long(wait)))??;
        // From here on it may be sent, whatever happens.
        let answer = match timeout(wait, line.message(letter.bytes())).await {
            Err(_) => return Err(Undelivered::Unknown(too_long(wait))),
            Ok(Err(error)) if error.status().is_some() => return Err(refused(&error)),
            Ok(Err(error)) => return Err(Undelivered::Unknown(cause(&error))),
            Ok(Ok(answer)) => answer,
        };
        match answer.code().severity {
            Severity::PositiveCompletion => {
                self.park(line);
                Ok(())
            }
            _ => Err(Undelivered::Unknown(unexpected("the message", &answer))),
        }
    }

    /// Connects, greets, and logs in; sends nothing.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn examine(&self) -> Result<Seen, String> {
        let wait = self.config.timeout;
        let fresh = timeout(wait, self.fresh()).await.map_err(|_| too_long(wait).full)?;
        let mut line = fresh.map_err(|cause| cause.full)?;
        let seen = Seen { encrypted: line.is_encrypted(), authenticated: self.config.login.is_some() };
        // Whether it says good-bye does not matter.
        let _ = timeout(wait, line.quit()).await;
        Ok(seen)
    }

    /// A connection on which the server waits for the bytes of the message.
    async fn ready(&self, letter: &Letter) -> Result<AsyncSmtpConnection, Undelivered> {
        let mut line = self.line().await.map_err(Undelivered::Later)?;
        let envelope = letter.envelope();
        let mut options = Vec::new();
        if envelope
            .to()
            .iter()
            .chain(envelope.from())
            .any(|address| !AsRef::<str>::as_ref(address).is_ascii())
        {
            // RFC 6531, section 3.4.
            if !line.server_info().supports_feature(Extension::SmtpUtfEight) {
                let text = "the server takes no address with other letters than ASCII".to_owned();
                return Err(Undelivered::Never(Cause { brief: text.clone(), full: text }));
            }
            options.push(MailParameter::SmtpUtfEight);
        }
        let from = line.command(MailFrom::new(envelope.from().cloned(), options)).await;
        demand(from, "the sender", Severity::PositiveCompletion)?;
        for to in envelope.to() {
            let taken = line.command(Rcpt::new(to.clone(), Vec::new())).await;
            demand(taken, "the recipient", Severity::PositiveCompletion)?;
        }
        demand(line.command(Data).await, "DATA", Severity::PositiveIntermediate)?;
        Ok(line)
    }

    /// One that was kept and still answers, or a new one.
    async fn line(&self) -> Result<AsyncSmtpConnection, Cause> {
        loop {
            let kept = self.idle.lock().pop();
            let Some((mut line, since)) = kept else { return self.fresh().await };
            if since.elapsed() < KEPT
                && timeout(self.config.timeout / 4, line.test_connected()).await == Ok(true)
            {
                return Ok(line);
            }
        }
    }

    async fn fresh(&self) -> Result<AsyncSmtpConnection, Cause> {
        let config = &self.config;
        let server = (config.host.as_str(), config.port);
        let from_the_start = self.tls.clone().filter(|_| config.security == MailSecurity::Tls);
        let connected = AsyncSmtpConnection::connect_tokio1(
            server,
            Some(config.timeout),
            &self.hello,
            from_the_start,
            None,
        );
        let mut line = connected.await.map_err(|error| cause(&error))?;
        if let Some(tls) = self.tls.clone().filter(|_| config.security == MailSecurity::Starttls) {
            line.starttls(tls, &self.hello).await.map_err(|error| cause(&error))?;
        }
        if self.tls.is_some() && !line.is_encrypted() {
            let text = "the connection is not encrypted".to_owned();
            return Err(Cause { brief: text.clone(), full: text });
        }
        if let Some((user, password)) = &config.login {
            let password = match password {
                Password::Fixed(password) => password.expose().to_owned(),
                Password::File(path) => read(path).await?,
            };
            let credentials = Credentials::new(user.clone(), password);
            let answer = line.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await;
            answer.map_err(|error| {
                let Cause { brief, full } = cause(&error);
                let what = "the server does not let Sluis log in";
                Cause { brief: format!("{what}: {brief}"), full: format!("{what}: {full}") }
            })?;
        }
        Ok(line)
    }

    /// Keeps a connection that waits for the next command.
    fn park(&self, line: AsyncSmtpConnection) {
        let mut idle = self.idle.lock();
        idle.retain(|(_, since)| since.elapsed() < KEPT);
        if idle.len() < MOST_KEPT {
            idle.push((line, Stopwatch::start()));
        }
    }
}

type Answered = Result<Response, lettre::transport::smtp::Error>;

/// What was answered must be what the protocol expects there: a server that is out of step is not believed.
fn demand(answered: Answered, what: &str, expected: Severity) -> Result<(), Undelivered> {
    match answered {
        Ok(answer) if answer.code().severity == expected => Ok(()),
        Ok(answer) => Err(Undelivered::Later(unexpected(what, &answer))),
        Err(error) => Err(refused(&error)),
    }
}

/// A refusal by its code (RFC 5321, section 4.2.1); without one the connection broke.
fn refused(error: &lettre::transport::smtp::Error) -> Undelivered {
    if error.is_permanent() { Undelivered::Never(cause(error)) } else { Undelivered::Later(cause(error)) }
}

/// The server's own words can have an address in them: logs have its code only.
fn cause(error: &lettre::transport::smtp::Error) -> Cause {
    let full = error.to_string();
    let brief = match error.status() {
        Some(code) => format!("the server answered {code}"),
        None if error.is_response() => "the server broke off, or its answer cannot be read".to_owned(),
        None => full.clone(),
    };
    Cause { brief, full }
}

fn unexpected(what: &str, answer: &Response) -> Cause {
    let brief = format!("the server answered {} to {what}", answer.code());
    Cause { full: format!("{brief}: {}", answer.first_line().unwrap_or_default()), brief }
}

fn too_long(wait: Duration) -> Cause {
    let text = format!("no answer within {} s", wait.as_secs());
    Cause { brief: text.clone(), full: text }
}

async fn read(path: &std::path::Path) -> Result<String, Cause> {
    let text = tokio::fs::read_to_string(path).await.map_err(|error| {
        let text = format!("the password cannot be read: {}: {error}", path.display());
        Cause { brief: text.clone(), full: text }
    })?;
    Ok(text.trim().to_owned())
}

/// Servers close what is idle after some minutes (RFC 5321, section 4.5.3.2.7: five).
const KEPT: Duration = Duration::from_secs(60);
const MOST_KEPT: usize = 4;
