//! The control socket: how the command line reaches a running server.
//!
//! A Unix socket that speaks HTTP/1.1 and JSON. Who may connect is decided twice: by the file (mode 0600, in a folder
//! that nobody else can write to) and by the kernel's word on the peer: only the user that the server runs as, and
//! root. Everything that comes in is an administrator's act; there is nothing here for visitors, and no secret goes
//! out but what is made here and shown once: a new token, activation and emergency codes.

mod accounts;

use std::{
    convert::Infallible,
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

pub use self::accounts::AdministratorWanted;
use super::{
    http::connection,
    operations::{By, Failure, Importing, Operations, Settings, Told},
    probes::stopped,
    tokens::Scope,
};
use crate::model::{AuthenticatorId, Realm, UserKey, UserName};

/// Which users to list.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ListQuery {
    /// Part of the name.
    #[serde(default)]
    pub part: String,
    /// After this user: realm …
    pub after_realm: Option<String>,
    /// … and name.
    pub after_name: Option<String>,
    /// How many at most.
    pub limit: usize,
}

/// A user as an administrator names one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Named {
    /// As listed, or as typed at the login.
    pub name: String,
    /// Needed when there are several.
    pub realm: Option<String>,
    /// Why something is done to them, for the audit log.
    #[serde(default)]
    pub reason: Option<String>,
}

/// One authenticator of a user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OneAuthenticator {
    /// Whose.
    pub user: Named,
    /// Which one: as listed.
    pub id: AuthenticatorId,
}

/// What is to be set for a user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Change {
    /// For whom.
    pub user: Named,
    /// What.
    pub settings: Settings,
}

/// Which users to give as a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Export {
    /// Whose; needed when there are several.
    pub realm: Option<String>,
    /// `,` or `;`
    pub delimiter: char,
}

/// A user, and for how long the codes made for them are valid.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Codes {
    /// Whom they are for.
    #[serde(flatten)]
    pub user: Named,
    /// For so many seconds.
    pub secs: u64,
    /// How many.
    pub count: usize,
}

/// Where a copy of the store goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackupTo {
    /// An absolute path that does not exist yet.
    pub to: PathBuf,
}

/// A token to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenWanted {
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// For so many days.
    pub days: u32,
}

impl TokenWanted {
    /// How long it lives.
    pub const fn lives(&self) -> Duration {
        Duration::from_hours(24).saturating_mul(self.days)
    }
}

/// A token as an administrator names one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenNamed {
    /// Its id.
    pub id: String,
}

/// Why something did not come about, with what can be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// What happened.
    pub title: String,
    /// What to do next.
    pub hint: String,
}

