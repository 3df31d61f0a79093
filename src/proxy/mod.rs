//! The way of a request through pingora: one short method for each phase. The only user of pingora beside `app`.
//!
//! `intake` makes one canonical request or refuses it; `gate` decides; what is forwarded goes up dressed by
//! `forward` and comes down dressed by `answer`; a watched login makes an own round trip (`login`); our own pages
//! are an axum router called in process (`own`); everything else is a refusal from one table (`failure`).
//!
//! Nothing reaches the app without a [`Permit`], which only the gate makes: [`ProxyHttp::upstream_peer`] gives no
//! peer without one (I1). Bodies of ordinary requests stream both ways and are never held.
//!
//! A [`Proxy`] is what follows from one configuration, whole, for one worker. pingora holds the [`Current`] one; a
//! request takes it once, at its start, and keeps it to its end, so decision, headers and forwarding of one request
//! never come from two configurations.

mod answer;
mod arrival;
mod body;
mod context;
pub mod edge;
mod exchange;
mod failure;
mod forward;
pub mod headers;
mod intake;
mod login;
mod logout;
mod own;
mod phases;
mod reply;
mod roundtrip;
mod site;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tunnel;
pub mod upstreams;
mod websocket;
mod whoami;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header;
use ipnet::IpNet;
use pingora::{
    http::{RequestHeader, ResponseHeader},
    proxy::Session,
    upstreams::peer::HttpPeer,
};

use self::{
    arrival::{Arrival, Connection, Ids},
    context::Context,
    exchange::Exchanges,
    failure::Cause,
    roundtrip::RoundTrips,
    site::{Site, Sites},
    tunnel::Registry,
    upstreams::Upstreams,
};
use crate::{
    audit::Auditor,
    base::{
        clock::{SharedClock, Stopwatch},
        random::{NoRandomness, Random},
    },
    config::{App, Limits},
    gate::{Gate, Outcome, Permit},
    metrics::{Answered, AppMetrics, Metrics, Reason},
    model::RequestView,
    session::{
        admission::Admissions,
        cookie::Names,
        upstream_cookies::{Scope, UpstreamCookies},
    },
};

/// What the proxy works with.
pub struct Parts {
    /// The protected sites.
    pub apps: Vec<Arc<App>>,
    /// Deadlines and sizes.
    pub limits: Limits,
    /// Peers whose `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Request-Id` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Where our own pages live (`/.sluis`).
    pub prefix: Arc<str>,
    /// Names of our cookies.
    pub names: Names,
    /// Decides.
    pub gate: Arc<Gate>,
    /// Begins and ends sessions.
    pub admissions: Arc<Admissions>,
    /// Seals and opens the app's cookies.
    pub sealer: Arc<UpstreamCookies>,
    /// Where the apps run.
    pub upstreams: Arc<Upstreams>,
    /// Open websockets.
    pub tunnels: Arc<Registry>,
    /// Our own pages.
    pub pages: axum::Router,
    /// The time.
    pub clock: SharedClock,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Events.
    pub auditor: Arc<Auditor>,
}

/// The proxy of one configuration and one worker.
pub struct Proxy {
    parts: Parts,
    sites: Sites,
    // These outlive a change of the configuration: a number is never given twice, also not after a reload.
    ids: Arc<Ids>,
    trips: Arc<RoundTrips>,
    exchanges: Arc<Exchanges>,
}

/// The proxy of the present configuration, for pingora's `HttpProxy`. Clones are the same.
///
/// Each worker has one of its own, so that taking it for a request touches no counter that another core writes.
#[derive(Clone)]
pub struct Current(Arc<ArcSwap<Proxy>>);

impl Current {
    /// Begins with this one.
    pub fn new(proxy: Proxy) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(proxy)))
    }

    /// From now on requests go by these parts; those that have begun go on by the earlier ones.
    pub fn replace(&self, parts: Parts) {
        let next = self.0.load().next(parts);
        self.0.store(Arc::new(next));
    }
}

