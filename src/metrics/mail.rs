//! The series of mail. Without `mail` in the configuration they stay as they begin.

use prometheus::{IntCounter, IntGauge, Registry};

use super::{By, MailOutcome, counters, gauge, labelled, name};

/// What became of messages to people.
pub struct MailMetrics {
    /// `sluis_mail_total{outcome}`
    pub outcomes: By<MailOutcome, IntCounter>,
    /// `sluis_mail_queue`: messages that wait, or are on their way.
    pub queue: IntGauge,
    /// `sluis_mail_failing`: 1 while the server takes nothing.
    pub failing: IntGauge,
}

impl MailMetrics {
    pub(super) fn register(r: &Registry) -> Self {
        let outcomes =
            counters(r, "sluis_mail_total", "Messages to people, by what became of them.", &["outcome"]);
        Self {
            outcomes: By::new(|o| labelled(&outcomes, &[name(o)])),
            queue: gauge(r, "sluis_mail_queue", "Messages that wait to be sent, or are on their way."),
            failing: gauge(
                r,
                "sluis_mail_failing",
                "1 while the mail server cannot be reached or takes nothing.",
            ),
        }
    }
}
