//! What is read of users.

use std::sync::Arc;

use axum::extract::State;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api,
    body::{Asked, User},
};
use crate::{
    admin::{
        operations::{SessionRow, UserDetails, UserRow},
        problem::Problem,
    },
    model::{Realm, UserKey, UserName},
};

/// An answer, or why there is none.
pub(super) type Answer<T> = Result<axum::Json<T>, Problem>;

/// Which users to list.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only those whose name contains this.
    search: Option<String>,
    /// Go on after a page: what its `next` said.
    cursor: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Users in order of realm and name.
#[derive(Serialize, ToSchema)]
pub(super) struct Users {
    users: Vec<UserRow>,
    /// There are more: ask with this as `cursor`.
    next: Option<String>,
}

/// Where a user is logged in.
#[derive(Serialize, ToSchema)]
pub(super) struct Sessions {
    /// Oldest first; the newest 50 at most.
    sessions: Vec<SessionRow>,
}

/// List users
///
/// Those that have been seen, or were named by an administrator.
#[utoipa::path(get, path = "/users", tag = "users", params(Wanted), responses((status = OK, body = Users)))]
pub(super) async fn list(State(api): State<Arc<Api>>, Asked(wanted): Asked<Wanted>) -> Answer<Users> {
    let limit = wanted.limit.unwrap_or(100);
    if !(1..=1000).contains(&limit) {
        return Err(Problem::unfit("limit: 1 to 1000"));
    }
    let after = match &wanted.cursor {
        None => None,
        Some(cursor) => {
            Some(read_cursor(cursor).ok_or_else(|| Problem::unfit("cursor: not what a `next` said"))?)
        }
    };
    let page =
        api.operations.list(wanted.search.as_deref().unwrap_or_default(), after.as_ref(), limit).await?;
    let next = page.users.last().filter(|_| page.more).map(write_cursor);
    Ok(axum::Json(Users { users: page.users, next }))
}

/// Show a user
///
/// With authenticators (never a secret) and settings (never the hash of anything).
#[utoipa::path(
    get,
    path = "/users/{realm}/{name}",
    tag = "users",
    params(User),
    responses((status = OK, body = UserDetails))
)]
pub(super) async fn show(State(api): State<Arc<Api>>, user: User) -> Answer<UserDetails> {
    Ok(axum::Json(api.operations.show(&user.name, Some(&user.realm)).await?))
}

/// Show where a user is logged in
#[utoipa::path(
    get,
    path = "/users/{realm}/{name}/sessions",
    tag = "users",
    params(User),
    responses((status = OK, body = Sessions))
)]
pub(super) async fn sessions(State(api): State<Arc<Api>>, user: User) -> Answer<Sessions> {
    let sessions = api.operations.sessions(&user.name, Some(&user.realm), Some(&api.live)).await?;
    Ok(axum::Json(Sessions { sessions }))
}

/// A place in the list. Nobody else should read anything into it.
fn write_cursor(last: &UserRow) -> String {
    BASE64URL_NOPAD.encode(format!("1/{}/{}", last.realm, last.name).as_bytes())
}

fn read_cursor(cursor: &str) -> Option<UserKey> {
    let text = String::from_utf8(BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?).ok()?;
    // Realms have no `/`; names may.
    let (realm, name) = text.strip_prefix("1/")?.split_once('/')?;
    Some(UserKey { realm: Realm::new(realm), name: UserName::canonical(name) })
}
