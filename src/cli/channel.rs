//! The way to the users: through the control socket of a running server, else the store itself, under its lock.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, sync::mpsc};

use super::{Done, Trouble, load};
use crate::{
    admin::{
        control::{
            AdministratorWanted, BackupTo, Change, Codes, Export, ListQuery, Named, OneAuthenticator,
            Problem, TokenNamed, TokenWanted, actor,
        },
        operations::{
            AdministratorRow, By, EmergencyCodes, Failure, Importing, Invitation, NewToken, Operations,
            ResetDone, SessionRow, StoreState, TokenRow, Told, UserDetails, UserPage, UserRow,
        },
    },
    app,
    audit::{Auditor, Meters, Setup},
    base::{
        clock::{SharedClock, SystemClock},
        random::SystemRandom,
    },
    config,
    model::{Realm, UserKey, UserName},
};

/// What a command talks to.
pub enum Channel {
    /// A running server.
    Server(PathBuf),
    /// The store, which nobody else uses.
    Store(Box<Operations>, String),
}

impl Channel {
    /// Finds the running server of this configuration; if there is none, opens its store.
    pub async fn open(file: &super::ConfigFile) -> Result<Self, Trouble> {
        let config = load(file)?.config;
        if let Some(path) = &config.listen.control {
            match UnixStream::connect(path).await {
                Ok(_) => return Ok(Self::Server(path.clone())),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(denied(path)),
                Err(_) => {}
            }
        }
        if matches!(config.store, config::StoreConfig::Memory) {
            return Err(Trouble::new(
                "no server runs, and its configuration keeps nothing (`store: memory`)",
            )
            .hint("start it with `sluis serve` first"));
        }
        let store = app::open_store(&config).map_err(|error| {
            let hint = match &config.listen.control {
                Some(path) => format!("no server answers on {} either", path.display()),
                None => "a running server can be reached when `listen.control` is set".to_owned(),
            };
            Trouble::new(format!("{error:#}")).hint(hint)
        })?;
        let clock = Arc::new(SystemClock);
        let auditor = auditor(&config).map_err(|error| {
            Trouble::new(format!("the audit log cannot be written: {error:#}"))
                .hint("without it nothing is changed: run this as the user of the server, or as root")
        })?;
        let actor = actor(rustix::process::geteuid().as_raw());
        Ok(Self::Store(
            Box::new(Operations::new(store, config.apps, Arc::new(auditor), clock, Arc::new(SystemRandom))),
            actor,
        ))
    }

    /// Whether a server answers, and how the store is.
    pub async fn state(&self) -> Result<(bool, StoreState), Trouble> {
        match self {
            Self::Server(path) => Ok((true, call(path, Method::GET, "/state", None::<&()>).await?)),
            Self::Store(operations, _) => Ok((false, operations.state().await?)),
        }
    }

    /// A page of users.
    pub async fn list(&self, query: &ListQuery) -> Result<UserPage, Trouble> {
        match self {
            Self::Server(path) => {
                call(path, Method::GET, &format!("/users?{}", encoded(query)), None::<&()>).await
            }
            Self::Store(operations, _) => {
                let after = query.after_realm.as_deref().zip(query.after_name.as_deref());
                let after = after.map(|(realm, name)| UserKey {
                    realm: Realm::new(realm),
                    name: UserName::canonical(name),
                });
                Ok(operations.list(&query.part, after.as_ref(), query.limit).await?)
            }
        }
    }

    /// One user.
    pub async fn show(&self, user: &Named) -> Result<UserDetails, Trouble> {
        match self {
            Self::Server(path) => {
                call(path, Method::GET, &format!("/users/show?{}", encoded(user)), None::<&()>).await
            }
            Self::Store(operations, _) => Ok(operations.show(&user.name, user.realm.as_deref()).await?),
        }
    }

    /// Removes a user's authenticators.
    pub async fn reset(&self, user: &Named) -> Result<ResetDone, Trouble> {
        match self {
            Self::Server(path) => call(path, Method::POST, "/users/reset", Some(user)).await,
            Self::Store(operations, actor) => {
                Ok(operations.reset(&user.name, user.realm.as_deref(), &user.by(actor)).await?)
            }
        }
    }

