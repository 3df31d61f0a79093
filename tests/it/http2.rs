//! [D20] HTTP/2 as no decent client speaks it: each way to hold or flood the server has its limit, and what one stream
//! does costs the others nothing.

use std::time::{Duration, Instant};

use crate::support::{
    Sluis,
    authority::{Authority, start},
    frames::{
        CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, GOAWAY, HEADERS,
        PING, REFUSED_STREAM, RST_STREAM, SETTINGS, field, frame, header,
    },
    process::PATIENCE,
    sluis::care_records,
    upstream::Recorder,
};

/// In front of an app that takes everything; `/static/` needs no session.
fn in_front(limits: &str) -> (Recorder, Authority, Sluis) {
    let upstream = Recorder::start();
    let (authority, sluis) = start(&format!("limits: {{ {limits} }}\n{}", care_records(upstream.address)));
    (upstream, authority, sluis)
}

/// An ordinary request on this connection is answered.
fn serves(client: &mut Frames) {
    let stream = client.request("GET", "/static/x", END_STREAM);
    client.await_frame("answer", |frame| frame.kind == HEADERS && frame.stream == stream);
}

/// One stream drips, one is silent, one sends at an honest pace: the first two end, and the third goes on on the same
/// connection, as do others beside it.
#[test]
fn d20_a_drip_on_one_stream_ends_that_stream_and_no_other() {
    let (_upstream, authority, sluis) = in_front("min_body_rate: 256");
    let mut client = Frames::connect(&authority, &sluis, &[]);
    let honest = client.request("POST", "/static/honest", 0);
    let drips = client.request("POST", "/static/drips", 0);
    let silent = client.request("POST", "/static/silent", 0);
    let mut ended = Vec::new();
    let begun = Instant::now();
    while ended.len() < 2 {
        assert!(begun.elapsed() < PATIENCE, "only {ended:?} ended");
        // The pace is what this is about.
        std::thread::sleep(Duration::from_millis(100));
        client.send(DATA, 0, honest, &[b'h'; 100]).unwrap();
        if !ended.contains(&drips) {
            client.send(DATA, 0, drips, b"d").unwrap();
        }
        while let Some(frame) = client.poll() {
            // Another one may follow, for what was sent before the first was heard.
            if frame.kind == RST_STREAM && !ended.contains(&frame.stream) {
                assert_eq!(frame.code(), CANCEL, "{frame:?}");
                ended.push(frame.stream);
            }
            assert_ne!(frame.kind, GOAWAY, "{frame:?}");
        }
    }
    ended.sort_unstable();
    assert_eq!(ended, [drips, silent]);
    client.send(DATA, END_STREAM, honest, b"end").unwrap();
    assert_eq!(client.answer(honest).status(), 200);
    serves(&mut client);
}

/// A frame that is begun and does not come on holds up everything else on its connection, which therefore ends; so
/// does a connection that never says what it is.
#[test]
fn d20_a_frame_that_stands_still_ends_its_connection() {
    let (_upstream, authority, sluis) = in_front("header_timeout: 1s");
    let mut preface = Frames::silent(&authority, &sluis);
    preface.raw(b"PRI * HT").unwrap();
    let mut clients = vec![preface];
    let header = header("GET", "/static/x");
    for begun in [
        &[0, 0],
        &frame(PING, 0, 0, b"12345678")[..12],
        &frame(DATA, 0, 1, b"of no body")[..12],
        &frame(HEADERS, END_HEADERS | END_STREAM, 3, &header)[..12],
        &frame(HEADERS, END_STREAM, 3, &header),
    ] {
        let mut client = Frames::connect(&authority, &sluis, &[]);
        serves(&mut client);
        client.raw(begun).unwrap();
        clients.push(client);
    }
    for mut client in clients {
        client.end();
        assert!(client.got(3).is_empty(), "{:?}", client.got(3));
    }
}

