//! Finds lines. Whether they are true is for `verify`.

mod page;

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    net::IpAddr,
    path::Path,
    time::Duration,
};

use ipnet::IpNet;
use serde::Deserialize;
use utoipa::ToSchema;

pub use self::page::{Cursor, NoPage, Page, page};
use crate::base::clock::UnixMillis;

/// What is looked for: everything that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// The user, whole.
    pub user: Option<String>,
    /// Who acted, whole.
    pub actor: Option<String>,
    /// One of these events; none: any.
    pub events: Vec<String>,
    /// `success` or `failure`.
    pub outcome: Option<String>,
    /// The app.
    pub app: Option<String>,
    /// The device.
    pub device: Option<String>,
    /// From these addresses.
    pub network: Option<IpNet>,
    /// The request.
    pub request_id: Option<String>,
    /// Not before.
    pub since: Option<UnixMillis>,
    /// Not after.
    pub until: Option<UnixMillis>,
}

/// The fields of a line that people look at.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct Found {
    /// RFC 3339.
    pub time: String,
    /// The event.
    pub event: String,
    /// How it ended.
    #[serde(default)]
    pub outcome: String,
    /// About whom.
    #[serde(default)]
    pub user: Option<String>,
    /// Who acted.
    #[serde(default)]
    pub actor: Option<String>,
    /// At which app.
    #[serde(default)]
    pub app: Option<String>,
    /// On which device.
    #[serde(default)]
    pub device: Option<String>,
    /// From where.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// In which request.
    #[serde(default)]
    pub request_id: Option<String>,
    /// How.
    #[serde(default)]
    pub method: Option<String>,
    /// More.
    #[serde(default)]
    pub detail: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Query {
    fn fits(&self, found: &Found) -> bool {
        fn is(wanted: Option<&String>, found: Option<&String>) -> bool {
            wanted.is_none() || wanted == found
        }
        let in_time = || {
            if self.since.is_none() && self.until.is_none() {
                return true;
            }
            let Some(time) = moment(&found.time) else { return false };
            self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until)
        };
        is(self.user.as_ref(), found.user.as_ref())
            && is(self.actor.as_ref(), found.actor.as_ref())
            && is(self.app.as_ref(), found.app.as_ref())
            && is(self.device.as_ref(), found.device.as_ref())
            && is(self.request_id.as_ref(), found.request_id.as_ref())
            && is(self.outcome.as_ref(), Some(&found.outcome))
            && (self.events.is_empty() || self.events.contains(&found.event))
            && self.network.is_none_or(|network| found.address.is_some_and(|a| network.contains(&a)))
            && in_time()
    }
}

/// Calls `take` with every line of a file that fits, as it stands there and taken apart, until `take` says no. Lines
/// that are none are passed over.
///
/// # Errors
/// When the file cannot be read.
pub fn search(path: &Path, query: &Query, take: &mut dyn FnMut(&str, &Found) -> bool) -> io::Result<bool> {
    let mut reader = BufReader::with_capacity(256 << 10, File::open(path)?);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(true);
        }
        let Ok(text) = std::str::from_utf8(&bytes) else { continue };
        let text = text.trim_end_matches('\n');
        let Ok(found) = serde_json::from_str::<Found>(text) else { continue };
        if query.fits(&found) && !take(text, &found) {
            return Ok(false);
        }
    }
}

/// A moment as people type one: RFC 3339, or a day in UTC.
pub fn moment(text: &str) -> Option<UnixMillis> {
    let time: Option<jiff::Timestamp> = text.parse().ok();
    let time = time.or_else(|| format!("{text}T00:00:00Z").parse().ok())?;
    u64::try_from(time.as_millisecond()).ok().map(UnixMillis)
}

/// The same as an end: a day is a whole day.
pub fn end_of(text: &str) -> Option<UnixMillis> {
    let moment = moment(text)?;
    Some(if text.len() == "2026-11-22".len() { moment.plus(DAY) } else { moment })
}

/// To its last millisecond.
const DAY: Duration = Duration::from_millis(86_399_999);
