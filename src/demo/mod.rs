//! The legacy app that ships with Sluis: care records of a care organisation that does not exist.
//!
//! It stands for every app that Sluis is put in front of, and so knows nothing of a second factor: a login form with a
//! password, sessions in memory behind one `HttpOnly` cookie, forms, a JSON endpoint, uploads and downloads, a
//! websocket. A few endpoints (`/headers`, `/echo/…`, `/cookies`, `/slow`) show what reached it, for tests and the
//! curious. It must never be used for anything real: its passwords stand on its login page.

mod live;
mod login;
mod records;
mod state;
mod tools;

use std::{io, sync::Arc};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{any, get, post},
};

pub use state::{Options, USERS};

use crate::base::{clock::SharedClock, random::SharedRandom};
use state::Records;

/// Serves the app until the process ends.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(
    listener: std::net::TcpListener,
    options: Options,
    clock: SharedClock,
    random: SharedRandom,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    axum::serve(listener, router(Arc::new(Records::new(options, clock, random)))).await
}

fn router(records: Arc<Records>) -> Router {
    Router::new()
        .route("/", get(records::list))
        .route("/clients/{id}", get(records::show))
        .route("/clients/{id}/notes", post(records::add_note))
        .route("/clients/{id}/documents", post(records::add_document))
        .route("/clients/{id}/documents/{position}", get(records::document))
        .route("/api/clients", get(records::json))
        .route("/login", get(login::form).post(login::submit))
        .route("/api/login", post(login::submit_json))
        .route("/logout", get(login::logout).post(login::logout))
        .route("/whoami", get(login::whoami))
        .route("/headers", get(tools::headers))
        .route("/echo", any(tools::echo))
        .route("/echo/{*rest}", any(tools::echo))
        .route("/cookies", get(tools::cookies))
        .route("/upload", post(tools::upload).put(tools::upload))
        .route("/download", get(tools::download))
        .route("/slow", get(tools::slow))
        .route("/live", get(live::upgrade))
        .route(
            "/static/style.css",
            get(|| asset("text/css; charset=utf-8", include_str!("assets/style.css"))),
        )
        .route(
            "/static/app.js",
            get(|| asset("text/javascript; charset=utf-8", include_str!("assets/app.js"))),
        )
        .route("/favicon.ico", get(|| asset("image/svg+xml", include_str!("assets/icon.svg"))))
        .route("/static/icon.svg", get(|| asset("image/svg+xml", include_str!("assets/icon.svg"))))
        .fallback(async || (StatusCode::NOT_FOUND, "no such page\n"))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(records)
}

async fn asset(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "max-age=300")], text)
}

/// A rendered page.
fn page(template: &impl askama::Template) -> Response {
    match template.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// As apps of its age do: 302, not 303.
fn redirect(to: &str) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, to.to_owned())]).into_response()
}

/// The value of a cookie in any of the `Cookie` lines.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(';'))
        .find_map(|pair| pair.trim().split_once('=').filter(|(n, _)| *n == name).map(|(_, value)| value))
}

#[cfg(test)]
mod tests;
