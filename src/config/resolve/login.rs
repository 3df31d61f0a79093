//! How a login is recognised, judged and named.

use regex::Regex;

use super::{Place, Reader};
use crate::{
    config::{
        app::{Login, NameRules, PathPattern, Success, UserField, Watch, Whoami},
        raw,
    },
    model::path::lenient,
};

/// The login of an app.
pub fn login(
    reader: &mut Reader<'_>,
    typed: Option<&raw::Login>,
    place: &Place<'_>,
    anonymous: &[PathPattern],
) -> Login {
    let Some(typed) = typed else {
        return Login {
            page: String::new(),
            watch: Vec::new(),
            success: Success::default(),
            whoami: None,
            name: NameRules { trim: true, nfkc: true, case_fold: true, rewrite: Vec::new(), allowed: None },
        };
    };
    let at = |key| place.key(key);
    if let Some(page) = &typed.page {
        check_page(reader, page, &at("page"), anonymous);
    }
    Login {
        page: typed.page.clone().unwrap_or_default(),
        watch: watch(reader, typed.watch.as_deref(), &at("watch")),
        success: success(reader, typed.success.as_ref(), &at("success")),
        whoami: typed.whoami.as_ref().map(|whoami| ask(reader, whoami, &at("whoami"))),
        name: name(reader, &typed.name, &at("name"), typed.whoami.is_some()),
    }
}

/// A login page behind the gate would send browsers round in a circle.
fn check_page(reader: &mut Reader<'_>, page: &str, place: &Place<'_>, anonymous: &[PathPattern]) {
    let Some((path, query)) = reader.app_target(page, place) else { return };
    if path.contains("{target}") {
        reader.report.bad(place, page, "{target} in the query only");
    } else if !anonymous.iter().any(|pattern| pattern.matches(&path, query)) {
        let allowed = format!(
            "a page that anonymous covers, or nobody could ever log in; add {} there",
            if query.is_some_and(|q| q.contains("{target}")) { &path } else { page }
        );
        reader.report.bad(place, page, allowed);
    }
}

fn watch(reader: &mut Reader<'_>, typed: Option<&[raw::Watch]>, place: &Place<'_>) -> Vec<Watch> {
    let Some(typed) = typed else { return Vec::new() };
    if typed.is_empty() {
        reader.report.fault(place, "no request; allowed: at least one that logs in");
    }
    let mut found: Vec<Watch> = Vec::new();
    for (index, watch) in typed.iter().enumerate() {
        let place = place.item(index);
        let at = |key| place.key(key);
        let path = watch.path.as_deref().unwrap_or_default();
        if watch.path.is_some() {
            let directory = path.strip_suffix("/*");
            if directory.is_some() && watch.with.is_empty() {
                reader.report.bad(
                    &at("path"),
                    path,
                    "a path with * beside with only: else every form of the app would have to be a login",
                );
            } else if directory.unwrap_or(path).contains(['?', '*']) {
                reader.report.bad(
                    &at("path"),
                    path,
                    "a path without query; a pair of query or body goes into with",
                );
            } else {
                let path = directory.map_or(path, |d| if d.is_empty() { "/" } else { d });
                reader.app_path(path, &at("path"));
            }
        }
        let method = method(reader, &watch.method, &at("method"));
        let user = user(reader, watch, &place);
        let with = with(reader, watch, &at("with"));
        let (Some(method), Some(user)) = (method, user) else { continue };
        let path = lenient(path).into_owned();
        let same = |w: &Watch| w.method == method && w.path == path && (w.with.is_none() || w.with == with);
        if found.iter().any(same) {
            reader.report.fault(&place, "an earlier entry takes all of these; allowed: each request once");
        }
        found.push(Watch { method, path, with, user });
    }
    found
}

fn method(reader: &mut Reader<'_>, typed: &str, place: &Place<'_>) -> Option<http::Method> {
    match typed {
        "POST" | "PUT" | "PATCH" => {}
        "GET" => reader.report.warn(place, "GET: passwords in a URL end in logs and histories"),
        _ => {
            reader.report.bad(place, typed, "POST, PUT, PATCH or GET");
            return None;
        }
    }
    http::Method::from_bytes(typed.as_bytes()).ok()
}