/// A header has one deadline, in however many frames it comes.
#[test]
fn d20_a_header_that_drips_ends_its_connection() {
    let (_upstream, authority, sluis) = in_front("header_timeout: 1s");
    let mut client = Frames::connect(&authority, &sluis, &[]);
    let header = header("GET", "/static/x");
    let (first, rest) = header.split_at(4);
    let stream = client.stream();
    client.send(HEADERS, END_STREAM, stream, first).unwrap();
    let taken = rest.iter().take_while(|byte| {
        std::thread::sleep(Duration::from_millis(100)); // the drip itself
        client.send(CONTINUATION, 0, stream, &[**byte]).is_ok()
    });
    assert!(taken.count() < rest.len(), "the header came in whole");
    client.end();
    assert!(client.got(stream).is_empty(), "{:?}", client.got(stream));
}

/// A header list that is too large is refused, and its connection goes on; one that never ends ends the connection.
#[test]
fn d20_header_lists_are_bounded() {
    let (_upstream, authority, sluis) = in_front("header_bytes: 16KiB");
    let mut client = Frames::connect(&authority, &sluis, &[]);
    let stream = client.stream();
    let filler: Vec<u8> = (0..180).flat_map(|n| field(&format!("x-filler-{n}"), &"x".repeat(100))).collect();
    let (first, second) = filler.split_at(10_000);
    let head = [header("GET", "/static/x"), first.to_vec()].concat();
    client.send(HEADERS, END_STREAM, stream, &head).unwrap();
    client.send(CONTINUATION, END_HEADERS, stream, second).unwrap();
    assert_eq!(client.answer(stream).status(), 431);
    serves(&mut client);

    let stream = client.stream();
    client.send(HEADERS, END_STREAM, stream, &header("GET", "/static/x")).unwrap();
    let piece = frame(CONTINUATION, 0, stream, &[]);
    while client.raw(&piece).is_ok() {}
    assert_eq!(client.end().unwrap_or(ENHANCE_YOUR_CALM), ENHANCE_YOUR_CALM);
}

/// So many requests at a time, and no more: the others are refused, untouched.
#[test]
fn d20_streams_at_a_time_are_bounded() {
    let (_upstream, authority, sluis) = in_front("min_body_rate: 256");
    let mut client = Frames::connect(&authority, &sluis, &[]);
    let allowed = client.await_frame("settings", |frame| frame.kind == SETTINGS && frame.flags == 0);
    let most = allowed.payload.chunks(6).find(|setting| setting[..2] == [0, 3]).expect("a number of streams");
    assert_eq!(most[2..], 100u32.to_be_bytes());
    // The server counts on what it has said only once the client has heard it.
    client.send(SETTINGS, 1, 0, &[]).unwrap();
    let open: Vec<u32> = (0..100).map(|_| client.request("POST", "/static/x", 0)).collect();
    let one_more = client.request("POST", "/static/x", 0);
    assert_eq!(client.reset(one_more), REFUSED_STREAM);
    client.send(DATA, END_STREAM, open[0], b"end").unwrap();
    assert_eq!(client.answer(open[0]).status(), 200);
    serves(&mut client);
}

/// Requests that are taken back at once, again and again (CVE-2023-44487), end their connection.
#[test]
fn d20_rapid_resets_end_the_connection() {
    let (_upstream, authority, sluis) = in_front("min_body_rate: 256");
    let mut client = Frames::connect(&authority, &sluis, &[]);
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "it goes on");
        let mut bytes = Vec::new();
        for _ in 0..100 {
            let stream = client.stream();
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &header("GET", "/static/x")));
            bytes.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        }
        if client.raw(&bytes).is_err() {
            break;
        }
    }
    assert_eq!(client.end().unwrap_or(ENHANCE_YOUR_CALM), ENHANCE_YOUR_CALM);
    serves(&mut Frames::connect(&authority, &sluis, &[]));
}

/// A client that opens no window for its answer does not hold it for ever.
#[test]
fn d20_an_answer_that_is_not_taken_is_given_up() {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let (_upstream, authority, sluis) = in_front("client_idle_timeout: 5s");
    let mut client = Frames::connect(&authority, &sluis, &[(INITIAL_WINDOW_SIZE, 0)]);
    let stream = client.request("GET", "/static/x", END_STREAM);
    assert_eq!(client.answer(stream).status(), 200);
    client.reset(stream);
    assert!(client.got(stream).is_empty(), "{:?}", client.got(stream));
}
