//! What is set for one user: read from what people type, judged as a whole, changed in one step.

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{By, Failure, Operations, UserDetails};
use crate::{
    audit::Event,
    base::clock::UnixMillis,
    config::administrators::REALM,
    deliver::notices::Notice,
    i18n::Language,
    model::{Method, PersonalExemption, Profile, Role, UserKey, email},
    store::documents,
};

/// What is to be changed: what is left out stays, `null` (or an empty list) takes away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where messages go.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub email: Option<Option<String>>,
    /// The authentication number; `06…` is taken for a Dutch one.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub number: Option<Option<String>>,
    /// `nl` or `en`.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub language: Option<Option<String>>,
    /// Addresses and networks (CIDR), each by itself or several in one text with commas between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// A method.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub preferred: Option<Option<String>>,
    /// No second factor for a while.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ExemptionTyped>)]
    pub exemption: Option<Option<ExemptionTyped>>,
    /// `auditor`, `helpdesk` or `admin`: at the administrators' pages.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub role: Option<Option<String>>,
}

/// An exemption as typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExemptionTyped {
    /// When it ends: RFC 3339 (`2027-01-31T17:00:00Z`).
    pub until: String,
    /// Why.
    pub reason: String,
}

#[expect(clippy::option_option, reason = "left out is not null (RFC 7396)")]
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

impl Operations {
    /// Changes what is set for a user. Where it could let somebody go on who may not, every session of theirs ends. A user
    /// who has not been met becomes known by it.
    ///
    /// # Errors
    /// When something typed cannot be (then nothing is changed), it is the administrator's own account, or the store
    /// fails.
    pub async fn change(
        &self,
        typed: &str,
        realm: Option<&str>,
        settings: &Settings,
        by: &By<'_>,
    ) -> Result<UserDetails, Failure> {
        let now = self.clock.now();
        let new = Read::of(settings, now)?;
        let user = self.begin(typed, realm, by).await?;
        if user.realm.as_str() == REALM && new.exemption.as_ref().is_some_and(Option::is_some) {
            return Err(bad("exemption", "no administrator is exempt", user.name.as_str()));
        }
        self.store.note_seen(&user, false, now).await?;
        let (changed, former) = documents::change_profile(self.store.as_ref(), &user, |kept| {
            let edited = new.applied(kept);
            let changed = differences(kept, &edited, now);
            (Some(edited).filter(|edited| edited != kept), (changed, kept.email.clone()))
        })
        .await?;
        if changed.iter().any(|change| change.voids) {
            self.void(&user).await?;
        }
        for change in &changed {
            self.record(&Event::UserChanged { what: change.what }, Some(&user), by).await?;
        }
        self.tell_of_contact(&user, &changed, former);
        self.show(user.name.as_str(), Some(user.realm.as_str())).await
    }

    /// An address that was changed by somebody who should not have is told at the former one, too.
    pub(super) fn tell_of_contact(&self, user: &UserKey, changed: &[Difference], former: Option<String>) {
        let has = |what| changed.iter().any(|change| change.what == what);
        let (email, number) = (has("email"), has("number"));
        if !email && !number {
            return;
        }
        self.tell(user, Notice::ContactChanged { email, number });
        if let Some(former) = former.filter(|_| email) {
            let notice = Notice::ContactChanged { email, number };
            self.notices.tell_formerly(user, &former, notice, self.scene(user));
        }
    }
}

/// Settings that can be.
#[expect(clippy::option_option, reason = "left out is not null (RFC 7396)")]
#[derive(Default)]
pub(super) struct Read {
    email: Option<Option<String>>,
    number: Option<Option<String>>,
    language: Option<Option<String>>,
    networks: Option<Vec<IpNet>>,
    preferred: Option<Option<Method>>,
    exemption: Option<Option<PersonalExemption>>,
    role: Option<Option<Role>>,
}

