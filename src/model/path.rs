//! Paths of requests, in two forms that serve opposite ends (design, section 3; threats D1–D3).
//!
//! [`canonical`] is strict: a path that two programs could read differently is refused with its cause, so that what
//! was decided on and what the app understands are the same thing. It never changes a byte: what passes is
//! forwarded exactly as it came (RFC 3986 leaves equivalent spellings to the origin server). What passes only
//! because an app tolerates it, or has an escape that some servers treat specially, is marked
//! [`ambiguous`](CanonicalPath::ambiguous) and must never count as anonymous.
//!
//! [`lenient`] is generous: every spelling that some server might take for `/login` becomes `/login`. It serves only
//! to *catch* requests (watched logins, logouts), never to let one through.

use std::borrow::Cow;

use percent_encoding::percent_decode;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

/// What an old app may get although it can be read in two ways; for protected paths only, switched on app by app.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tolerance {
    /// `;name=value` in a segment, also as `%3b` (Java's `;jsessionid=…`).
    pub semicolon: bool,
    /// `//` inside a path; never at its beginning, where it reads as a host.
    pub double_slash: bool,
    /// `%2f`, as some REST interfaces have in identifiers.
    pub encoded_slash: bool,
    /// Escapes that are not UTF-8, as from apps in ISO 8859-1; overlong UTF-8 is refused nevertheless.
    pub non_utf8: bool,
}

impl Tolerance {
    /// Nothing is tolerated: the default.
    pub const NONE: Self =
        Self { semicolon: false, double_slash: false, encoded_slash: false, non_utf8: false };
}

/// A path that can be decided on; the same bytes go upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CanonicalPath<'a> {
    /// ASCII, begins with `/`, byte for byte as it came.
    pub text: &'a str,
    /// It passed by tolerance, or some server might read it in another way: never anonymous.
    pub ambiguous: bool,
}

/// Why a path is refused (400). A closed list, for logs and tests; the text may be shown to anybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotCanonical {
    /// It does not begin with `/` (empty, `*`, a whole URL).
    #[error("the path does not begin with \"/\"")]
    NoSlash,
    /// NUL or another control character, raw or escaped.
    #[error("the path has a control character")]
    Control,
    /// `\` or `%5c`: a separator to some servers.
    #[error("the path has a backslash")]
    Backslash,
    /// `%2f`: a separator to some servers.
    #[error("the path has an encoded slash")]
    EncodedSlash,
    /// `//`: collapsed by some servers; at the beginning it reads as a host.
    #[error("the path has two slashes in a row")]
    DoubleSlash,
    /// `.` or `..` as a segment, in any encoding.
    #[error("the path has a dot segment")]
    DotSegment,
    /// `;…` in a segment: dropped by some servers.
    #[error("the path has a semicolon")]
    Semicolon,
    /// An escape of an escape that ends in a separator, a dot, a semicolon or a control character.
    #[error("the path is encoded twice")]
    DoubleEncoding,
    /// `%` without two hexadecimal digits.
    #[error("the path has an invalid escape")]
    BadEscape,
    /// Decoded, it is no UTF-8, or overlong.
    #[error("the path is not UTF-8")]
    NotUtf8,
    /// A byte that must be escaped in a path: white space, `#`, `?`, `<`, `>`, `` ` ``, 0x80 and above.
    #[error("the path has a character that must be escaped")]
    Unescaped,
}

impl NotCanonical {
    /// The name in logs and test data.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSlash => "no_slash",
            Self::Control => "control",
            Self::Backslash => "backslash",
            Self::EncodedSlash => "encoded_slash",
            Self::DoubleSlash => "double_slash",
            Self::DotSegment => "dot_segment",
            Self::Semicolon => "semicolon",
            Self::DoubleEncoding => "double_encoding",
            Self::BadEscape => "bad_escape",
            Self::NotUtf8 => "not_utf8",
            Self::Unescaped => "unescaped",
        }
    }
}

/// Checks the raw path of a request (without `?` and query) and marks it.
///
/// # Errors
/// The first cause found why it could be read in two ways.
pub fn canonical(raw: &[u8], tolerate: Tolerance) -> Result<CanonicalPath<'_>, NotCanonical> {
    if raw.first() != Some(&b'/') {
        return Err(NotCanonical::NoSlash);
    }
    if is_plain(raw) {
        let text = std::str::from_utf8(raw).map_err(|_| NotCanonical::Unescaped)?;
        return Ok(CanonicalPath { text, ambiguous: false });
    }
    examine(raw, tolerate)
}

