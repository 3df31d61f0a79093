//! The short way of the usual request: a GET without a body.
//!
//! pingora's proxy serves every request by two tasks that hand pieces to each other over channels, since a body may
//! come up while an answer goes down. A GET has no body: here one task asks the app and passes on what it answers,
//! for half the work. It decides nothing: the request has its [`Permit`](crate::gate::Permit), goes up as
//! [`forward`] dresses it and comes down as `answer` dresses it, like any other.
//!
//! What an answer is, where it ends and whether its connection can be kept is for pingora's HTTP/1 client
//! ([`HttpSession`]) to say, and all that concerns the client for pingora's server session. Only the request is
//! written here ([`head`]), and idle connections are kept here ([`pool`]).
//!
//! It promises what the long way does: time-outs of the app's configuration, another server when one cannot be
//! connected to, once more when a kept connection turns out to have been closed, an end when the client goes away.
//! Whatever is not usual is left to the long way.

mod head;
mod pool;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use http::{HeaderValue, Method, StatusCode, Version, header};
use pingora::{
    Error, ErrorType, OrErr, Result,
    http::ResponseHeader,
    protocols::http::{HttpTask, v1::client::HttpSession},
    proxy::Session,
};
use tokio::io::AsyncWriteExt;

use self::pool::{Pool, Wire};
use super::{
    Proxy,
    context::Context,
    edge::{self, Connection},
    failure::Cause,
    site::{MOST_TRIES, Site},
    upstreams::Server,
};

/// What exchanges share: the idle connections of one worker.
#[derive(Default)]
pub struct Exchanges {
    pool: Arc<Pool>,
}

/// Whether a permitted request, of which it is known that it is neither logout nor upgrade, can take the short way.
pub fn is_usual(session: &mut Session, ctx: &Context, site: &Site) -> bool {
    // Connections that stand for a user are pingora's to keep apart (threats D19).
    let shared = !site.binds_connections() && ctx.bound_to.is_none();
    let request = session.req_header();
    shared
        && request.method == Method::GET
        && matches!(request.version, Version::HTTP_11 | Version::HTTP_2)
        && request.headers.get_all(header::CONNECTION).iter().all(is_plain_connection)
        && !request.headers.contains_key(header::TRANSFER_ENCODING)
        && !request.headers.contains_key(header::EXPECT)
        && session.is_body_empty()
}

/// Names no field.
fn is_plain_connection(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
}

/// A request on its way and whatever of the answer has come.
struct Asked<'a> {
    app: HttpSession,
    server: Server<'a>,
    /// The connection had been used before.
    reused: bool,
    patience: Patience,
}

/// Why one attempt came to nothing.
enum Failed {
    /// The kept connection had been closed, and nothing of an answer was passed on.
    Stale,
    For(Box<Error>),
}

impl From<Box<Error>> for Failed {
    fn from(error: Box<Error>) -> Self {
        Self::For(error)
    }
}

impl Proxy {
    /// Asks the app and passes its answer on, to its end.
    ///
    /// # Errors
    /// How it failed; when nothing has been passed on, the client still waits for an answer.
    pub(super) async fn exchange(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        let mut fresh = false;
        loop {
            let mut asked = match self.ask(session, ctx, fresh).await {
                Ok(asked) => asked,
                Err(Failed::Stale) => {
                    fresh = true;
                    continue;
                }
                Err(Failed::For(error)) => return Err(error),
            };
            match self.pass_on(session, ctx, &mut asked).await {
                Ok(()) => {
                    self.keep(ctx, asked).await;
                    return Ok(());
                }
                Err(Failed::Stale) => fresh = true,
                Err(Failed::For(error)) => return Err(error),
            }
        }
    }

