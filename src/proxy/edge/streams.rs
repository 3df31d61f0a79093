//! The request bodies of one HTTP/2 connection, and what a slow one costs: its own stream, and no other.
//!
//! HTTP/1 has one body at a time, so there the connection itself is judged. Here each stream is, by what the client
//! was allowed to send and did not: as long as both its windows are open (RFC 9113 section 5.2), it is the client
//! that is waited for. When they are not, it is the app that is slow to take, and no clock runs.
//!
//! pingora reads a stream's body without a limit of time and says nothing of a stream's number. So the frames are
//! followed where they pass, in both directions, and a stream is ended from here: to pingora it looks as if the
//! client had reset it, and the client gets a reset from us. Frames go in between other frames only, and no byte
//! that is not ours is changed.
//!
//! A header, in however many frames, has one deadline from its first byte to its last, and so has every other frame
//! that is not a body's: nothing else can pass on the connection meanwhile (threats D20).

use super::{
    connection::End,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, FrameReader, HEADERS, Head, Piece, RST_STREAM,
        WINDOW_UPDATE, reset,
    },
    sweeper::Rules,
};

/// What is followed of one connection.
pub(super) struct Streams {
    incoming: FrameReader,
    outgoing: FrameReader,
    /// When the first byte of the frame or header came that is not complete yet.
    begun: u32,
    /// The stream whose header is coming, and whether a body follows it.
    header: Option<(u32, bool)>,
    /// We are in the middle of a header of ours.
    answering: bool,
    /// The highest stream so far: a header on another one is a trailer.
    last: u32,
    /// What the client may still send on all streams together.
    window: i64,
    /// The increment of the window that is just being sent.
    increment: u32,
    bodies: Vec<Body>,
    /// Some body is to be cut at the next end of a frame.
    cutting: bool,
    /// Resets that the client is still to get.
    owed: Vec<u8>,
}

/// A body that is still to come.
struct Body {
    stream: u32,
    /// What the client may still send of it.
    window: i64,
    /// Ticks spent waiting for it in the present window of time, and bytes that came in it.
    waited: u32,
    bytes: u64,
    /// When a byte of it last came, or could not come.
    moved: u32,
    /// When it was found too slow; 0 = it is not.
    slow: u32,
}

impl Streams {
    /// Of a connection that begins now.
    pub(super) fn new(now: u32) -> Self {
        Self {
            incoming: FrameReader::of_client(),
            outgoing: FrameReader::of_server(),
            begun: now,
            header: None,
            answering: false,
            last: 0,
            window: FIRST_WINDOW,
            increment: 0,
            bodies: Vec::new(),
            cutting: false,
            owed: Vec::new(),
        }
    }

    /// Follows what came from the client. When a body is to be cut: after how many of these bytes.
    pub(super) fn received(&mut self, bytes: &[u8], now: u32) -> Option<usize> {
        let mut rest = bytes;
        let mut cut = None;
        loop {
            if self.incoming.is_between() && self.header.is_none() {
                self.begun = now;
                if self.cutting && cut.is_none() {
                    cut = Some(bytes.len() - rest.len());
                }
            }
            let Some(piece) = self.incoming.next(&mut rest) else { return cut };
            match piece {
                Piece::Head(head) => self.begins(head, now),
                Piece::Payload(head, bytes) if head.kind == DATA => self.data(head.stream, bytes.len(), now),
                Piece::Payload(..) => {}
                Piece::End(head) => self.ends(head),
            }
        }
    }

    fn begins(&mut self, head: Head, now: u32) {
        let closes = head.has(END_STREAM);
        match head.kind {
            HEADERS if head.stream > self.last => {
                self.last = head.stream;
                self.header = Some((head.stream, !closes));
            }
            // A trailer: the body has ended before it.
            HEADERS => {
                self.forget(head.stream);
                self.header = Some((head.stream, false));
            }
            _ => {}
        }
        let ready = head.has(END_HEADERS) && matches!(head.kind, HEADERS | CONTINUATION);
        if let Some((stream, true)) = self.header.filter(|_| ready) {
            self.bodies.push(Body {
                stream,
                window: STREAM_WINDOW.into(),
                waited: 0,
                bytes: 0,
                moved: now,
                slow: 0,
            });
        }
    }

    fn ends(&mut self, head: Head) {
        match head.kind {
            HEADERS | CONTINUATION if head.has(END_HEADERS) => self.header = None,
            DATA if head.has(END_STREAM) => self.forget(head.stream),
            RST_STREAM => self.forget(head.stream),
            _ => {}
        }
    }

