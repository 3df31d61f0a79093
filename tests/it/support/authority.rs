//! Certificates for tests, and Sluis behind one.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reqwest::{Certificate, Client};

use super::{Browser, Sluis};

/// A root of our own, and the files that Sluis serves.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: Certificate,
    /// The root, DER.
    pub root_der: Vec<u8>,
}

impl Authority {
    /// Makes its root.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root_der = params.self_signed(&key).unwrap().der().to_vec();
        let root = Certificate::from_der(&root_der).unwrap();
        Self { issuer: Issuer::new(params, key), root, root_der }
    }

    /// Writes a certificate for `localhost` that is valid until the end of `year`; answers it.
    pub fn write(&self, dir: &Path, year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
        std::fs::write(dir.join("tls.crt"), certificate.pem()).unwrap();
        certificate.der().to_vec()
    }

    /// A client that trusts this root alone.
    pub fn client(&self, http1: bool) -> Client {
        let builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tls_info(true)
            .tls_certs_only([self.root.clone()]);
        if http1 { builder.http1_only() } else { builder }.build().unwrap()
    }

    /// A fresh browser profile that trusts it.
    pub fn browser(&self, sluis: &Sluis, http1: bool) -> Browser {
        Browser::with_client(self.client(http1), &sluis.origin())
    }
}

/// Sluis over TLS in front of these apps.
pub fn start(apps: &str) -> (Authority, Sluis) {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    authority.write(dir.path(), 2099);
    let listener = format!(
        "https: {{ address: \"127.0.0.1:0\", certificate_file: \"{0}/tls.crt\", key_file: \"{0}/tls.key\" }}",
        dir.path().display()
    );
    let sluis = Sluis::start_on(dir, &listener, apps);
    (authority, sluis)
}
