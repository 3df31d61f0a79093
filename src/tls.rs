//! TLS towards clients, of every listener: one certificate with its key, checked before it is used, replaced while running.
//!
//! A pair that cannot be used never replaces one that can: the old one stays, with a metric and one line in the
//! log. TLS 1.2 and 1.3; no 0-RTT, since early data can be replayed (RFC 8446 section 8).

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::TlsAcceptor;

use crate::{
    base::clock::{SharedClock, UnixMillis},
    metrics::{Listener, Metrics, ReloadOutcome, Reloaded},
};

/// The certificate in use, and the files that it comes from.
pub struct Certificates {
    files: Mutex<Files>,
    clock: SharedClock,
    present: ArcSwap<Pair>,
    /// The contents that were judged last, good or bad, so that an unchanged bad pair is not reported for ever.
    judged: Mutex<Contents>,
}

#[derive(Clone, PartialEq, Eq)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// A pair that can be used, of other files perhaps than the one in use: see [`Certificates::take`].
pub struct Ready {
    files: Files,
    contents: Contents,
    /// `None` when it is in use already.
    pair: Option<Pair>,
}

struct Pair {
    key: Arc<CertifiedKey>,
    not_after: UnixMillis,
    contents: Contents,
}

/// SHA-256 of both files: the key's bytes themselves are not kept.
type Contents = [u8; 32];

/// What became of a reload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reload {
    /// The files are as they were.
    Unchanged,
    /// The new pair is in use; valid until then.
    Done(UnixMillis),
    /// The new pair cannot be used, for this reason; the old one stays.
    Refused(String),
}

impl Certificates {
    /// Loads the pair.
    ///
    /// # Errors
    /// With a text that names the file and what is wrong with it. An expired certificate is no error (a restart
    /// must not make an outage worse) but a warning.
    pub fn load(certificate_file: &Path, key_file: &Path, clock: SharedClock) -> io::Result<Self> {
        let invalid = |text| io::Error::new(io::ErrorKind::InvalidData, text);
        let (certificate, key) = read(certificate_file, key_file).map_err(invalid)?;
        let pair = parse(certificate_file, &certificate, key_file, &key).map_err(invalid)?;
        warn_of_expiry(&pair, clock.now(), certificate_file);
        Ok(Self {
            files: Mutex::new(Files { certificate: certificate_file.to_owned(), key: key_file.to_owned() }),
            clock,
            present: ArcSwap::from_pointee(pair),
            judged: Mutex::new(contents(&certificate, &key)),
        })
    }

    /// Reads the files again and uses them if they are new and good.
    pub fn reload(&self) -> Reload {
        let files = self.files.lock().clone();
        let (certificate, key) = match read(&files.certificate, &files.key) {
            Ok(read) => read,
            Err(reason) => {
                // Said once, too: an empty pair stands for files that cannot be read.
                let before = std::mem::replace(&mut *self.judged.lock(), contents(&[], &[]));
                return if before == contents(&[], &[]) {
                    Reload::Unchanged
                } else {
                    Reload::Refused(reason)
                };
            }
        };
        let new = contents(&certificate, &key);
        if std::mem::replace(&mut *self.judged.lock(), new) == new {
            return Reload::Unchanged;
        }
        match self.judge(&files, &certificate, &key) {
            Ok(pair) => Reload::Done(self.put(pair, &files)),
            Err(reason) => Reload::Refused(reason),
        }
    }

    /// Looks at the pair in these files, to be used in place of the present one.
    ///
    /// # Errors
    /// When it cannot be used, for this reason.
    pub fn prepare(&self, certificate_file: &Path, key_file: &Path) -> Result<Ready, String> {
        let (certificate, key) = read(certificate_file, key_file)?;
        let files = Files { certificate: certificate_file.to_owned(), key: key_file.to_owned() };
        let contents = contents(&certificate, &key);
        let in_use = self.present.load().contents == contents;
        let pair = if in_use { None } else { Some(self.judge(&files, &certificate, &key)?) };
        Ok(Ready { files, contents, pair })
    }

    /// Uses it from now on. `Unchanged` when it was in use already.
    pub fn take(&self, ready: Ready) -> Reload {
        let Ready { files, contents, pair } = ready;
        *self.files.lock() = files.clone();
        *self.judged.lock() = contents;
        pair.map_or(Reload::Unchanged, |pair| Reload::Done(self.put(pair, &files)))
    }

    fn judge(&self, files: &Files, certificate: &[u8], key: &[u8]) -> Result<Pair, String> {
        let pair = parse(&files.certificate, certificate, &files.key, key)?;
        // A pair that has expired must not replace one that has not.
        if pair.not_after <= self.clock.now() && self.not_after() > pair.not_after {
            return Err(format!("{}: the certificate has expired", files.certificate.display()));
        }
        Ok(pair)
    }