    /// Removes one authenticator of a user.
    pub async fn remove_authenticator(&self, one: &OneAuthenticator) -> Result<(), Trouble> {
        let user = &one.user;
        match self {
            Self::Server(path) => call(path, Method::POST, "/users/remove-authenticator", Some(one)).await,
            Self::Store(operations, actor) => Ok(operations
                .remove_authenticator(&user.name, user.realm.as_deref(), one.id, &user.by(actor))
                .await?),
        }
    }

    /// Takes wrong answers off.
    pub async fn unlock(&self, user: &Named) -> Result<UserRow, Trouble> {
        match self {
            Self::Server(path) => call(path, Method::POST, "/users/unlock", Some(user)).await,
            Self::Store(operations, actor) => {
                Ok(operations.unlock(&user.name, user.realm.as_deref(), &user.by(actor)).await?)
            }
        }
    }

    /// Ends all sessions.
    pub async fn sign_out(&self, user: &Named) -> Result<UserRow, Trouble> {
        match self {
            Self::Server(path) => call(path, Method::POST, "/users/sign-out", Some(user)).await,
            Self::Store(operations, actor) => {
                Ok(operations.sign_out(&user.name, user.realm.as_deref(), &user.by(actor)).await?)
            }
        }
    }

    /// Changes what is set.
    pub async fn set(&self, change: &Change) -> Result<UserDetails, Trouble> {
        let Change { user, settings } = change;
        match self {
            Self::Server(path) => call(path, Method::POST, "/users/set", Some(change)).await,
            Self::Store(operations, actor) => {
                Ok(operations.change(&user.name, user.realm.as_deref(), settings, &user.by(actor)).await?)
            }
        }
    }

    /// Where a user is logged in.
    pub async fn sessions(&self, user: &Named) -> Result<Vec<SessionRow>, Trouble> {
        match self {
            Self::Server(path) => {
                call(path, Method::GET, &format!("/users/sessions?{}", encoded(user)), None::<&()>).await
            }
            Self::Store(operations, _) => {
                Ok(operations.sessions(&user.name, user.realm.as_deref(), None).await?)
            }
        }
    }

