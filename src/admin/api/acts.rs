//! What is done to users.

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Api,
    body::{Actor, Because, Json, OneAuthenticator, User, Why},
    users::Answer,
};
use crate::{
    admin::{
        operations::{EmergencyCodes, Failure, Invitation, ResetDone, Settings, UserDetails, UserRow},
        problem::Problem,
    },
    model::AuthenticatorId,
};

/// What is to be changed of a user, as a merge patch (RFC 7396).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    settings: Settings,
    /// Why, for the audit log: at most 500 characters; must be given for an exemption and a role.
    #[schema(max_length = 500)]
    #[serde(default)]
    reason: Option<String>,
}

/// For how long an invitation is good.
#[derive(Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Invite {
    /// 1 to 720.
    #[schema(minimum = 1, maximum = 720, default = 72)]
    valid_hours: u32,
    /// Why, for the audit log: at most 500 characters.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Default for Invite {
    fn default() -> Self {
        Self { valid_hours: 72, reason: None }
    }
}

/// How many emergency codes, and for how long they are good.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Emergency {
    /// 1 to 10.
    #[schema(minimum = 1, maximum = 10, default = 5)]
    #[serde(default = "five")]
    count: usize,
    /// 1 to 366.
    #[schema(minimum = 1, maximum = 366, default = 30)]
    #[serde(default = "thirty")]
    valid_days: u32,
    /// Why, for the audit log: 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

const fn five() -> usize {
    5
}

const fn thirty() -> u32 {
    30
}

/// Change settings of a user
///
/// What is left out stays, `null` takes away. Where it could let somebody go on who may not, every session of the user
/// ends. A user who has not been seen becomes known by it.
#[utoipa::path(
    patch,
    path = "/users/{realm}/{name}",
    tag = "users",
    params(User),
    request_body(content((Change = "application/merge-patch+json"), (Change = "application/json"))),
    responses((status = OK, body = UserDetails))
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    actor: Actor,
    user: User,
    Json(change): Json<Change>,
) -> Answer<UserDetails> {
    let Change { settings, reason } = &change;
    let is_grave = settings.exemption.is_some() || settings.role.is_some();
    let by = if is_grave { actor.because(reason.as_deref())? } else { actor.by(reason.as_deref())? };
    Ok(axum::Json(api.operations.change(&user.name, Some(&user.realm), settings, &by).await?))
}

/// Reset a user
///
/// Removes every authenticator, the count of wrong answers, and ends every session, everywhere: the user links anew at the
/// next login.
#[utoipa::path(
    post,
    path = "/users/{realm}/{name}/reset",
    tag = "users",
    params(User),
    request_body = Because,
    responses((status = OK, body = ResetDone))
)]
pub(super) async fn reset(
    State(api): State<Arc<Api>>,
    actor: Actor,
    user: User,
    Json(why): Json<Because>,
) -> Answer<ResetDone> {
    let by = actor.because(Some(&why.reason))?;
    Ok(axum::Json(api.operations.reset(&user.name, Some(&user.realm), &by).await?))
}

/// Remove one authenticator of a user
///
/// And end every session of theirs.
#[utoipa::path(
    post,
    path = "/users/{realm}/{name}/authenticators/{id}/remove",
    tag = "users",
    params(OneAuthenticator),
    request_body = Because,
    responses((status = OK, body = UserDetails))
)]
pub(super) async fn remove_authenticator(
    State(api): State<Arc<Api>>,
    actor: Actor,
    one: OneAuthenticator,
    Json(why): Json<Because>,
) -> Answer<UserDetails> {
    let by = actor.because(Some(&why.reason))?;
    let id = AuthenticatorId::parse(&one.id).ok_or(Failure::NoAuthenticator)?;
    api.operations.remove_authenticator(&one.name, Some(&one.realm), id, &by).await?;
    Ok(axum::Json(api.operations.show(&one.name, Some(&one.realm)).await?))
}