impl Read {
    pub(super) fn of(typed: &Settings, now: UnixMillis) -> Result<Self, Failure> {
        Ok(Self {
            email: typed.email.as_ref().map(|t| some(t, email)).transpose()?,
            number: typed.number.as_ref().map(|t| some(t, number)).transpose()?,
            language: typed.language.as_ref().map(|t| some(t, language)).transpose()?,
            networks: typed.networks.as_ref().map(|list| networks(list)).transpose()?,
            preferred: typed.preferred.as_ref().map(|t| some(t, method)).transpose()?,
            exemption: match &typed.exemption {
                None => None,
                Some(None) => Some(None),
                Some(Some(typed)) => Some(Some(exemption(typed, now)?)),
            },
            role: typed.role.as_ref().map(|t| some(t, role)).transpose()?,
        })
    }

    pub(super) fn applied(&self, kept: &Profile) -> Profile {
        Profile {
            email: self.email.clone().unwrap_or_else(|| kept.email.clone()),
            number: self.number.clone().unwrap_or_else(|| kept.number.clone()),
            language: self.language.clone().unwrap_or_else(|| kept.language.clone()),
            networks: self.networks.clone().unwrap_or_else(|| kept.networks.clone()),
            preferred: self.preferred.unwrap_or(kept.preferred),
            exemption: self.exemption.clone().unwrap_or_else(|| kept.exemption.clone()),
            role: self.role.unwrap_or(kept.role),
            ..kept.clone()
        }
    }

    /// Both, of which no two say something about the same.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            email: self.email.or(other.email),
            number: self.number.or(other.number),
            language: self.language.or(other.language),
            networks: self.networks.or(other.networks),
            preferred: self.preferred.or(other.preferred),
            exemption: self.exemption.or(other.exemption),
            role: self.role.or(other.role),
        }
    }
}

pub(super) struct Difference {
    what: &'static str,
    /// Sessions that have begun could go on with what no longer holds.
    pub(super) voids: bool,
}

pub(super) fn differences(old: &Profile, new: &Profile, now: UnixMillis) -> Vec<Difference> {
    let shorter = old.terms(now).exempt_until > new.terms(now).exempt_until;
    [
        ("email", old.email != new.email, false),
        ("number", old.number != new.number, false),
        ("language", old.language != new.language, false),
        ("networks", old.networks != new.networks, true),
        ("preferred", old.preferred != new.preferred, false),
        ("exemption", old.exemption != new.exemption, shorter),
        ("role", old.role != new.role, true),
    ]
    .into_iter()
    .filter(|(_, differs, _)| *differs)
    .map(|(what, _, voids)| Difference { what, voids })
    .collect()
}

/// An empty text takes away, as an empty field of a form does.
fn some<T>(typed: &Option<String>, read: fn(&str) -> Result<T, Failure>) -> Result<Option<T>, Failure> {
    typed.as_deref().map(str::trim).filter(|t| !t.is_empty()).map(read).transpose()
}

fn bad(field: &'static str, why: &'static str, found: &str) -> Failure {
    Failure::BadSetting { field, why, found: found.chars().take(100).collect() }
}

fn email(typed: &str) -> Result<String, Failure> {
    email::canonical(typed).ok_or_else(|| bad("email", "must be one address like name@example.nl", typed))
}

/// E.164: `+`, then 8 to 15 digits.
fn number(typed: &str) -> Result<String, Failure> {
    let fault = || bad("number", "must be a telephone number like +31612345678 or 06 12345678", typed);
    let plain: String = typed.chars().filter(|c| !" -.()/\u{a0}".contains(*c)).collect();
    let international = match plain.strip_prefix("00") {
        Some(rest) => format!("+{rest}"),
        None => match plain.strip_prefix('0') {
            Some(rest) => format!("+31{rest}"),
            None => plain,
        },
    };
    let digits = international.strip_prefix('+').ok_or_else(fault)?;
    let fits = (8..=15).contains(&digits.len()) && !digits.starts_with('0');
    if fits && digits.bytes().all(|b| b.is_ascii_digit()) { Ok(international) } else { Err(fault()) }
}

fn language(typed: &str) -> Result<String, Failure> {
    Language::parse(typed)
        .map(|language| language.code().to_owned())
        .ok_or_else(|| bad("language", "must be nl or en", typed))
}

fn method(typed: &str) -> Result<Method, Failure> {
    Method::parse(typed).ok_or_else(|| bad("preferred", "must be a method, such as totp", typed))
}

