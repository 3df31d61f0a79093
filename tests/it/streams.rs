//! Answers that take their time: a session that ends meanwhile gets no further byte of them.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use reqwest::StatusCode;

use crate::support::{Browser, Sluis, redis::eventually, sluis::care_records};

/// An app that says "early", and "late" only when it is told to. `/events` begins to answer at once; `/poll` only then.
struct SlowApp {
    address: SocketAddr,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    /// Requests that wait, and whether they need to no longer.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl SlowApp {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let told = Arc::new(Told::default());
        let waiting = Arc::clone(&told);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let waiting = Arc::clone(&waiting);
                std::thread::spawn(move || serve(&stream, &waiting));
            }
        });
        Self { address, told }
    }

    /// Waits until so many requests wait.
    fn await_waiting(&self, count: usize) {
        eventually("requests that wait", || self.told.state.lock().unwrap().0 == count);
    }

    fn go_on(&self) {
        self.told.state.lock().unwrap().1 = true;
        self.told.changed.notify_all();
    }

    fn hold(&self) {
        *self.told.state.lock().unwrap() = (0, false);
    }
}

fn serve(stream: &TcpStream, told: &Told) {
    let mut input = BufReader::new(stream);
    let mut output = stream;
    let mut write = |text: &str| output.write_all(text.as_bytes());
    loop {
        let (mut target, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if input.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if target.is_empty() {
                target = line.split(' ').nth(1).unwrap_or_default().to_owned();
            }
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body).unwrap();
        let wait = || {
            let mut state = told.state.lock().unwrap();
            state.0 += 1;
            drop(told.changed.wait_while(state, |state| !state.1).unwrap());
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let is_login = String::from_utf8_lossy(&body).contains("username=");
        let written = match target.trim_start_matches("/login.json?") {
            "/login" if is_login => write(
                "HTTP/1.1 302 Found\r\nLocation: /\r\nSet-Cookie: ZORGSESSIE=x; Path=/; HttpOnly\r\nContent-Length: 0\r\n\r\n",
            ),
            "/events" | "events" => write(&format!("{head}5\r\nearly\r\n")).and_then(|()| {
                wait();
                write("4\r\nlate\r\n0\r\n\r\n")
            }),
            "/poll" | "poll" => {
                wait();
                write(&format!("{head}4\r\nlate\r\n0\r\n\r\n"))
            }
            _ => write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        };
        if written.is_err() {
            return;
        }
    }
}

/// A GET goes the short way through the proxy, a POST the long one, and one that may be a login and is none goes to the app
/// on an own round trip.
const REQUESTS: [(&str, &str); 6] = [
    ("GET", "/events"),
    ("POST", "/events"),
    ("POST", "/login.json?events"),
    ("GET", "/poll"),
    ("POST", "/poll"),
    ("POST", "/login.json?poll"),
];

/// The end of the head, and a body that is no login.
const POSTED: &str = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b";

/// Sends them in the name of this browser.
fn ask_all(sluis: &Sluis, app: &SlowApp, browser: &Browser) -> Vec<TcpStream> {
    app.hold();
    let cookies: Vec<String> = browser.jar.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let ask = |(method, path): &(&str, &str)| {
        let mut stream = TcpStream::connect(sluis.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let rest = if *method == "POST" { POSTED } else { "\r\n" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: {}\r\n{rest}",
            cookies.join("; ")
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let streams: Vec<TcpStream> = REQUESTS.iter().map(ask).collect();
    app.await_waiting(REQUESTS.len());
    streams
}

fn read_all(streams: Vec<TcpStream>) -> Vec<String> {
    let read = |mut stream: TcpStream| {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    };
    streams.into_iter().map(read).collect()
}

/// [I1, I3] Server-sent events and long polling: what the app says after the session has ended reaches nobody, whatever
/// ended it; whoever waited for a first byte hears what anybody hears who comes now.
#[tokio::test(flavor = "multi_thread")]
async fn i3_an_answer_ends_with_its_session() {
    let app = SlowApp::start();
    let mut sluis = Sluis::start(&care_records(app.address));
    for ending in ["nothing", "logout", "takeover", "reset", "block"] {
        let mut anna = sluis.browser();
        let pending = sluis.password(&mut anna, &format!("anna-{ending}")).await;
        let (_, entered) = sluis.enrol(&mut anna, &pending).await;
        assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
        let streams = ask_all(&sluis, &app, &anna);
        sluis.clock.advance(Duration::from_secs(1));
        let cli = |words: &[&str]| {
            let done = sluis.cli(words);
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        match ending {
            "logout" => drop(anna.clone().get("/logout").await),
            "takeover" => {
                let mut bram = anna.clone();
                bram.jar.remove("sluis-session");
                let pending = sluis.password(&mut bram, "bram").await;
                sluis.enrol(&mut bram, &pending).await;
            }
            "reset" => cli(&["user", "reset", "anna-reset"]),
            "block" => cli(&["user", "block", "anna-block"]),
            _ => {}
        }
        app.go_on();
        let answers = read_all(streams);
        for ((method, path), answer) in REQUESTS.iter().zip(&answers) {
            let what = format!("{ending}: {method} {path}: {answer}");
            if ending == "nothing" {
                assert!(answer.contains("late") && answer.ends_with("0\r\n\r\n"), "{what}");
                continue;
            }
            assert!(!answer.contains("late"), "{what}");
            if path.ends_with("events") {
                assert!(answer.contains("early") && !answer.ends_with("0\r\n\r\n"), "{what}");
            } else {
                let status = if ending == "block" { " 403 " } else { " 401 " };
                assert!(answer.get(8..13) == Some(status), "{what}");
            }
        }
    }
}
