//! `application/x-www-form-urlencoded` (URL Standard, section 5.1), read strictly.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::{BadForm, fields::Field};

/// The fields of a body or query: as browsers separate them (`&`), and, when that is something else, as older
/// parsers do (`&` and `;`: Perl, Rack 2, Python before 3.10).
pub(super) fn readings(raw: &[u8]) -> Vec<Vec<Field>> {
    let mut readings = vec![fields(raw, |b| *b == b'&')];
    if raw.contains(&b';') {
        readings.push(fields(raw, |b| *b == b'&' || *b == b';'));
    }
    readings
}

fn fields(raw: &[u8], separator: fn(&u8) -> bool) -> Vec<Field> {
    raw.split(separator).filter(|pair| !pair.is_empty()).map(field).collect()
}

fn field(pair: &[u8]) -> Field {
    let mut halves = pair.splitn(2, |b| *b == b'=');
    let name = halves.next().unwrap_or_default();
    let value = halves.next().unwrap_or_default();
    // A name that is no UTF-8 can still be the watched one to a parser that drops bad bytes; so can a `%u0075`,
    // which IIS decodes.
    let name = String::from_utf8_lossy(&windows_escapes(&decode(name))).into_owned();
    Field::new(name, text(value))
}

fn text(raw: &[u8]) -> Result<String, BadForm> {
    if !escapes_are_whole(raw) {
        return Err(BadForm::Malformed);
    }
    String::from_utf8(decode(raw)).map_err(|_| BadForm::Encoding)
}

fn decode(raw: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = raw.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    percent_decode(&spaced).collect()
}

/// Every `%` has its two hexadecimal digits: parsers differ in what they make of the rest.
fn escapes_are_whole(raw: &[u8]) -> bool {
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|b| *b == b'%') {
        match rest.get(at.saturating_add(1)..) {
            Some([high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = after
            }
            _ => return false,
        }
    }
    true
}

/// `%uXXXX`, which is left over by ordinary decoding.
fn windows_escapes(decoded: &[u8]) -> Cow<'_, [u8]> {
    if !decoded.windows(2).any(|pair| matches!(pair, [b'%', b'u' | b'U'])) {
        return Cow::Borrowed(decoded);
    }
    let mut out = Vec::with_capacity(decoded.len());
    let mut rest = decoded;
    while let Some((&first, tail)) = rest.split_first() {
        if let (b'%', [b'u' | b'U', a, b, c, d, after @ ..]) = (first, tail) {
            let digits = [*a, *b, *c, *d];
            let number = std::str::from_utf8(&digits).ok().and_then(|d| u32::from_str_radix(d, 16).ok());
            if let Some(character) = number.and_then(char::from_u32) {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
                continue;
            }
        }
        out.push(first);
        rest = tail;
    }
    Cow::Owned(out)
}