    /// Sends the request to a server of the app.
    async fn ask<'a>(
        &'a self,
        session: &mut Session,
        ctx: &mut Context,
        fresh: bool,
    ) -> std::result::Result<Asked<'a>, Failed> {
        let site = self.site(ctx).ok_or_else(|| Cause::Internal.into_error())?;
        let (server, mut wire, reused) = loop {
            let server = site.pick().map_err(Cause::into_error)?;
            if let Some(wire) = (!fresh).then(|| self.exchanges.pool.take(server.id())).flatten() {
                break (server, wire, true);
            }
            match server.dial().await {
                Ok(transport) => {
                    server.succeeded();
                    break (server, Wire::new(transport), false);
                }
                Err(error) => {
                    let another = server.failed();
                    ctx.tries += 1;
                    if !another || ctx.tries >= MOST_TRIES {
                        return Err(not_connected(error).into());
                    }
                }
            }
        };
        ctx.upstream_host = server.host();
        ctx.sent = Some(Instant::now());
        let request = session.req_header();
        let bytes = self
            .dressed(ctx, |dress| head::write(request, dress, &self.parts.sealer))
            .map_err(Cause::into_error)?;
        let times = server.times();
        match write(&mut wire, &bytes, times.write).await {
            Err(error) if reused && *error.etype() != ErrorType::WriteTimedout => return Err(Failed::Stale),
            sent => sent?,
        }
        let patience = Patience::new(session, times.read);
        Ok(Asked { app: HttpSession::new(wire), server, reused, patience })
    }

    /// Passes the answer on as it comes.
    async fn pass_on(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        asked: &mut Asked<'_>,
    ) -> std::result::Result<(), Failed> {
        let mut begun = false;
        loop {
            let task = match next(session, &mut asked.app, &asked.patience).await {
                Ok(task) => task,
                Err(mut error) if !begun => {
                    error.retry.decide_reuse(asked.reused);
                    return Err(if error.retry() { Failed::Stale } else { error.into() });
                }
                Err(error) => {
                    // Nothing can be added to what has gone out: it ends with its connection, and not well.
                    return Err(error.into());
                }
            };
            let mut tasks = Vec::with_capacity(2);
            match task {
                HttpTask::Header(mut header, end) => {
                    let informational = header.status.is_informational();
                    self.take_header(session, ctx, &mut header, end).await?;
                    tasks.push(HttpTask::Header(header, end));
                    // A body that came along with its header goes out along with it.
                    if !end && !informational {
                        match at_once(asked.app.read_response_task()).await {
                            Some(Ok(body)) => tasks.push(body),
                            Some(Err(error)) => tasks.push(HttpTask::Failed(error.into_up())),
                            None => {}
                        }
                    }
                }
                other => {
                    self.check_permit(ctx).map_err(Cause::into_error)?;
                    tasks.push(other);
                }
            }
            begun = true;
            if session.downstream_session.response_duplex_vec(tasks).await? {
                return Ok(());
            }
        }
    }

    async fn take_header(
        &self,
        session: &Session,
        ctx: &mut Context,
        header: &mut ResponseHeader,
        end: bool,
    ) -> Result<()> {
        if header.status == StatusCode::SWITCHING_PROTOCOLS {
            let text = "the app switches protocols unasked";
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, text).into_up());
        }
        let bodiless = header.status.is_informational()
            || matches!(header.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let framed = header.headers.contains_key(header::TRANSFER_ENCODING)
            || header.headers.contains_key(header::CONTENT_LENGTH);
        if !end && !bodiless && !framed {
            // It ends with its connection; the client's goes on.
            header.set_version(Version::HTTP_11);
            header.insert_header(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
        }
        self.take_answer(session, header, ctx).await
    }

    /// The answer has been passed on: the connection may serve another request.
    async fn keep(&self, ctx: &Context, asked: Asked<'_>) {
        let Asked { mut app, server, .. } = asked;
        app.respect_keepalive();
        let Some(stream) = app.reuse().await else { return };
        // Found out by this very answer, perhaps (threats D19).
        let shared = self.site(ctx).is_some_and(|site| !site.binds_connections());
        if let Ok(wire) = stream.into_any().downcast::<Wire>()
            && shared
        {
            self.exchanges.pool.put(server.id(), wire, server.times().idle);
        }
    }
}

/// How long the app may be silent, by the clock that costs least.
enum Patience {
    /// HTTP/1: one request at a time, on a connection that is looked after anyway.
    Swept(Arc<Connection>, Duration),
    Timer(Duration),
    Endless,
}

impl Patience {
    fn new(session: &Session, limit: Option<Duration>) -> Self {
        match (edge::shared_of(session), limit) {
            (_, None) => Self::Endless,
            (Some(connection), Some(limit)) if !connection.is_http2() => Self::Swept(connection, limit),
            (_, Some(limit)) => Self::Timer(limit),
        }
    }

    /// Resolves when the app has been silent for too long.
    async fn ends(&self) {
        match self {
            Self::Swept(connection, _) => {
                std::future::poll_fn(|cx| connection.poll_app_late(cx.waker())).await;
            }
            Self::Timer(limit) => tokio::time::sleep(*limit).await,
            Self::Endless => std::future::pending().await,
        }
    }

    fn begin(&self) {
        if let Self::Swept(connection, limit) = self {
            connection.awaits_app(*limit);
        }
    }

    fn end(&self) {
        if let Self::Swept(connection, _) = self {
            connection.hears_app();
        }
    }
}

/// What the app says next. A client that goes away meanwhile is an error.
async fn next(session: &mut Session, app: &mut HttpSession, patience: &Patience) -> Result<HttpTask> {
    patience.begin();
    let next = tokio::select! {
        biased;
        task = app.read_response_task() => task.map_err(|error| error.into_up()),
        gone = session.downstream_session.read_body_or_idle(true) => match gone {
            Ok(_) => Err(Error::explain(ErrorType::ConnectionClosed, "the client goes on").into_down()),
            Err(error) => Err(error.into_down()),
        },
        () = patience.ends() => {
            Err(Error::explain(ErrorType::ReadTimedout, "the app is silent").into_up())
        }
    };
    patience.end();
    next
}

/// What a future gives when it is asked once.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(tokio::task::unconstrained(future));
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

async fn write(wire: &mut Wire, bytes: &[u8], limit: Option<Duration>) -> Result<()> {
    let whole = async {
        wire.write_all(bytes).await?;
        wire.flush().await
    };
    let written = match limit {
        Some(limit) => match tokio::time::timeout(limit, whole).await {
            Ok(written) => written,
            Err(_) => {
                return Err(Error::explain(ErrorType::WriteTimedout, "sending the request").into_up());
            }
        },
        None => whole.await,
    };
    written.or_err(ErrorType::WriteError, "sending the request").map_err(|error| error.into_up())
}

fn not_connected(error: io::Error) -> Box<Error> {
    let kind = match error.kind() {
        io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
        io::ErrorKind::InvalidData => ErrorType::TLSHandshakeFailure,
        _ => ErrorType::ConnectError,
    };
    Error::because(kind, "connecting to the app", error).into_up()
}
