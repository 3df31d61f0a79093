//! Reads one `Set-Cookie` of an app as browsers do (RFC 6265bis, 5.6), without changing a byte of it.

use jiff::{civil, tz::TimeZone};

use super::cookie::{split_pair, trim};
use crate::base::clock::UnixMillis;

/// Attribute values above this do not count (RFC 6265bis, 5.6).
const MAX_ATTRIBUTE_BYTES: usize = 1024;

/// The parts of a `Set-Cookie` value.
pub(super) struct SetCookie<'a> {
    /// Trimmed; empty for a nameless cookie.
    pub name: &'a [u8],
    /// Trimmed; quotes are part of it.
    pub value: &'a [u8],
    /// From the first `;` on, as it came.
    pub attributes: &'a [u8],
}

impl<'a> SetCookie<'a> {
    /// Every byte string is some cookie.
    pub fn parse(raw: &'a [u8]) -> Self {
        let end = memchr::memchr(b';', raw).unwrap_or(raw.len());
        let (pair, attributes) = raw.split_at_checked(end).unwrap_or((raw, b""));
        let (name, value) = split_pair(pair).unwrap_or((b"", trim(pair)));
        Self { name, value, attributes }
    }

    /// Whether scripts cannot read it.
    pub fn is_http_only(&self) -> bool {
        self.attributes().any(|(name, _)| name.eq_ignore_ascii_case(b"httponly"))
    }

    /// Whether it removes a cookie: `Max-Age` at or below zero, else (without a valid `Max-Age`) `Expires` in the
    /// past; or nothing in it. Of each the last valid one counts.
    pub fn is_deletion(&self, now: UnixMillis) -> bool {
        if self.value.is_empty() {
            return true;
        }
        self.last_valid(b"max-age", is_not_positive)
            .unwrap_or_else(|| self.last_valid(b"expires", cookie_date).is_some_and(|at| at <= now))
    }

    fn last_valid<T>(&self, wanted: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        self.attributes()
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .filter_map(|(_, value)| read(value))
            .last()
    }

    fn attributes(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.attributes
            .split(|b| *b == b';')
            .map(|piece| split_pair(piece).unwrap_or((trim(piece), b"")))
            .filter(|(_, value)| value.len() <= MAX_ATTRIBUTE_BYTES)
    }
}

/// Whether a `Max-Age` is zero or less; `None` for what browsers ignore.
fn is_not_positive(value: &[u8]) -> Option<bool> {
    let (negative, digits) = match value {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    valid.then(|| negative || digits.iter().all(|digit| *digit == b'0'))
}

/// A date as browsers read it (RFC 6265bis, 5.1.1): tokens in any order; `None` where they give up.
fn cookie_date(value: &[u8]) -> Option<UnixMillis> {
    let is_delimiter = |b: &u8| matches!(*b, 0x09 | 0x20..=0x2f | 0x3b..=0x40 | 0x5b..=0x60 | 0x7b..=0x7e);
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in value.split(is_delimiter).filter(|token| !token.is_empty()) {
        if time.is_none()
            && let Some(found) = hms(token)
        {
            time = Some(found);
        } else if day.is_none()
            && let Some(found) = number(token, 1, 2)
        {
            day = Some(found);
        } else if month.is_none()
            && let Some(found) = month_of(token)
        {
            month = Some(found);
        } else if year.is_none()
            && let Some(found) = number(token, 2, 4)
        {
            year = Some(found);
        }
    }
    let (hour, minute, second) = time?;
    let year = match year? {
        short @ 70..=99 => short.checked_add(1900)?,
        short @ 0..=69 => short.checked_add(2000)?,
        ..=1600 => return None,
        full => full,
    };
    let [day, hour, minute, second] = [day?, hour, minute, second].map(|n| i8::try_from(n).ok());
    let date = civil::DateTime::new(year, month?, day?, hour?, minute?, second?, 0).ok()?;
    let millis = date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond();
    // Before 1970 is as far in the past as can be.
    Some(UnixMillis(u64::try_from(millis).unwrap_or(0)))
}

/// `least` to `most` digits, then the end or something that is no digit.
fn number(token: &[u8], least: usize, most: usize) -> Option<i16> {
    let digits = token.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(least..=most).contains(&digits) {
        return None;
    }
    std::str::from_utf8(token.get(..digits)?).ok()?.parse().ok()
}

/// `h:m:s`, each of one or two digits; after the seconds anything that is no digit may follow.
fn hms(token: &[u8]) -> Option<(i16, i16, i16)> {
    let mut fields = token.splitn(3, |b| *b == b':');
    let exact = |field: &[u8]| number(field, 1, 2).filter(|_| field.iter().all(u8::is_ascii_digit));
    Some((exact(fields.next()?)?, exact(fields.next()?)?, number(fields.next()?, 1, 2)?))
}

fn month_of(token: &[u8]) -> Option<i8> {
    let start = token.get(..3)?;
    let names = b"janfebmaraprmayjunjulaugsepoctnovdec";
    let index = names.chunks(3).position(|name| name.eq_ignore_ascii_case(start))?;
    i8::try_from(index.checked_add(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01T00:00:00Z
    const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

    /// The corpus: `name|value|flags` (`h` HttpOnly, `d` deletion), ` <- `, the header value.
    #[test]
    fn set_cookie_is_read_as_browsers_do() {
        let corpus = include_str!("../../tests/corpus/set-cookies.txt");
        let mut seen = 0;
        for line in corpus.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (expected, raw) = line.split_once(" <- ").unwrap();
            let raw = raw.replace("\\t", "\t");
            let got = SetCookie::parse(raw.as_bytes());
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let flags = [(got.is_http_only(), "h"), (got.is_deletion(NOW), "d")];
            let flags: String = flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag).collect();
            assert_eq!(format!("{}|{}|{flags}", text(got.name), text(got.value)), expected, "{line}");
            seen += 1;
        }
        assert!(seen > 50);
    }

    #[test]
    fn an_attribute_value_too_long_for_browsers_does_not_count() {
        let long = format!("a=b; HttpOnly={}; Max-Age={}", "x".repeat(1025), "0".repeat(1025));
        let got = SetCookie::parse(long.as_bytes());
        assert!(!got.is_http_only() && !got.is_deletion(NOW));
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_stumble_and_no_byte_is_lost(raw: Vec<u8>) {
            let got = SetCookie::parse(&raw);
            let _ = (got.is_http_only(), got.is_deletion(NOW));
            proptest::prop_assert!(raw.ends_with(got.attributes));
        }

        #[test]
        fn dates_of_servers_are_understood(secs in 0_i64..4_000_000_000) {
            let at = jiff::Timestamp::from_second(secs).unwrap();
            for format in ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"] {
                if format.contains("%y") && secs > 3_000_000_000 { continue; }
                let text = at.strftime(format).to_string();
                let got = cookie_date(text.as_bytes()).unwrap();
                proptest::prop_assert_eq!(got, UnixMillis::from_secs(secs.unsigned_abs()), "{}", text);
            }
        }
    }
}
