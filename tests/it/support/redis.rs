//! Redis as Debian ships it: stand-alone, a Sentinel set, a Cluster. Each server has files and ports of its own, and ends
//! with the test.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use redis::{ConnectionLike, Value};

use super::process::{PATIENCE, Process};

/// One server (or one sentinel).
pub struct Redis {
    process: Option<Process>,
    dir: tempfile::TempDir,
    port: u16,
    sentinel: bool,
    /// Who the test itself is, when the server asks.
    login: Option<(String, String)>,
}

impl Redis {
    /// One that keeps nothing on disk and evicts nothing.
    pub fn start() -> Self {
        Self::with("")
    }

    /// One with more lines of configuration.
    pub fn with(lines: &str) -> Self {
        Self::launch(lines, false)
    }

    /// One that writes every change to disk before it answers.
    pub fn durable() -> Self {
        Self::with("appendonly yes\nappendfsync always\n")
    }

    /// One that asks for this password.
    pub fn with_password(password: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::launch_in(dir, &format!("requirepass {password}\n"), false, Some(("default", password)))
    }

    /// One that speaks TLS only, and only with clients whose certificate this root has signed; the test itself has none.
    pub fn with_tls(certificate: &str, key: &str, root: &str) -> Self {
        Self::with(&format!(
            "appendonly yes\nappendfsync always\ntls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {root}\ntls-auth-clients yes\n"
        ))
    }

    /// A replica of another.
    pub fn replica_of(master: &Self) -> Self {
        let replica =
            Self::with(&format!("replicaof 127.0.0.1 {}\nrepl-diskless-sync-delay 0\n", master.port));
        replica.await_info("replication", "master_link_status:up");
        replica
    }

    fn launch(lines: &str, sentinel: bool) -> Self {
        Self::launch_in(tempfile::tempdir().unwrap(), lines, sentinel, None)
    }

    fn launch_in(dir: tempfile::TempDir, lines: &str, sentinel: bool, login: Option<(&str, &str)>) -> Self {
        let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
        let mut redis = Self { process: None, dir, port: 0, sentinel, login };
        for _ in 0..10 {
            redis.port = quiet_port();
            // The cluster's bus would listen 10,000 above.
            let bus = if lines.contains("cluster-enabled") {
                format!("cluster-port {}\n", quiet_port())
            } else {
                String::new()
            };
            let general = if sentinel {
                ""
            } else {
                "save \"\"\nmaxmemory-policy noeviction\nrepl-diskless-sync yes\nrepl-diskless-sync-delay 0\n"
            };
            let port = if lines.contains("tls-cert-file") { "port 0\ntls-port" } else { "port" };
            let text = format!(
                "bind 127.0.0.1\n{port} {}\ndir {}\ndaemonize no\n{general}{bus}{lines}",
                redis.port,
                redis.dir.path().display()
            );
            std::fs::write(redis.dir.path().join("redis.conf"), text).unwrap();
            if redis.try_start() {
                return redis;
            }
        }
        panic!("no free port for a Redis");
    }

    /// False when the port was taken meanwhile.
    fn try_start(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        command.arg(self.dir.path().join("redis.conf"));
        if self.sentinel {
            command.arg("--sentinel");
        }
        let mut process = Process::start("redis", &mut command);
        let ready = process.await_line("start", |line| {
            if line.contains("Ready to accept connections") || line.contains("Sentinel ID is") {
                return Some(true);
            }
            let taken = line.contains("Address already in use") || line.contains("Failed listening");
            taken.then_some(false)
        });
        self.process = Some(process);
        ready
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts it again on the same port and files, and waits until it answers.
    pub fn start_again(&mut self) {
        self.start_again_without_waiting();
        self.await_up();
    }

    /// Starts it again on the same port and files; it may still be loading.
    pub fn start_again_without_waiting(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let mut command = Command::new("redis-server");
        command.arg(self.dir.path().join("redis.conf"));
        if self.sentinel {
            command.arg("--sentinel");
        }
        self.process = Some(Process::start("redis", &mut command));
    }

    /// More lines of configuration, for its next start.
    pub fn append_config(&self, lines: &str) {
        let file = self.dir.path().join("redis.conf");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, text + lines).unwrap();
    }

    /// Waits until it answers.
    pub fn await_up(&self) {
        eventually("Redis to answer", || self.try_command(&["PING"]).is_ok());
    }