/// The form in which watched paths are compared: percent-decoded until nothing changes, NFKC, lower case, `\` as
/// `/`, slashes collapsed, `;…` and trailing dots and spaces dropped from each segment, dot segments resolved, no
/// trailing slash. Borrowed when the path is in that form already.
pub fn lenient(path: &str) -> Cow<'_, str> {
    if path == "/" || (is_plain(path.as_bytes()) && is_simple(path)) {
        return Cow::Borrowed(path);
    }
    let mut text = path.to_owned();
    // NFKC can make new escapes and separators out of full-width characters, so once is not enough. No server goes
    // further than two rounds; the limit only bounds the work.
    for _ in 0..8 {
        let decoded = decode_fully(text.as_bytes());
        let names = resolve(&String::from_utf8_lossy(&decoded));
        let folded = resolve(&names.nfkc().flat_map(char::to_lowercase).nfkc().collect::<String>());
        if folded == text {
            break;
        }
        text = folded;
    }
    Cow::Owned(text)
}

/// Splits at slashes and backslashes, drops what servers drop from names, and walks the dot segments.
fn resolve(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for segment in path.split(['/', '\\']) {
        let name = segment.split(';').next().unwrap_or_default().trim_end_matches(char::is_whitespace);
        match name {
            "" | "." => {}
            ".." => out.truncate(out.rfind('/').unwrap_or_default()),
            _ => {
                // Windows drops dots and spaces at the end of a name: `login.aspx.` is `login.aspx`.
                let name = name.trim_end_matches(|c: char| c == '.' || c.is_whitespace());
                if !name.is_empty() {
                    out.push('/');
                    out.push_str(name);
                }
            }
        }
    }
    if out.is_empty() { String::from("/") } else { out }
}

/// Nothing in it that needs a closer look: no escape, no `;`, and no segment that is empty or begins with a dot.
fn is_plain(path: &[u8]) -> bool {
    let mut after_slash = false;
    for &byte in path {
        let special = !is_path_byte(byte) || byte == b'%' || byte == b';' || byte == b'\\';
        if special || (after_slash && (byte == b'/' || byte == b'.')) {
            return false;
        }
        after_slash = byte == b'/';
    }
    true
}

/// For a plain path: also no upper case, no name that ends in a dot, no slash at the end.
fn is_simple(path: &str) -> bool {
    let bytes = path.as_bytes();
    let dot_ends = bytes.windows(2).any(|pair| pair == b"./");
    bytes.first() == Some(&b'/')
        && !dot_ends
        && !matches!(bytes.last(), Some(b'/' | b'.'))
        && !bytes.iter().any(u8::is_ascii_uppercase)
}

/// Whether a byte may stand unescaped in a path: `pchar` of RFC 3986 and the few others that browsers leave alone
/// (URL Standard, path percent-encode set) and that no server takes for a separator; `\` is looked at by itself.
const fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'#' | b'?' | b'<' | b'>' | b'`')
}

/// The careful way, for paths with anything unusual in them.
fn examine(raw: &[u8], tolerate: Tolerance) -> Result<CanonicalPath<'_>, NotCanonical> {
    check_bytes(raw)?;
    let text = std::str::from_utf8(raw).map_err(|_| NotCanonical::Unescaped)?;
    let once: Cow<'_, [u8]> = percent_decode(raw).into();
    if text.starts_with("//") || (tolerate.encoded_slash && once.starts_with(b"//")) {
        return Err(NotCanonical::DoubleSlash);
    }
    let mut ambiguous = check_decoded(&once, tolerate)?;
    if once.iter().any(u8::is_ascii_control) {
        return Err(NotCanonical::Control);
    }
    if once.contains(&b'\\') {
        return Err(NotCanonical::Backslash);
    }
    // What the escapes hide is seen by counting: a decoded byte that was not there raw came out of one.
    if count(&once, b'/') > count(raw, b'/') {
        allow(tolerate.encoded_slash, NotCanonical::EncodedSlash)?;
        ambiguous = true;
    }
    ambiguous |= count(&once, b'.') > count(raw, b'.');
    if once.contains(&b';') {
        allow(tolerate.semicolon, NotCanonical::Semicolon)?;
        ambiguous = true;
    }
    if once.windows(2).any(|pair| pair == b"//") {
        allow(tolerate.double_slash, NotCanonical::DoubleSlash)?;
        ambiguous = true;
    }
    if once.split(|b| *b == b'/').any(is_dot_segment) {
        return Err(NotCanonical::DotSegment);
    }
    if once.contains(&b'%') {
        ambiguous |= check_twice(&once)?;
    }
    Ok(CanonicalPath { text, ambiguous })
}

