//! How a pending secret is handed over: as a link, a QR code, and a key to copy. Drawn here, sent nowhere, kept
//! nowhere.

use std::fmt::Write;

use data_encoding::BASE32_NOPAD;
use fast_qr::{ECL, QRBuilder, QRCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    Offer,
    window::{DIGITS, STEP_SECS},
};
use crate::base::secret::{SecretBytes, SecretString};

/// Makes the offer of `secret`, labelled for the app's list.
///
/// # Errors
/// When the QR code cannot be drawn.
pub(super) fn make(secret: &SecretBytes, issuer: &str, account: &str) -> Result<Offer, String> {
    let key = SecretString::new(BASE32_NOPAD.encode(secret.expose()));
    let url = SecretString::new(url(key.expose(), &label(issuer, 40), &label(account, 64)));
    // Enough to survive a worn screen; more would make the modules smaller.
    let qr = QRBuilder::new(url.expose()).ecl(ECL::M).build();
    let svg = SecretString::new(svg(&qr.map_err(|_| "the setup link is too long for a QR code".to_owned())?));
    Ok(Offer { svg, groups: SecretString::new(groups(key.expose())), url })
}

/// The key URI that authenticator apps read. Algorithm, digits and period are the defaults of every app, and
/// spelled out all the same.
fn url(key: &str, issuer: &str, account: &str) -> String {
    let (issuer, account) = (utf8_percent_encode(issuer, ESCAPED), utf8_percent_encode(account, ESCAPED));
    format!(
        "otpauth://totp/{issuer}:{account}?secret={key}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}\
         &period={STEP_SECS}"
    )
}

/// A text that fits into a label: the colon divides issuer from account, so there is none inside; long names are
/// cut, for they must fit into a QR code that a phone can read. It is for the eye only.
fn label(text: &str, most_bytes: usize) -> String {
    let mut out = String::new();
    for c in text.trim().chars().filter(|c| !c.is_control()) {
        if out.len().saturating_add(c.len_utf8()) > most_bytes {
            break;
        }
        out.push(if c == ':' { '-' } else { c });
    }
    out.trim_end().to_owned()
}

fn groups(key: &str) -> String {
    let mut out = String::with_capacity(key.len().saturating_mul(2));
    for (index, c) in key.chars().enumerate() {
        if index > 0 && index % 4 == 0 {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// One white and one black path, no style and no script, so that the strictest CSP lets it stand. White stays
/// white in a dark page: most phones read no inverted codes. The element has no name for screen readers: the
/// page gives the one around it.
fn svg(qr: &QRCode) -> String {
    let side = qr.size.saturating_add(2 * QUIET);
    let mut dark = String::new();
    for y in 0..qr.size {
        let mut row = (0_usize..).zip(qr[y].iter().map(|module| module.value())).peekable();
        while let Some((x, is_dark)) = row.next() {
            if is_dark {
                let mut run = 1_usize;
                while row.next_if(|(_, is_dark)| *is_dark).is_some() {
                    run = run.saturating_add(1);
                }
                let (x, y) = (x.saturating_add(QUIET), y.saturating_add(QUIET));
                // Writing to a string does not fail.
                let _ = write!(dark, "M{x} {y}h{run}v1h-{run}z");
            }
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" \
         shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h{side}v{side}h-{side}z\"/>\
         <path fill=\"#000\" d=\"{dark}\"/></svg>"
    )
}

/// The quiet zone around the code, in modules (ISO/IEC 18004, section 9.1).
const QUIET: usize = 4;

/// All but RFC 3986's unreserved characters.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(issuer: &str, account: &str) -> Offer {
        make(&SecretBytes::new(b"12345678901234567890".to_vec()), issuer, account).unwrap()
    }

    #[test]
    fn b5_the_link_says_everything_and_reads_back() {
        let offer = offer("Zorg & Co: Noord", "anna@example.test");
        assert_eq!(
            offer.url.expose(),
            "otpauth://totp/Zorg%20%26%20Co-%20Noord:anna%40example.test?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
             &issuer=Zorg%20%26%20Co-%20Noord&algorithm=SHA1&digits=6&period=30"
        );
        let read = totp_rs::Totp::from_url(offer.url.expose()).unwrap();
        assert_eq!(read.issuer(), Some("Zorg & Co- Noord"));
        assert_eq!(read.account_name(), "anna@example.test");
        assert_eq!(read.secret().as_bytes(), b"12345678901234567890");
        assert_eq!(offer.groups.expose(), "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ");
    }

    #[test]
    fn the_longest_labels_still_make_a_code_that_a_phone_can_read() {
        let name = "𐍈".repeat(50);
        let offer = offer(&name, &name);
        assert!(totp_rs::Totp::from_url(offer.url.expose()).is_ok());
        let side = offer.svg.expose().split_once("viewBox=\"0 0 ").unwrap().1.split_once(' ').unwrap().0;
        assert!(side.parse::<u32>().unwrap() <= 100, "{side} modules");
    }

    /// Paints the paths of the SVG and compares with the code's own modules.
    #[test]
    fn the_drawing_is_the_code_with_its_quiet_zone() {
        let qr =
            QRBuilder::new("otpauth://totp/a:b?secret=GEZDGNBVGY3TQOJQ").ecl(ECL::M).build().ok().unwrap();
        let svg = svg(&qr);
        let side = qr.size + 8;
        assert!(svg.contains(&format!("viewBox=\"0 0 {side} {side}\"")));
        for refused in ["style", "script", "href", "<image", "on"] {
            let inert = svg.replace("version", "");
            assert!(!inert.contains(&format!(" {refused}")), "{refused}");
        }
        let path = svg.rsplit_once("d=\"").unwrap().1.split_once('"').unwrap().0;
        let mut painted = vec![vec![false; side]; side];
        for run in path.split_terminator('z') {
            let (at, rest) = run.trim_start_matches('M').split_once('h').unwrap();
            let (x, y) = at.split_once(' ').unwrap();
            let (x, y): (usize, usize) = (x.parse().unwrap(), y.parse().unwrap());
            let length: usize = rest.split_once('v').unwrap().0.parse().unwrap();
            painted[y][x..x + length].fill(true);
        }
        for (y, row) in painted.iter().enumerate() {
            for (x, dark) in row.iter().enumerate() {
                let inside = (4..side - 4).contains(&x) && (4..side - 4).contains(&y);
                assert_eq!(*dark, inside && qr[y - 4][x - 4].value(), "{x} {y}");
            }
        }
    }
}