/// Opens the socket. A socket that a dead server left behind is replaced; one that answers is not.
///
/// # Errors
/// When a server answers there already, something else than a socket is there, the folder is open to others, or the
/// socket cannot be made.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let about = fs::metadata(folder)?;
    let ours = rustix::process::geteuid().as_raw();
    if about.uid() != ours && about.uid() != 0 {
        return Err(refused(format!("the folder {} belongs to somebody else", folder.display())));
    }
    // in a sticky folder such as /tmp nobody can remove or replace another's file
    if about.mode() & 0o022 != 0 && about.mode() & 0o1000 == 0 {
        return Err(refused(format!("others can write to the folder {}: `chmod go-w` it", folder.display())));
    }
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => {
            if UnixStream::connect(path).is_ok() {
                let text = format!("another server answers on {}", path.display());
                return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
            }
            fs::remove_file(path)?;
        }
        Ok(_) => return Err(refused(format!("{} exists and is no socket", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves the command line until `stop` becomes true or its sender is gone.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(
    listener: UnixListener,
    operations: Arc<Operations>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let router = router(operations);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the control socket cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stopped(&mut stop) => return Ok(()),
        };
        let peer = match stream.peer_cred() {
            Ok(peer) if may_control(peer.uid()) => peer.uid(),
            Ok(peer) => {
                tracing::warn!(uid = peer.uid(), "refused at the control socket");
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot tell its peer");
                continue;
            }
        };
        let (router, mut stop) = (router.clone(), stop.clone());
        tokio::spawn(connection(stream, router, Actor(actor(peer)), async move { stopped(&mut stop).await }));
    }
}

/// The name of somebody at the command line in the audit log.
pub fn actor(uid: u32) -> String {
    if uid == 0 { "cli:root".to_owned() } else { format!("cli:uid-{uid}") }
}

fn may_control(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

fn refused(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

#[derive(Clone)]
struct Actor(String);

fn router(operations: Arc<Operations>) -> Router {
    Router::new()
        .route("/users", get(list))
        .route("/users/show", get(show))
        .route("/users/reset", post(reset))
        .route("/users/block", post(block))
        .route("/users/unblock", post(unblock))
        .route("/tokens", get(list_tokens).post(make_token))
        .route("/tokens/revoke", post(revoke_token))
        .route("/users/invite", post(invite))
        .route("/users/emergency-codes", post(emergency_codes))
        .route("/users/unlock", post(unlock))
        .route("/users/sign-out", post(sign_out))
        .route("/users/remove-authenticator", post(remove_authenticator))
        .route("/users/set", post(set))
        .route("/users/sessions", get(sessions))
        .route("/users/import", post(import).layer(DefaultBodyLimit::max(LIST_BYTES)))
        .route("/users/export", get(export))
        .route("/backup", post(backup))
        .route("/state", get(state))
        .with_state(Arc::clone(&operations))
        .merge(accounts::router(Arc::new(operations.for_administrators())))
}

type Shared = State<Arc<Operations>>;

async fn list(State(operations): Shared, Query(query): Query<ListQuery>) -> Result<Response, Failure> {
    let after = match (query.after_realm, query.after_name) {
        (Some(realm), Some(name)) => {
            Some(UserKey { realm: Realm::new(realm), name: UserName::canonical(name) })
        }
        _ => None,
    };
    Ok(Json(operations.list(&query.part, after.as_ref(), query.limit).await?).into_response())
}

async fn state(State(operations): Shared) -> Result<Response, Failure> {
    Ok(Json(operations.state().await?).into_response())
}

async fn show(State(operations): Shared, Query(user): Query<Named>) -> Result<Response, Failure> {
    Ok(Json(operations.show(&user.name, user.realm.as_deref()).await?).into_response())
}

async fn reset(
    State(operations): Shared,
    Extension(Actor(actor)): Extension<Actor>,
    Json(user): Json<Named>,
) -> Result<Response, Failure> {
    Ok(Json(operations.reset(&user.name, user.realm.as_deref(), &user.by(&actor)).await?).into_response())
}

async fn block(
    State(operations): Shared,
    Extension(Actor(actor)): Extension<Actor>,
    Json(user): Json<Named>,
) -> Result<Response, Failure> {
    Ok(Json(operations.set_blocked(&user.name, user.realm.as_deref(), true, &user.by(&actor)).await?)
        .into_response())
}

async fn unblock(
    State(operations): Shared,
    Extension(Actor(actor)): Extension<Actor>,
    Json(user): Json<Named>,
) -> Result<Response, Failure> {
    Ok(Json(operations.set_blocked(&user.name, user.realm.as_deref(), false, &user.by(&actor)).await?)
        .into_response())
}

async fn list_tokens(State(operations): Shared) -> Result<Response, Failure> {
    Ok(Json(operations.tokens().await?).into_response())
}

async fn make_token(
    State(operations): Shared,
    Extension(Actor(actor)): Extension<Actor>,
    Json(wanted): Json<TokenWanted>,
) -> Result<Response, Failure> {
    let made = operations.make_token(&wanted.name, &wanted.scopes, wanted.lives(), &by(&actor)).await?;
    Ok(Json(made).into_response())
}

async fn revoke_token(
    State(operations): Shared,
    Extension(Actor(actor)): Extension<Actor>,
    Json(token): Json<TokenNamed>,
) -> Result<Response, Failure> {
    Ok(Json(operations.revoke_token(&token.id, &by(&actor)).await?).into_response())
}

async fn invite(
    State(operations): Shared,
    Extension(Actor(actor)): Extension<Actor>,
    Json(Codes { user, secs, .. }): Json<Codes>,
) -> Result<Response, Failure> {
    let lives = Duration::from_secs(secs);
    let made = operations.invite(&user.name, user.realm.as_deref(), lives, &by(&actor)).await?;
    Ok(Json(made).into_response())
}

async fn emergency_codes(
    State(operations): Shared,
    Extension(Actor(actor)): Extension<Actor>,
    Json(Codes { user, secs, count }): Json<Codes>,
) -> Result<Response, Failure> {
    let (realm, lives) = (user.realm.as_deref(), Duration::from_secs(secs));
    let made = operations.make_emergency_codes(&user.name, realm, count, lives, &by(&actor)).await?;
    Ok(Json(made).into_response())
}

async fn unlock(
    State(operations): Shared,
    Extension(Actor(actor)): Extension<Actor>,
    Json(user): Json<Named>,
) -> Result<Response, Failure> {
    Ok(Json(operations.unlock(&user.name, user.realm.as_deref(), &user.by(&actor)).await?).into_response())
}

async fn sign_out(
    State(operations): Shared,
    Extension(Actor(actor)): Extension<Actor>,
    Json(user): Json<Named>,
) -> Result<Response, Failure> {
    Ok(Json(operations.sign_out(&user.name, user.realm.as_deref(), &user.by(&actor)).await?).into_response())
}

async fn remove_authenticator(
    State(operations): Shared,
    Extension(Actor(actor)): Extension<Actor>,
    Json(OneAuthenticator { user, id }): Json<OneAuthenticator>,
) -> Result<Response, Failure> {
    operations.remove_authenticator(&user.name, user.realm.as_deref(), id, &user.by(&actor)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn set(
    State(operations): Shared,
    Extension(Actor(actor)): Extension<Actor>,
    Json(Change { user, settings }): Json<Change>,
) -> Result<Response, Failure> {
    Ok(Json(operations.change(&user.name, user.realm.as_deref(), &settings, &user.by(&actor)).await?)
        .into_response())
}

async fn sessions(State(operations): Shared, Query(user): Query<Named>) -> Result<Response, Failure> {
    Ok(Json(operations.sessions(&user.name, user.realm.as_deref(), None).await?).into_response())
}

/// Answers one [`Told`] a line while it goes on. Whoever hangs up ends it.
async fn import(
    State(operations): Shared,
    Extension(Actor(actor)): Extension<Actor>,
    Query(how): Query<Importing>,
    file: Bytes,
) -> Response {
    let (tell, told) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let by = By { actor: &actor, reason: how.reason.as_deref(), ..By::default() };
        if let Err(failure) = operations.import(&file, &how, &by, &tell).await {
            let failed = Told::Failed { title: failure.to_string(), hint: failure.hint() };
            // Whoever is gone needs no answer.
            let _ = tell.send(failed).await;
        }
    });
    let lines = stream::unfold(told, |mut told| async move {
        let mut line = serde_json::to_vec(&told.recv().await?).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, Infallible>(line), told))
    });
    Body::from_stream(lines).into_response()
}

/// Answers the file. What goes wrong before its first piece is told as anywhere else; afterwards it breaks off.
async fn export(
    State(operations): Shared,
    Extension(Actor(actor)): Extension<Actor>,
    Query(export): Query<Export>,
) -> Result<Response, Failure> {
    let (give, mut given) = mpsc::channel(AHEAD);
    let work = tokio::spawn(async move {
        operations.export(export.realm.as_deref(), export.delimiter, &by(&actor), &give).await
    });
    let Some(first) = given.recv().await else {
        return Err(work.await.map_or(Failure::Abandoned, |done| done.err().unwrap_or(Failure::Abandoned)));
    };
    let pieces = stream::unfold(Some((Some(first), given, work)), |state| async move {
        let (first, mut given, work) = state?;
        let piece = match first {
            Some(first) => Some(first),
            None => given.recv().await,
        };
        match piece {
            Some(piece) => Some((Ok(piece), Some((None, given, work)))),
            None => match work.await {
                Ok(Ok(())) => None,
                _ => Some((Err(io::Error::other("the list broke off")), None)),
            },
        }
    });
    Ok(Body::from_stream(pieces).into_response())
}

async fn backup(
    State(operations): Shared,
    Extension(Actor(actor)): Extension<Actor>,
    Json(backup): Json<BackupTo>,
) -> Result<Response, Failure> {
    operations.backup(backup.to, &by(&actor)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// On the word of whoever is at the command line.
fn by(actor: &str) -> By<'_> {
    By { actor, ..By::default() }
}

impl Named {
    /// On whose word something is done to them, and why.
    pub fn by<'a>(&'a self, actor: &'a str) -> By<'a> {
        By { actor, reason: self.reason.as_deref(), ..By::default() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::NoUser { .. } | Self::NoAuthenticator | Self::NoToken => StatusCode::NOT_FOUND,
            Self::OwnAccount | Self::Administrator => StatusCode::FORBIDDEN,
            Self::Store(_) | Self::Audit(_) | Self::Abandoned => StatusCode::SERVICE_UNAVAILABLE,
            Self::WhichRealm(_)
            | Self::NoRealm(_)
            | Self::BadName(..)
            | Self::BadList(_)
            | Self::BadSetting { .. } => StatusCode::BAD_REQUEST,
        };
        (status, Json(Problem { title: self.to_string(), hint: self.hint() })).into_response()
    }
}

/// A list of users is at most so long: about half a million lines.
pub const LIST_BYTES: usize = 64 << 20;
/// So many words wait for whoever listens.
const AHEAD: usize = 64;