/// Block a user
///
/// Nothing of theirs passes any more, also in running sessions, at every replica, when this answers.
#[utoipa::path(
    post,
    path = "/users/{realm}/{name}/block",
    tag = "users",
    params(User),
    request_body = Because,
    responses((status = OK, body = UserRow))
)]
pub(super) async fn block(
    State(api): State<Arc<Api>>,
    actor: Actor,
    user: User,
    Json(why): Json<Because>,
) -> Answer<UserRow> {
    let by = actor.because(Some(&why.reason))?;
    Ok(axum::Json(api.operations.set_blocked(&user.name, Some(&user.realm), true, &by).await?))
}

/// Lift a block
#[utoipa::path(
    post,
    path = "/users/{realm}/{name}/unblock",
    tag = "users",
    params(User),
    request_body = Why,
    responses((status = OK, body = UserRow))
)]
pub(super) async fn unblock(
    State(api): State<Arc<Api>>,
    actor: Actor,
    user: User,
    Json(why): Json<Why>,
) -> Answer<UserRow> {
    let by = actor.by(why.reason.as_deref())?;
    Ok(axum::Json(api.operations.set_blocked(&user.name, Some(&user.realm), false, &by).await?))
}

/// Unlock a user
///
/// Takes their wrong answers off, so that they may try again.
#[utoipa::path(
    post,
    path = "/users/{realm}/{name}/unlock",
    tag = "users",
    params(User),
    request_body = Why,
    responses((status = OK, body = UserRow))
)]
pub(super) async fn unlock(
    State(api): State<Arc<Api>>,
    actor: Actor,
    user: User,
    Json(why): Json<Why>,
) -> Answer<UserRow> {
    let by = actor.by(why.reason.as_deref())?;
    Ok(axum::Json(api.operations.unlock(&user.name, Some(&user.realm), &by).await?))
}

/// Sign a user out everywhere
///
/// Ends every session and forgets their devices, at every replica, before this answers.
#[utoipa::path(
    post,
    path = "/users/{realm}/{name}/sign-out",
    tag = "users",
    params(User),
    request_body = Why,
    responses((status = OK, body = UserRow))
)]
pub(super) async fn sign_out(
    State(api): State<Arc<Api>>,
    actor: Actor,
    user: User,
    Json(why): Json<Why>,
) -> Answer<UserRow> {
    let by = actor.by(why.reason.as_deref())?;
    Ok(axum::Json(api.operations.sign_out(&user.name, Some(&user.realm), &by).await?))
}

/// Invite a user
///
/// Makes a one-time code by which they may link a first authenticator. It is shown here and never again; an earlier one is
/// void.
#[utoipa::path(
    post,
    path = "/users/{realm}/{name}/invite",
    tag = "users",
    params(User),
    request_body = Invite,
    responses((status = OK, body = Invitation))
)]
pub(super) async fn invite(
    State(api): State<Arc<Api>>,
    actor: Actor,
    user: User,
    Json(wanted): Json<Invite>,
) -> Answer<Invitation> {
    let by = actor.by(wanted.reason.as_deref())?;
    let lives = Duration::from_hours(1).saturating_mul(wanted.valid_hours);
    Ok(axum::Json(api.operations.invite(&user.name, Some(&user.realm), lives, &by).await?))
}

/// Make emergency codes for a user
///
/// Each gets in once. They are shown here and never again; earlier ones are void.
#[utoipa::path(
    post,
    path = "/users/{realm}/{name}/emergency-codes",
    tag = "users",
    params(User),
    request_body = Emergency,
    responses((status = OK, body = EmergencyCodes))
)]
pub(super) async fn emergency_codes(
    State(api): State<Arc<Api>>,
    actor: Actor,
    user: User,
    Json(wanted): Json<Emergency>,
) -> Answer<EmergencyCodes> {
    let by = actor.because(Some(&wanted.reason))?;
    let lives = Duration::from_hours(24).saturating_mul(wanted.valid_days);
    let made =
        api.operations.make_emergency_codes(&user.name, Some(&user.realm), wanted.count, lives, &by).await;
    made.map(axum::Json).map_err(Problem::from)
}
