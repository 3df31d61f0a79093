//! `/live`: a websocket (RFC 6455) that says hello at once and then repeats every message; with `?clock` it also tells
//! the time each second.

use std::{io, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{login::user, state::Shared};

/// `GET /live`: 101, or 401 without a session, or 426 for anything but a websocket.
pub async fn upgrade(State(records): State<Shared>, headers: HeaderMap, mut request: Request) -> Response {
    let Some(user) = user(&records, &headers) else { return StatusCode::UNAUTHORIZED.into_response() };
    let upgrade = headers.get(header::UPGRADE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let Some(key) =
        headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| upgrade.eq_ignore_ascii_case("websocket"))
    else {
        return (StatusCode::UPGRADE_REQUIRED, [(header::UPGRADE, "websocket")]).into_response();
    };
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"); // section 1.3
    let accept = data_encoding::BASE64.encode(&hash.finalize());

    let clock = request.uri().query() == Some("clock");
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(stream) = upgraded.await {
            let _ = talk(TokioIo::new(stream), &records, &user, clock).await;
        }
    });
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = accept.parse() {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}

async fn talk<S: AsyncRead + AsyncWrite>(
    stream: S,
    records: &Shared,
    user: &str,
    clock: bool,
) -> io::Result<()> {
    let (mut from, mut to) = tokio::io::split(stream);
    to.write_all(&frame(FIN | TEXT, format!("hello {user}").as_bytes())).await?;
    // frames are read in a task of their own, so that a tick never interrupts one
    let (sender, mut frames) = tokio::sync::mpsc::channel(16);
    let reader = async move {
        loop {
            let read = read_frame(&mut from).await?;
            if sender.send(read).await.is_err() {
                return Ok(());
            }
        }
    };
    let writer = async move {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                read = frames.recv() => {
                    let Some((head, payload)) = read else { return Ok(()) };
                    match head & OPCODE {
                        CLOSE => {
                            to.write_all(&frame(head, &payload)).await?;
                            return to.shutdown().await;
                        }
                        PING => to.write_all(&frame(FIN | PONG, &payload)).await?,
                        PONG => {}
                        // as it came: a message in pieces stays one in pieces
                        _ => to.write_all(&frame(head, &payload)).await?,
                    }
                }
                _ = tick.tick(), if clock => {
                    let text = records.clock.now().rfc3339();
                    to.write_all(&frame(FIN | TEXT, text.as_bytes())).await?;
                }
            }
        }
    };
    tokio::select! {
        ended = reader => ended,
        ended = writer => ended,
    }
}

/// Reads one frame of a client: its first byte and the unmasked payload.
async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let head = from.read_u8().await?;
    let second = from.read_u8().await?;
    let length = match second & !MASKED {
        126 => u64::from(from.read_u16().await?),
        127 => from.read_u64().await?,
        short => u64::from(short),
    };
    if second & MASKED == 0 || length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a frame of a client"));
    }
    let mut mask = [0; 4];
    from.read_exact(&mut mask).await?;
    let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
    from.read_exact(&mut payload).await?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok((head, payload))
}

fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![head];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short < 126 => out.push(short),
        (_, Ok(medium)) => {
            out.push(126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

// section 5.2
const FIN: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const MASKED: u8 = 0x80;
/// Longest message that is taken.
const LONGEST: u64 = 1 << 20;
