//! Upgraded connections (websockets, RFC 9110 section 7.8): opened by us and not by pingora, which loses some of
//! them when an upstream answers quickly, and which has no handle to end a live one.
//!
//! A tunnel is opened only for a request that the gate has permitted; this module decides nothing about that. It
//! promises that no byte is lost between the `101` and the first frame, in either direction, and that a tunnel ends
//! when one side ends, stays silent too long, is revoked ([`Registry`]) or lives longer than allowed.
//!
//! In the phases, inside `request_filter`, when [`is_upgrade`] says so:
//!
//! ```text
//! let entry = registry.enter(&app, owner);            // then look at the session for the last time
//! let mut opened = tunnel::open(&request, transport, timeout).await?;
//! … change opened.head_mut(): seal cookies, add ours …
//! let end = opened.run(session, entry, limits).await?; // then answer Ok(true)
//! ```

mod pump;
mod registry;
#[cfg(test)]
mod tests;

use std::{io, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use pingora::{
    http::{RequestHeader, ResponseHeader},
    proxy::Session,
};
use tokio::time::timeout;

pub use self::registry::{Entry, Owner, Registry};
use super::edge::{ClientStream, Transport};

/// How long a tunnel may live.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Without a byte in either direction; zero = for ever.
    pub idle: Duration,
    /// In all: when the session ends anyway. `None` = for ever.
    pub longest: Option<Duration>,
    /// Between two pieces of an answer that is no tunnel; zero = for ever.
    pub read: Duration,
}

/// How it went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TunnelEnd {
    /// A side closed it.
    Closed,
    /// No byte came for too long.
    Idle,
    /// Its session or user was revoked, or the session reached its end.
    Revoked,
    /// The app did not switch protocols: its answer was passed on, with this status.
    Answered(u16),
}

/// Why there was no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The target of the request is no URI (400).
    #[error("the target is no URI")]
    Request,
    /// The app cannot be reached, or breaks off (502).
    #[error("upstream: {0}")]
    Upstream(#[source] io::Error),
    /// The app does not answer in time (504).
    #[error("upstream: no answer in time")]
    UpstreamTimeout,
    /// The app switched to a protocol that nobody asked for (502).
    #[error("upstream switched to another protocol")]
    OtherProtocol,
    /// The client went away or cannot be taken over; nobody is left to answer to.
    #[error("downstream: {0}")]
    Downstream(String),
}

/// An app's answer to an upgrade request.
pub struct Opened {
    head: ResponseHeader,
    kind: Kind,
}

enum Kind {
    Switched(OnUpgrade),
    Answer(Incoming),
}

/// Whether a request, as the client sent it, asks for a websocket (RFC 6455 section 4.1, RFC 9110 section 7.8).
///
/// Anything else that asks for an upgrade is an ordinary request, from which pingora removes the wish: several
/// protocols leave open what the app agrees to, `h2c` would be a second way into the app past the gate, and a body
/// before a tunnel is a way to smuggle. HTTP/2 knows no upgrade.
pub fn is_upgrade(request: &RequestHeader) -> bool {
    let headers = &request.headers;
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    let one = match (protocols.next(), protocols.next()) {
        (Some(one), None) => one.as_bytes().trim_ascii().eq_ignore_ascii_case(WEBSOCKET.as_bytes()),
        _ => false,
    };
    if !one {
        return false;
    }
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0");
    !has_body
        && request.version == http::Version::HTTP_11
        && request.method == http::Method::GET
        && nominated(headers).iter().any(|name| name == "upgrade")
}

/// Sends the request (as the phases prepared it for the app: identity headers set, cookies opened) and reads the
/// head of the answer, within `patience` (zero = without limit). Hop-by-hop fields are made here.
///
/// # Errors
/// See [`TunnelError`].
pub async fn open(
    request: &RequestHeader,
    upstream: Transport,
    patience: Duration,
) -> Result<Opened, TunnelError> {
    let request = upgrade_request(request)?;
    let answer = async {
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .title_case_headers(true)
            .max_buf_size(HEAD_BYTES)
            .handshake::<_, Empty<Bytes>>(TokioIo::new(upstream))
            .await?;
        // It ends by itself: with the body, with the hand-over, or when `sender` and body are gone.
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await
    };
    let answer = if patience.is_zero() {
        answer.await
    } else {
        timeout(patience, answer).await.map_err(|_| TunnelError::UpstreamTimeout)?
    };
    let mut answer = answer.map_err(upstream_error)?;

    let mut head = ResponseHeader::build(answer.status(), Some(answer.headers().len() + 2))
        .map_err(|_| TunnelError::OtherProtocol)?;
    let nominated = nominated(answer.headers());
    for (name, value) in answer.headers() {
        let hop = HOP_BY_HOP.contains(&name.as_str()) || nominated.iter().any(|n| n == name.as_str());
        if !hop {
            head.append_header(name.clone(), value.clone()).map_err(|_| TunnelError::OtherProtocol)?;
        }
    }
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Opened { head, kind: Kind::Answer(answer.into_body()) });
    }
    let chosen = answer.headers().get(header::UPGRADE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !chosen.trim_ascii().eq_ignore_ascii_case(WEBSOCKET.as_bytes()) {
        return Err(TunnelError::OtherProtocol);
    }
    head.remove_header(&header::CONTENT_LENGTH);
    head.insert_header("Connection", "Upgrade").map_err(|_| TunnelError::OtherProtocol)?;
    head.insert_header("Upgrade", WEBSOCKET).map_err(|_| TunnelError::OtherProtocol)?;
    Ok(Opened { head, kind: Kind::Switched(hyper::upgrade::on(&mut answer)) })
}

