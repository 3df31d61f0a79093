//! Reads the user name out of a login: urlencoded, multipart or JSON. What can be read in two ways is refused.
//!
//! Decides whether a request to a watched path is a login, and whose. Promises that the name it gives is the one
//! that the app reads, however the app's framework parses: a second field that some framework would take for the
//! watched one, a name in the query, an odd encoding or charset, or a body that two parsers would cut in different
//! places is refused, never guessed. It must never let a login through as something else: what it calls
//! [`Claim::Other`] goes to the app under the session that is running, so a login hidden in it would put one user's
//! account under another's second factor (threats D9).
//!
//! urlencoded: URL Standard; multipart: RFC 7578 as browsers write it; JSON: RFC 8259, pointers RFC 6901.

mod content_type;
mod fields;
mod json;
mod multipart;
mod urlencoded;

pub(super) use json::{Node, parse as parse_json};

use content_type::{ContentType, Kind};
use fields::{Field, Presence, Target};

use crate::config::app::{UserField, Watch};

/// Why a login body is refused (400), or is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadForm {
    /// The user field, or the field that tells a login, is there twice, also under another spelling.
    #[error("a field is there twice")]
    Twice,
    /// The user name is where it does not belong: in the query, or sent by another method.
    #[error("the user name is not where it belongs")]
    Misplaced,
    /// A content type that cannot be watched.
    #[error("unknown content type")]
    ContentType,
    /// A compressed body, or another charset than UTF-8.
    #[error("unknown encoding")]
    Encoding,
    /// Not what its content type says.
    #[error("malformed body")]
    Malformed,
    /// No user name in it.
    #[error("no user name")]
    NoUser,
}

/// What a request to a watched path is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// A login with this typed name.
    Login {
        /// As typed.
        user: String,
    },
    /// Not a login: the pair that tells one (`watch.with`) is missing.
    Other,
}

/// A watch entry that a request may be, judged by its method, path and query alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Which of the app's `login.watch`.
    pub watch: usize,
    /// The path is not the watched one, but some servers take it for that (`/login.php/x`, `/index.php/login`,
    /// `/login.json`): without a user name it is an ordinary request.
    pub near: bool,
}

/// What the client sent.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// Method.
    pub method: &'a http::Method,
    /// Raw query without `?`.
    pub query: Option<&'a str>,
    /// The header's value; several lines of it joined with `, ` (which is then refused).
    pub content_type: Option<&'a str>,
    /// The header's value, several lines joined in the same way.
    pub content_encoding: Option<&'a str>,
    /// The whole body.
    pub body: &'a [u8],
}

