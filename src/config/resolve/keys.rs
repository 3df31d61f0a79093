//! Master keys: read from files and environment, never from the YAML; never shown.

use std::collections::HashSet;

use super::{Place, Reader};
use crate::{
    base::{keyring::MIN_MASTER_BYTES, secret::SecretBytes},
    config::raw::{Key, KeyReference},
};

const ALLOWED: &str =
    "{file: PATH}, {env: NAME} or ${NAME}, never the key itself; `sluis keys generate` makes one";

/// All of them, in order.
pub fn keys(reader: &mut Reader<'_>, typed: Option<&[Key]>, place: &Place<'_>) -> Vec<SecretBytes> {
    let typed = typed.unwrap_or_default();
    if typed.is_empty() {
        reader.report.fault(place, format!("no key; allowed: at least one, as {ALLOWED}"));
    }
    let mut keys: Vec<SecretBytes> = Vec::new();
    for (index, key) in typed.iter().enumerate() {
        let place = place.item(index);
        let Some(text) = text_of(reader, key, &place) else { continue };
        let Some(bytes) = decode(text.expose()) else {
            reader.report.fault(
                &place,
                format!(
                    "not a key; allowed: at least {MIN_MASTER_BYTES} random bytes in base64 or hexadecimal"
                ),
            );
            continue;
        };
        let length = bytes.expose().len();
        if length < MIN_MASTER_BYTES {
            reader.report.fault(
                &place,
                format!("the key has {length} bytes; allowed: at least {MIN_MASTER_BYTES} random bytes"),
            );
        } else if keys.iter().any(|k| k.expose() == bytes.expose()) {
            reader.report.fault(&place, "the key stands in the list twice; allowed: each once");
        } else {
            let different: HashSet<&u8> = bytes.expose().iter().collect();
            if different.len() < MIN_MASTER_BYTES / 4 {
                reader.report.warn(&place, "the key does not look random; make one by `sluis keys generate`");
            }
            keys.push(bytes);
        }
    }
    keys
}

fn text_of(
    reader: &mut Reader<'_>,
    key: &Key,
    place: &Place<'_>,
) -> Option<crate::base::secret::SecretString> {
    let name = match key {
        Key::Reference(KeyReference::File(file)) => {
            let place = place.key("file");
            let path = reader.directory.join(file);
            if !path.exists() {
                reader.report.depends_on(&path);
                let path = path.display();
                let text = format!("{path} is not here; `sluis keys generate --out {path}` makes a key");
                reader.missing_secret(&place, text);
                return None;
            }
            let bytes = reader.readable(file, &place)?;
            reader.check_mode(&reader.directory.join(file), &place);
            let text = String::from_utf8(bytes).unwrap_or_default();
            return Some(crate::base::secret::SecretString::new(text));
        }
        Key::Reference(KeyReference::Env(name)) => name.as_str(),
        Key::Text(text) => match text.strip_prefix("${").and_then(|t| t.strip_suffix('}')) {
            Some(name) => name,
            None => {
                reader.report.fault(place, format!("a secret stands in the file; allowed: {ALLOWED}"));
                return None;
            }
        },
    };
    let well_formed =
        !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !well_formed {
        // Not shown: somebody may have put the key itself there.
        reader.report.fault(place, "not the name of an environment variable; allowed: letters, digits and _");
        return None;
    }
    let value = (reader.environment)(name);
    if value.is_none() {
        // Hexadecimal keys look like names: such a one is not shown either.
        let name = if name.len() > 40 { "" } else { name };
        let text = format!(
            "the environment variable {name} is not set; allowed: one that is (`sluis keys generate` makes a key)"
        );
        reader.missing_secret(place, text.replace("  ", " "));
    }
    value.map(crate::base::secret::SecretString::new)
}

/// Hexadecimal or base64, by either alphabet, with or without padding.
fn decode(text: &str) -> Option<SecretBytes> {
    use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};

    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let bare = text.trim_end_matches('=').as_bytes();
    HEXLOWER_PERMISSIVE
        .decode(text.as_bytes())
        .or_else(|_| BASE64_NOPAD.decode(bare))
        .or_else(|_| BASE64URL_NOPAD.decode(bare))
        .ok()
        .map(SecretBytes::new)
}