impl Opened {
    /// The head of the answer, without hop-by-hop fields but those of the switch.
    pub fn head(&self) -> &ResponseHeader {
        &self.head
    }

    /// For sealing cookies and the like.
    pub fn head_mut(&mut self) -> &mut ResponseHeader {
        &mut self.head
    }

    /// Whether the app switched protocols.
    pub fn is_tunnel(&self) -> bool {
        matches!(self.kind, Kind::Switched(_))
    }

    /// Sends the answer to the client and runs the tunnel to its end. After that the session is over: answer
    /// `Ok(true)` from the phase.
    ///
    /// # Errors
    /// [`TunnelError::Downstream`] when the client is gone, the others while the answer of the app is passed on; a
    /// head has then been sent, and all that is left is to close.
    pub async fn run(
        self,
        session: &mut Session,
        mut entry: Entry,
        limits: Limits,
    ) -> Result<TunnelEnd, TunnelError> {
        match self.kind {
            Kind::Switched(upgrade) => {
                if entry.is_ended() {
                    return Err(TunnelError::Downstream("revoked while it was opened".into()));
                }
                let upstream = upgrade.await.map_err(upstream_error)?;
                session.write_response_header(Box::new(self.head), false).await.map_err(downstream_error)?;
                session.set_keepalive(None);
                let client = session
                    .stream()
                    .and_then(|stream| stream.as_any().downcast_ref::<ClientStream>())
                    .and_then(ClientStream::take)
                    .ok_or_else(|| TunnelError::Downstream("cannot be taken over".into()))?;
                let parts =
                    upstream.downcast::<TokioIo<Transport>>().map_err(|_| TunnelError::OtherProtocol)?;
                Ok(pump::run(client, parts.io.into_inner(), parts.read_buf, &mut entry, limits).await)
            }
            Kind::Answer(body) => {
                drop(entry);
                relay(self.head, body, session, limits.read).await
            }
        }
    }
}

/// Passes on an answer that is no tunnel, piece by piece.
async fn relay(
    mut head: ResponseHeader,
    mut body: Incoming,
    session: &mut Session,
    patience: Duration,
) -> Result<TunnelEnd, TunnelError> {
    use hyper::body::Body;
    let status = head.status.as_u16();
    let bodiless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !bodiless && !head.headers.contains_key(header::CONTENT_LENGTH) {
        let framing = if body.is_end_stream() {
            head.insert_header("Content-Length", 0)
        } else {
            head.insert_header("Transfer-Encoding", "chunked")
        };
        framing.map_err(downstream_error)?;
    }
    let empty = bodiless || body.is_end_stream();
    session.write_response_header(Box::new(head), empty).await.map_err(downstream_error)?;
    if empty {
        return Ok(TunnelEnd::Answered(status));
    }
    loop {
        let frame = if patience.is_zero() {
            body.frame().await
        } else {
            timeout(patience, body.frame()).await.map_err(|_| TunnelError::UpstreamTimeout)?
        };
        let Some(frame) = frame else { break };
        if let Ok(data) = frame.map_err(upstream_error)?.into_data() {
            session.write_response_body(Some(data), false).await.map_err(downstream_error)?;
        }
    }
    session.write_response_body(None, true).await.map_err(downstream_error)?;
    Ok(TunnelEnd::Answered(status))
}

/// The request as it goes to the app.
fn upgrade_request(request: &RequestHeader) -> Result<http::Request<Empty<Bytes>>, TunnelError> {
    let target = http::Uri::try_from(request.raw_path()).map_err(|_| TunnelError::Request)?;
    let mut out = http::Request::new(Empty::new());
    *out.uri_mut() = target;
    let nominated = nominated(&request.headers);
    for (name, value) in &request.headers {
        let hop = HOP_BY_HOP.contains(&name.as_str()) || nominated.iter().any(|n| n == name.as_str());
        if !hop && name != header::CONTENT_LENGTH {
            out.headers_mut().append(name, value.clone());
        }
    }
    out.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    out.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
    Ok(out)
}

/// What `Connection` names.
fn nominated(headers: &http::HeaderMap) -> Vec<String> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
        .filter(|token| !token.is_empty())
        .collect()
}

fn upstream_error(error: hyper::Error) -> TunnelError {
    TunnelError::Upstream(io::Error::other(error))
}

fn downstream_error(error: Box<pingora::Error>) -> TunnelError {
    TunnelError::Downstream(error.to_string())
}

/// Fields of one hop (RFC 9110 section 7.6.1). The phases set nothing that is named here.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const WEBSOCKET: &str = "websocket";
/// The head of an answer, at most.
const HEAD_BYTES: usize = 64 << 10;