impl Proxy {
    /// Puts it together.
    ///
    /// # Errors
    /// When the machine gives no random bytes.
    pub fn new(parts: Parts, random: &dyn Random) -> Result<Self, NoRandomness> {
        let sites = Sites::new(parts.apps.clone(), &parts.metrics, &parts.upstreams);
        Ok(Self {
            sites,
            ids: Arc::new(Ids::new(random)?),
            trips: Arc::default(),
            exchanges: Arc::default(),
            parts,
        })
    }

    /// The one that follows it, by other parts.
    fn next(&self, parts: Parts) -> Self {
        let sites = Sites::new(parts.apps.clone(), &parts.metrics, &parts.upstreams);
        sites.remember(&self.sites);
        let (ids, trips, exchanges) =
            (Arc::clone(&self.ids), Arc::clone(&self.trips), Arc::clone(&self.exchanges));
        Self { sites, ids, trips, exchanges, parts }
    }

    /// From bytes to an outcome: makes the request canonical and asks the gate.
    fn decide(&self, session: &mut Session, ctx: &mut Context) -> Result<Outcome, Cause> {
        let connection = connection(session);
        let trusted = &self.parts.trusted_proxies;
        ctx.arrival = Some(Arrival::read(session.req_header(), connection, trusted, &self.ids));
        let raw = session.as_http1().map(|h1| h1.get_headers_raw_bytes());
        let accepted =
            intake::accept(session.req_header_mut(), raw.as_deref(), &self.sites, &self.parts.limits)?;
        ctx.accepted = Some(accepted);
        let began = Stopwatch::start();
        let (site, view) = self.view(session, ctx)?;
        let outcome = self.parts.gate.assess(&site.app, &view);
        self.parts.metrics.decision_seconds.observe(began.elapsed().as_secs_f64());
        let mut credentials = session.req_header().headers.get_all(header::AUTHORIZATION).iter();
        if credentials.any(|line| answer::binds_connection(line.as_bytes())) {
            site.note_bound_connections();
        }
        Ok(outcome)
    }

    /// Does what was decided. `Ok(false)`: pingora goes on to the app.
    async fn follow(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        outcome: Outcome,
    ) -> pingora::Result<bool> {
        match outcome {
            Outcome::Forward(permit) if tunnel::is_upgrade(session.req_header()) => {
                self.websocket(session, ctx, permit).await
            }
            Outcome::Forward(permit) => match self.prepare(ctx, permit).await {
                Ok(()) => Ok(false),
                Err(cause) => self.refuse(session, ctx, cause).await,
            },
            Outcome::Login(login) => self.login(session, ctx, login).await,
            elsewhere => self.follow_elsewhere(session, ctx, elsewhere, None).await,
        }
    }

    /// Does what was decided for a request that does not go to the app. `body` if it has been read already.
    async fn follow_elsewhere(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        outcome: Outcome,
        body: Option<Bytes>,
    ) -> pingora::Result<bool> {
        match outcome {
            Outcome::Own => {
                self.metrics(ctx).decisions.count(Reason::Own);
                ctx.answered = Answered::Own;
                self.own(session, ctx, body).await
            }
            Outcome::Challenge { reason, url, cookies } => {
                self.metrics(ctx).decisions.count(reason.into());
                ctx.answered = Answered::Challenge;
                ctx.cookies.extend(cookies);
                self.send_to(session, ctx, &url).await
            }
            Outcome::Blocked => self.refuse(session, ctx, Cause::Blocked).await,
            Outcome::Elsewhere => self.refuse(session, ctx, Cause::Elsewhere).await,
            Outcome::Blind => self.refuse(session, ctx, Cause::Blind).await,
            // Nothing else is left; what cannot be dealt with is refused (I9).
            Outcome::Unavailable | Outcome::Forward(_) | Outcome::Login(_) => {
                self.refuse(session, ctx, Cause::Store).await
            }
        }
    }

    /// A permitted request before it goes to the app: what is sealed to what, and the end of a session that logs out.
    async fn prepare(&self, ctx: &mut Context, permit: Permit) -> Result<(), Cause> {
        let Some(live) = permit.session().filter(|_| permit.is_logout()).cloned() else {
            return self.let_pass(ctx, permit);
        };
        let (Some(arrival), Some(site)) = (ctx.arrival.as_ref(), self.site(ctx)) else {
            return Err(Cause::Internal);
        };
        site.metrics.decisions.count(Reason::Logout);
        ctx.cookies = self.end(site, arrival, &live).await?;
        // What the app sets with its answer ends with the session. An app that does not log out when it is asked to (it
        // wants a token, or another method) sets the cookie of its running session again: outside of ours it would
        // lend itself to somebody else's login (threats D9).
        ctx.scope = Some(Scope::Session(live.session().id));
        ctx.answered = Answered::Forwarded;
        ctx.permit = Some(permit);
        Ok(())
    }