    /// Takes over a list of users; `show` sees how it goes on.
    pub async fn import(&self, file: Vec<u8>, how: &Importing, show: &mut dyn FnMut(Told) -> Done) -> Done {
        match self {
            Self::Server(path) => {
                let target = format!("/users/import?{}", encoded(how));
                let mut body = open(path, Method::POST, &target, file).await?.into_body();
                let mut rest = Vec::new();
                while let Some(piece) = piece(path, &mut body).await? {
                    rest.extend_from_slice(&piece);
                    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = rest.drain(..=end).collect();
                        show(serde_json::from_slice(&line).map_err(|error| broken(path, &error))?)?;
                    }
                }
                Ok(())
            }
            Self::Store(operations, actor) => {
                let (tell, mut told) = mpsc::channel(1);
                let by = By { actor, reason: how.reason.as_deref(), ..By::default() };
                // Each by its own end: whoever no longer listens is told to the other.
                let work = async move { operations.import(&file, how, &by, &tell).await };
                let listen = async move {
                    while let Some(word) = told.recv().await {
                        show(word)?;
                    }
                    Done::Ok(())
                };
                let (done, shown) = tokio::join!(work, listen);
                shown?;
                Ok(done?)
            }
        }
    }

    /// Gives the list of users to `take`, piece by piece.
    pub async fn export(&self, export: &Export, take: &mut dyn FnMut(&[u8]) -> Done) -> Done {
        match self {
            Self::Server(path) => {
                let target = format!("/users/export?{}", encoded(export));
                let mut body = open(path, Method::GET, &target, Vec::new()).await?.into_body();
                while let Some(piece) = piece(path, &mut body).await? {
                    take(&piece)?;
                }
                Ok(())
            }
            Self::Store(operations, actor) => {
                let (give, mut given) = mpsc::channel(1);
                let by = By { actor, ..By::default() };
                let work = async move {
                    operations.export(export.realm.as_deref(), export.delimiter, &by, &give).await
                };
                let listen = async move {
                    while let Some(piece) = given.recv().await {
                        take(&piece)?;
                    }
                    Done::Ok(())
                };
                let (done, taken) = tokio::join!(work, listen);
                taken?;
                Ok(done?)
            }
        }
    }

    /// Blocks or unblocks a user.
    pub async fn set_blocked(&self, user: &Named, blocked: bool) -> Result<UserRow, Trouble> {
        match self {
            Self::Server(path) => {
                let target = if blocked { "/users/block" } else { "/users/unblock" };
                call(path, Method::POST, target, Some(user)).await
            }
            Self::Store(operations, actor) => Ok(operations
                .set_blocked(&user.name, user.realm.as_deref(), blocked, &user.by(actor))
                .await?),
        }
    }

    /// Makes a token of the administrators' API.
    pub async fn make_token(&self, wanted: &TokenWanted) -> Result<NewToken, Trouble> {
        match self {
            Self::Server(path) => call(path, Method::POST, "/tokens", Some(wanted)).await,
            Self::Store(operations, actor) => {
                let by = By { actor, ..By::default() };
                Ok(operations.make_token(&wanted.name, &wanted.scopes, wanted.lives(), &by).await?)
            }
        }
    }

    /// All tokens.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, Trouble> {
        match self {
            Self::Server(path) => call(path, Method::GET, "/tokens", None::<&()>).await,
            Self::Store(operations, _) => Ok(operations.tokens().await?),
        }
    }

    /// Revokes a token.
    pub async fn revoke_token(&self, token: &TokenNamed) -> Result<TokenRow, Trouble> {
        match self {
            Self::Server(path) => call(path, Method::POST, "/tokens/revoke", Some(token)).await,
            Self::Store(operations, actor) => {
                Ok(operations.revoke_token(&token.id, &By { actor, ..By::default() }).await?)
            }
        }
    }

    /// Makes the code by which a user may link a first authenticator.
    pub async fn invite(&self, codes: &Codes) -> Result<Invitation, Trouble> {
        let (user, lives) = (&codes.user, Duration::from_secs(codes.secs));
        match self {
            Self::Server(path) => call(path, Method::POST, "/users/invite", Some(codes)).await,
            Self::Store(operations, actor) => Ok(operations
                .invite(&user.name, user.realm.as_deref(), lives, &By { actor, ..By::default() })
                .await?),
        }
    }

    /// Makes emergency codes for a user.
    pub async fn emergency_codes(&self, codes: &Codes) -> Result<EmergencyCodes, Trouble> {
        let (user, lives) = (&codes.user, Duration::from_secs(codes.secs));
        match self {
            Self::Server(path) => call(path, Method::POST, "/users/emergency-codes", Some(codes)).await,
            Self::Store(operations, actor) => {
                let by = By { actor, ..By::default() };
                let realm = user.realm.as_deref();
                Ok(operations.make_emergency_codes(&user.name, realm, codes.count, lives, &by).await?)
            }
        }
    }

    /// All accounts of administrators.
    pub async fn administrators(&self) -> Result<Vec<AdministratorRow>, Trouble> {
        match self {
            Self::Server(path) => call(path, Method::GET, "/administrators", None::<&()>).await,
            Self::Store(operations, _) => Ok(operations.for_administrators().administrators().await?),
        }
    }

    /// Makes an account of an administrator, or a new way into one.
    pub async fn invite_administrator(&self, wanted: &AdministratorWanted) -> Result<Invitation, Trouble> {
        match self {
            Self::Server(path) => call(path, Method::POST, "/administrators/invite", Some(wanted)).await,
            Self::Store(operations, actor) => Ok(operations
                .for_administrators()
                .invite_administrator(&wanted.name, wanted.role, &By { actor, ..By::default() })
                .await?),
        }
    }

    /// Takes an account of an administrator away.
    pub async fn remove_administrator(&self, named: &Named) -> Result<(), Trouble> {
        match self {
            Self::Server(path) => call(path, Method::POST, "/administrators/remove", Some(named)).await,
            Self::Store(operations, actor) => Ok(operations
                .for_administrators()
                .remove_administrator(&named.name, &named.by(actor))
                .await?),
        }
    }

    /// Copies the store.
    pub async fn backup(&self, to: PathBuf) -> Result<(), Trouble> {
        match self {
            Self::Server(path) => call(path, Method::POST, "/backup", Some(&BackupTo { to })).await,
            Self::Store(operations, actor) => {
                Ok(operations.backup(to, &By { actor, ..By::default() }).await?)
            }
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::new(failure.to_string()).hint(failure.hint())
    }
}

