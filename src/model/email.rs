//! E-mail addresses, as people type them.

/// One address, not a list and no name beside it, its domain in lower case; whether it exists, only a message shows.
/// `None` when it is none. What comes out has no control character, space, quote or angle bracket.
pub fn canonical(typed: &str) -> Option<String> {
    let (local, domain) = typed.rsplit_once('@')?;
    let plain = |c: char| c.is_ascii_graphic() && !"\"(),:;<>@[\\]".contains(c);
    let labels = domain.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    });
    let dots = local.starts_with('.') || local.ends_with('.') || local.contains("..");
    let fits = !local.is_empty() && local.len() <= 64 && typed.len() <= 254 && domain.contains('.');
    let fits = fits && labels && !dots && local.chars().all(plain);
    fits.then(|| format!("{local}@{}", domain.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_address_and_nothing_else() {
        for (typed, read) in [
            ("anna@Example.NL", Some("anna@example.nl")),
            ("a.b+c@x-y.example", Some("a.b+c@x-y.example")),
            ("anna", None),
            ("anna@example", None),
            ("a@evil@corp.nl", None),
            ("Anna <anna@example.nl>", None),
            ("anna@example.nl, bram@example.nl", None),
            (".anna@example.nl", None),
            ("anna@-x.nl", None),
            ("an\r\nna@example.nl", None),
            ("anna@example.nl\r\nBcc: bram@example.nl", None),
        ] {
            assert_eq!(canonical(typed).as_deref(), read, "{typed}");
        }
    }
}
