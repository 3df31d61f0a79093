//! What tests of this layer and of those above share.

use std::path::Path;

use crate::config::{Mail, load_text};

#[path = "../../tests/smtp/server.rs"]
mod server;

pub(crate) use server::{Server, parsed};

/// `mail:` with this server.
pub(crate) fn mail(smtp: &str) -> Mail {
    mail_with(&format!("smtp: \"{smtp}\", starttls: none"))
}

/// `mail:` with these keys.
pub(crate) fn mail_with(keys: &str) -> Mail {
    let text = format!(
        "listen: {{ http: {{ address: \"127.0.0.1:0\" }} }}\nkeys: [{{ env: KEY }}]\nstore: memory\n\
         mail: {{ from: \"Sluis <sluis@example.nl>\", {keys} }}\n\
         apps: [{{ id: ecd, hosts: [ecd.test], upstreams: [\"http://127.0.0.1:9\"], login: {{ page: /login, \
         watch: [{{ path: /login, user_field: u }}], success: {{ cookie: S }} }}, logout: [/logout], \
         anonymous: [/login] }}]\n"
    );
    let environment = |name: &str| match name {
        "KEY" => Some("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=".to_owned()),
        "PASSWORD" => Some("right horse".to_owned()),
        "WRONG" => Some("wrong horse".to_owned()),
        _ => None,
    };
    match load_text(&text, Path::new("/nonexistent/test.yaml"), &environment) {
        Ok(loaded) => loaded.config.mail.unwrap(),
        Err(faults) => panic!("{faults}"),
    }
}
