//! What is required of whom: pure, compiled, explainable.

use std::net::IpAddr;

use crate::{
    config::app::{App, Requirement},
    model::{MethodSet, UserName},
};

/// What rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who.
    pub user: &'a UserName,
    /// From where.
    pub client: IpAddr,
}

/// A user needs no second factor. Only [`decide`] makes one.
#[derive(Clone, Debug)]
pub struct Exemption {
    reason: String,
}

impl Exemption {
    /// Why, for the audit log.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// What the first matching rule gives.
#[derive(Clone, Debug)]
pub enum Decision<'a> {
    /// No second factor.
    Exempt(Exemption),
    /// A second factor.
    Require(&'a Requirement),
}

/// First rule that matches wins; when none does, a second factor of any method at every login is required.
pub fn decide<'a>(_app: &'a App, _facts: &Facts<'_>) -> Decision<'a> {
    todo!()
}

/// Whether a user without an authenticator may enrol from this address.
pub fn may_enrol(_requirement: &Requirement, _client: IpAddr) -> bool {
    todo!()
}

/// The methods that count.
pub fn methods(requirement: &Requirement) -> MethodSet {
    requirement.methods
}
