//! The administrators' pages: an axum router on their listener, http in and http out.
//!
//! Whoever comes here has an account in a realm of its own (`config::administrators`) with a password and a second factor;
//! what follows from the password is the very code by which users log in to apps: admission, challenge, enrolment, tokens,
//! revocation. What administrators do is done by `operations`, as from the command line and the API.
//!
//! Promises: nothing is shown without a live session and a role, which is looked up with each request; a change is a
//! same-origin POST with a form token; what is dangerous asks a reason and a second factor of the last five minutes; nobody
//! acts on their own account; no page shows a secret or anybody's QR code (row E6); every page works without JavaScript.
//!
//! | path | for | what |
//! |---|---|---|
//! | `/login`, `/invitation` | everybody | the password; the first password |
//! | `/` , `/user` | all roles | users, one user |
//! | `/user/{act}` | by role, see [`acts`] | a form, and the act |
//! | `/administrators`, `/tokens` | all roles | lists |
//! | `/administrators/new` | admin | a new account |
//! | `/account`, `/account/password` | all roles | one's own account |
//! | `/.sluis/…` | | challenge, enrolment, logout, style: as on every host |

mod account;
mod acts;
mod caller;
mod enter;
mod lists;
mod settings;
mod strangers;
mod users;
mod view;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use tower::ServiceExt;

use self::strangers::Strangers;
use super::{listener::Arrival, operations::Operations};
use crate::{
    base::random::SharedRandom,
    config::{App, administrators},
    identity::password::Passwords,
    session::live::Live,
    store::SharedStore,
    web::{self, Pages, Visit},
};

/// What the administrators' pages work with.
#[derive(Clone)]
pub struct Desk {
    pages: Arc<Pages>,
    app: Arc<App>,
    users: Arc<Operations>,
    administrators: Arc<Operations>,
    store: SharedStore,
    live: Arc<Live>,
    passwords: Arc<Passwords>,
    strangers: Arc<Strangers>,
}

impl Desk {
    /// Puts it together. `pages` are this host's: with the administrators' cookie names.
    pub fn new(
        pages: Pages,
        users: Arc<Operations>,
        store: SharedStore,
        live: Arc<Live>,
        random: SharedRandom,
    ) -> Self {
        Self {
            pages: Arc::new(pages),
            app: Arc::new(administrators::app()),
            administrators: Arc::new(users.for_administrators()),
            users,
            store,
            live,
            passwords: Arc::new(Passwords::new(random)),
            strangers: Arc::default(),
        }
    }

    /// The same after the configuration has changed.
    #[must_use]
    pub fn with_pages(&self, pages: Pages) -> Self {
        Self { pages: Arc::new(pages), ..self.clone() }
    }

    fn operations(&self, realm: &str) -> &Operations {
        if realm == administrators::REALM { &self.administrators } else { &self.users }
    }
}

/// The pages as the listener serves them: by whatever stands in `current`. Each request carries an [`Arrival`].
pub fn door(current: Arc<ArcSwap<Router>>) -> Router {
    let serve = move |mut request: Request| {
        let router = Router::clone(&current.load());
        // What this router has found in the path would be added to what the next one finds there.
        let arrival = request.extensions_mut().remove::<Arrival>();
        request.extensions_mut().clear();
        if let Some(arrival) = arrival {
            request.extensions_mut().insert(arrival);
        }
        async move { router.oneshot(request).await.unwrap_or_else(|never| match never {}) }
    };
    PATHS.iter().fold(Router::new(), |router, path| router.route(path, any(serve.clone())))
}

/// Everything that [`router`] serves.
const PATHS: &[&str] = &[
    "/",
    "/login",
    "/invitation",
    "/user",
    "/user/{act}",
    "/administrators",
    "/administrators/new",
    "/tokens",
    "/account",
    "/account/password",
    "/.sluis/{*page}",
];

/// The pages.
pub fn router(desk: Desk) -> Router {
    let own = web::router(Pages::clone(&desk.pages));
    let app = Arc::clone(&desk.app);
    let secure = desk.pages.names.are_secure();
    Router::new()
        .route("/", get(users::list))
        .route("/login", get(enter::login).post(enter::log_in))
        .route("/invitation", get(enter::invitation).post(enter::accept))
        .route("/user", get(users::one))
        .route("/user/settings", get(settings::form).post(settings::change))
        .route("/user/{act}", get(acts::form).post(acts::perform))
        .route("/administrators", get(lists::administrators))
        .route("/administrators/new", get(account::new).post(account::make))
        .route("/tokens", get(lists::tokens))
        .route("/account", get(account::show))
        .route("/account/password", get(account::password).post(account::change_password))
        // One's own things are at `/account`; there is no emergency code for who makes them, and no recovery code: another
        // administrator invites.
        .route("/.sluis/me", get(account::elsewhere))
        .route("/.sluis/me/{*page}", any(account::not_here))
        .route("/.sluis/emergency", any(account::not_here))
        .route("/.sluis/recovery", any(account::not_here))
        .with_state(Arc::new(desk))
        .fallback_service(own)
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            arrive(Arc::clone(&app), secure, request, next)
        }))
}

/// Says to the pages what the listener knows.
async fn arrive(app: Arc<App>, secure: bool, mut request: Request, next: Next) -> Response {
    let Some(arrival) = request.extensions().get::<Arrival>().cloned() else {
        tracing::error!("a request to the administrators' pages came without its arrival");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(|a| a.as_str())).unwrap_or_default();
    let authority = host.to_owned();
    let Arrival { client, request_id, .. } = arrival;
    request.extensions_mut().insert(Visit { app, client, request_id, authority });
    let mut response = next.run(request).await;
    if response.status() == StatusCode::METHOD_NOT_ALLOWED
        && !response.headers().contains_key(header::CONTENT_TYPE)
    {
        *response.body_mut() = Body::empty();
        web::reply::harden(response.headers_mut(), secure);
    }
    response
}

#[cfg(test)]
mod tests;
