//! Accounts of administrators over the control socket.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use super::{Actor, Named, Shared, by};
use crate::{
    admin::operations::{Failure, Operations},
    model::Role,
};

/// An account of an administrator to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdministratorWanted {
    /// Its name.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

pub(super) fn router(administrators: Arc<Operations>) -> Router {
    Router::new()
        .route("/administrators", get(list_administrators))
        .route("/administrators/invite", post(invite_administrator))
        .route("/administrators/remove", post(remove_administrator))
        .with_state(administrators)
}

async fn list_administrators(State(operations): Shared) -> Result<Response, Failure> {
    Ok(Json(operations.administrators().await?).into_response())
}

async fn invite_administrator(
    State(operations): Shared,
    Extension(Actor(actor)): Extension<Actor>,
    Json(wanted): Json<AdministratorWanted>,
) -> Result<Response, Failure> {
    Ok(Json(operations.invite_administrator(&wanted.name, wanted.role, &by(&actor)).await?).into_response())
}

async fn remove_administrator(
    State(operations): Shared,
    Extension(Actor(actor)): Extension<Actor>,
    Json(user): Json<Named>,
) -> Result<Response, Failure> {
    operations.remove_administrator(&user.name, &user.by(&actor)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
