//! `multipart/form-data` (RFC 7578), as strictly as browsers write it.
//!
//! An own scanner, on purpose: a lenient one would skip a preamble, take a bare LF for a line end or the first of
//! two names, and the app's parser might do otherwise. Nothing is skipped here.

use percent_encoding::percent_decode_str;

use super::{
    BadForm,
    content_type::{parameter, token},
    fields::{Field, is_utf8_label},
};

/// More parts than this are no login.
const MOST_PARTS: usize = 500;

/// Reads a whole body.
pub(super) fn parse(body: &[u8], boundary: &str) -> Result<Vec<Field>, BadForm> {
    let delimiter = format!("--{boundary}");
    let mut pieces = split(body, delimiter.as_bytes());
    // No preamble: the body begins with the delimiter.
    if pieces.next().is_none_or(|preamble| !preamble.is_empty()) {
        return Err(BadForm::Malformed);
    }
    let mut fields = Vec::new();
    let mut closed = false;
    for piece in pieces {
        if closed || fields.len() == MOST_PARTS {
            return Err(BadForm::Malformed);
        }
        if piece == b"--" || piece == b"--\r\n" {
            closed = true;
            continue;
        }
        // After the delimiter a line end and nothing else; before the next one a line end.
        let part = piece.strip_prefix(b"\r\n").and_then(|p| p.strip_suffix(b"\r\n"));
        fields.push(parse_part(part.ok_or(BadForm::Malformed)?)?);
    }
    if closed { Ok(fields) } else { Err(BadForm::Malformed) }
}

fn parse_part(part: &[u8]) -> Result<Field, BadForm> {
    let at = find(part, b"\r\n\r\n").ok_or(BadForm::Malformed)?;
    let (head, body) = part.split_at_checked(at).ok_or(BadForm::Malformed)?;
    let body = body.strip_prefix(b"\r\n\r\n").ok_or(BadForm::Malformed)?;
    let head = std::str::from_utf8(head).map_err(|_| BadForm::Encoding)?;
    let mut dispositions = Vec::new();
    let mut utf8 = true;
    for line in head.split("\r\n") {
        // No folded lines, no bare line ends, no space before the colon.
        let (name, value) = line.split_once(':').ok_or(BadForm::Malformed)?;
        let mut rest = name;
        if token(&mut rest, false) != Ok(name) || value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(BadForm::Malformed);
        }
        let value = value.trim_matches([' ', '\t']);
        match name.to_ascii_lowercase().as_str() {
            "content-disposition" => dispositions.push(parse_disposition(value)?),
            "content-type" => utf8 &= charset_is_utf8(value),
            // Nothing that has to be decoded.
            "content-transfer-encoding"
                if ["binary", "8bit", "7bit"].iter().any(|plain| value.eq_ignore_ascii_case(plain)) => {}
            "content-transfer-encoding" | "content-encoding" => return Err(BadForm::Encoding),
            _ => {}
        }
    }
    let (Some(Disposition { name, file }), true) = (dispositions.pop(), dispositions.is_empty()) else {
        return Err(BadForm::Malformed);
    };
    let value = if file {
        // A file where a text is meant.
        Err(BadForm::Malformed)
    } else if utf8 {
        String::from_utf8(body.to_vec()).map_err(|_| BadForm::Encoding)
    } else {
        Err(BadForm::Encoding)
    };
    Ok(Field::new(name, value))
}

struct Disposition {
    name: String,
    file: bool,
}

fn parse_disposition(value: &str) -> Result<Disposition, BadForm> {
    let mut rest = value;
    let kind = token(&mut rest, false).map_err(|_| BadForm::Malformed)?;
    if !kind.eq_ignore_ascii_case("form-data") {
        return Err(BadForm::Malformed);
    }
    let mut name = None;
    let mut file = false;
    while !rest.is_empty() {
        let (key, text) = parameter(&mut rest).ok_or(BadForm::Malformed)?;
        match key.to_ascii_lowercase().as_str() {
            "name" => {
                // `\` escapes for some parsers only; `=?utf-8?…` is decoded by some (RFC 2047).
                if text.contains('\\') || text.contains("=?") || name.replace(text).is_some() {
                    return Err(BadForm::Malformed);
                }
            }
            "filename" | "filename*" => file = true,
            // RFC 7578, section 4.2: `name*` must not be used; other parameters do not exist.
            _ => return Err(BadForm::Malformed),
        }
    }
    let name = name.ok_or(BadForm::Malformed)?;
    // Browsers escape `"` as `%22`; whether the app decodes that is its own affair, so both are compared.
    let name =
        if name.contains('%') { percent_decode_str(&name).decode_utf8_lossy().into_owned() } else { name };
    Ok(Disposition { name, file })
}

fn charset_is_utf8(value: &str) -> bool {
    let mut rest = value;
    if token(&mut rest, true).is_err() {
        return false;
    }
    while !rest.is_empty() {
        match parameter(&mut rest) {
            None => return false,
            Some((name, label)) if name.eq_ignore_ascii_case("charset") && !is_utf8_label(&label) => {
                return false;
            }
            Some(_) => {}
        }
    }
    true
}

/// The pieces between occurrences of `needle`.
fn split<'a>(haystack: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(haystack);
    std::iter::from_fn(move || {
        let here = rest?;
        let Some(at) = find(here, needle) else {
            return rest.take();
        };
        rest = here.get(at.saturating_add(needle.len())..);
        here.get(..at)
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
