//! HTTP/2 frame by frame, for what no decent client would send (RFC 9113, RFC 7541).

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring};

use super::{Sluis, authority::Authority, process::PATIENCE};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// What a reset or an end of the connection is for.
pub const CANCEL: u32 = 8;
pub const REFUSED_STREAM: u32 = 7;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame that came.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a reset, or of an end of the connection.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status of an answer: the first field of its header. Only for the first answer with this status on a
    /// connection, since later ones refer to it.
    pub fn status(&self) -> u16 {
        assert_eq!(self.kind, HEADERS, "{self:?}");
        match self.payload[0] {
            indexed @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
            0x48 => digits(&self.payload[2..]),
            other => panic!("{other:#x}: not a status that was not sent before"),
        }
    }
}

/// Three digits in the Huffman code of RFC 7541, appendix B: five bits each for 0 to 2, six for 3 to 9.
fn digits(bytes: &[u8]) -> u16 {
    let bits = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], 0]);
    let mut at = 0;
    (0..3).fold(0, |number, _| {
        let next = bits << at;
        let (digit, taken) =
            if next >> 27 <= 2 { (next >> 27, 5) } else { ((next >> 26) - 0b01_1001 + 3, 6) };
        at += taken;
        number * 10 + u16::try_from(digit).unwrap()
    })
}

/// One connection.
pub struct Frames {
    tls: StreamOwned<ClientConnection, TcpStream>,
    /// What came and is no whole frame yet.
    bytes: Vec<u8>,
    next: u32,
    seen: Vec<Frame>,
}

impl Frames {
    /// Connects and says what every client says first, with these settings.
    pub fn connect(authority: &Authority, sluis: &Sluis, settings: &[(u16, u32)]) -> Self {
        let mut frames = Self::silent(authority, sluis);
        frames.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        frames.send(SETTINGS, 0, 0, &settings).unwrap();
        frames
    }

    /// Connects and says nothing.
    pub fn silent(authority: &Authority, sluis: &Sluis) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.root_der.clone().into()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let socket = TcpStream::connect(sluis.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut tls = StreamOwned::new(connection, socket);
        tls.flush().unwrap();
        Self { tls, bytes: Vec::new(), next: 1, seen: Vec::new() }
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.write_all(bytes)?;
        self.tls.flush()
    }

    /// Sends one frame.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.raw(&frame(kind, flags, stream, payload))
    }

    /// Begins a request, whose body follows unless `flags` has `END_STREAM`; answers its stream.
    pub fn request(&mut self, method: &str, path: &str, flags: u8) -> u32 {
        let stream = self.stream();
        self.send(HEADERS, END_HEADERS | flags, stream, &header(method, path)).unwrap();
        stream
    }

    /// A stream that has not been used.
    pub fn stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// The next frame; `None` at the end of the connection, and when none came in time.
    fn read(&mut self) -> Option<Frame> {
        let mut piece = [0; 16 << 10];
        loop {
            if let Some(frame) = self.whole() {
                return Some(frame);
            }
            match self.tls.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.bytes.extend_from_slice(&piece[..n]),
            }
        }
    }

    fn whole(&mut self) -> Option<Frame> {
        let head = self.bytes.first_chunk::<9>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        let payload = self.bytes.get(9..9 + length)?.to_vec();
        self.bytes.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }

    /// A frame that has come by now.
    pub fn poll(&mut self) -> Option<Frame> {
        self.tls.sock.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let frame = self.read();
        self.tls.sock.set_read_timeout(Some(PATIENCE)).unwrap();
        frame
    }

    /// Waits for a frame that is like this; those before it are kept.
    pub fn await_frame(&mut self, what: &str, like: impl Fn(&Frame) -> bool) -> Frame {
        if let Some(at) = self.seen.iter().position(&like) {
            return self.seen.remove(at);
        }
        loop {
            let Some(frame) = self.read() else {
                panic!("no {what} before the end of the connection; it got {:?}", self.seen)
            };
            if like(&frame) {
                return frame;
            }
            self.seen.push(frame);
        }
    }

    /// Waits for the answer on a stream.
    pub fn answer(&mut self, stream: u32) -> Frame {
        self.await_frame("answer", |frame| frame.kind == HEADERS && frame.stream == stream)
    }

    /// Waits for the reset of a stream; answers why.
    pub fn reset(&mut self, stream: u32) -> u32 {
        self.await_frame("reset", |frame| frame.kind == RST_STREAM && frame.stream == stream).code()
    }

    /// Waits for the end of the connection; answers why, if it says so.
    pub fn end(&mut self) -> Option<u32> {
        while let Some(frame) = self.read() {
            self.seen.push(frame);
        }
        self.seen.iter().find(|frame| frame.kind == GOAWAY).map(Frame::code)
    }

    /// What a stream got that was read already.
    pub fn got(&self, stream: u32) -> Vec<&Frame> {
        self.seen.iter().filter(|frame| frame.stream == stream).collect()
    }
}

/// One frame, as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A request header, uncompressed.
pub fn header(method: &str, path: &str) -> Vec<u8> {
    [
        field(":method", method),
        field(":scheme", "https"),
        field(":path", path),
        field(":authority", "localhost"),
        field("accept", "*/*"),
    ]
    .concat()
}

/// A field that is not to be remembered (RFC 7541 section 6.2.2), shorter than 127 bytes each.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    assert!(name.len() < 127 && value.len() < 127, "longer ones are coded otherwise");
    [vec![0], text(name), text(value)].concat()
}