    fn data(&mut self, stream: u32, bytes: usize, now: u32) {
        let count = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.window = self.window.saturating_sub(count);
        if let Some(body) = self.body(stream) {
            body.window = body.window.saturating_sub(count);
            body.bytes = body.bytes.saturating_add(bytes as u64);
            body.moved = now;
        }
    }

    /// Follows what went to the client.
    pub(super) fn sent(&mut self, mut bytes: &[u8]) {
        while let Some(piece) = self.outgoing.next(&mut bytes) {
            match piece {
                Piece::Head(head) => {
                    self.increment = 0;
                    if matches!(head.kind, HEADERS | CONTINUATION) {
                        self.answering = !head.has(END_HEADERS);
                    }
                }
                Piece::Payload(head, bytes) if head.kind == WINDOW_UPDATE => {
                    for byte in bytes {
                        self.increment = self.increment << 8 | u32::from(*byte);
                    }
                }
                Piece::Payload(..) => {}
                Piece::End(head) => match head.kind {
                    RST_STREAM => self.forget(head.stream),
                    WINDOW_UPDATE => self.opened(head.stream),
                    _ => {}
                },
            }
        }
    }

    fn opened(&mut self, stream: u32) {
        let more = i64::from(self.increment & 0x7fff_ffff);
        if stream == 0 {
            self.window = self.window.saturating_add(more);
        } else if let Some(body) = self.body(stream) {
            body.window = body.window.saturating_add(more);
        }
    }

    fn body(&mut self, stream: u32) -> Option<&mut Body> {
        self.bodies.iter_mut().find(|body| body.stream == stream)
    }

    fn forget(&mut self, stream: u32) {
        self.bodies.retain(|body| body.stream != stream);
    }

    /// One tick: looks for what is too slow. An end is one of the whole connection.
    pub(super) fn judge(&mut self, now: u32, rules: &Rules) -> Option<End> {
        let longer_than = |since: u32, limit: u32| limit > 0 && now.wrapping_sub(since) > limit;
        if self.is_blocked() && longer_than(self.begun, rules.header) {
            return Some(End::SlowHeader);
        }
        let open = self.window > 0;
        for body in &mut self.bodies {
            if body.slow > 0 {
                // It is in the middle of a frame, which does not come on.
                if longer_than(body.slow, rules.header) {
                    return Some(End::SlowBody);
                }
                continue;
            }
            if !open || body.window <= 0 {
                body.moved = now;
                continue;
            }
            let stalled = longer_than(body.moved, rules.idle);
            body.waited += 1;
            let slow = rules.window_bytes > 0 && body.waited > rules.window && {
                body.waited = 0;
                std::mem::take(&mut body.bytes) < rules.window_bytes
            };
            if stalled || slow {
                body.slow = now;
                self.cutting = true;
            }
        }
        None
    }

    /// Whether a frame that is no body's, or a header, has begun and not ended.
    fn is_blocked(&self) -> bool {
        if self.header.is_some() {
            return true;
        }
        match self.incoming.under_way() {
            Some(head) if head.kind == DATA => self.bodies.iter().all(|body| body.stream != head.stream),
            Some(_) => true,
            None => !self.incoming.is_between(),
        }
    }

    /// Whether something is to be cut, and can be, since the last frame is complete.
    pub(super) fn can_cut(&self) -> bool {
        self.cutting && self.incoming.is_between() && self.header.is_none()
    }

    /// Forgets the slow bodies. What is answered ends their streams: for pingora to read, between two frames.
    pub(super) fn cut(&mut self) -> Vec<u8> {
        self.cutting = false;
        let mut resets = Vec::new();
        self.bodies.retain(|body| {
            if body.slow > 0 {
                resets.extend_from_slice(&reset(body.stream));
            }
            body.slow == 0
        });
        self.owed.extend_from_slice(&resets);
        resets
    }

    /// What the client is to get now: nothing, in the middle of a frame or header of ours.
    pub(super) fn take_owed(&mut self) -> Vec<u8> {
        if self.outgoing.is_between() && !self.answering {
            std::mem::take(&mut self.owed)
        } else {
            Vec::new()
        }
    }
}

/// How much of one body a client may send before we have taken it.
pub(super) const STREAM_WINDOW: u32 = 256 << 10;
/// How much of all bodies before we say otherwise (RFC 9113 section 6.9.2).
const FIRST_WINDOW: i64 = 65_535;

#[cfg(test)]
mod tests;