fn role(typed: &str) -> Result<Role, Failure> {
    Role::parse(typed).ok_or_else(|| bad("role", "must be auditor, helpdesk or admin", typed))
}

/// Single addresses and networks. More than [`MOST_NETWORKS`] would not fit in a cookie.
fn networks(typed: &[String]) -> Result<Vec<IpNet>, Failure> {
    let parts = typed.iter().flat_map(|text| text.split([',', ';', ' ', '\n'])).map(str::trim);
    let mut read = Vec::new();
    for part in parts.filter(|part| !part.is_empty()) {
        let network = part
            .parse::<IpNet>()
            .or_else(|_| part.parse().map(|address: std::net::IpAddr| IpNet::from(address)));
        let why = "must be addresses or networks like 192.0.2.7, 10.0.0.0/8, 2001:db8::/32";
        let network = network.map_err(|_| bad("networks", why, part))?.trunc();
        if !read.contains(&network) {
            read.push(network);
        }
    }
    if read.len() > MOST_NETWORKS {
        return Err(bad("networks", "at most 20", &read.len().to_string()));
    }
    Ok(read)
}

fn exemption(typed: &ExemptionTyped, now: UnixMillis) -> Result<PersonalExemption, Failure> {
    let until: jiff::Timestamp =
        typed.until.trim().parse().map_err(|_| {
            bad("exemption", "`until` must be a moment like 2027-01-31T17:00:00Z", &typed.until)
        })?;
    let until = UnixMillis(u64::try_from(until.as_millisecond()).unwrap_or_default());
    if until <= now || until > now.plus(LONGEST_EXEMPTION) {
        return Err(bad("exemption", "must end in the future, within 92 days", &typed.until));
    }
    let reason = typed.reason.trim();
    if reason.is_empty() || reason.chars().count() > 500 {
        return Err(bad("exemption", "needs a reason of at most 500 characters", reason));
    }
    Ok(PersonalExemption { until, reason: reason.to_owned() })
}

const MOST_NETWORKS: usize = 20;
const LONGEST_EXEMPTION: std::time::Duration = std::time::Duration::from_hours(92 * 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_read_or_refused_with_what_is_allowed() {
        for (typed, read) in [
            ("06 12345678", Some("+31612345678")),
            ("+31 (6) 12-34.56/78", Some("+31612345678")),
            ("0031612345678", Some("+31612345678")),
            ("+1 202 555 0100", Some("+12025550100")),
            ("112", None),
            ("+31x612345678", None),
            ("+0612345678", None),
            ("6 12345678", None),
        ] {
            assert_eq!(number(typed).ok().as_deref(), read, "{typed}");
        }
    }

    /// [B13] Empty = no limit, several separated by comma.
    #[test]
    fn b13_a_list_of_addresses_is_read_as_people_write_it() {
        let read = |typed: &str| {
            let list = networks(&[typed.to_owned()]);
            list.map(|l| l.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")).ok()
        };
        assert_eq!(read("").as_deref(), Some(""));
        assert_eq!(
            read("192.0.2.7, 10.1.2.3/8,2001:db8::1").as_deref(),
            Some("192.0.2.7/32 10.0.0.0/8 2001:db8::1/128")
        );
        assert_eq!(read("192.0.2.7, 192.0.2.7").as_deref(), Some("192.0.2.7/32"));
        for wrong in ["192.0.2", "10.0.0.0/33", "office", "192.0.2.7-9"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let many: Vec<String> = (0..21).map(|n| format!("10.0.{n}.1")).collect();
        assert!(networks(&many).is_err());
    }

    #[test]
    fn what_is_left_out_is_not_what_is_null() {
        let read = |json: &str| serde_json::from_str::<Settings>(json).unwrap();
        assert_eq!(read("{}").email, None);
        assert_eq!(read(r#"{"email":null}"#).email, Some(None));
        assert_eq!(read(r#"{"email":"a@b.nl"}"#).email, Some(Some("a@b.nl".to_owned())));
        assert!(
            serde_json::from_str::<Settings>(r#"{"mail":"a@b.nl"}"#).is_err(),
            "unknown keys are refused"
        );
    }
}
