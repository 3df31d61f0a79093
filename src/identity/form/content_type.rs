//! The `Content-Type` of a login (RFC 9110, section 8.3), read strictly: what two parsers could read differently
//! is refused.

use super::{BadForm, fields::is_utf8_label};

/// What a body is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ContentType {
    pub(super) kind: Kind,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Urlencoded,
    Multipart {
        boundary: String,
    },
    Json,
    /// A type of which no framework makes fields.
    Opaque,
}

impl ContentType {
    /// Reads the header's value.
    pub(super) fn parse(header: &str) -> Result<Self, BadForm> {
        let mut rest = header.trim_matches([' ', '\t']);
        let essence = token(&mut rest, true)?.to_ascii_lowercase();
        let mut charset = None;
        let mut boundary = None;
        while !rest.is_empty() {
            let (name, value) = parameter(&mut rest).ok_or(BadForm::ContentType)?;
            let slot = match name.to_ascii_lowercase().as_str() {
                "charset" => &mut charset,
                "boundary" => &mut boundary,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(BadForm::ContentType);
            }
        }
        if charset.is_some_and(|label| !is_utf8_label(&label)) {
            return Err(BadForm::Encoding);
        }
        let kind = match essence.as_str() {
            "application/x-www-form-urlencoded" => Kind::Urlencoded,
            "multipart/form-data" => {
                Kind::Multipart { boundary: boundary.filter(|b| is_boundary(b)).ok_or(BadForm::Malformed)? }
            }
            "application/json" => Kind::Json,
            // Some server reads these as one of the three.
            other if ["form", "multipart", "json", "text/plain"].iter().any(|p| other.contains(p)) => {
                return Err(BadForm::ContentType);
            }
            _ => Kind::Opaque,
        };
        Ok(Self { kind })
    }
}

/// `; name=value`, taken off the front of `rest`; the value as token or quoted string (RFC 9110, section 5.6.6).
pub(super) fn parameter<'a>(rest: &mut &'a str) -> Option<(&'a str, String)> {
    *rest = rest.trim_start_matches([' ', '\t']).strip_prefix(';')?.trim_start_matches([' ', '\t']);
    let name = token(rest, false).ok()?;
    *rest = rest.strip_prefix('=')?;
    let value = match rest.strip_prefix('"') {
        None => token(rest, false).ok()?.to_owned(),
        Some(after) => {
            let (quoted, after) = after.split_once('"')?;
            // Some parsers take `\"` for a quote inside, others end there: not to be told.
            if quoted.ends_with('\\') {
                return None;
            }
            *rest = after;
            quoted.to_owned()
        }
    };
    *rest = rest.trim_start_matches([' ', '\t']);
    Some((name, value))
}

/// A token (RFC 9110, section 5.6.2), taken off the front of `rest`; with a `/` inside for a media type.
pub(super) fn token<'a>(rest: &mut &'a str, media_type: bool) -> Result<&'a str, BadForm> {
    let of_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = rest.find(|c| !(of_token(c) || media_type && c == '/')).unwrap_or(rest.len());
    let (found, after) = rest.split_at_checked(end).ok_or(BadForm::ContentType)?;
    let fine =
        if media_type { found.split('/').filter(|s| !s.is_empty()).count() == 2 } else { !found.is_empty() };
    *rest = after;
    if fine && (after.is_empty() || after.starts_with([';', ' ', '\t', '='])) {
        Ok(found)
    } else {
        Err(BadForm::ContentType)
    }
}

/// RFC 2046, section 5.1.1: 1–70 characters of `bchars`; no space, which browsers never use.
fn is_boundary(text: &str) -> bool {
    (1..=70).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&b))
}
