//! The audit log, read.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Api,
    body::{Actor, Asked},
    users::Answer,
};
use crate::{
    admin::problem::{Kind, Problem},
    audit::{
        Event,
        search::{self, Cursor, Found, NoPage, Query},
    },
};

/// Which events to find: everything that is given must hold.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// About this user, whole.
    user: Option<String>,
    /// Done by this administrator or token, whole.
    actor: Option<String>,
    /// These events, with `,` between them.
    event: Option<String>,
    /// `success` or `failure`.
    outcome: Option<String>,
    /// At this app.
    app: Option<String>,
    /// On this device.
    device: Option<String>,
    /// From this address or network.
    address: Option<String>,
    /// In this request.
    request_id: Option<String>,
    /// Not before this time: RFC 3339, or a day in UTC.
    since: Option<String>,
    /// Not after this time; a day is a whole day.
    until: Option<String>,
    /// Go on after a page: what its `next` said, with the same filters.
    cursor: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Lines of the log.
#[derive(Serialize, ToSchema)]
pub(super) struct Events {
    /// Newest first, with all their fields (docs/audit.md).
    #[schema(value_type = Vec<Found>)]
    events: Vec<Value>,
    /// There may be more, also after a page without events: ask with this as `cursor`.
    next: Option<String>,
}

/// Search the audit log
///
/// Of this replica, with the files that were rotated and not packed; newest first. A page ends when it is full or enough
/// was read. That somebody searched is in the log as well. It does not verify: `sluis audit verify` does.
#[utoipa::path(get, path = "/audit", tag = "audit", params(Wanted), responses((status = OK, body = Events)))]
pub(super) async fn find(
    State(api): State<Arc<Api>>,
    actor: Actor,
    Asked(wanted): Asked<Wanted>,
) -> Answer<Events> {
    let limit = wanted.limit.unwrap_or(100);
    if !(1..=1000).contains(&limit) {
        return Err(Problem::unfit("limit: 1 to 1000"));
    }
    let from = wanted
        .cursor
        .as_deref()
        .map(|text| Cursor::parse(text).ok_or_else(|| Problem::unfit("cursor: not what a `next` said")));
    let (from, query) = (from.transpose()?, query(wanted)?);
    let Some(path) = api.audit_file.clone() else {
        let hint = "it is searched where it is collected (`audit.file` would make it one)";
        return Err(Problem::of(StatusCode::NOT_FOUND, "the audit log of this server is no file", hint));
    };
    api.operations.note(&Event::AuditSearched, &actor.by(None)?).await?;
    // Few at a time, and none on a thread that answers others.
    let Ok(_turn) = api.searches.acquire().await else { return Err(Problem::new(Kind::Internal)) };
    let found = tokio::task::spawn_blocking(move || search::page(&path, &query, from.as_ref(), limit)).await;
    match found {
        Ok(Ok(page)) => {
            Ok(axum::Json(Events { events: page.lines, next: page.next.map(|cursor| cursor.text()) }))
        }
        Ok(Err(gone @ NoPage::Gone)) => {
            Err(Problem::of(StatusCode::GONE, gone.to_string(), "search again from the beginning"))
        }
        Ok(Err(NoPage::Unreadable(error))) => {
            tracing::error!(%error, "the audit log cannot be searched");
            Err(Problem::new(Kind::Internal))
        }
        Err(error) => {
            tracing::error!(%error, "a search of the audit log broke off");
            Err(Problem::new(Kind::Internal))
        }
    }
}

fn query(wanted: Wanted) -> Result<Query, Problem> {
    let outcome = wanted.outcome.filter(|outcome| !outcome.is_empty());
    if outcome.as_deref().is_some_and(|outcome| !["success", "failure"].contains(&outcome)) {
        return Err(Problem::unfit("outcome: success or failure"));
    }
    let network = wanted.address.map(|text| {
        let network =
            text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
        network.ok_or_else(|| Problem::unfit("address: an address or network, such as 192.0.2.0/24"))
    });
    let time = |field: &str, typed: Option<String>, read: fn(&str) -> Option<_>| {
        let no_time = || Problem::unfit(format!("{field}: such as 2026-11-22 or 2026-11-22T03:30:00Z"));
        typed.map(|text| read(&text).ok_or_else(no_time)).transpose()
    };
    Ok(Query {
        user: wanted.user,
        actor: wanted.actor,
        events: wanted.event.iter().flat_map(|list| list.split(',')).map(str::to_owned).collect(),
        outcome,
        app: wanted.app,
        device: wanted.device,
        network: network.transpose()?,
        request_id: wanted.request_id,
        since: time("since", wanted.since, search::moment)?,
        until: time("until", wanted.until, search::end_of)?,
    })
}
