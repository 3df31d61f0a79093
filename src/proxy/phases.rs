//! pingora's phases, in the order in which they run.

use std::{any::Any, pin::Pin, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use pingora::{
    Error, Result,
    http::{RequestHeader, ResponseHeader},
    modules::http::HttpModules,
    protocols::Digest,
    proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session},
    upstreams::peer::HttpPeer,
};
use tracing::Level;

use super::{
    Current, Proxy,
    context::{Context, Taken},
    exchange,
    failure::Cause,
    site::MOST_TRIES,
    tunnel,
};
use crate::{
    base::clock::Stopwatch,
    gate::{Outcome, Permit},
};

/// Access lines can be switched off or on by themselves: `info,sluis::access=off`.
const ACCESS: &str = "sluis::access";

#[async_trait]
impl ProxyHttp for Current {
    type CTX = Taken;

    /// Called once for each request, when its header has been read.
    fn new_ctx(&self) -> Taken {
        Taken { proxy: self.0.load_full(), ctx: Context::new() }
    }

    /// None: answers go through as the app made them, so the compression module that pingora adds by default would
    /// only cost time.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    /// HTTP/1 only: the next request on the connection.
    fn on_connection_reuse(
        &self,
        _session: &mut Session,
        Taken { ctx, .. }: &mut Taken,
        previous: Box<dyn Any + Send + Sync>,
    ) {
        ctx.bound_to = previous.downcast_ref::<u64>().copied();
    }

    fn persist_connection_context(
        &self,
        _session: &Session,
        Taken { ctx, .. }: &Taken,
    ) -> Option<Box<dyn Any + Send + Sync>> {
        ctx.bound_to.map(|number| Box::new(number) as Box<dyn Any + Send + Sync>)
    }

    async fn request_filter(&self, session: &mut Session, Taken { proxy, ctx }: &mut Taken) -> Result<bool> {
        limit_writes(session, proxy.parts.limits.client_idle_timeout);
        let answered = match proxy.decide(session, ctx) {
            Ok(Outcome::Forward(permit)) if is_ordinary(session, &permit) => {
                match proxy.let_pass(ctx, permit) {
                    Ok(()) if proxy.site(ctx).is_some_and(|site| exchange::is_usual(session, ctx, site)) => {
                        proxy.exchange(session, ctx).await?;
                        true
                    }
                    Ok(()) => false,
                    Err(cause) => proxy.detour(session, ctx, Err(cause)).await?,
                }
            }
            decided => proxy.detour(session, ctx, decided).await?,
        };
        if !answered && !session.is_body_empty() {
            ctx.begin_body(session);
        }
        Ok(answered)
    }

    /// Runs again on a retry.
    async fn upstream_peer(
        &self,
        _session: &mut Session,
        Taken { proxy, ctx }: &mut Taken,
    ) -> Result<Box<HttpPeer>> {
        proxy.choose(ctx).map_err(Cause::into_error)
    }

