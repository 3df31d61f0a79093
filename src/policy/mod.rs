//! What is required of whom: pure, compiled, explainable.
//!
//! Decides one thing: does this user, from this address, need a second factor, and of what kind. Promises that
//! nothing falls through to a pass: when no rule matches, a second factor of any method is required at every
//! login, and nobody may enrol. Reads no clock, no store and no network, and allocates nothing on the way of a
//! request. [`decide`] and [`explain`] run the same walk over the rules, so that what is printed is what is done.

use std::{fmt, net::IpAddr, sync::LazyLock, time::Duration};

use ipnet::IpNet;

use crate::{
    base::clock::UnixMillis,
    config::app::{App, Enrol, Requirement, Rule, Then},
    model::{Method, MethodSet, Terms, UserName},
};

/// What rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who, in canonical form.
    pub user: &'a UserName,
    /// From where.
    pub client: IpAddr,
    /// What administrators have set for this user.
    pub terms: &'a Terms,
    /// When.
    pub now: UnixMillis,
}

/// A user needs no second factor. Only [`decide`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Exemption<'a> {
    reason: &'a str,
}

impl<'a> Exemption<'a> {
    /// Why, for the audit log.
    pub fn reason(&self) -> &'a str {
        self.reason
    }
}

/// What the first matching rule gives.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'a> {
    /// No second factor.
    Exempt(Exemption<'a>),
    /// A second factor.
    Require(&'a Requirement),
    /// This user may not come from this address (row B13).
    Elsewhere,
}

/// What one rule said to the facts. A closed list: it drives `sluis explain`, logs and tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The user's own list of addresses does not have this one.
    NotFromHere,
    /// The user is exempt for a while.
    ExemptForAWhile,
    /// The rule is for other users.
    OtherUser,
    /// The rule is for other networks.
    OtherNetwork,
    /// The rule matches and exempts.
    Exempts,
    /// The rule matches and requires a second factor.
    Requires,
    /// No rule was left: the built-in requirement holds.
    NoRuleLeft,
}

impl Reason {
    /// The name in output and tests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotFromHere => "not_from_here",
            Self::ExemptForAWhile => "exempt_for_a_while",
            Self::OtherUser => "other_user",
            Self::OtherNetwork => "other_network",
            Self::Exempts => "exempts",
            Self::Requires => "requires",
            Self::NoRuleLeft => "no_rule_left",
        }
    }
}

/// One step of the walk over the rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// 1-based place of the rule in the app's `policy`; 0 for what is set for this user, one past the last for the
    /// built-in requirement.
    pub rule: usize,
    /// What it said.
    pub reason: Reason,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}: {}", self.rule, self.reason.name())
    }
}

/// What is set for this user comes before all rules. Of those the first that matches wins; when none does, a second factor of any method at every login is required and
/// enrolment is closed.
pub fn decide<'a>(app: &'a App, facts: &Facts<'_>) -> Decision<'a> {
    walk(&app.policy, facts, |_| ())
}

/// The walk of [`decide`] for the same facts, rule by rule; the last step is the one that decided.
pub fn explain(app: &App, facts: &Facts<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let _ = walk(&app.policy, facts, |step| steps.push(step));
    steps
}

/// How a user may enrol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Enrolment {
    /// After the first factor.
    Open,
    /// A first authenticator needs an administrator's invitation as well.
    Invited,
    /// Not at all.
    Closed,
}

/// How a user may enrol from this address.
pub fn may_enrol(requirement: &Requirement, client: IpAddr) -> Enrolment {
    match &requirement.enrol {
        Enrol::Open => Enrolment::Open,
        Enrol::Invite => Enrolment::Invited,
        Enrol::Networks(networks) if is_in(networks, client) => Enrolment::Open,
        Enrol::Networks(_) | Enrol::Closed => Enrolment::Closed,
    }
}

/// The methods that count.
pub fn methods(requirement: &Requirement) -> MethodSet {
    requirement.methods
}

/// How long a proof by this method is remembered on the device. A recovery code is for one login: whoever finds the paper
/// gets in once.
pub fn validity(requirement: &Requirement, method: Method) -> Duration {
    match method {
        Method::Totp => requirement.validity,
        Method::Recovery => Duration::ZERO,
    }
}

/// What holds when no rule matches.
static BUILT_IN: LazyLock<Requirement> = LazyLock::new(|| Requirement {
    methods: MethodSet::from_bits(u16::MAX),
    validity: Duration::ZERO,
    continuous: false,
    enrol: Enrol::Closed,
});

fn walk<'a>(rules: &'a [Rule], facts: &Facts<'_>, mut visit: impl FnMut(Step)) -> Decision<'a> {
    let Terms { networks, exempt_until } = facts.terms;
    if !networks.is_empty() && !is_in(networks, facts.client) {
        visit(Step { rule: 0, reason: Reason::NotFromHere });
        return Decision::Elsewhere;
    }
    if exempt_until.is_some_and(|until| facts.now < until) {
        visit(Step { rule: 0, reason: Reason::ExemptForAWhile });
        return Decision::Exempt(Exemption { reason: "set for this user" });
    }
    let mut position = 0;
    for rule in rules {
        position += 1;
        let reason = judge(rule, facts);
        visit(Step { rule: position, reason });
        match (reason, &rule.then) {
            (Reason::Exempts, Then::Exempt { reason }) => return Decision::Exempt(Exemption { reason }),
            (Reason::Requires, Then::Require(requirement)) => return Decision::Require(requirement),
            _ => {}
        }
    }
    visit(Step { rule: position + 1, reason: Reason::NoRuleLeft });
    Decision::Require(&BUILT_IN)
}

fn judge(rule: &Rule, facts: &Facts<'_>) -> Reason {
    if !rule.users.is_empty() && !rule.users.iter().any(|user| user == facts.user.as_str()) {
        return Reason::OtherUser;
    }
    if !rule.networks.is_empty() && !is_in(&rule.networks, facts.client) {
        return Reason::OtherNetwork;
    }
    match rule.then {
        Then::Exempt { .. } => Reason::Exempts,
        Then::Require(_) => Reason::Requires,
    }
}

/// Whether one of the networks has the address. An IPv4 address that a dual-stack socket reports as
/// `::ffff:a.b.c.d` (RFC 4291, section 2.5.5.2) is the IPv4 address; `::/0` is all of IPv6, not all there is.
fn is_in(networks: &[IpNet], client: IpAddr) -> bool {
    let client = client.to_canonical();
    networks.iter().any(|network| match (network, client) {
        (IpNet::V6(mapped), IpAddr::V4(v4)) if mapped.prefix_len() >= 96 => {
            mapped.contains(&v4.to_ipv6_mapped())
        }
        _ => network.contains(&client),
    })
}

#[cfg(test)]
mod tests;