fn user(reader: &mut Reader<'_>, typed: &raw::Watch, place: &Place<'_>) -> Option<UserField> {
    match (&typed.user_field, &typed.user_json) {
        (Some(field), None) if field.is_empty() => {
            reader.report.bad(&place.key("user_field"), field, "the name of the field");
            None
        }
        (Some(field), None) => Some(UserField::Form(field.clone())),
        (None, Some(pointer)) => {
            check_pointer(reader, pointer, &place.key("user_json"));
            Some(UserField::Json(pointer.clone()))
        }
        (Some(_), Some(_)) => {
            reader.report.fault(place, "found user_field and user_json; allowed: one of them");
            None
        }
        // A key whose value is no text has its fault already.
        (None, None) if place.key("user_field").is_given() || place.key("user_json").is_given() => None,
        (None, None) => {
            reader
                .report
                .fault(place, "where the user name stands is missing; allowed: user_field or user_json");
            None
        }
    }
}

fn with(reader: &mut Reader<'_>, typed: &raw::Watch, place: &Place<'_>) -> Option<(String, String)> {
    if typed.with.len() > 1 {
        reader.report.fault(place, format!("found {} pairs; allowed: one", typed.with.len()));
    }
    let (name, value) = typed.with.iter().next()?;
    if name.is_empty() {
        reader.report.bad(place, name, "the name of a field");
    }
    Some((name.clone(), value.clone()))
}

/// RFC 6901: `/name/name`, with `~0` for `~` and `~1` for `/`.
fn check_pointer(reader: &mut Reader<'_>, typed: &str, place: &Place<'_>) {
    let escapes = typed.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    if !typed.starts_with('/') || !escapes {
        reader.report.bad(place, typed, "a JSON pointer (RFC 6901) such as /user/name");
    }
}

fn success(reader: &mut Reader<'_>, typed: Option<&raw::Success>, place: &Place<'_>) -> Success {
    let Some(typed) = typed else { return Success::default() };
    let at = |key| place.key(key);
    let status = typed.status.as_ref().map_or(&[][..], |s| s.as_slice());
    for (index, code) in status.iter().enumerate() {
        if !(200..=599).contains(code) {
            reader.report.bad(&at("status").item(index), &code.to_string(), "a status code from 200 to 599");
        }
    }
    if typed.status.is_some() && status.is_empty() {
        reader.report.fault(&at("status"), "no status code; allowed: at least one, or to leave the key out");
    }
    if let Some(cookie) = &typed.cookie {
        check_cookie(reader, cookie, &at("cookie"));
    }
    let texts = [&typed.location, &typed.location_not, &typed.cookie, &typed.body, &typed.body_not];
    let told = texts.into_iter().any(Option::is_some);
    let broken = ["status", "location", "location_not", "cookie", "body", "body_not"]
        .iter()
        .any(|key| place.key(key).is_given());
    if !told && status.is_empty() && !broken {
        reader.report.fault(
            place,
            "no rule: every answer would count as a login; allowed: at least one of status, location, location_not, cookie, \
             body, body_not",
        );
    }
    if !told && status.contains(&200) {
        reader.report.warn(
            place,
            "status 200 alone: most apps answer 200 to a wrong password as well; add a rule that tells them apart",
        );
    }
    Success {
        status: status.to_vec(),
        location: reader.regex(typed.location.as_deref(), &at("location")),
        location_not: reader.regex(typed.location_not.as_deref(), &at("location_not")),
        cookie: typed.cookie.clone(),
        body: reader.regex(typed.body.as_deref(), &at("body")),
        body_not: reader.regex(typed.body_not.as_deref(), &at("body_not")),
    }
}

/// A cookie's name is a token (RFC 6265, section 4.1.1), and none of ours.
pub fn check_cookie(reader: &mut Reader<'_>, name: &str, place: &Place<'_>) {
    let fine = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    if !fine {
        reader.report.bad(place, name, "the name of a cookie");
    } else if name.to_ascii_lowercase().trim_start_matches("__host-").starts_with("sluis-") {
        reader.report.bad(place, name, "a cookie of the app; this is one of Sluis' own");
    }
}