    /// The same for a request that does not log out.
    fn let_pass(&self, ctx: &mut Context, permit: Permit) -> Result<(), Cause> {
        let site = self.site(ctx).ok_or(Cause::Internal)?;
        let reason = if permit.session().is_some() { Reason::Session } else { Reason::Anonymous };
        site.metrics.decisions.count(reason);
        ctx.scope = permit.scope();
        ctx.answered = Answered::Forwarded;
        ctx.permit = Some(permit);
        Ok(())
    }

    /// An upstream for a permitted request.
    fn choose(&self, ctx: &mut Context) -> Result<Box<HttpPeer>, Cause> {
        let (Some(_permit), Some(site)) = (ctx.permit.as_ref(), self.site(ctx)) else {
            return Err(Cause::Internal);
        };
        let mut chosen = site.choose()?;
        let bound = site.binds_connections() || ctx.bound_to.is_some();
        ctx.upstream_host = chosen.host.clone();
        if bound {
            // Beside what tells roots apart, not in place of it.
            chosen.peer.group_key ^= *ctx.bound_to.get_or_insert_with(|| self.ids.unique());
        }
        Ok(chosen.peer)
    }

    fn dress_request(
        &self,
        original: &RequestHeader,
        request: &mut RequestHeader,
        ctx: &Context,
    ) -> Result<(), Cause> {
        self.dressed(ctx, |dress| forward::dress(request, original, dress, &self.parts.sealer))
    }