/// Standard output is for results here: what a server would write there goes to standard error.
fn auditor(config: &config::Config) -> anyhow::Result<Auditor> {
    let clock: SharedClock = Arc::new(SystemClock);
    let keyring = app::keyring(config)?;
    let (meters, random) = (Meters::unseen()?, &SystemRandom);
    if config.audit.place != config::AuditPlace::Stdout {
        return app::open_auditor(config, &keyring, &clock, random, meters);
    }
    let setup = Setup { keyring: &keyring, replica: "cli", clock, random, meters };
    Ok(Auditor::to(Box::new(io::stderr()), config.audit.on_failure, setup)?)
}

fn denied(path: &Path) -> Trouble {
    Trouble::new(format!("the control socket {} is not yours", path.display()))
        .hint("run this as root, or as the user that the server runs as")
}

fn encoded(query: &impl Serialize) -> String {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(query) else { return String::new() };
    let mut out = form_urlencoded::Serializer::new(String::new());
    for (name, value) in &fields {
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::String(text) => {
                out.append_pair(name, text);
            }
            other => {
                out.append_pair(name, &other.to_string());
            }
        }
    }
    out.finish()
}

fn broken(socket: &Path, error: &dyn std::fmt::Display) -> Trouble {
    Trouble::new(format!("the server on {} broke off: {error}", socket.display()))
        .hint("whether it was done is not known: look with `sluis user show`")
}

/// One request to the control socket.
async fn call<T: DeserializeOwned>(
    socket: &Path,
    method: Method,
    target: &str,
    body: Option<&impl Serialize>,
) -> Result<T, Trouble> {
    let body = body.map(|body| serde_json::to_vec(body).unwrap_or_default()).unwrap_or_default();
    let answer = open(socket, method, target, body).await?;
    let bytes = answer.into_body().collect().await.map_err(|error| broken(socket, &error))?.to_bytes();
    let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| broken(socket, &error))
}

/// One request; its answer, when that is a success, has begun.
async fn open(
    socket: &Path,
    method: Method,
    target: &str,
    body: Vec<u8>,
) -> Result<Response<Incoming>, Trouble> {
    let broken = |error: &dyn std::fmt::Display| broken(socket, error);
    let stream = UnixStream::connect(socket).await.map_err(|error| broken(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(http::header::HOST, "sluis")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(bytes::Bytes::from(body)))
        .map_err(|error| broken(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| {
        // a server that refuses the peer hangs up before it reads
        if error.is_incomplete_message() || error.is_canceled() { denied(socket) } else { broken(&error) }
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let bytes = answer.into_body().collect().await.map_err(|error| broken(&error))?.to_bytes();
    match serde_json::from_slice::<Problem>(&bytes) {
        Ok(problem) => Err(Trouble::new(problem.title).hint(problem.hint)),
        Err(_) => {
            Err(Trouble::new(format!("the server answered {status}: {}", String::from_utf8_lossy(&bytes))))
        }
    }
}

/// The next piece of an answer.
async fn piece(socket: &Path, body: &mut Incoming) -> Result<Option<bytes::Bytes>, Trouble> {
    loop {
        let Some(frame) = body.frame().await else { return Ok(None) };
        if let Ok(piece) = frame.map_err(|error| broken(socket, &error))?.into_data() {
            return Ok(Some(piece));
        }
    }
}
