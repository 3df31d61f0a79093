//! Who must prove what.

use std::time::Duration;

use super::{Place, Reader};
use crate::{
    config::{
        app::{Enrol, NameRules, Requirement, Rule, Then},
        raw::{self, Judged},
        value::{self, show_duration},
    },
    model::{Method, MethodSet, name::Folding},
};

const HOUR: Duration = Duration::from_secs(3600);

/// The rules of an app. None at all means one that requires a second factor of everybody.
pub fn policy(
    reader: &mut Reader<'_>,
    typed: &[raw::Rule],
    place: &Place<'_>,
    names: &NameRules,
) -> Vec<Rule> {
    if typed.is_empty() {
        return match place.is_given() {
            true => {
                reader.report.fault(place, "no rule; allowed: at least one, or to leave the key out");
                Vec::new()
            }
            false => {
                let requirement = requirement(reader, &raw::Require::default(), place);
                vec![Rule { users: Vec::new(), networks: Vec::new(), then: Then::Require(requirement) }]
            }
        };
    }
    let mut rules: Vec<Rule> = Vec::with_capacity(typed.len());
    // Those whose condition could be read: only they can be compared.
    let mut sound: Vec<usize> = Vec::new();
    let mut for_all: Option<usize> = None;
    for (index, rule) in typed.iter().enumerate() {
        let place = place.item(index);
        let (users, networks, is_sound) = matches(reader, rule.matches.as_ref(), &place.key("match"), names);
        let everybody = rule.matches.is_none() && !place.key("match").is_given();
        let then = then(reader, rule, &place, everybody);
        let covered = sound.iter().filter_map(|i| rules.get(*i)).any(|earlier| {
            is_sound && covers(&earlier.users, &users) && covers(&earlier.networks, &networks)
        });
        if let Some(line) = for_all {
            let text =
                format!("never reached: the rule on line {line} is for everybody; allowed: that one last");
            reader.report.fault(&place, text);
        } else if covered {
            let text = "never reached: an earlier rule takes all of these; allowed: each case once";
            reader.report.fault(&place, text);
        }
        if everybody && for_all.is_none() {
            for_all = Some(place.line());
        }
        if let Some(then) = then {
            if is_sound {
                sound.push(rules.len());
            }
            rules.push(Rule { users, networks, then });
        }
    }
    if for_all.is_none() {
        reader.report.warn(
            place,
            "no rule for everybody: who matches none must give a code at every login and cannot enrol",
        );
    }
    rules
}

/// Whether a condition takes all that another takes; an empty one takes everything.
fn covers<T: PartialEq>(earlier: &[T], later: &[T]) -> bool {
    earlier.is_empty() || (!later.is_empty() && later.iter().all(|x| earlier.contains(x)))
}

fn matches(
    reader: &mut Reader<'_>,
    typed: Option<&raw::Match>,
    place: &Place<'_>,
    names: &NameRules,
) -> (Vec<String>, Vec<ipnet::IpNet>, bool) {
    let Some(typed) = typed else { return (Vec::new(), Vec::new(), !place.is_given()) };
    if typed.users.is_none() && typed.networks.is_none() {
        let broken = place.key("users").is_given() || place.key("networks").is_given();
        if !broken {
            reader.report.fault(place, "no condition; allowed: users, networks, or to leave match out");
        }
    }
    let empty = |reader: &mut Reader<'_>, key: &str| {
        let text = "an empty list would match everybody; allowed: at least one, or to leave the key out";
        reader.report.fault(&place.key(key), text);
    };
    let folding = Folding { trim: names.trim, nfkc: names.nfkc, case_fold: names.case_fold };
    let mut users = Vec::new();
    if let Some(typed) = &typed.users {
        if typed.is_empty() {
            empty(reader, "users");
        }
        for (index, user) in typed.iter().enumerate() {
            let place = place.key("users").item(index);
            match folding.fold(user) {
                Ok(folded) if users.contains(&folded) => reader.report.bad(&place, user, "each user once"),
                Ok(folded) => users.push(folded),
                Err(why) => reader.report.bad(&place, user, format_args!("the name of a user ({why})")),
            }
        }
    }
    let mut networks = Vec::new();
    if let Some(typed) = &typed.networks {
        if typed.is_empty() {
            empty(reader, "networks");
        }
        networks = reader.networks(typed, &place.key("networks"));
    }
    let read = |typed: &Option<Vec<String>>, found: usize| typed.as_ref().map_or(0, Vec::len) == found;
    let is_sound = read(&typed.users, users.len())
        && read(&typed.networks, networks.len())
        && !(users.is_empty() && networks.is_empty());
    (users, networks, is_sound)
}

