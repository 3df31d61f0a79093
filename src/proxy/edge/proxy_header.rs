//! The PROXY protocol header in front of a connection, versions 1 and 2
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).
//!
//! It reads exactly the header and not one byte more: what follows is HTTP or TLS. Whether the peer may send one is
//! decided before.

use std::{io, net::SocketAddr};

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// Reads the header: the address that it names, `None` when the connection is the proxy's own (health checks:
/// `LOCAL`, `UNKNOWN`).
///
/// # Errors
/// When the connection breaks, or what comes is no such header.
pub(super) async fn read(socket: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; SIGNATURE.len()];
    socket.read_exact(&mut header).await?;
    if header == SIGNATURE {
        let mut fixed = [0; 4];
        socket.read_exact(&mut fixed).await?;
        header.extend_from_slice(&fixed);
        let [_, _, high, low] = fixed;
        let rest = usize::from(u16::from_be_bytes([high, low]));
        if rest > LONGEST_REST {
            return Err(malformed());
        }
        let start = header.len();
        header.resize(start + rest, 0);
        socket.read_exact(header.get_mut(start..).unwrap_or_default()).await?;
    } else if header.starts_with(b"PROXY ") {
        read_line(socket, &mut header).await?;
    } else {
        return Err(malformed());
    }
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    match ProxyHeader::parse(&header, config) {
        Ok((parsed, length)) if length == header.len() => {
            Ok(parsed.proxied_address().map(|address| address.source))
        }
        _ => Err(malformed()),
    }
}

/// Reads on to the end of a line (version 1), looking before taking.
async fn read_line(socket: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    let mut ahead = [0; LONGEST_LINE];
    while !header.ends_with(b"\n") {
        let room = LONGEST_LINE.saturating_sub(header.len());
        let seen = socket.peek(ahead.get_mut(..room).unwrap_or_default()).await?;
        if seen == 0 {
            return Err(malformed()); // the end, or no line end within 107 bytes
        }
        let seen = ahead.get(..seen).unwrap_or_default();
        let take = seen.iter().position(|&b| b == b'\n').map_or(seen.len(), |at| at + 1);
        let start = header.len();
        header.resize(start + take, 0);
        socket.read_exact(header.get_mut(start..).unwrap_or_default()).await?;
    }
    Ok(())
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no PROXY protocol header")
}

/// What version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1.
const LONGEST_LINE: usize = 107;
/// The longest rest of version 2 that is taken: addresses and additional fields.
const LONGEST_REST: usize = 4096;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Sends `pieces` one after the other; answers what was read and what was left in the socket.
    async fn read_from(pieces: &[&[u8]]) -> (io::Result<Option<SocketAddr>>, Vec<u8>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let send = async {
            for piece in pieces {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let (found, ()) = tokio::join!(read(&mut server), send);
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        (found, rest)
    }

    #[tokio::test]
    async fn both_versions_are_read_to_their_last_byte() {
        let v1: &[u8] = b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n";
        let v6: &[u8] = b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n";
        let mut v2 = SIGNATURE.to_vec();
        v2.extend([0x21, 0x11, 0, 15, 203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x67, 1, 187]);
        v2.extend([0x04, 0, 0]); // a field (NOOP)
        let named = |text: &str| Some(text.parse().unwrap());
        for (header, expected) in [
            (v1, named("203.0.113.7:4711")),
            (v6, named("[2001:db8::7]:4711")),
            (&v2, named("203.0.113.7:4711")),
            (b"PROXY UNKNOWN\r\n", None),
            (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", None),
        ] {
            for cut in [1, 6, 12, 13, 14, header.len() - 1] {
                let (a, b) = header.split_at(cut);
                let (found, rest) = read_from(&[a, b, b"GET / HTTP/1.1\r\n"]).await;
                assert_eq!(found.unwrap(), expected);
                assert_eq!(rest, b"GET / HTTP/1.1\r\n");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        let huge = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff], &[0; 5000]].concat();
        let bad: &[&[u8]] = &[
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"PROXY TCP4 203.0.113.7\r\n\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\nGET /",
            b"PROXY TCP4 a.b.c.d 10.0.0.1 4711 443\r\n",
            &endless,
            &huge,
            b"PROXY",
        ];
        for bytes in bad {
            assert!(read_from(&[bytes]).await.0.is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
