//! Care of a running Sluis: what administrators do to users, and what operations looks at.
//!
//! [`operations`] is the one place where a user is shown, reset or blocked; the command line reaches it over the
//! [`control`] socket while a server runs, so that the server's own store announces the effect at once. [`probes`]
//! serves metrics and probes on a listener of its own; [`listener`] serves administrators, people and programs.

pub mod api;
pub mod clock_watch;
pub mod control;
pub mod desk;
mod http;
pub mod listener;
pub mod operations;
pub mod probes;
pub mod problem;
pub mod tokens;

use axum::{Extension, Router};

use self::{
    listener::Arrival,
    problem::{Kind, Problem},
};

/// What the administrators' listener serves: the API, and the pages beside it.
pub fn router(api: Router, pages: Router) -> Router {
    api.merge(pages).fallback(nothing_here)
}

async fn nothing_here(Extension(arrival): Extension<Arrival>) -> Problem {
    Problem::new(Kind::NotFound).at(&arrival)
}

#[cfg(test)]
mod tests;