    /// Hands over how the request of `ctx` is dressed.
    fn dressed<T>(
        &self,
        ctx: &Context,
        then: impl FnOnce(&forward::Dress<'_>) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        let (Some(arrival), Some(permit), Some(site)) =
            (ctx.arrival.as_ref(), ctx.permit.as_ref(), self.site(ctx))
        else {
            return Err(Cause::Internal);
        };
        let scope = permit.scope();
        let session = permit.session().map(AsRef::as_ref);
        let host = ctx.upstream_host.as_ref();
        then(&forward::Dress { site, arrival, session, scopes: scope.as_slice(), host })
    }

    /// The header of the app's answer has come.
    async fn take_answer(
        &self,
        session: &Session,
        header: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        self.check_permit(ctx).map_err(Cause::into_error)?;
        if header.status.is_informational() && header.status != http::StatusCode::SWITCHING_PROTOCOLS {
            answer::dress_hint(header);
            return Ok(());
        }
        // An app may answer before it has read everything; how fast the rest comes does not matter any more.
        ctx.end_body(session);
        let time = ctx.sent.map(|sent| sent.elapsed());
        ctx.upstream_time = time;
        if let Some(time) = time {
            self.metrics(ctx).upstream_seconds.observe(time.as_secs_f64());
        }
        self.dress_answer(header, ctx).await.map_err(Cause::into_error)
    }

    /// Before each piece of the app's answer goes out: a session can end while the app answers (I3).
    fn check_permit(&self, ctx: &Context) -> Result<(), Cause> {
        let permit = ctx.permit.as_ref().ok_or(Cause::Internal)?;
        if self.parts.gate.still_permits(permit) { Ok(()) } else { Err(Cause::SessionEnded) }
    }

    async fn dress_answer(&self, header: &mut ResponseHeader, ctx: &Context) -> Result<(), Cause> {
        let (Some(permit), Some(site)) = (ctx.permit.as_ref(), self.site(ctx)) else {
            return Err(Cause::Internal);
        };
        let mut cookies = ctx.cookies.clone();
        if let Some(live) =
            permit.session().filter(|_| !permit.is_logout() && !answer::is_public(&header.headers))
        {
            cookies.extend(self.parts.admissions.renew(live, self.parts.clock.now()));
        }
        let dress = answer::Dress {
            site,
            scope: ctx.scope,
            protected: permit.session().is_some(),
            withholds_cookies: permit.withholds_cookies(),
            cookies,
            upstream_host: ctx.upstream_host.clone(),
        };
        answer::dress(header, dress, &self.parts.sealer, &self.parts.admissions).await
    }

    /// Refuses a request: the one place where a cause becomes an answer.
    async fn refuse(&self, session: &mut Session, ctx: &mut Context, cause: Cause) -> pingora::Result<bool> {
        self.note(ctx, cause);
        if let Some(reason) = cause.reason() {
            self.metrics(ctx).decisions.count(reason);
        }
        let closes = matches!(
            cause,
            Cause::Malformed(_)
                | Cause::HeaderTooLarge
                | Cause::BodyTooLarge
                | Cause::LoginTooLarge
                | Cause::ClientTooSlow
        );
        if closes {
            session.set_keepalive(None);
        }
        self.answer(session, ctx, cause).await?;
        Ok(true)
    }

    async fn answer(&self, session: &mut Session, ctx: &Context, cause: Cause) -> pingora::Result<()> {
        let Some(arrival) = ctx.arrival.as_ref() else {
            return Err(cause.into_error());
        };
        let language = session.get_header(header::ACCEPT_LANGUAGE).and_then(|l| l.to_str().ok());
        let prefix = &self.parts.prefix;
        match reply::refusal_for(cause, arrival.wants, &arrival.id, language, prefix) {
            Some(response) => reply::send(session, reply::with_cookies(response, &ctx.cookies)).await,
            None => Err(cause.into_error()),
        }
    }

    /// Counts a cause, once for each request.
    fn note(&self, ctx: &mut Context, cause: Cause) {
        let server = cause.status().is_some_and(|status| status.is_server_error());
        ctx.answered = if server { Answered::Unavailable } else { Answered::Refused };
        if let Some(kind) = cause.upstream() {
            self.metrics(ctx).upstream_errors.count(kind);
        }
        ctx.cause = Some(cause);
    }

    /// To a page of ours: 303, or 401 for whoever cannot follow.
    async fn send_to(&self, session: &mut Session, ctx: &mut Context, url: &str) -> pingora::Result<bool> {
        let Some(arrival) = ctx.arrival.as_ref() else {
            return Err(Cause::Internal.into_error());
        };
        let response = reply::challenge(arrival.wants, &arrival.id, url);
        reply::send(session, reply::with_cookies(response, &ctx.cookies)).await?;
        Ok(true)
    }

    /// The view of an accepted request, and its site.
    fn view<'a>(
        &'a self,
        session: &'a Session,
        ctx: &'a Context,
    ) -> Result<(&'a Site, RequestView<'a>), Cause> {
        let (Some(arrival), Some(accepted)) = (ctx.arrival.as_ref(), ctx.accepted) else {
            return Err(Cause::Internal);
        };
        let site = self.sites.get(accepted.site).ok_or(Cause::Internal)?;
        let view = intake::view(session.req_header(), arrival, accepted, &self.parts.names)?;
        Ok((site, view))
    }

    fn site(&self, ctx: &Context) -> Option<&Site> {
        self.sites.get(ctx.accepted?.site)
    }

    fn metrics(&self, ctx: &Context) -> &AppMetrics {
        self.site(ctx).map_or_else(|| &**self.parts.metrics.no_app(), |site| &*site.metrics)
    }
}

/// What the connection says of its other end. Behind the PROXY protocol that is whom the header names: the balancer
/// in between reads no HTTP, so `X-Forwarded-For` was written by the named one, and is believed only if *that* one is
/// a trusted proxy.
fn connection(session: &Session) -> Connection {
    if let Some(connection) = edge::of(session) {
        return Connection { peer: connection.client().ip().to_canonical(), tls: connection.is_tls() };
    }
    let peer = session.client_addr().and_then(|address| address.as_inet()).map(|inet| inet.ip());
    Connection {
        // A Unix socket has no address: nobody to be trusted.
        peer: peer.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into()).to_canonical(),
        tls: session.digest().is_some_and(|digest| digest.ssl_digest.is_some()),
    }
}
