//! What several targets need: an app, and keys.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use sluis::{
    base::{keyring::Keyring, random::SystemRandom, secret::SecretBytes},
    config::{self, App},
};

/// Keys that everybody knows.
pub static KEYRING: LazyLock<Arc<Keyring>> = LazyLock::new(|| {
    let master = SecretBytes::new(vec![7; 32]);
    Arc::new(Keyring::new(&[master], Arc::new(SystemRandom)).expect("a key ring"))
});

/// An app with a login form, one with JSON, and one that is told by a field.
pub static APP: LazyLock<Arc<App>> = LazyLock::new(|| {
    let text = r#"
listen: { http: { address: "127.0.0.1:0" } }
insecure_cookies: true
keys: [{ env: KEY }]
store: memory
apps:
  - id: care
    hosts: ["*"]
    upstreams: ["http://127.0.0.1:1"]
    login:
      page: /login
      watch:
        - { path: /login, user_field: user }
        - { path: /api/login, user_json: /user/name }
        - { path: /with, user_field: user, with: { do: login } }
      success: { status: [302] }
    anonymous: [/login, /with]
    policy:
      - require: { methods: [totp], validity: 12h }
"#;
    let key = |_: &str| Some("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=".to_owned());
    let mut loaded =
        config::load_text(text, Path::new("fuzz.yaml"), &key).unwrap_or_else(|faults| panic!("{faults}"));
    loaded.config.apps.remove(0)
});
