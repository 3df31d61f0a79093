//! Opens the audit log.

use std::sync::Arc;

use anyhow::Context as _;

use crate::{
    audit::{Auditor, Meters, Setup},
    base::{clock::SharedClock, keyring::Keyring, random::Random},
    config::Config,
    metrics::Metrics,
};

/// Opens the audit log that the configuration names.
///
/// # Errors
/// When it cannot be opened, or another process writes it.
pub fn open_auditor(
    config: &Config,
    keyring: &Keyring,
    clock: &SharedClock,
    random: &dyn Random,
    meters: Meters,
) -> anyhow::Result<Auditor> {
    let setup = Setup { keyring, replica: &replica(), clock: Arc::clone(clock), random, meters };
    Auditor::open(&config.audit, setup).context("audit")
}

/// What a server counts about its log.
pub(super) fn meters(metrics: &Metrics) -> Meters {
    Meters {
        lost: metrics.audit_failures.clone(),
        failing: metrics.audit_failing.clone(),
        sequence: metrics.audit_sequence.clone(),
        checkpoint: metrics.audit_checkpoint.clone(),
    }
}

/// The name of this machine; in a cluster, of the pod.
fn replica() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