/// Reads a whole login. `watches` is the app's `login.watch`, of which `candidates` may be it.
///
/// # Errors
/// When it cannot be read in one way only.
pub fn read(
    watches: &[Watch],
    candidates: &[Candidate],
    submission: &Submission<'_>,
) -> Result<Claim, BadForm> {
    let body = read_body(submission)?;
    let mut user: Option<String> = None;
    let mut soft: Option<BadForm> = None;
    for candidate in candidates {
        let Some(watch) = watches.get(candidate.watch) else { continue };
        match judge(watch, candidate.near, submission, &body) {
            Ok(Claim::Other) => {}
            Ok(Claim::Login { user: found }) => {
                if user.as_ref().is_some_and(|known| *known != found) {
                    return Err(BadForm::Twice);
                }
                user = Some(found);
            }
            // Another entry may be for this content type or this field.
            Err(error @ (BadForm::ContentType | BadForm::NoUser)) => soft = soft.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    match (user, soft) {
        (Some(user), _) => Ok(Claim::Login { user }),
        (None, Some(error)) => Err(error),
        (None, None) => Ok(Claim::Other),
    }
}

/// Whether the query of a request by a safe method (GET …) may log in at this entry all the same: it has the user
/// field, something that looks like a password, and the pair that tells a login. A user name alone is a form that
/// is filled in for the user, as after a wrong password.
pub fn query_logs_in(watch: &Watch, query: &str) -> bool {
    let target = Target::of(&watch.user);
    urlencoded::readings(query.as_bytes()).iter().any(|fields| {
        !matches!(fields::presence(fields, &target), Presence::Absent)
            && fields.iter().any(Field::looks_like_password)
            && !matches!(pair(watch, &[fields]), Ok(false))
    })
}

/// A body as fields, once for each way in which its separators can be read.
enum Body {
    Empty,
    Form(Vec<Vec<Field>>),
    Json(Node),
    /// A type of which no form is made.
    Opaque,
}

fn read_body(submission: &Submission<'_>) -> Result<Body, BadForm> {
    if submission.content_encoding.is_some_and(|e| !e.trim().eq_ignore_ascii_case("identity")) {
        return Err(BadForm::Encoding);
    }
    if submission.body.is_empty() {
        return Ok(Body::Empty);
    }
    let content_type = ContentType::parse(submission.content_type.ok_or(BadForm::ContentType)?)?;
    match content_type.kind {
        Kind::Urlencoded => {
            let readings = urlencoded::readings(submission.body);
            readings.iter().try_for_each(|fields| fields::check_charset(fields))?;
            Ok(Body::Form(readings))
        }
        Kind::Multipart { boundary } => {
            let fields = multipart::parse(submission.body, &boundary)?;
            fields::check_charset(&fields)?;
            Ok(Body::Form(vec![fields]))
        }
        Kind::Json => Ok(Body::Json(json::parse(submission.body)?)),
        Kind::Opaque => Ok(Body::Opaque),
    }
}

/// What the request is for one entry, in every way in which it can be read.
fn judge(watch: &Watch, near: bool, submission: &Submission<'_>, body: &Body) -> Result<Claim, BadForm> {
    let queries = urlencoded::readings(submission.query.unwrap_or_default().as_bytes());
    let target = Target::of(&watch.user);
    let mut verdict: Option<Claim> = None;
    let mut agree = |claim: Claim| match &verdict {
        Some(known) if *known != claim => Err(BadForm::Twice),
        _ => {
            verdict = Some(claim);
            Ok(())
        }
    };
    for query in &queries {
        match body {
            Body::Form(readings) => {
                for fields in readings {
                    agree(judge_form(watch, near, submission.method, &target, query, fields)?)?;
                }
            }
            Body::Empty => agree(judge_form(watch, near, submission.method, &target, query, &[])?)?,
            Body::Json(node) => {
                agree(judge_json(watch, near, submission.method, &target, query, node)?)?;
            }
            Body::Opaque if near || watch.with.is_some() || *submission.method != watch.method => {
                // Frameworks make no fields of such a body; what the query says counts nevertheless.
                let claim = judge_form(watch, true, submission.method, &target, query, &[])?;
                if matches!(pair(watch, &[query]), Ok(true)) && watch.with.is_some() {
                    return Err(BadForm::ContentType);
                }
                agree(claim)?;
            }
            Body::Opaque => return Err(BadForm::ContentType),
        }
    }
    Ok(verdict.unwrap_or(Claim::Other))
}

fn judge_form(
    watch: &Watch,
    near: bool,
    method: &http::Method,
    target: &Target,
    query: &[Field],
    body: &[Field],
) -> Result<Claim, BadForm> {
    // An app that really logs in by GET has its fields in the query.
    let (query, body): (&[Field], &[Field]) =
        if watch.method.is_safe() && *method == watch.method { (&[], query) } else { (query, body) };
    if !pair(watch, &[query, body])? {
        return Ok(Claim::Other);
    }
    let in_query = fields::presence(query, target);
    let in_body = fields::presence(body, target);
    if *method != watch.method {
        return refuse_elsewhere(method, query, &in_query, &in_body);
    }
    if matches!(watch.user, UserField::Json(_)) {
        // Some frameworks read a form where JSON is meant.
        return match (in_query, in_body, near) {
            (Presence::Absent, Presence::Absent, true) => Ok(Claim::Other),
            (Presence::Absent, _, _) => Err(BadForm::ContentType),
            _ => Err(BadForm::Misplaced),
        };
    }
    let claim = match in_body {
        Presence::Absent if matches!(in_query, Presence::Absent) => {
            return if near { Ok(Claim::Other) } else { Err(BadForm::NoUser) };
        }
        Presence::Absent => return Err(BadForm::Misplaced),
        Presence::Folded => return Err(BadForm::Twice),
        Presence::Once(field) => field.value()?,
    };
    match in_query {
        Presence::Absent => {}
        // A form that posts to its own prefilled URL says the same name twice.
        Presence::Once(field) if field.value() == Ok(claim) => {}
        _ => return Err(BadForm::Misplaced),
    }
    Ok(Claim::Login { user: claim.to_owned() })
}

fn judge_json(
    watch: &Watch,
    near: bool,
    method: &http::Method,
    target: &Target,
    query: &[Field],
    node: &Node,
) -> Result<Claim, BadForm> {
    let body = node.members();
    if !pair(watch, &[query, &body])? {
        return Ok(Claim::Other);
    }
    let in_query = fields::presence(query, target);
    let found = json::find(node, target);
    let absent = matches!(found, Ok(None));
    if *method != watch.method {
        return if absent {
            refuse_elsewhere(method, query, &in_query, &Presence::Absent)
        } else {
            Err(BadForm::Misplaced)
        };
    }
    if !matches!(in_query, Presence::Absent) {
        return Err(BadForm::Misplaced);
    }
    if absent && near {
        return Ok(Claim::Other);
    }
    if matches!(watch.user, UserField::Form(_)) {
        return Err(BadForm::ContentType);
    }
    found?.map(|user| Claim::Login { user }).ok_or(BadForm::NoUser)
}

/// Another method than the watched one: a login by it would not be judged, so it is none, or it is refused.
fn refuse_elsewhere(
    method: &http::Method,
    query: &[Field],
    in_query: &Presence<'_>,
    in_body: &Presence<'_>,
) -> Result<Claim, BadForm> {
    let by_query = !matches!(in_query, Presence::Absent)
        && (!method.is_safe() || query.iter().any(Field::looks_like_password));
    let by_body = !method.is_safe() && !matches!(in_body, Presence::Absent);
    if by_query || by_body { Err(BadForm::Misplaced) } else { Ok(Claim::Other) }
}

/// Whether the pair that tells a login is there. When some framework would see it and another would not: refused.
fn pair(watch: &Watch, places: &[&[Field]]) -> Result<bool, BadForm> {
    let Some((name, value)) = &watch.with else { return Ok(true) };
    let target = Target::form(name);
    let mut seen = None;
    for field in places.iter().flat_map(|fields| fields.iter()).filter(|f| f.may_be(&target)) {
        let says = value == ANY || field.says(value)?;
        if seen.is_some_and(|known| known != says) {
            return Err(BadForm::Twice);
        }
        seen = Some(says);
    }
    Ok(seen.unwrap_or(false))
}

/// As the value of `watch.with`: any value, the field has only to be there.
const ANY: &str = "*";

#[cfg(test)]
mod tests;