fn then(reader: &mut Reader<'_>, rule: &raw::Rule, place: &Place<'_>, everybody: bool) -> Option<Then> {
    match (&rule.exempt, &rule.require) {
        (Some(reason), None) => {
            if reason.trim().is_empty() {
                reader.report.bad(&place.key("exempt"), reason, "the reason, for the audit log");
            }
            if everybody {
                reader.report.warn(
                    &place.key("exempt"),
                    "EVERYBODY is exempt: nobody who reaches this rule needs a second factor",
                );
            }
            Some(Then::Exempt { reason: reason.clone() })
        }
        (None, Some(require)) => Some(Then::Require(requirement(reader, require, &place.key("require")))),
        (Some(_), Some(_)) => {
            reader.report.fault(place, "found exempt and require; allowed: one of them");
            None
        }
        (None, None) => {
            if !place.key("exempt").is_given() && !place.key("require").is_given() {
                reader.report.fault(place, "the rule says nothing; allowed: exempt or require");
            }
            None
        }
    }
}

fn requirement(reader: &mut Reader<'_>, typed: &raw::Require, place: &Place<'_>) -> Requirement {
    let at = |key| place.key(key);
    let mut methods = MethodSet::EMPTY;
    for (index, method) in typed.methods.iter().enumerate() {
        let method = match method {
            raw::Method::Totp => Method::Totp,
            raw::Method::Recovery => Method::Recovery,
        };
        if methods.contains(method) {
            reader.report.bad(&at("methods").item(index), method.name(), "each method once");
        }
        methods = methods.with(method);
    }
    if methods.is_empty() {
        let all: Vec<&str> = Method::ALL.iter().map(|m| m.name()).collect();
        reader
            .report
            .fault(&at("methods"), format!("no method; allowed: at least one of {}", all.join(", ")));
    }
    if methods == MethodSet::of(Method::Recovery) {
        let text =
            "recovery alone; allowed: beside totp, since only who has an authenticator can make such codes";
        reader.report.fault(&at("methods"), text);
    }
    let validity = validity(reader, &typed.validity, &at("validity"));
    let continuous = typed.judged == Judged::Continuous;
    if continuous && validity.is_zero() {
        reader.report.bad(
            &at("judged"),
            "continuous",
            "a validity above 0, or at_login; no request could ever pass",
        );
    }
    Requirement { methods, validity, continuous, enrol: enrol(reader, &typed.enrol, &at("enrol")) }
}

/// [B3] Hours from 0 to 24; what is outside of that is refused, not cut to fit.
fn validity(reader: &mut Reader<'_>, typed: &value::Span, place: &Place<'_>) -> Duration {
    const ALLOWED: &str = "0 to 24h for codes of an authenticator app (0 = a code at every login)";
    match value::duration(&typed.0) {
        Some(validity) if validity <= 24 * HOUR => {
            if validity > 12 * HOUR {
                let text = format!(
                    "{} is longer than 12h: a device that is left behind stays trusted that long",
                    show_duration(validity)
                );
                reader.report.warn(place, text);
            }
            validity
        }
        Some(_) => {
            reader.report.bad(place, &typed.0, ALLOWED);
            Duration::ZERO
        }
        None => {
            reader.report.bad(place, &typed.0, format_args!("{ALLOWED}, with its unit: 12h, 30m"));
            Duration::ZERO
        }
    }
}

fn enrol(reader: &mut Reader<'_>, typed: &raw::Enrol, place: &Place<'_>) -> Enrol {
    match typed {
        raw::Enrol::Open => {
            reader.report.warn(
                place,
                "open: who knows the password of a user that has no authenticator yet can enrol their own; \
                 close it, ask an invitation or name networks once everybody has enrolled",
            );
            Enrol::Open
        }
        raw::Enrol::Invite => Enrol::Invite,
        raw::Enrol::Closed => Enrol::Closed,
        raw::Enrol::Networks(typed) => {
            let place = place.key("networks");
            if typed.is_empty() {
                reader.report.fault(&place, "an empty list; allowed: at least one network, or enrol: closed");
            }
            Enrol::Networks(reader.networks(typed, &place))
        }
    }
}
