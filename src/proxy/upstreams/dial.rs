//! Connections to upstreams that do not go through pingora: for tunnels and health checks. They verify what
//! pingora's verify.

use std::{fmt, io, net::SocketAddr, path::Path, sync::Arc, sync::OnceLock, time::Duration};

use pingora::{
    protocols::tls::CaType,
    utils::tls::{WrappedX509, parse_x509},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{
    config::app::{Transport, Upstream},
    proxy::edge,
};

/// Connects to the servers of one upstream.
pub(super) struct Dialer {
    connect_timeout: Duration,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    authorities: Option<Arc<CaType>>,
    own_roots: u64,
}

impl Dialer {
    /// # Errors
    /// With a text for the operator, when roots or name cannot be used.
    pub(super) fn new(upstream: &Upstream, transport: &Transport) -> io::Result<Self> {
        let connect_timeout = transport.connect_timeout;
        if !upstream.tls {
            return Ok(Self { connect_timeout, tls: None, authorities: None, own_roots: 0 });
        }
        let own = transport.ca_file.as_deref().map(read_roots).transpose()?;
        let name = super::group::without_brackets(&upstream.host).to_owned();
        let name = ServerName::try_from(name).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{}: not a host name", upstream.host))
        })?;
        let config = client_config(own.as_deref().unwrap_or_default(), transport.verify_certificate)?;
        let own_roots = own.as_deref().map_or(0, mark);
        let authorities = own.map(|own| wrap(own.iter().chain(system_roots())));
        let tls = Some((TlsConnector::from(Arc::new(config)), name));
        Ok(Self { connect_timeout, tls, authorities, own_roots })
    }

    /// Tells additional roots apart, by their contents; 0 = none.
    pub(super) fn own_roots(&self) -> u64 {
        self.own_roots
    }

    /// The roots that pingora is to use instead of the system's: those with the additional ones. `None` = the
    /// system's.
    pub(super) fn authorities(&self) -> Option<Arc<CaType>> {
        self.authorities.clone()
    }

    /// Connects, with TLS where configured.
    pub(super) async fn dial(&self, address: SocketAddr) -> io::Result<edge::Transport> {
        let connect = async {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            Ok(match &self.tls {
                None => edge::Transport::Plain(socket),
                Some((connector, name)) => {
                    let tls = connector.connect(name.clone(), socket).await?;
                    edge::Transport::Tls(Box::new(tls.into()))
                }
            })
        };
        if self.connect_timeout.is_zero() {
            return connect.await;
        }
        timeout(self.connect_timeout, connect).await?
    }
}

fn client_config(own: &[CertificateDer<'static>], verify: bool) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(io::Error::other)?;
    let mut config = if verify {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(system_roots().iter().chain(own).cloned());
        builder.with_root_certificates(roots).with_no_client_auth()
    } else {
        let verifier = Arc::new(Unverified(provider));
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The certificates of a PEM file, each of which can be parsed.
fn read_roots(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let wrong = |what: &dyn fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", file.display()))
    };
    let pem = std::fs::read(file).map_err(|error| wrong(&error))?;
    let roots =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().map_err(|error| wrong(&error))?;
    if roots.is_empty() {
        return Err(wrong(&"no certificate in PEM form"));
    }
    let mut store = RootCertStore::empty();
    for root in &roots {
        // By both parsers: the one that verifies, and the one that pingora keeps certificates with.
        store.add(root.clone()).map_err(|error| wrong(&error))?;
        x509_parser::parse_x509_certificate(root).map_err(|error| wrong(&error))?;
    }
    Ok(roots)
}

/// The beginning of a hash, never 0.
fn mark(roots: &[CertificateDer<'static>]) -> u64 {
    use sha2::Digest;
    let mut hash = sha2::Sha256::new();
    for root in roots {
        hash.update((root.len() as u64).to_be_bytes());
        hash.update(root);
    }
    let hash: [u8; 32] = hash.finalize().into();
    hash.first_chunk().map_or(1, |first| u64::from_be_bytes(*first) | 1)
}

/// What pingora takes. It stops at a root that it cannot use, so those are left out here.
fn wrap<'a>(roots: impl Iterator<Item = &'a CertificateDer<'static>>) -> Arc<CaType> {
    roots
        .filter(|root| RootCertStore::empty().add((*root).clone()).is_ok())
        .filter(|root| x509_parser::parse_x509_certificate(root).is_ok())
        .map(|root| WrappedX509::new(root.to_vec(), parse_x509))
        .collect()
}

/// The system's roots, read once.
fn system_roots() -> &'static [CertificateDer<'static>] {
    static ROOTS: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "reading the system's certificate authorities");
        }
        found.certs
    })
}

/// Takes any certificate: only where the configuration says so.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
