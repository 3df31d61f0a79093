//! Tokens and the store.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Api,
    body::{Actor, Json, OneToken, Why},
    users::Answer,
};
use crate::admin::operations::{StoreState, TokenRow};

/// Tokens of this API.
#[derive(Serialize, ToSchema)]
pub(super) struct Tokens {
    /// Those that ended stay for 90 days.
    tokens: Vec<TokenRow>,
}

/// List tokens
///
/// Never a secret. Tokens are made on the command line only: `sluis token create`.
#[utoipa::path(get, path = "/tokens", tag = "tokens", responses((status = OK, body = Tokens)))]
pub(super) async fn tokens(State(api): State<Arc<Api>>) -> Answer<Tokens> {
    Ok(axum::Json(Tokens { tokens: api.operations.tokens().await? }))
}

/// Revoke a token
///
/// It is worth nothing when this answers, at every replica.
#[utoipa::path(
    post,
    path = "/tokens/{id}/revoke",
    tag = "tokens",
    params(OneToken),
    request_body = Why,
    responses((status = OK, body = TokenRow))
)]
pub(super) async fn revoke_token(
    State(api): State<Arc<Api>>,
    actor: Actor,
    token: OneToken,
    Json(why): Json<Why>,
) -> Answer<TokenRow> {
    let by = actor.by(why.reason.as_deref())?;
    Ok(axum::Json(api.operations.revoke_token(&token.id, &by).await?))
}

/// Show how the store is
#[utoipa::path(get, path = "/store", tag = "server", responses((status = OK, body = StoreState)))]
pub(super) async fn store(State(api): State<Arc<Api>>) -> Answer<StoreState> {
    Ok(axum::Json(api.operations.state().await?))
}
