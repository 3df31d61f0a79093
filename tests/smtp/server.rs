//! A mail server, and somebody who reads what came; neither is ours. `make test` installs both.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A server that listens.
pub struct Server {
    child: Child,
    lines: mpsc::Receiver<serde_json::Value>,
    /// Where.
    pub port: u64,
}

impl Server {
    /// Starts one with these options (see `tests/smtp/server.cjs`).
    pub fn start(options: &serde_json::Value) -> Self {
        let root = Path::new(ROOT);
        let mut child = Command::new("node")
            .arg(root.join("tests/smtp/server.cjs"))
            .arg(root.join("tests/.cache/node_modules"))
            .arg(options.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is missing: `make test` installs it");
        let out = child.stdout.take().unwrap();
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = said.send(serde_json::from_str(&line).unwrap());
            }
        });
        let mut server = Self { child, lines, port: 0 };
        server.port = server.next("listening")["listening"].as_u64().unwrap();
        server
    }

    /// Waits for the next line that has this key; the others are passed over.
    pub fn next(&self, key: &str) -> serde_json::Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("the mail server says something");
            if !line[key].is_null() {
                return line;
            }
        }
    }

    /// Waits for the next message, and has it read.
    pub fn message(&self) -> serde_json::Value {
        let line = self.next("raw");
        let raw = data_encoding::BASE64.decode(line["raw"].as_str().unwrap().as_bytes()).unwrap();
        let mut read = parsed(&raw);
        for key in ["from", "to", "secure", "user", "connection"] {
            read[key] = line[key].clone();
        }
        read
    }

    /// The lines that came and nobody has waited for.
    pub fn rest(&self) -> Vec<serde_json::Value> {
        self.lines.try_iter().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What Python's email package makes of these bytes.
pub fn parsed(bytes: &[u8]) -> serde_json::Value {
    let mut child = Command::new("python3")
        .arg(Path::new(ROOT).join("tests/smtp/parse.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(bytes));
    serde_json::from_slice(&out.stdout).unwrap()
}

const PATIENCE: Duration = Duration::from_secs(180);