/// Raw bytes: only such as may stand in a path, and every escape whole.
fn check_bytes(raw: &[u8]) -> Result<(), NotCanonical> {
    let mut rest = raw;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match (byte, tail) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => after,
            (b'%', _) => return Err(NotCanonical::BadEscape),
            (b'\\', _) => return Err(NotCanonical::Backslash),
            (byte, _) if byte.is_ascii_control() => return Err(NotCanonical::Control),
            (byte, after) if is_path_byte(byte) => after,
            _ => return Err(NotCanonical::Unescaped),
        };
    }
    Ok(())
}

/// Decoded bytes as text. Gives whether some server might read separators into characters that only look like them.
fn check_decoded(once: &[u8], tolerate: Tolerance) -> Result<bool, NotCanonical> {
    if once.is_ascii() {
        return Ok(false);
    }
    let Ok(text) = std::str::from_utf8(once) else {
        // `%c0%af` is an overlong "/", `%c0%ae` an overlong ".": no tolerance for those.
        let overlong = once.windows(2).any(|pair| {
            matches!(pair, [0xc0 | 0xc1, 0x80..=0xbf] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f])
        });
        allow(tolerate.non_utf8 && !overlong, NotCanonical::NotUtf8)?;
        return Ok(true);
    };
    if text.chars().any(char::is_control) {
        return Err(NotCanonical::Control);
    }
    // Full-width forms and ligature dots: "best fit" of Windows and NFKC of frameworks make ASCII of them.
    let looks_alike = is_nfkc_quick(text.chars()) != IsNormalized::Yes
        && text.chars().filter(|c| !c.is_ascii()).nfkc().any(|c| matches!(c, '/' | '\\' | '.' | ';' | '%'));
    Ok(looks_alike)
}

/// A `%` after decoding: harmless in `100%`, but not when one more decoding makes a separator.
fn check_twice(once: &[u8]) -> Result<bool, NotCanonical> {
    let fully = decode_fully(once);
    let hides = |byte: u8| count(&fully, byte) > count(once, byte);
    let control = fully.iter().any(u8::is_ascii_control);
    if control || [b'/', b'\\', b'.', b';'].into_iter().any(hides) {
        return Err(NotCanonical::DoubleEncoding);
    }
    // Windows reads `%u002f` too.
    let windows_escape = once.windows(2).any(|pair| matches!(pair, [b'%', b'u' | b'U']));
    Ok(windows_escape || fully.len() != once.len())
}

/// `.`, `..`, also with parameters (`..;x`) and with the trailing white space that Windows drops.
fn is_dot_segment(segment: &[u8]) -> bool {
    let name = segment.split(|b| *b == b';').next().unwrap_or_default().trim_ascii_end();
    name == b"." || name == b".."
}

/// Decodes escapes, and escapes that come out of escapes, until none is left; in one pass, so that a long
/// `%25252525…` costs no more than its length. (Escapes cannot overlap, so the order does not matter.)
fn decode_fully(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    for &byte in path {
        out.push(byte);
        while let [.., b'%', high, low] = out.as_slice() {
            let (Some(high), Some(low)) = (hex(*high), hex(*low)) else { break };
            out.truncate(out.len().saturating_sub(3));
            out.push(high << 4 | low);
        }
    }
    out
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn allow(tolerated: bool, otherwise: NotCanonical) -> Result<(), NotCanonical> {
    if tolerated { Ok(()) } else { Err(otherwise) }
}

fn count(bytes: &[u8], byte: u8) -> usize {
    bytes.iter().filter(|b| **b == byte).count()
}

#[cfg(test)]
mod tests;
