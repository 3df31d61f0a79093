//! The headers that tell an app who its user is.

use http::HeaderName;

use super::{Place, Reader};
use crate::config::{
    app::Headers,
    raw::{self, Preset},
};

/// Names that mean something to HTTP, or that the proxy sets itself (compared folded, see [`fold`]).
const TAKEN: &[&str] = &[
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "origin",
    "proxy",
    "proxy-authorization",
    "proxy-connection",
    "referer",
    "set-cookie",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
];

struct Names {
    user: Option<&'static str>,
    others: &'static [&'static str],
}

const fn names(preset: Preset) -> Names {
    match preset {
        Preset::Remote => Names {
            user: Some("remote-user"),
            others: &["remote-user", "remote-name", "remote-email", "remote-groups"],
        },
        Preset::XForwarded => Names {
            user: Some("x-forwarded-user"),
            others: &["x-forwarded-user", "x-forwarded-email", "x-forwarded-groups"],
        },
        Preset::None => Names { user: None, others: &[] },
    }
}

/// The headers of an app.
pub fn headers(reader: &mut Reader<'_>, typed: &raw::Headers, place: &Place<'_>) -> Headers {
    let preset = names(typed.preset);
    let set = typed.preset != Preset::None;
    let user = one(reader, typed.user.as_deref(), preset.user, &place.key("user"));
    let methods =
        one(reader, typed.methods.as_deref(), set.then_some("x-sluis-methods"), &place.key("methods"));
    let proved_at =
        one(reader, typed.proved_at.as_deref(), set.then_some("x-sluis-proved-at"), &place.key("proved_at"));
    let mut used: Vec<(String, &str)> = Vec::new();
    for (key, name) in [("user", &user), ("methods", &methods), ("proved_at", &proved_at)] {
        let Some(name) = name else { continue };
        let folded = fold(name.as_str());
        if let Some((_, other)) = used.iter().find(|(f, _)| *f == folded) {
            reader.report.bad(&place.key(key), name.as_str(), format_args!("another name than {other} has"));
        }
        used.push((folded, key));
    }
    // A header of the preset that another name took the place of is cleared as well: the app may still believe it.
    let cleared = preset
        .others
        .iter()
        .chain(set.then_some(&["x-sluis-methods", "x-sluis-proved-at"]).into_iter().flatten())
        .filter(|name| !used.iter().any(|(folded, _)| *folded == fold(name)))
        .map(|name| HeaderName::from_static(name))
        .collect();
    if typed.pass_authorization {
        reader.report.warn(
            &place.key("pass_authorization"),
            "an app that takes a user name and password from Authorization logs in without a second factor",
        );
    }
    Headers { user, methods, proved_at, cleared, pass_authorization: typed.pass_authorization }
}

fn one(
    reader: &mut Reader<'_>,
    typed: Option<&str>,
    preset: Option<&'static str>,
    place: &Place<'_>,
) -> Option<HeaderName> {
    let Some(typed) = typed else { return preset.map(HeaderName::from_static) };
    if typed == "off" {
        return None;
    }
    match HeaderName::from_bytes(typed.as_bytes()) {
        Ok(name) if TAKEN.iter().any(|taken| fold(taken) == fold(name.as_str())) => {
            reader.report.bad(place, typed, "a name that has no other meaning");
            None
        }
        Ok(name) => Some(name),
        Err(_) => {
            reader.report.bad(place, typed, "the name of a header, or off");
            None
        }
    }
}

/// As apps may see a name: case and everything that is no letter or digit do not count (I6).
fn fold(name: &str) -> String {
    name.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b.to_ascii_lowercase()) } else { '_' })
        .collect()
}
