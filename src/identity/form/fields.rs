//! Fields of a form, and which of them a framework could take for another.
//!
//! Names are compared twice: as brackets nest them (PHP, Rails, `qs`: `user[]` and `user[0]` are `user`, while
//! `user[email]` and `user[password]` are two fields), and flat, as PHP makes identifiers of them (`user.email`,
//! `user email` and `user[email]` are all `user_email`). Case never tells two fields apart (ASP.NET).

use unicode_normalization::UnicodeNormalization;

use super::BadForm;
use crate::config::app::UserField;

/// One field as it came.
#[derive(Clone, Debug)]
pub(super) struct Field {
    name: String,
    folded: Folded,
    value: Result<String, BadForm>,
}

/// The watched field.
pub(super) struct Target {
    /// The one spelling that is accepted in a form; `None` for a JSON pointer.
    exact: Option<String>,
    folded: Folded,
    /// The segments of a JSON pointer, or the field as the one member of an object.
    pointer: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Folded {
    nested: Vec<String>,
    flat: String,
}

/// What a list of fields says about the watched one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Presence<'a> {
    /// No framework would see it.
    Absent,
    /// There, once, spelled exactly.
    Once(&'a Field),
    /// There in another spelling, or more than once.
    Folded,
}

impl Field {
    pub(super) fn new(name: String, value: Result<String, BadForm>) -> Self {
        let folded = Folded::of(&name);
        Self { name, folded, value }
    }

    /// Its value, when that can be read in one way only.
    pub(super) fn value(&self) -> Result<&str, BadForm> {
        self.value.as_deref().map_err(|error| *error)
    }

    /// Whether some framework could take it for `target`.
    pub(super) fn may_be(&self, target: &Target) -> bool {
        let (a, b) = (&self.folded.nested, &target.folded.nested);
        let nested = !a.is_empty() && !b.is_empty() && (a.starts_with(b) || b.starts_with(a));
        nested || self.folded.flat == target.folded.flat
    }

    /// Whether some framework could read `value` out of it; also as a key (`do[login]=…`).
    pub(super) fn says(&self, value: &str) -> Result<bool, BadForm> {
        let value = alphanumeric(value);
        let key = self.folded.nested.iter().skip(1).any(|segment| alphanumeric(segment) == value);
        Ok(key || alphanumeric(self.value()?) == value)
    }

    /// Whether this is what a person would call a password, and is filled in.
    pub(super) fn looks_like_password(&self) -> bool {
        const PARTS: &[&str] = &["pass", "pwd", "psw", "wachtwoord", "kennwort", "secret", "pin", "mot_de_p"];
        const WHOLE: &[&str] = &["p", "pw", "code", "ww"];
        let name = self.folded.flat.as_str();
        let filled = self.value.as_ref().is_ok_and(|v| !v.is_empty()) || self.value.is_err();
        filled && (WHOLE.contains(&name) || PARTS.iter().any(|part| name.contains(part)))
    }
}

impl Target {
    pub(super) fn of(user: &UserField) -> Self {
        match user {
            UserField::Form(name) => Self::form(name),
            UserField::Json(pointer) => Self::json(pointer),
        }
    }

    pub(super) fn form(name: &str) -> Self {
        Self { exact: Some(name.to_owned()), folded: Folded::of(name), pointer: vec![name.to_owned()] }
    }

    fn json(pointer: &str) -> Self {
        let segments: Vec<String> =
            pointer.split('/').skip(1).map(|s| s.replace("~1", "/").replace("~0", "~")).collect();
        let nested: Vec<String> = segments.iter().map(|s| identifier(&clean(s))).collect();
        Self { exact: None, folded: Folded { flat: nested.join("_"), nested }, pointer: segments }
    }

    /// The keys that lead to it in a JSON body.
    pub(super) fn pointer(&self) -> &[String] {
        &self.pointer
    }
}

impl Folded {
    fn of(name: &str) -> Self {
        let clean = clean(name);
        let nested = clean
            .split(['[', ']'])
            .map(identifier)
            .filter(|s| !s.is_empty() && !s.bytes().all(|b| b.is_ascii_digit()))
            .collect();
        Self { nested, flat: identifier(&clean) }
    }
}

/// What `fields` say about `target`.
pub(super) fn presence<'a>(fields: &'a [Field], target: &Target) -> Presence<'a> {
    let mut found = fields.iter().filter(|field| field.may_be(target));
    match (found.next(), found.next()) {
        (None, _) => Presence::Absent,
        (Some(field), None) if target.exact.as_ref().is_some_and(|exact| *exact == field.name) => {
            Presence::Once(field)
        }
        _ => Presence::Folded,
    }
}

/// `_charset_` names the charset of a form (HTML, "encoding-sniffing" field): only UTF-8 can be watched.
pub(super) fn check_charset(fields: &[Field]) -> Result<(), BadForm> {
    let target = Target::form("_charset_");
    let fine = |field: &Field| field.value.as_ref().is_ok_and(|v| is_utf8_label(v));
    if fields.iter().filter(|f| f.may_be(&target)).all(fine) { Ok(()) } else { Err(BadForm::Encoding) }
}

/// Whether a charset label means UTF-8.
pub(super) fn is_utf8_label(label: &str) -> bool {
    let label = label.trim();
    label.eq_ignore_ascii_case("utf-8") || label.eq_ignore_ascii_case("utf8")
}

/// Whether two keys of a JSON object are the same to a framework that does not mind case or signs.
pub(super) fn same_key(a: &str, b: &str) -> bool {
    a == b || identifier(&clean(a)) == identifier(&clean(b))
}

/// The part of a name that frameworks agree on: up to a NUL (C), without characters that are not seen, without
/// case and width.
fn clean(name: &str) -> String {
    if name.bytes().all(|b| b.is_ascii_graphic()) {
        return name.to_ascii_lowercase();
    }
    let seen = name.split('\0').next().unwrap_or_default().trim().chars().filter(|c| {
        !c.is_control()
            && !matches!(c, '\u{fffd}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
    });
    let folded: String = seen.nfkc().flat_map(char::to_lowercase).nfkc().collect();
    folded.trim().to_owned()
}

/// Letters and digits; everything else as one `_`, none at the ends.
fn identifier(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
    }
    out.truncate(out.trim_end_matches('_').len());
    out
}

fn alphanumeric(text: &str) -> String {
    clean(text).chars().filter(|c| c.is_alphanumeric()).collect()
}
