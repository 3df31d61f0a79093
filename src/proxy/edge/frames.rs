//! HTTP/2 frames in the bytes of one direction as they come, without keeping them (RFC 9113 section 4.1).
//!
//! It decides nothing: what a frame means is for the HTTP/2 library to say, and what is not well formed is refused
//! there. It is only to be known where one frame ends and the next begins, and whose it is.

/// What stands at the head of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Head {
    /// Bytes of payload.
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// 0 = the connection.
    pub(super) stream: u32,
}

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

impl Head {
    fn read(bytes: [u8; HEAD_BYTES]) -> Self {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        }
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// `RST_STREAM` with the code `CANCEL` (RFC 9113 sections 6.4 and 7).
pub(super) fn reset(stream: u32) -> [u8; 13] {
    let [a, b, c, d] = stream.to_be_bytes();
    [0, 0, 4, RST_STREAM, 0, a, b, c, d, 0, 0, 0, 8]
}

/// The next thing in the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece<'a> {
    /// A frame's head is complete. Its payload follows, if it has one.
    Head(Head),
    /// Some of the payload of that frame.
    Payload(Head, &'a [u8]),
    /// The frame is complete.
    End(Head),
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// So many bytes of the connection preface are still to come.
    Preface(usize),
    /// So many bytes of a head have come.
    Head(usize),
    /// So many bytes of payload are still to come.
    Payload(u32),
}

/// Follows one direction of a connection.
#[derive(Debug)]
pub(super) struct FrameReader {
    at: At,
    bytes: [u8; HEAD_BYTES],
    head: Head,
}

impl FrameReader {
    /// What a client sends: it begins with the preface (section 3.4).
    pub(super) fn of_client() -> Self {
        Self { at: At::Preface(PREFACE_BYTES), bytes: [0; HEAD_BYTES], head: Head::default() }
    }

    /// What a server sends.
    pub(super) fn of_server() -> Self {
        Self { at: At::Head(0), ..Self::of_client() }
    }

    /// Whether the last frame is complete and nothing of the next one has come.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.at, At::Head(0))
    }

    /// The frame whose payload is coming.
    pub(super) fn under_way(&self) -> Option<Head> {
        matches!(self.at, At::Payload(_)).then_some(self.head)
    }

    /// Takes the next thing from the front of `bytes`; `None` when they are used up.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Piece<'a>> {
        loop {
            match self.at {
                At::Payload(0) => {
                    self.at = At::Head(0);
                    return Some(Piece::End(self.head));
                }
                _ if bytes.is_empty() => return None,
                At::Preface(left) => {
                    let taken = take(bytes, left).len();
                    self.at = if taken == left { At::Head(0) } else { At::Preface(left - taken) };
                }
                At::Head(have) => {
                    let taken = take(bytes, HEAD_BYTES - have);
                    for (slot, byte) in self.bytes.iter_mut().skip(have).zip(taken) {
                        *slot = *byte;
                    }
                    self.at = At::Head(have + taken.len());
                    if have + taken.len() == HEAD_BYTES {
                        self.head = Head::read(self.bytes);
                        self.at = At::Payload(self.head.length);
                        return Some(Piece::Head(self.head));
                    }
                }
                At::Payload(left) => {
                    let taken = take(bytes, usize::try_from(left).unwrap_or(usize::MAX));
                    self.at = At::Payload(left.saturating_sub(u32::try_from(taken.len()).unwrap_or(left)));
                    return Some(Piece::Payload(self.head, taken));
                }
            }
        }
    }
}

/// Up to `most` bytes from the front.
fn take<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    taken
}

const HEAD_BYTES: usize = 9;
/// `PRI * HTTP/2.0`, and so on.
const PREFACE_BYTES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    /// What was seen, however it was cut: payload as its length.
    fn seen(reader: &mut FrameReader, mut bytes: &[u8]) -> Vec<(Head, usize, bool)> {
        let mut frames = Vec::new();
        while let Some(piece) = reader.next(&mut bytes) {
            match piece {
                Piece::Head(head) => frames.push((head, 0, false)),
                Piece::Payload(_, bytes) => frames.last_mut().unwrap().1 += bytes.len(),
                Piece::End(_) => frames.last_mut().unwrap().2 = true,
            }
        }
        frames
    }

    #[test]
    fn frames_are_found_wherever_the_bytes_are_cut() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]); // empty SETTINGS
        bytes.extend_from_slice(&[0, 0, 3, HEADERS, END_HEADERS, 0x80, 0, 1, 5, b'a', b'b', b'c']);
        bytes.extend_from_slice(&reset(0x105));
        let whole = seen(&mut FrameReader::of_client(), &bytes);
        let heads: Vec<_> = whole.iter().map(|(head, ..)| (head.kind, head.stream, head.length)).collect();
        assert_eq!(heads, [(4, 0, 0), (HEADERS, 0x105, 3), (RST_STREAM, 0x105, 4)]);
        assert!(whole.iter().all(|(head, came, ended)| *ended && *came == head.length as usize));
        for cut in 0..bytes.len() {
            let mut reader = FrameReader::of_client();
            let (a, b) = bytes.split_at(cut);
            let mut frames = 0;
            let mut payload = 0;
            for mut part in [a, b] {
                while let Some(piece) = reader.next(&mut part) {
                    match piece {
                        Piece::End(_) => frames += 1,
                        Piece::Payload(_, bytes) => payload += bytes.len(),
                        Piece::Head(_) => {}
                    }
                }
            }
            assert_eq!((frames, payload, reader.is_between()), (3, 7, true), "cut at {cut}");
        }
    }
}
