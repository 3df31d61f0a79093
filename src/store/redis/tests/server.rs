//! Redis servers for one test: on a Unix socket where that will do, else on a free port; killed with the test.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use redis::{Client, ConnectionAddr, IntoConnectionInfo, Value};

use crate::{
    base::clock::Stopwatch,
    config::shared::{RedisAddress, RedisConfig, RedisServers, RedisTls},
};

/// One server.
pub struct Server {
    process: Option<Child>,
    directory: tempfile::TempDir,
    lines: Vec<String>,
    port: Option<u16>,
    sentinel: bool,
}

/// A master, its replicas and sentinels.
pub struct Watched {
    pub master: Server,
    _others: Vec<Server>,
}

impl Server {
    /// On a socket, keeping nothing on disk unless told to.
    pub fn start(options: &[&str]) -> Self {
        Self::try_launch(options, None, false).expect("redis-server starts")
    }

    /// A replica of `master`, which must have a port; both are then in step.
    pub fn replica_of(master: &Self) -> Self {
        let from = master.port.unwrap();
        let copy = on_a_port(|port| {
            let options = ["--replicaof", "127.0.0.1", &from.to_string(), "--repl-diskless-sync-delay", "0"];
            Self::try_launch(&options, Some(port), false)
        });
        wait_for("replication", || copy.info("master_link_status:up"));
        copy
    }