    fn put(&self, pair: Pair, files: &Files) -> UnixMillis {
        warn_of_expiry(&pair, self.clock.now(), &files.certificate);
        let not_after = pair.not_after;
        self.present.store(Arc::new(pair));
        not_after
    }

    /// Until when the certificate in use is valid.
    pub fn not_after(&self) -> UnixMillis {
        self.present.load().not_after
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("file", &self.files.lock().certificate).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.present.load().key))
    }
}

/// What accepts TLS connections with these certificates.
///
/// # Errors
/// When the TLS library refuses its own defaults.
pub fn acceptor(certificates: Arc<Certificates>, http2: bool) -> io::Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols =
        if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(io::Error::other)?;
    config.max_early_data_size = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Looks at the files once in a while, for ever, and tells metrics and log what came of it.
pub async fn follow(certificates: Arc<Certificates>, listener: Listener, metrics: Arc<Metrics>) {
    tell_expiry(&certificates, listener, &metrics);
    // By content, not by modification time: Kubernetes replaces mounted files by swapping a symlink.
    let mut interval = tokio::time::interval(POLL);
    loop {
        interval.tick().await;
        reload(&certificates, listener, &metrics);
    }
}

/// Reads the certificate again and tells metrics and log.
pub fn reload(certificates: &Certificates, listener: Listener, metrics: &Metrics) {
    tell(certificates.reload(), certificates, listener, metrics);
}

/// Uses another pair from now on and tells metrics and log.
pub fn take(ready: Ready, certificates: &Certificates, listener: Listener, metrics: &Metrics) {
    tell(certificates.take(ready), certificates, listener, metrics);
}

fn tell(reload: Reload, certificates: &Certificates, listener: Listener, metrics: &Metrics) {
    let outcome = match reload {
        Reload::Unchanged => return,
        Reload::Done(not_after) => {
            tracing::info!(?listener, ?not_after, "the TLS certificate was replaced");
            ReloadOutcome::Done
        }
        Reload::Refused(reason) => {
            tracing::error!(?listener, reason, "the new TLS certificate cannot be used; the old one stays");
            ReloadOutcome::Refused
        }
    };
    metrics.reloads.count(Reloaded::Certificate, outcome);
    tell_expiry(certificates, listener, metrics);
}

fn tell_expiry(certificates: &Certificates, listener: Listener, metrics: &Metrics) {
    let seconds = i64::try_from(certificates.not_after().secs()).unwrap_or(i64::MAX);
    metrics.certificate_expires(listener, seconds);
}

fn read(certificate_file: &Path, key_file: &Path) -> Result<(Vec<u8>, Vec<u8>), String> {
    let read = |file: &Path| std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()));
    Ok((read(certificate_file)?, read(key_file)?))
}

fn parse(
    certificate_file: &Path,
    certificate: &[u8],
    key_file: &Path,
    key_pem: &[u8],
) -> Result<Pair, String> {
    let in_certificate = |what: &dyn fmt::Display| format!("{}: {what}", certificate_file.display());
    let in_key = |what: &dyn fmt::Display| format!("{}: {what}", key_file.display());

    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| in_certificate(&error))?;
    let leaf = chain.first().ok_or_else(|| in_certificate(&"no certificate in PEM form"))?;
    let not_after = not_after(leaf).ok_or_else(|| in_certificate(&"the first certificate cannot be read"))?;
    for issuer in chain.iter().skip(1) {
        self::not_after(issuer).ok_or_else(|| in_certificate(&"an issuer's certificate cannot be read"))?;
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| in_key(&"no private key in PEM form"))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key)
        .map_err(|_| in_key(&"a private key of a kind that cannot be used"))?;
    let pair = CertifiedKey::new(chain, key);
    pair.keys_match().map_err(|_| in_key(&format_args!("not the key of {}", certificate_file.display())))?;
    Ok(Pair { key: Arc::new(pair), not_after, contents: contents(certificate, key_pem) })
}

