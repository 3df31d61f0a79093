//! An authenticator app that is not ours: Debian's `oathtool` makes the codes.

use std::process::Command;

/// One entry in an authenticator app.
#[derive(Clone)]
pub struct Authenticator {
    key: String,
}

impl Authenticator {
    /// Types in the setup key of an enrolment page.
    pub fn from_page(html: &str) -> Self {
        let key = html
            .split("secret=")
            .nth(1)
            .unwrap_or_else(|| panic!("no otpauth link on the page:\n{html}"))
            .chars()
            .take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
            .collect::<String>();
        assert_eq!(key.len(), 32, "160 bits in base32");
        Self { key }
    }

    /// The setup key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The code at a moment, in seconds since 1970.
    pub fn code_at(&self, secs: u64) -> String {
        let out = Command::new("oathtool")
            .args(["--totp", "-b", &self.key, "--now", &format!("@{secs}")])
            .output()
            .expect("oathtool is missing: `make test` installs it");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }
}