    /// Runs again on a retry. `request` is a copy of the accepted request without what concerns one hop.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        Taken { proxy, ctx }: &mut Taken,
    ) -> Result<()> {
        ctx.sent = Some(Stopwatch::start());
        proxy.dress_request(session.req_header(), request, ctx).map_err(Cause::into_error)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        Taken { proxy, ctx }: &mut Taken,
    ) -> Result<()> {
        if end_of_stream {
            ctx.end_body(session);
        }
        match body {
            Some(piece) => ctx.count_body(piece.len(), &proxy.parts.limits).map_err(Cause::into_error),
            None => Ok(()),
        }
    }

    /// Nothing has been sent yet: another server may be tried, whatever the method.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        peer: &HttpPeer,
        Taken { proxy, ctx }: &mut Taken,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let another = proxy.site(ctx).is_some_and(|site| site.failed(peer));
        ctx.tries += 1;
        error.set_retry(another && ctx.tries < MOST_TRIES);
        error
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        peer: &HttpPeer,
        _fd: std::os::fd::RawFd,
        _digest: Option<&Digest>,
        Taken { proxy, ctx }: &mut Taken,
    ) -> Result<()> {
        if let Some(site) = proxy.site(ctx).filter(|_| !reused) {
            site.succeeded(peer);
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        header: &mut ResponseHeader,
        Taken { proxy, ctx }: &mut Taken,
    ) -> Result<()> {
        proxy.take_answer(session, header, ctx).await
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        _end_of_stream: bool,
        Taken { proxy, ctx }: &mut Taken,
    ) -> Result<Option<Duration>> {
        proxy.check_permit(ctx).map_err(Cause::into_error)?;
        Ok(None)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        Taken { proxy, ctx }: &mut Taken,
    ) -> FailToProxy {
        let cause = ctx.cause.unwrap_or_else(|| Cause::of(error));
        proxy.note(ctx, cause);
        log_failure(cause, error, ctx);
        session.set_keepalive(None);
        let begun = session.response_written().is_some_and(|r| {
            !r.status.is_informational() || r.status == http::StatusCode::SWITCHING_PROTOCOLS
        });
        // Whoever does not take the refusal is gone.
        if !begun && cause == Cause::SessionEnded {
            let _ = proxy.refuse_again(session, ctx).await;
        } else if !begun && cause.status().is_some() {
            let _ = proxy.answer(session, ctx, cause).await;
        }
        FailToProxy {
            error_code: cause.status().map_or(0, |status| status.as_u16()),
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, Taken { proxy, ctx }: &mut Taken) {
        ctx.end_body(session);
        proxy.metrics(ctx).requests.count(ctx.answered);
        if tracing::enabled!(target: ACCESS, Level::INFO) {
            proxy.log_access(session, ctx);
        }
    }

    /// pingora's own lines would have the query in them, which is not ours to log; [`log_failure`] logs instead.
    fn suppress_error_log(&self, _session: &Session, _taken: &Taken, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _taken: &Taken,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    fn request_summary(&self, session: &Session, Taken { ctx, .. }: &Taken) -> String {
        let id = ctx.arrival.as_ref().map_or("-", |arrival| arrival.id.as_str());
        format!("{} request_id={id}", session.req_header().method)
    }
}

/// On HTTP/1 it is the connection that is judged by whether the client reads (threats D20). On HTTP/2 that goes by
/// stream, and a client may keep one closed and the connection going.
fn limit_writes(session: &mut Session, limit: Duration) {
    if session.as_http2().is_some() && !limit.is_zero() {
        session.set_write_timeout(Some(limit));
    }
}

/// An ordinary request goes straight on to the app.
fn is_ordinary(session: &Session, permit: &Permit) -> bool {
    !permit.is_logout() && !tunnel::is_upgrade(session.req_header())
}

/// What is still to come of a request that takes a way of its own.
pub(super) type Detour<'a> = Pin<Box<dyn Future<Output = Result<bool>> + Send + 'a>>;

impl Proxy {
    /// Everything but the ordinary: logins, own pages, tunnels, refusals. Its future is large, and made only when it
    /// is needed: as a part of [`ProxyHttp::request_filter`] it would be allocated and moved for each request.
    #[inline(never)]
    fn detour<'a>(
        &'a self,
        session: &'a mut Session,
        ctx: &'a mut Context,
        decided: std::result::Result<Outcome, Cause>,
    ) -> Detour<'a> {
        match decided {
            Ok(outcome) => Box::pin(self.follow(session, ctx, outcome)),
            Err(cause) => Box::pin(self.refuse(session, ctx, cause)),
        }
    }

    /// Answers a request that was permitted and is so no more, as if it came now; but it is not sent to the app again.
    pub(super) fn refuse_again<'a>(&'a self, session: &'a mut Session, ctx: &'a mut Context) -> Detour<'a> {
        match self.ask_again(session, ctx) {
            Ok(Outcome::Forward(_)) => Box::pin(self.refuse(session, ctx, Cause::SessionEnded)),
            Ok(outcome) => Box::pin(self.follow_elsewhere(session, ctx, outcome, None)),
            Err(cause) => Box::pin(self.refuse(session, ctx, cause)),
        }
    }

    fn log_access(&self, session: &Session, ctx: &Context) {
        let Some(arrival) = ctx.arrival.as_ref() else { return };
        let header = session.req_header();
        let user =
            ctx.permit.as_ref().and_then(|permit| permit.session()).map(|l| l.session().user.name.as_str());
        #[expect(clippy::cast_possible_truncation, reason = "a request takes less than 500 million years")]
        let millis = |time: Duration| time.as_micros() as u64 as f64 / 1000.0;
        tracing::info!(
            target: ACCESS,
            method = %header.method,
            path = header.uri.path(),
            status = session.response_written().map_or(0, |response| response.status.as_u16()),
            duration_ms = millis(ctx.started.elapsed()),
            upstream_ms = ctx.upstream_time.map(millis),
            app = self.site(ctx).map(|site| site.app.id.as_str()),
            user,
            client = %arrival.client,
            request_id = %arrival.id,
            outcome = crate::metrics::Label::name(ctx.answered),
            cause = ctx.cause.map(Cause::name),
            detail = ctx.cause.and_then(Cause::detail),
        );
    }
}

/// The internal half of a failure. Only kinds, and what the system says about a connection: pingora's other texts
/// can have header bytes in them, and so cookies.
fn log_failure(cause: Cause, error: &Error, ctx: &Context) {
    let request_id = ctx.arrival.as_ref().map_or("-", |arrival| arrival.id.as_str());
    let kind = error.etype().as_str();
    let source = error.esource().as_str();
    match cause {
        Cause::ClientGone | Cause::ClientTooSlow | Cause::SessionEnded | Cause::Malformed(_) => {
            tracing::debug!(request_id, cause = cause.name(), kind, source, "a request ended early");
        }
        _ => {
            let reason = connection_reason(error);
            tracing::warn!(request_id, cause = cause.name(), kind, source, reason, "a request failed");
        }
    }
}

fn connection_reason(error: &Error) -> Option<String> {
    let io = error.root_cause().downcast_ref::<std::io::Error>()?;
    Some(io.kind().to_string())
}