fn not_after(certificate: &CertificateDer<'_>) -> Option<UnixMillis> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = parsed.validity().not_after.timestamp();
    Some(UnixMillis::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn contents(certificate: &[u8], key: &[u8]) -> Contents {
    use sha2::Digest;
    let mut hash = sha2::Sha256::new();
    hash.update((certificate.len() as u64).to_be_bytes());
    hash.update(certificate);
    hash.update(key);
    hash.finalize().into()
}

fn warn_of_expiry(pair: &Pair, now: UnixMillis, file: &Path) {
    if pair.not_after <= now {
        tracing::warn!(file = %file.display(), not_after = ?pair.not_after, "the TLS certificate has expired");
    }
}

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(5);

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::base::clock::ManualClock;

    pub(crate) const NOW: UnixMillis = UnixMillis::from_secs(1_800_000_000);

    /// Writes a pair for `localhost` that is valid until `days` after [`NOW`]; answers the certificate's PEM.
    pub(crate) fn write_pair(directory: &Path, days: i64) -> String {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        let now = i64::try_from(NOW.secs()).unwrap();
        let date = |secs: i64| {
            let date = jiff::Timestamp::from_second(secs).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
            rcgen::date_time_ymd(
                i32::from(date.year()),
                u8::try_from(date.month()).unwrap(),
                u8::try_from(date.day()).unwrap(),
            )
        };
        params.not_before = date(now - 1000 * 86_400);
        params.not_after = date(now + days * 86_400);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        std::fs::write(directory.join("cert.pem"), &certificate).unwrap();
        std::fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
        certificate
    }

    fn load(directory: &Path) -> io::Result<Certificates> {
        Certificates::load(&directory.join("cert.pem"), &directory.join("key.pem"), ManualClock::at(NOW))
    }

    #[test]
    fn a_bad_pair_is_refused_with_the_file_and_the_reason() {
        let d = tempfile::tempdir().unwrap();
        write_pair(d.path(), 90);
        let other = tempfile::tempdir().unwrap();
        write_pair(other.path(), 90);
        let refused = |part: &str| {
            let text = load(d.path()).unwrap_err().to_string();
            assert!(text.contains(part), "{text}");
        };
        std::fs::copy(other.path().join("key.pem"), d.path().join("key.pem")).unwrap();
        refused("key.pem: not the key of");
        std::fs::write(d.path().join("key.pem"), "secret").unwrap();
        refused("key.pem: no private key");
        std::fs::write(
            d.path().join("cert.pem"),
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        refused("cert.pem: the first certificate cannot be read");
        std::fs::write(d.path().join("cert.pem"), "").unwrap();
        refused("cert.pem: no certificate");
        std::fs::remove_file(d.path().join("cert.pem")).unwrap();
        refused("cert.pem: No such file");
    }

    #[test]
    fn a_bad_new_pair_leaves_the_old_one_and_is_said_once() {
        let d = tempfile::tempdir().unwrap();
        write_pair(d.path(), 90);
        let certificates = load(d.path()).unwrap();
        let before = certificates.not_after();
        assert!(before.since(NOW) > Duration::from_secs(80 * 86_400));
        assert_eq!(certificates.reload(), Reload::Unchanged);

        std::fs::write(d.path().join("cert.pem"), "rubbish").unwrap();
        assert!(matches!(certificates.reload(), Reload::Refused(_)));
        assert_eq!(certificates.reload(), Reload::Unchanged);
        std::fs::remove_file(d.path().join("cert.pem")).unwrap();
        assert!(matches!(certificates.reload(), Reload::Refused(_)));
        assert_eq!(certificates.reload(), Reload::Unchanged);
        write_pair(d.path(), -10);
        assert!(matches!(certificates.reload(), Reload::Refused(reason) if reason.contains("expired")));
        assert_eq!(certificates.not_after(), before);

        write_pair(d.path(), 400);
        assert!(matches!(certificates.reload(), Reload::Done(until) if until > before));
        assert_eq!(certificates.reload(), Reload::Unchanged);
    }

    #[test]
    fn another_pair_is_taken_when_it_is_good() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write_pair(one.path(), 90);
        write_pair(two.path(), 400);
        let certificates = load(one.path()).unwrap();
        let prepare = |d: &tempfile::TempDir| {
            certificates.prepare(&d.path().join("cert.pem"), &d.path().join("key.pem"))
        };
        let same = prepare(&one).unwrap();
        assert_eq!(certificates.take(same), Reload::Unchanged);
        let before = certificates.not_after();
        let other = prepare(&two).unwrap();
        assert_eq!(certificates.not_after(), before, "not before it is taken");
        assert!(matches!(certificates.take(other), Reload::Done(until) if until > before));
        // From now on it is the other files that are looked at.
        std::fs::write(one.path().join("cert.pem"), "rubbish").unwrap();
        assert_eq!(certificates.reload(), Reload::Unchanged);
        assert!(prepare(&one).is_err());
        write_pair(two.path(), 500);
        assert!(matches!(certificates.reload(), Reload::Done(_)));
    }

    #[test]
    fn an_expired_certificate_is_better_than_none_at_start() {
        let d = tempfile::tempdir().unwrap();
        write_pair(d.path(), -10);
        assert!(load(d.path()).unwrap().not_after() < NOW);
    }
}
