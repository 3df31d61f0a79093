use std::time::Duration;

use super::*;
use crate::config::Limits;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Ticks per second.
const TICKS: u32 = 4;

fn limits() -> Limits {
    Limits {
        header_timeout: Duration::from_secs(10),
        header_bytes: 16 << 10,
        header_fields: 100,
        min_body_rate: 100,
        keepalive_timeout: Duration::from_secs(75),
        client_idle_timeout: Duration::from_secs(60),
        login_body_bytes: 64 << 10,
        body_bytes: 0,
        connections: 0,
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection whose time is moved by hand.
struct Clocked {
    streams: Streams,
    rules: Rules,
    now: u32,
}

impl Clocked {
    fn new(limits: &Limits) -> Self {
        let rules = Rules::new(limits, Duration::from_secs(1) / TICKS);
        let mut at = Self { streams: Streams::new(1), rules, now: 1 };
        assert_eq!(at.gets(PREFACE), None);
        at
    }

    fn gets(&mut self, bytes: &[u8]) -> Option<usize> {
        self.streams.received(bytes, self.now)
    }

    /// A request header, with a body to follow.
    fn begins(&mut self, stream: u32) {
        assert_eq!(self.gets(&frame(HEADERS, END_HEADERS, stream, b"header")), None);
    }

    /// Lets so many seconds pass; each tick these bytes come.
    fn pass(&mut self, seconds: u32, each: &[u8]) -> Option<End> {
        for _ in 0..seconds * TICKS {
            self.gets(each);
            self.now += 1;
            let end = self.streams.judge(self.now, &self.rules);
            if end.is_some() {
                return end;
            }
        }
        None
    }

    /// The streams that are ended now.
    fn ended(&mut self) -> Vec<u32> {
        if !self.streams.can_cut() {
            return vec![];
        }
        let resets = self.streams.cut();
        let mut reader = FrameReader::of_server();
        let mut rest = resets.as_slice();
        let mut ended = Vec::new();
        while let Some(piece) = reader.next(&mut rest) {
            if let Piece::End(head) = piece {
                ended.push(head.stream);
            }
        }
        ended
    }
}

#[test]
fn d20_a_drip_ends_its_own_stream_and_no_other() {
    let mut at = Clocked::new(&limits());
    at.begins(1);
    at.begins(3);
    at.begins(5);
    let both = [frame(DATA, 0, 1, b"x"), frame(DATA, 0, 3, &[b'y'; 30])].concat();
    assert_eq!(at.pass(11, &both), None);
    assert_eq!(at.ended(), [1, 5], "1 drips, of 5 nothing comes");
    assert_eq!(at.streams.take_owed(), [reset(1), reset(5)].concat());
    assert_eq!(at.pass(60, &frame(DATA, 0, 3, &[b'y'; 30])), None);
    assert_eq!(at.ended(), [0; 0]);
}

#[test]
fn d20_whoever_has_sent_all_is_not_waited_for() {
    let mut at = Clocked::new(&limits());
    at.gets(&frame(HEADERS, END_HEADERS | END_STREAM, 1, b"get"));
    at.begins(3);
    at.gets(&frame(DATA, END_STREAM, 3, b"form"));
    at.begins(5);
    at.gets(&frame(HEADERS, END_HEADERS | END_STREAM, 5, b"trailer"));
    at.begins(7);
    at.gets(&reset(7));
    at.begins(9);
    at.streams.sent(&reset(9));
    assert_eq!(at.pass(300, b""), None);
    assert_eq!(at.ended(), [0; 0]);
}

/// It is the app that is slow, as long as a window is closed.
#[test]
fn d20_a_client_that_may_not_send_is_not_slow() {
    let mut at = Clocked::new(&limits());
    at.streams.sent(&frame(WINDOW_UPDATE, 0, 0, &(1u32 << 20).to_be_bytes()));
    at.begins(1);
    let piece = frame(DATA, 0, 1, &[0; 16 << 10]);
    for _ in 0..16 {
        at.gets(&piece);
    }
    assert_eq!(at.pass(300, b""), None);
    assert_eq!(at.ended(), [0; 0], "its window is used up");
    at.streams.sent(&frame(WINDOW_UPDATE, 0, 1, &(128u32 << 10).to_be_bytes()));
    assert_eq!(at.pass(22, b""), None);
    assert_eq!(at.ended(), [1], "it may go on, and does not");
}

#[test]
fn d20_the_window_of_all_streams_counts_as_well() {
    let mut at = Clocked::new(&limits());
    at.begins(1);
    at.begins(3);
    at.gets(&frame(DATA, 0, 1, &[0; 65_535]));
    assert_eq!(at.pass(300, b""), None);
    assert_eq!(at.ended(), [0; 0]);
    at.streams.sent(&frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()));
    at.pass(22, b"");
    assert_eq!(at.ended(), [1, 3]);
}

#[test]
fn d20_without_a_rate_the_idle_limit_counts_for_each_stream() {
    let mut at = Clocked::new(&Limits { min_body_rate: 0, ..limits() });
    at.begins(1);
    at.begins(3);
    assert_eq!(at.pass(59, &frame(DATA, 0, 1, b"x")), None);
    assert_eq!(at.ended(), [0; 0]);
    at.pass(2, &frame(DATA, 0, 1, b"x"));
    assert_eq!(at.ended(), [3]);
}

#[test]
fn d20_a_header_has_one_deadline_in_however_many_frames() {
    let mut at = Clocked::new(&limits());
    at.gets(&frame(HEADERS, 0, 1, b"a"));
    let drip = frame(CONTINUATION, 0, 1, b"b");
    assert_eq!(at.pass(10, &drip), None);
    assert_eq!(at.pass(1, &drip), Some(End::SlowHeader));
}

#[test]
fn d20_preface_and_other_frames_have_the_deadline_too() {
    let rules = Rules::new(&limits(), Duration::from_secs(1) / TICKS);
    let mut at = Clocked { streams: Streams::new(1), rules, now: 1 };
    at.gets(&PREFACE[..5]);
    assert_eq!(at.pass(11, b""), Some(End::SlowHeader));
    for begun in [&frame(6, 0, 0, b"12345678")[..10], &[0], &frame(DATA, 0, 99, b"none")[..10]] {
        let mut at = Clocked::new(&limits());
        assert_eq!(at.pass(300, b""), None, "an idle connection is pingora's to end");
        at.gets(begun);
        assert_eq!(at.pass(10, b""), None);
        assert_eq!(at.pass(1, b""), Some(End::SlowHeader), "{begun:?}");
    }
}

/// Nothing can be said in the middle of a frame: then it is the connection that ends.
#[test]
fn d20_a_drip_inside_a_frame_ends_the_connection() {
    let mut at = Clocked::new(&limits());
    at.begins(1);
    at.gets(&frame(DATA, 0, 1, &[0; 1000])[..9]);
    assert_eq!(at.pass(11, b"x"), None);
    assert_eq!(at.ended(), [0; 0]);
    assert_eq!(at.pass(11, b"x"), Some(End::SlowBody));
}

/// A frame that comes on is waited for, and the cut is where it ends.
#[test]
fn d20_a_stream_is_cut_between_two_frames() {
    let mut at = Clocked::new(&limits());
    at.begins(1);
    at.begins(3);
    let whole = frame(DATA, 0, 3, &[0; 9000]);
    let (first, rest) = whole.split_at(8000);
    at.gets(first);
    at.pass(11, b"");
    assert_eq!(at.ended(), [0; 0], "3 is in the middle of a frame");
    let next = frame(DATA, 0, 3, b"more");
    assert_eq!(at.gets(&[rest, &next, &next[..5]].concat()), Some(rest.len()));
}

/// A reset of ours waits for the end of what is being sent.
#[test]
fn the_client_gets_its_reset_between_two_frames() {
    let mut at = Clocked::new(&limits());
    at.begins(1);
    at.pass(11, b"");
    let answer = frame(HEADERS, 0, 3, b"answer");
    at.streams.sent(&answer[..12]);
    assert_eq!(at.ended(), [1]);
    assert_eq!(at.streams.take_owed(), b"");
    at.streams.sent(&answer[12..]);
    assert_eq!(at.streams.take_owed(), b"", "its header goes on");
    at.streams.sent(&frame(CONTINUATION, END_HEADERS, 3, b"end"));
    assert_eq!(at.streams.take_owed(), reset(1));
}