    /// Lets it stand still: connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.process.as_ref().expect("it runs").signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.as_ref().expect("it runs").signal("CONT");
    }

    /// From now on the test itself logs in like this.
    pub fn log_in_as(&mut self, user: &str, password: &str) {
        self.login = Some((user.to_owned(), password.to_owned()));
    }

    /// A connection of the test's own.
    pub fn connection(&self) -> redis::RedisResult<redis::Connection> {
        let who =
            self.login.as_ref().map(|(user, password)| format!("{user}:{password}@")).unwrap_or_default();
        let client = redis::Client::open(format!("redis://{who}127.0.0.1:{}", self.port))?;
        client.get_connection_with_timeout(Duration::from_secs(5))
    }

    /// What a command answers.
    pub fn try_command(&self, words: &[&str]) -> redis::RedisResult<Value> {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        loop {
            // Sentinels answer errors inside arrays as well.
            let answer = self.connection()?.req_command(&command).and_then(Value::extract_error);
            match answer {
                // By a signal to this process: nothing that a test asks is worse when it is asked again.
                Err(error) if error.to_string().contains("Interrupted system call") => {}
                answer => return answer,
            }
        }
    }

    /// What a command answers; it must not fail.
    pub fn command(&self, words: &[&str]) -> Value {
        self.try_command(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// A section of `INFO`.
    pub fn info(&self, section: &str) -> String {
        redis::from_redis_value(self.command(&["INFO", section])).unwrap()
    }

    /// Waits until a section of `INFO` has this text.
    pub fn await_info(&self, section: &str, text: &str) {
        eventually(text, || self.info(section).contains(text));
    }

    /// Commands it has run so far, by name (`cmdstat_…`), without the test's own `INFO`, `PING` and `HELLO`-like ones.
    pub fn commands(&self) -> std::collections::BTreeMap<String, u64> {
        let own = [
            "info",
            "ping",
            "client",
            "client|setinfo",
            "client|setname",
            "hello",
            "auth",
            "command",
            "select",
        ];
        self.info("commandstats")
            .lines()
            .filter_map(|line| {
                let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
                (!own.contains(&name))
                    .then(|| (name.to_owned(), rest.split(',').next().unwrap().parse().unwrap()))
            })
            .collect()
    }

    /// Whether it is a master now.
    pub fn is_master(&self) -> bool {
        self.process.is_some() && self.info("replication").contains("role:master")
    }
}

/// A master, two replicas, and three sentinels that watch them.
pub struct SentinelSet {
    /// The master of the beginning, then the replicas.
    pub servers: Vec<Redis>,
    /// The sentinels.
    pub sentinels: Vec<Redis>,
}

impl SentinelSet {
    /// The name of the service.
    pub const NAME: &'static str = "sluis";

    /// Starts it; a dead master is found after 2 s.
    pub fn start() -> Self {
        let master = Redis::start();
        let mut servers = vec![master];
        for _ in 0..2 {
            let replica = Redis::replica_of(&servers[0]);
            servers.push(replica);
        }
        let lines = format!(
            "sentinel monitor {0} 127.0.0.1 {1} 2\nsentinel down-after-milliseconds {0} 2000\n\
             sentinel failover-timeout {0} 3000\nsentinel parallel-syncs {0} 2\n",
            Self::NAME,
            servers[0].port
        );
        let sentinels: Vec<Redis> = (0..3).map(|_| Redis::launch(&lines, true)).collect();
        let set = Self { servers, sentinels };
        for sentinel in &set.sentinels {
            eventually("the sentinels to know each other", || {
                let about = sentinel.info("sentinel");
                about.contains("slaves=2,sentinels=3") && about.contains("status=ok")
            });
        }
        set
    }

    /// Which of the servers the sentinels call master.
    pub fn master(&self) -> usize {
        let answer = self.sentinels[0].command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::NAME]);
        let (_, port): (String, u16) = redis::from_redis_value(answer).unwrap();
        self.servers.iter().position(|server| server.port == port).expect("one of ours")
    }

    /// A question for a probe: whether a master that a sentinel names acknowledges a write, and a replica of it does.
    pub fn acknowledges(&self) -> impl Fn() -> bool + Send + 'static + use<> {
        let sentinels: Vec<u16> = self.sentinels.iter().map(|sentinel| sentinel.port).collect();
        move || {
            let named = |sentinel: &u16| -> redis::RedisResult<u16> {
                let mut ask = redis::cmd("SENTINEL");
                ask.arg("GET-MASTER-ADDR-BY-NAME").arg(Self::NAME);
                let (_, port): (String, u16) = ask.query(&mut at_once(*sentinel)?)?;
                Ok(port)
            };
            sentinels
                .iter()
                .filter_map(|sentinel| named(sentinel).ok())
                .any(|port| is_kept_twice(port, "probe"))
        }
    }

    /// Waits until another than `old` is the master and takes writes.
    pub fn await_failover(&self, old: usize) -> usize {
        eventually("another master", || self.master() != old && self.servers[self.master()].is_master());
        self.master()
    }
}

