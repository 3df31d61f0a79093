//! Where a browser may be sent after a login: a path and query of the same app, nothing else (threats 1.6).
//!
//! Whatever could be read as another origin by any browser is not repaired but replaced by `/`. Nor does anybody
//! land on one of our own pages: a kept target must not log out or begin a login.

/// The longest target that is kept: the pending login must fit into a cookie.
pub const MAX_BYTES: usize = 2048;

/// `raw` if it is a harmless path and query outside `prefix` (our own pages), else `/`.
pub fn clean<'a>(raw: &'a str, prefix: &str) -> &'a str {
    if is_harmless(raw, prefix) { raw } else { "/" }
}

fn is_harmless(raw: &str, prefix: &str) -> bool {
    // Visible ASCII only; browsers take `\` for `/` and drop tabs and line ends (WHATWG URL, 4.4). `#` never
    // reaches a server, so a target that has one was made by somebody.
    let bytes_are_fine = raw.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b'\\' && b != b'#');
    let (path, _) = raw.split_once('?').unwrap_or((raw, ""));
    if raw.len() > MAX_BYTES || !bytes_are_fine || !path.starts_with('/') || path.contains("//") {
        return false;
    }
    // The same once more for whoever decodes before redirecting.
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
    let lower = decoded.to_ascii_lowercase();
    let escapes = lower.windows(2).any(|pair| pair == b"//")
        || lower.iter().any(|b| *b < 0x20 || *b == 0x7f || *b == b'\\')
        || lower.split(|b| *b == b'/').any(|segment| segment == b"." || segment == b"..");
    !escapes && !is_below(&lower, prefix.to_ascii_lowercase().as_bytes())
}

fn is_below(path: &[u8], prefix: &[u8]) -> bool {
    !prefix.is_empty()
        && path.strip_prefix(prefix).is_some_and(|rest| matches!(rest.first(), None | Some(b'/' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The corpus: `keep <target>` or `root <target>`, with `\t`, `\n`, `\r`, `\0` written out.
    #[test]
    fn hostile_targets_lead_to_the_root() {
        let corpus = include_str!("../../tests/corpus/redirects.txt");
        let mut seen = 0;
        for line in corpus.lines().filter(|line| !line.starts_with("# ") && !line.is_empty()) {
            let (verdict, raw) = line.split_once(' ').unwrap_or((line, ""));
            let raw = ["\\t\t", "\\n\n", "\\r\r", "\\0\0"]
                .iter()
                .map(|pair| pair.split_at(2))
                .fold(raw.to_owned(), |raw, (from, to)| raw.replace(from, to));
            let expected = match verdict {
                "keep" => raw.as_str(),
                "root" => "/",
                _ => panic!("{line}"),
            };
            assert_eq!(clean(&raw, "/.sluis"), expected, "{line}");
            seen += 1;
        }
        assert!(seen > 60);
    }

    #[test]
    fn a_target_too_long_for_its_cookie_leads_to_the_root() {
        let fits = format!("/{}", "a".repeat(MAX_BYTES - 1));
        assert_eq!(clean(&fits, "/.sluis"), fits);
        assert_eq!(clean(&format!("{fits}a"), "/.sluis"), "/");
    }
}
