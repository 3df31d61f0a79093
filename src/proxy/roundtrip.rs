//! One request to the app that does not go through pingora's proxy: its answer stays in our hands until it has been
//! judged. For watched logins and `whoami`; everything else streams.
//!
//! Each goes on a connection of its own, over HTTP/1.1: a login must not fail because a kept connection had just
//! been closed, and must not be sent twice. Informational answers (1xx) are passed over.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method};
use pingora::{
    connectors::http::Connector,
    http::{RequestHeader, ResponseHeader},
    protocols::http::client::HttpSession,
    upstreams::peer::HttpPeer,
};

use super::{
    failure::Cause,
    site::{MOST_TRIES, Site},
};
use crate::metrics::UpstreamError;

/// How long the whole header of an answer may take when the app has no own limit.
const PATIENCE: Duration = Duration::from_secs(120);

/// Makes own round trips.
pub struct RoundTrips {
    connector: Connector,
}

/// An answer whose header has been read and whose body has not.
pub struct Answer {
    /// Its header, as the app sent it.
    pub header: ResponseHeader,
    session: HttpSession,
    patience: Duration,
}

impl RoundTrips {
    /// Without any connection yet.
    pub fn new() -> Self {
        Self { connector: Connector::new(None) }
    }

    /// Sends a request with a whole body, and reads the header of the answer. `make` chooses a server and makes the
    /// request for it; it is asked again while a server cannot be connected to and there are others. Once something
    /// was sent, nothing is sent again.
    ///
    /// # Errors
    /// How the upstream failed.
    pub async fn send(
        &self,
        site: &Site,
        body: Bytes,
        mut make: impl FnMut() -> Result<(HttpPeer, RequestHeader), Cause>,
    ) -> Result<Answer, Cause> {
        let upstream = |error: Box<pingora::Error>| Cause::of(&error.into_up());
        let mut tries = 0;
        let (peer, mut request, mut session) = loop {
            let (mut peer, request) = make()?;
            peer.options.set_http_version(1, 1);
            tries += 1;
            match self.connector.get_http_session(&peer).await {
                Ok((session, _)) => break (peer, request, session),
                Err(error) => {
                    let another = site.failed(&peer);
                    if !another || tries >= MOST_TRIES {
                        return Err(upstream(error));
                    }
                }
            }
        };
        let (read, write) = (peer.options.read_timeout, peer.options.write_timeout);
        frame(&mut request, &body).map_err(|_| Cause::Internal)?;
        site.succeeded(&peer);
        session.set_read_timeout(read);
        session.set_write_timeout(write);
        session.write_request_header(Box::new(request)).await.map_err(upstream)?;
        if !body.is_empty() {
            session.write_request_body(body, true).await.map_err(upstream)?;
        }
        session.finish_request_body().await.map_err(upstream)?;
        let header = tokio::time::timeout(read.unwrap_or(PATIENCE), final_header(&mut session))
            .await
            .map_err(|_| Cause::UpstreamTooSlow(UpstreamError::ReadTimeout))?
            .map_err(upstream)?;
        Ok(Answer { header, session, patience: read.unwrap_or(PATIENCE) })
    }
}

impl Default for RoundTrips {
    fn default() -> Self {
        Self::new()
    }
}

/// The length instead of whatever framing the client had chosen.
fn frame(request: &mut RequestHeader, body: &Bytes) -> pingora::Result<()> {
    request.remove_header(&http::header::EXPECT);
    let bodiless = body.is_empty() && matches!(request.method, Method::GET | Method::HEAD);
    if bodiless {
        request.remove_header(&http::header::CONTENT_LENGTH);
        return Ok(());
    }
    request.insert_header("Content-Length", HeaderValue::from(body.len()))
}

async fn final_header(session: &mut HttpSession) -> pingora::Result<ResponseHeader> {
    loop {
        session.read_response_header().await?;
        match session.response_header() {
            Some(header) if header.status.is_informational() => {}
            Some(header) => return Ok(header.clone()),
            None => return pingora::Error::err(pingora::ErrorType::InvalidHTTPHeader),
        }
    }
}

impl Answer {
    /// The next piece of the body; `None` after the last.
    ///
    /// # Errors
    /// How the upstream failed.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Cause> {
        if self.session.response_done() {
            return Ok(None);
        }
        self.session.read_response_body().await.map_err(|error| Cause::of(&error.into_up()))
    }

    /// Reads the body up to `at_most` bytes. The second is whether that was all of it. It must be there in the time that
    /// one read may take: an app that drips must not hold a login for ever.
    ///
    /// # Errors
    /// How the upstream failed.
    pub async fn read(&mut self, at_most: usize) -> Result<(Bytes, bool), Cause> {
        tokio::time::timeout(self.patience, self.read_up_to(at_most))
            .await
            .map_err(|_| Cause::UpstreamTooSlow(UpstreamError::ReadTimeout))?
    }

    async fn read_up_to(&mut self, at_most: usize) -> Result<(Bytes, bool), Cause> {
        let mut body = BytesMut::new();
        while let Some(piece) = self.next().await? {
            body.extend_from_slice(&piece);
            if body.len() > at_most {
                return Ok((body.freeze(), false));
            }
        }
        Ok((body.freeze(), true))
    }
}