/// Three masters that share the slots; with replicas behind them when one is to be lost.
pub struct Cluster {
    /// The three masters of the beginning, then their replicas in the same order.
    pub nodes: Vec<Redis>,
}

impl Cluster {
    /// Three masters, and so many replicas of each.
    pub fn start(replicas: usize) -> Self {
        let lines = "cluster-enabled yes\ncluster-node-timeout 1000\ncluster-config-file nodes.conf\n\
                     cluster-allow-replica-migration no\ncluster-replica-validity-factor 0\nrepl-diskless-sync-delay 0\n";
        let nodes: Vec<Redis> = (0..3 * (1 + replicas)).map(|_| Redis::with(lines)).collect();
        for (master, (first, last)) in
            nodes.iter().zip([("0", "5460"), ("5461", "10922"), ("10923", "16383")])
        {
            master.command(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
        }
        for (number, node) in nodes.iter().enumerate() {
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            let bus = node.bus_port().to_string();
            if number > 0 {
                nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &node.port.to_string(), &bus]);
            }
        }
        let known = format!("cluster_known_nodes:{}", nodes.len());
        let cluster = Self { nodes };
        cluster.await_all(|about| about.contains(&known));
        for (number, replica) in cluster.nodes.iter().enumerate().skip(3) {
            let id: String =
                redis::from_redis_value(cluster.nodes[number % 3].command(&["CLUSTER", "MYID"])).unwrap();
            eventually("the replica to know its master", || {
                replica.try_command(&["CLUSTER", "REPLICATE", &id]).is_ok()
            });
        }
        cluster.await_all(|about| about.contains("cluster_state:ok"));
        for replica in cluster.nodes.iter().skip(3) {
            replica.await_info("replication", "master_link_status:up");
        }
        cluster
    }

    fn await_all(&self, found: impl Fn(&str) -> bool) {
        for node in &self.nodes {
            eventually("the cluster to form", || {
                let about: String = redis::from_redis_value(node.command(&["CLUSTER", "INFO"])).unwrap();
                found(&about)
            });
        }
    }

    /// A question for a probe: whether each third of the slots is written to, and a replica has that, too.
    pub fn acknowledges(&self) -> impl Fn() -> bool + Send + 'static + use<> {
        let ports: Vec<u16> = self.nodes.iter().map(|node| node.port).collect();
        let slot = |key: &str| -> u16 {
            redis::from_redis_value(self.nodes[0].command(&["CLUSTER", "KEYSLOT", key])).unwrap()
        };
        let keys = [0..5461, 5461..10923, 10923..16384].map(|third| {
            (0..).map(|number| format!("probe {number}")).find(|key| third.contains(&slot(key))).unwrap()
        });
        move || keys.iter().all(|key| ports.iter().any(|port| is_kept_twice(*port, key)))
    }

    /// Waits until all slots are served, as the nodes that run see it.
    pub fn await_whole(&self) {
        for node in self.nodes.iter().filter(|node| node.process.is_some()) {
            eventually("the cluster to be whole", || {
                let about: String = redis::from_redis_value(node.command(&["CLUSTER", "INFO"])).unwrap();
                about.contains("cluster_state:ok")
            });
        }
    }
}

impl Redis {
    fn bus_port(&self) -> u16 {
        let text = std::fs::read_to_string(self.dir.path().join("redis.conf")).unwrap();
        text.lines().find_map(|line| line.strip_prefix("cluster-port ")).unwrap().parse().unwrap()
    }
}

/// A connection to a server that answers soon or not at all.
fn at_once(port: u16) -> redis::RedisResult<redis::Connection> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
    let connection = client.get_connection_with_timeout(Duration::from_millis(500))?;
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(connection)
}

/// Whether this server takes a write, and a replica has it.
fn is_kept_twice(port: u16, key: &str) -> bool {
    let written = || -> redis::RedisResult<usize> {
        let mut connection = at_once(port)?;
        redis::cmd("SET").arg(key).arg("x").query::<()>(&mut connection)?;
        redis::cmd("WAIT").arg(1).arg(500).query(&mut connection)
    };
    written().is_ok_and(|replicas| replicas > 0)
}

/// Waits for something that a server does in its own time and announces nowhere.
pub fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A free port below those that the system gives to clients: one who tries again and again to reach a port
/// among those while nobody listens there may in the end be connected to itself.
fn quiet_port() -> u16 {
    use std::hash::{BuildHasher, Hasher, RandomState};

    for _ in 0..1000 {
        let random = RandomState::new().build_hasher().finish();
        let port = 10_000 + u16::try_from(random % 20_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}
