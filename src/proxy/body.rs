//! Reads a whole request body where one is needed: a watched login, a form of our own pages. Bounded in size and
//! time; every other body streams.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::{ErrorType, proxy::Session};

use super::failure::Cause;

/// A form comes at once; whoever needs longer is holding a connection.
const DEADLINE: Duration = Duration::from_secs(30);

/// The whole body.
///
/// # Errors
/// When it is larger than `at_most`, comes too slowly, or does not come.
pub async fn read(session: &mut Session, at_most: usize) -> Result<Bytes, Cause> {
    let announced = session
        .get_header("content-length")
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok())
        .unwrap_or(0);
    if announced > at_most as u64 {
        return Err(Cause::BodyTooLarge);
    }
    match tokio::time::timeout(DEADLINE, read_all(session, at_most)).await {
        Ok(body) => body,
        Err(_) => Err(Cause::ClientTooSlow),
    }
}

/// Reads over a body that nobody wants, up to `at_most` bytes and a short while. Closing a connection with unread
/// bytes in it resets it, and the client may then never see the answer.
pub async fn read_over(session: &mut Session, at_most: usize) {
    /// Long enough for what is on its way.
    const WHILE: Duration = Duration::from_secs(2);
    // HTTP/2 can refuse one body alone; and who waits to be asked for it (RFC 9110, section 10.1.1) sends none.
    if session.as_http1().is_none() || session.get_header("expect").is_some() {
        return;
    }
    let read = async {
        let mut bytes = 0;
        while bytes < at_most && !session.is_body_done() {
            match session.read_request_body().await {
                Ok(Some(piece)) => bytes += piece.len(),
                Ok(None) | Err(_) => break,
            }
        }
    };
    let _ = tokio::time::timeout(WHILE, read).await;
}

async fn read_all(session: &mut Session, at_most: usize) -> Result<Bytes, Cause> {
    let waits = session.get_header("expect").is_some();
    if waits && session.as_http1().is_some() {
        session.write_continue_response().await.map_err(|_| Cause::ClientGone)?;
    }
    let mut body = BytesMut::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(piece)) if body.len() + piece.len() > at_most => return Err(Cause::BodyTooLarge),
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => return Ok(body.freeze()),
            Err(error) => {
                return Err(match error.etype() {
                    ErrorType::ReadTimedout => Cause::ClientTooSlow,
                    ErrorType::ReadError | ErrorType::ConnectionClosed => Cause::ClientGone,
                    _ => Cause::Malformed("the body is not what its framing says"),
                });
            }
        }
    }
}
