//! Which names some app may read out of a `Cookie` pair, beside the one that browsers mean (I5).
//!
//! Serves only to *drop* a plain value that would stand for a sealed cookie; it never lets one through.

/// Whether two names are one to a lenient app: case, and whatever is no letter or digit, do not count; escapes are
/// read.
pub(super) fn same(known: &[u8], name: &[u8]) -> bool {
    if memchr::memchr(b'%', name).is_some() {
        let decoded: Vec<u8> = percent_encoding::percent_decode(name).collect();
        if folds_alike(known, &decoded) {
            return true;
        }
    }
    folds_alike(known, name)
}

fn folds_alike(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| fold(*a) == fold(*b))
}

const fn fold(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' => byte | 0x20,
        b'a'..=b'z' | b'0'..=b'9' => byte,
        _ => b'_',
    }
}

/// The names that stand before a `=` inside the pair, behind a comma or white space; mostly none.
pub(super) fn hidden_names(whole: &[u8]) -> impl Iterator<Item = &[u8]> {
    let splits = |b: &u8| matches!(b, b',' | b' ' | b'\t');
    let first = whole.iter().position(splits).unwrap_or(whole.len());
    let mut rest = whole.get(first..).unwrap_or_default();
    std::iter::from_fn(move || {
        let equals = memchr::memchr(b'=', rest)?;
        let (before, after) = rest.split_at_checked(equals)?;
        rest = after.get(1..)?;
        let before = before.trim_ascii_end();
        let start = before.iter().rposition(splits).map_or(0, |at| at.saturating_add(1));
        before.get(start..)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i5_spellings_that_lenient_apps_take_for_one_name() {
        for name in
            ["my_sid", "my.sid", "my-sid", "MY_SID", "my sid", "my[sid", "my%2Esid", "%6dy_sid", "my%5fsid"]
        {
            assert!(same(b"my_sid", name.as_bytes()), "{name}");
        }
        for name in ["", "mysid", "my_sid2", "my_si", "my%2sid", "x_sid"] {
            assert!(!same(b"my_sid", name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn i5_names_that_old_parsers_find_inside_a_pair() {
        let found = |whole: &str| -> Vec<String> {
            hidden_names(whole.as_bytes()).map(|n| String::from_utf8(n.to_vec()).unwrap()).collect()
        };
        assert_eq!(found("a=1, sid=2"), ["sid"]);
        assert_eq!(found("a=1 sid=2\tb = 3"), ["sid", "b"]);
        assert_eq!(found("x sid=2"), ["sid"]);
        for tame in ["a=b", "a=b=c", "a", "a={\"k\":1,\"l\":2}", "a=one two"] {
            assert!(found(tame).is_empty(), "{tame}");
        }
    }
}