fn ask(reader: &mut Reader<'_>, typed: &raw::Whoami, place: &Place<'_>) -> Whoami {
    let at = |key| place.key(key);
    let path = typed.path.clone().unwrap_or_default();
    if typed.path.is_some() {
        reader.app_target(&path, &at("path"));
    }
    if let Some(pointer) = &typed.json {
        check_pointer(reader, pointer, &at("json"));
    }
    let pattern = reader.regex(typed.pattern.as_deref(), &at("pattern"));
    if pattern.as_ref().is_some_and(|p| p.captures_len() < 2) {
        let found = typed.pattern.as_deref().unwrap_or_default();
        reader.report.bad(&at("pattern"), found, "a pattern with a group (…) around the name");
    }
    if typed.json.is_some() == typed.pattern.is_some() {
        let given = at("json").is_given() || at("pattern").is_given();
        if typed.json.is_some() || !given {
            let found = if typed.json.is_some() { "json and pattern" } else { "neither json nor pattern" };
            let text =
                format!("found {found}; allowed: one of them, for where the name stands in the answer");
            reader.report.fault(place, text);
        }
    }
    Whoami { path, json: typed.json.clone(), pattern }
}

fn name(reader: &mut Reader<'_>, typed: &raw::Name, place: &Place<'_>, has_whoami: bool) -> NameRules {
    if !typed.case_fold {
        reader.report.warn(
            &place.key("case_fold"),
            "\"Anna\" and \"anna\" are two users here; if the app takes them for one, a second spelling gets a second \
             enrolment",
        );
    }
    let mut rewrite = Vec::new();
    for (index, rule) in typed.rewrite.iter().enumerate() {
        let place = place.key("rewrite").item(index);
        let Some(pattern) = reader.regex(rule.pattern.as_deref(), &place.key("pattern")) else { continue };
        let Some(replace) = &rule.replace else { continue };
        if let Some(unknown) = groups(replace).into_iter().find(|g| !has_group(&pattern, g)) {
            let allowed =
                format!("groups that the pattern has; it has no {unknown:?} (write ${{1}}x, not $1x)");
            reader.report.bad(&place.key("replace"), replace, allowed);
        }
        rewrite.push((pattern, replace.clone()));
    }
    let given = typed.allowed.as_deref();
    if !has_whoami && typed.rewrite.is_empty() && given.is_none() {
        reader.report.warn(
            place,
            "neither whoami nor allowed: if the app takes two spellings for one account (\"anna_\" for \"anna\"), the second \
             gets an enrolment of its own; let Sluis ask the app (whoami) or say what its names look like (allowed)",
        );
    }
    let form = given.or((!has_whoami).then_some(PRINTABLE_ASCII));
    // Checked as typed, so that a fault shows what was typed; then as a whole match.
    let sound = reader.regex(given, &place.key("allowed")).is_some() || given.is_none();
    let allowed = form.filter(|_| sound).and_then(|form| Regex::new(&format!(r"\A(?:{form})\z")).ok());
    if let (Some(given), true, None) = (given, sound, &allowed) {
        reader.report.bad(&place.key("allowed"), given, "a pattern that can stand in a group");
    }
    NameRules { trim: typed.trim, nfkc: typed.nfkc, case_fold: typed.case_fold, rewrite, allowed }
}

/// What a typed name may be when nothing else is said: databases that take `é` for `e` have nothing to take then.
const PRINTABLE_ASCII: &str = "[ -~]+";

/// The groups that a replacement refers to: `$1`, `$name`, `${name}`; `$$` is a dollar sign.
fn groups(replace: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = replace;
    while let Some((_, after)) = rest.split_once('$') {
        if let Some(after) = after.strip_prefix('$') {
            rest = after;
            continue;
        }
        let name: String = match after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            Some((name, _)) => name.to_owned(),
            None => after.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect(),
        };
        if !name.is_empty() {
            found.push(name);
        }
        rest = after;
    }
    found
}

fn has_group(pattern: &Regex, group: &str) -> bool {
    match group.parse::<usize>() {
        Ok(number) => number < pattern.captures_len(),
        Err(_) => pattern.capture_names().flatten().any(|name| name == group),
    }
}
