//! Requests byte for byte, for what no decent client would send.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Sends these bytes, closes the sending side, and reads all that comes back.
pub fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A GET of a raw target with more header lines (each ended by CRLF); the connection closes after it.
pub fn get(address: SocketAddr, target: &[u8], head: &str) -> String {
    let close = if head.to_ascii_lowercase().contains("connection:") { "" } else { "Connection: close\r\n" };
    let request =
        [b"GET ", target, b" HTTP/1.1\r\nHost: localhost\r\n", close.as_bytes(), head.as_bytes(), b"\r\n"]
            .concat();
    send_until_answered(address, &request)
}

/// Like [`send`], but does not wait for the end of a kept connection: reads one whole answer.
pub fn send_until_answered(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 65536];
    loop {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(n) => answer.extend_from_slice(&piece[..n]),
        }
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.split("content-length:").nth(1).and_then(|l| l.lines().next()?.trim().parse::<usize>().ok());
        if length.is_some_and(|n| body.len() >= n)
            || (head.contains("chunked") && body.ends_with("0\r\n\r\n"))
        {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}