    /// Three masters of a Cluster, each with a third of the slots.
    pub fn cluster() -> (Vec<Self>, RedisConfig) {
        let node = || {
            on_a_port(|port| {
                let bus = free_port().to_string();
                Self::try_launch(&["--cluster-enabled", "yes", "--cluster-port", &bus], Some(port), false)
            })
        };
        let nodes = vec![node(), node(), node()];
        for (node, slots) in nodes.iter().zip([("0", "5460"), ("5461", "10922"), ("10923", "16383")]) {
            node.command(&["CLUSTER", "ADDSLOTSRANGE", slots.0, slots.1]);
        }
        for node in &nodes[1..] {
            let port = node.port.unwrap().to_string();
            let bus = node.lines.iter().skip_while(|line| *line != "--cluster-port").nth(1).unwrap();
            nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]);
        }
        wait_for("the cluster", || {
            nodes.iter().all(|node| node.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
        });
        let seeds = vec![nodes[0].address()];
        let config =
            RedisConfig { servers: RedisServers::Cluster { nodes: seeds }, shards: 16, ..nodes[0].config() };
        (nodes, config)
    }

    /// A master with two replicas, and three sentinels.
    pub fn sentinels() -> (Watched, RedisConfig) {
        let master = Self::start_on_port(&[]);
        let mut others = vec![Self::replica_of(&master), Self::replica_of(&master)];
        let sentinels: Vec<_> =
            (0..3).map(|_| on_a_port(|port| Self::try_launch(&[], Some(port), true))).collect();
        for sentinel in &sentinels {
            let port = master.port.unwrap().to_string();
            sentinel.command(&["SENTINEL", "MONITOR", "main", "127.0.0.1", &port, "2"]);
            sentinel.command(&["SENTINEL", "SET", "main", "down-after-milliseconds", "500"]);
            sentinel.command(&["SENTINEL", "SET", "main", "failover-timeout", "3000"]);
        }
        wait_for("the sentinels", || {
            sentinels.iter().all(|sentinel| {
                let text = sentinel.text(&["SENTINEL", "MASTER", "main"]);
                text.contains("num-other-sentinels 2") && text.contains("num-slaves 2")
            })
        });
        let nodes = sentinels.iter().map(Self::address).collect();
        let servers = RedisServers::Sentinel { nodes, service: "main".to_owned(), database: 0 };
        let config = RedisConfig { servers, ..master.config() };
        others.extend(sentinels);
        (Watched { master, _others: others }, config)
    }

    /// One that speaks TLS only, beside its socket.
    pub fn with_tls() -> (Self, RedisConfig) {
        let directory = tempfile::tempdir().unwrap();
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (chain, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
        std::fs::write(&chain, pair.cert.pem()).unwrap();
        std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        let file = |path: &Path| path.display().to_string();
        let (mut server, port) = (0..10)
            .find_map(|_| {
                let port = free_port();
                let number = port.to_string();
                let options = [
                    "--tls-port",
                    &number,
                    "--tls-cert-file",
                    &file(&chain),
                    "--tls-key-file",
                    &file(&key),
                    "--tls-ca-cert-file",
                    &file(&chain),
                    "--tls-auth-clients",
                    "no",
                ];
                Self::try_launch(&options, None, false).map(|server| (server, port))
            })
            .unwrap();
        for name in ["tls.crt", "tls.key"] {
            std::fs::copy(directory.path().join(name), server.directory().join(name)).unwrap();
        }
        server.lines.clear();
        let address = RedisAddress::Tcp("localhost".to_owned(), port);
        let config = RedisConfig {
            servers: RedisServers::Single { address, database: 3 },
            tls: Some(RedisTls { ca_file: Some(server.directory().join("tls.crt")), client: None }),
            ..server.config()
        };
        (server, config)
    }

    /// On a port of 127.0.0.1 beside its socket.
    pub fn start_on_port(options: &[&str]) -> Self {
        on_a_port(|port| Self::try_launch(options, Some(port), false))
    }

    /// How Sluis reaches it.
    pub fn config(&self) -> RedisConfig {
        RedisConfig {
            servers: RedisServers::Single { address: RedisAddress::Unix(self.socket()), database: 0 },
            username: None,
            password: None,
            tls: None,
            prefix: "sluis".to_owned(),
            shards: 1,
            durability: 0,
            timeout: Duration::from_secs(1),
            feed_length: 1000,
            initialise: true,
        }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// On the same files.
    pub fn start_again(&mut self) {
        let options: Vec<_> = self.lines.iter().map(String::as_str).collect();
        self.process = Some(spawn(self.directory.path(), &options, self.port, self.sentinel));
        assert!(self.is_up());
    }

    /// SIGSTOP.
    pub fn stop(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = self.process.as_ref().unwrap().id();
        let id = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// A command; it must go well.
    pub fn command(&self, words: &[&str]) -> Value {
        let mut command = redis::Cmd::new();
        command.arg(words);
        self.run(&command)
    }

    pub fn hash(&self, key: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        redis::from_redis_value(self.command(&["HGETALL", key])).unwrap()
    }

    pub fn set_hash(&self, key: &str, field: &[u8], value: &[u8]) {
        let mut command = redis::cmd("HSET");
        command.arg(key).arg(field).arg(value);
        self.run(&command);
    }

    pub fn keys(&self, pattern: &str) -> Vec<String> {
        redis::from_redis_value(self.command(&["KEYS", pattern])).unwrap()
    }

    fn run(&self, command: &redis::Cmd) -> Value {
        let mut connection = self.client().get_connection().unwrap();
        command.query(&mut connection).unwrap()
    }

    fn text(&self, words: &[&str]) -> String {
        match self.command(words) {
            Value::Array(values) => {
                let words: Vec<String> =
                    values.into_iter().filter_map(|value| redis::from_redis_value(value).ok()).collect();
                words.join(" ")
            }
            value => redis::from_redis_value(value).unwrap(),
        }
    }

    fn info(&self, line: &str) -> bool {
        self.text(&["INFO"]).contains(line)
    }

    fn client(&self) -> Client {
        let address = match self.port {
            Some(port) if self.sentinel => ConnectionAddr::Tcp("127.0.0.1".to_owned(), port),
            _ => ConnectionAddr::Unix(self.socket()),
        };
        Client::open(address.into_connection_info().unwrap()).unwrap()
    }

    fn address(&self) -> RedisAddress {
        RedisAddress::Tcp("127.0.0.1".to_owned(), self.port.unwrap())
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// `None` when it ended at once: its port was taken.
    fn try_launch(options: &[&str], port: Option<u16>, sentinel: bool) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let process = Some(spawn(directory.path(), options, port, sentinel));
        let lines = options.iter().map(|line| (*line).to_owned()).collect();
        let mut server = Self { process, directory, lines, port, sentinel };
        server.is_up().then_some(server)
    }

    fn is_up(&mut self) -> bool {
        let begun = Stopwatch::start();
        while begun.elapsed() < Duration::from_secs(20) {
            if self.process.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            let answers =
                self.client().get_connection().and_then(|mut c| redis::cmd("PING").query::<String>(&mut c));
            if answers.is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(directory: &Path, options: &[&str], port: Option<u16>, sentinel: bool) -> Child {
    let mut command = Command::new("redis-server");
    if sentinel {
        // A sentinel writes what it learns into its file.
        std::fs::write(directory.join("sentinel.conf"), "").unwrap();
        command.arg(directory.join("sentinel.conf"));
        command.arg("--sentinel");
    } else {
        command.args(["--unixsocket", "redis.sock", "--save", ""]);
    }
    command.args(["--port", &port.unwrap_or(0).to_string(), "--bind", "127.0.0.1"]);
    command.args(["--dir", &directory.display().to_string()]);
    command.args(options);
    command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server: run scripts/install-test.sh")
}

/// A port that was free a moment ago; when somebody takes it meanwhile, another one is tried.
fn on_a_port(start: impl Fn(u16) -> Option<Server>) -> Server {
    (0..10).find_map(|_| start(free_port())).expect("redis-server starts")
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let begun = Stopwatch::start();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
