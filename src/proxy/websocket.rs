//! A permitted websocket upgrade: taken over from pingora, opened and run by ourselves (see [`super::tunnel`]), so
//! that it ends the moment its session does.
//!
//! Browsers let any page open a websocket to anywhere, cookies included, and ask nobody; so one that uses a session
//! must come from a page of the app's own origin, or of one that the configuration names (ASVS 4.4.2).

use http::{HeaderMap, header};
use pingora::proxy::Session;

use super::{
    Proxy,
    context::Context,
    failure::Cause,
    forward, intake,
    site::MOST_TRIES,
    tunnel::{self, Entry, Limits, Opened, Owner, TunnelError},
};
use crate::{
    gate::{Outcome, Permit},
    metrics::UpstreamError,
    session::cookie::Kind,
};

impl Proxy {
    /// Opens the tunnel and runs it to its end.
    pub(super) async fn websocket(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        permit: Permit,
    ) -> pingora::Result<bool> {
        if permit.session().is_some() {
            let header = session.req_header();
            let (allowed, own) = (&permit.app().websocket_origins, intake::authority(header));
            let secure = self.parts.names.name(Kind::Session).starts_with("__Host-");
            if !may_open(&header.headers, own, secure, allowed) {
                return self.refuse(session, ctx, Cause::ForeignOrigin).await;
            }
        }
        let owner = permit.session().map(|live| Owner::from(&**live));
        let limits = self.tunnel_limits(ctx, &permit);
        let entry = self.parts.tunnels.enter(&permit.app().id, owner);
        // From here on a revocation ends the tunnel; one that came just before is seen by asking once more.
        match self.ask_again(session, ctx) {
            Ok(Outcome::Forward(_)) => {}
            Ok(other) => return self.follow_elsewhere(session, ctx, other, None).await,
            Err(cause) => return self.refuse(session, ctx, cause).await,
        }
        match self.open_tunnel(session, ctx, permit).await {
            Ok(opened) => self.run_tunnel(session, ctx, opened, entry, limits).await,
            Err(cause) => self.refuse(session, ctx, cause).await,
        }
    }

    /// Decides once more.
    pub(super) fn ask_again(&self, session: &Session, ctx: &Context) -> Result<Outcome, Cause> {
        let (site, view) = self.view(session, ctx)?;
        Ok(self.parts.gate.assess_ordinary(&site.app, &view))
    }

    async fn open_tunnel(
        &self,
        session: &Session,
        ctx: &mut Context,
        permit: Permit,
    ) -> Result<Opened, Cause> {
        self.prepare(ctx, permit).await?;
        let site = self.site(ctx).ok_or(Cause::Internal)?;
        let mut tries = 0;
        let (chosen, transport) = loop {
            let chosen = site.choose()?;
            tries += 1;
            match chosen.dial().await {
                Ok(transport) => break (chosen, transport),
                Err(_) if site.failed(&chosen.peer) && tries < MOST_TRIES => {}
                Err(error) => {
                    return Err(match error.kind() {
                        std::io::ErrorKind::TimedOut => Cause::UpstreamTooSlow(UpstreamError::ConnectTimeout),
                        _ => Cause::Upstream(UpstreamError::Connect),
                    });
                }
            }
        };
        ctx.upstream_host = chosen.host.clone();
        let original = session.req_header();
        let mut request = forward::copy_for_own_hop(original);
        self.dress_request(original, &mut request, ctx)?;
        let opened = tunnel::open(&request, transport, site.app.transport.read_timeout).await;
        let mut opened = opened.map_err(|error| cause_of(&error))?;
        self.dress_answer(opened.head_mut(), ctx).await?;
        Ok(opened)
    }

    async fn run_tunnel(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        opened: Opened,
        entry: Entry,
        limits: Limits,
    ) -> pingora::Result<bool> {
        let tunnels = opened.is_tunnel().then(|| &self.metrics(ctx).tunnels);
        if let Some(tunnels) = tunnels {
            tunnels.inc();
        }
        let end = opened.run(session, entry, limits).await;
        if let Some(tunnels) = tunnels {
            tunnels.dec();
        }
        let request_id = ctx.arrival.as_ref().map_or("-", |arrival| arrival.id.as_str());
        match end {
            Ok(end) => {
                tracing::debug!(request_id, ?end, "a websocket ended");
                Ok(true)
            }
            Err(error) => {
                tracing::debug!(request_id, %error, "a websocket broke off");
                let begun = session.response_written().is_some();
                let cause = if begun { Cause::ClientGone } else { cause_of(&error) };
                self.refuse(session, ctx, cause).await
            }
        }
    }

    /// A tunnel outlives neither its session nor, under `continuous`, the proof that this rests on.
    fn tunnel_limits(&self, ctx: &Context, permit: &Permit) -> Limits {
        let app = permit.app();
        let now = self.parts.clock.now();
        let longest = permit.session().zip(ctx.arrival.as_ref()).map(|(live, arrival)| {
            self.parts.gate.stands_until(app, live.session(), arrival.client).since(now)
        });
        Limits { idle: app.transport.tunnel_idle_timeout, longest, read: app.transport.read_timeout }
    }
}

/// Whether the page that wants it may. Without `Origin` it is no browser (RFC 6455, section 4.1), and no page behind
/// it that somebody else made. `authority` is the host as the browser knows it; `secure`: it speaks https with us.
fn may_open(headers: &HeaderMap, authority: &str, secure: bool, allowed: &[String]) -> bool {
    let mut lines = headers.get_all(header::ORIGIN).iter();
    let origin = match (lines.next(), lines.next()) {
        (None, _) => return true,
        (Some(origin), None) => origin.to_str().unwrap_or_default().to_ascii_lowercase(),
        (Some(_), Some(_)) => return false,
    };
    let own = match origin.split_once("://") {
        Some(("https", host)) => host == authority.strip_suffix(":443").unwrap_or(authority),
        Some(("http", host)) if !secure => host == authority.strip_suffix(":80").unwrap_or(authority),
        _ => false,
    };
    own || allowed.contains(&origin)
}

fn cause_of(error: &TunnelError) -> Cause {
    match error {
        TunnelError::Request => Cause::Malformed("the target is no URI"),
        TunnelError::Upstream(_) => Cause::Upstream(UpstreamError::Read),
        TunnelError::UpstreamTimeout => Cause::UpstreamTooSlow(UpstreamError::ReadTimeout),
        TunnelError::OtherProtocol => Cause::Upstream(UpstreamError::Protocol),
        TunnelError::Downstream(_) => Cause::ClientGone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(origins: &[&str], authority: &str, secure: bool) -> bool {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(header::ORIGIN, origin.parse().unwrap());
        }
        may_open(&headers, authority, secure, &["https://portal.example".to_owned()])
    }

    /// [ASVS 4.4.2]
    #[test]
    fn only_pages_of_the_own_origin_and_named_ones_open_websockets() {
        assert!(asked(&[], "ecd.example", true), "no browser");
        assert!(asked(&["https://ecd.example"], "ecd.example", true));
        assert!(asked(&["https://ECD.example"], "ecd.example:443", true));
        assert!(asked(&["https://ecd.example:8443"], "ecd.example:8443", true));
        assert!(asked(&["http://localhost:8080"], "localhost:8080", false));
        assert!(asked(&["https://portal.example"], "ecd.example", true), "named");
        for origin in [
            "null",
            "",
            "http://ecd.example",
            "https://evil.example",
            "https://ecd.example.evil.example",
            "https://ecd.example:444",
            "https://sub.ecd.example",
            "https://portal.example.evil.example",
            "http://portal.example",
            "ecd.example",
        ] {
            assert!(!asked(&[origin], "ecd.example", true), "{origin:?}");
        }
        assert!(!asked(&["https://ecd.example", "https://ecd.example"], "ecd.example", true), "twice");
    }
}
