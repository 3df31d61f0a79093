//! The way to the servers: connections, time-outs, reconnection, redirection.
//!
//! Connections live on a runtime of their own, one thread: whoever asks may be on any runtime, and a runtime that ends
//! takes no connection with it. Asking a second time is always safe, since every script answers the same to the same
//! question (see `swap` and `consume`), so a connection that turns out to be dead is replaced without anybody
//! noticing; but an answer that does not come in time is an error at once.
//!
//! A server that is down is tried again after 50 ms, at most after half a second; meanwhile whoever asks hears at once.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use redis::{ErrorKind, Pipeline, RedisError, ServerErrorKind, Value, cmd};
use tokio::{
    runtime::Handle,
    sync::{Mutex as AsyncMutex, Notify, Semaphore, oneshot},
};

use super::{
    dial::{self, Info, Wire},
    failure::{Failure, judge},
    routes::Routes,
    scripts::Script,
    sentinels,
};
use crate::{
    base::clock::Stopwatch,
    config::shared::{RedisAddress, RedisConfig, RedisServers},
    metrics::{Redirect, RedisMetrics, Went},
    store::{StoreError, StoreResult},
};

/// Between two attempts to connect: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// So often one question is asked of a server that is found to be the wrong one; of one that is only half moved it is asked
/// for as long as an answer may take.
const ATTEMPTS: usize = 4;
/// Before somebody else is asked after "not I".
const ELSEWHERE_PAUSE: Duration = Duration::from_millis(20);
/// Connections that wait for replicas (`WAIT`) at a time.
const DURABLE_AT_ONCE: usize = 64;
/// How often the sentinels are asked whether the master is still the same.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// One question to one shard.
#[derive(Clone)]
pub(super) struct Call {
    pub shard: usize,
    pub script: Script,
    pub keys: Vec<Vec<u8>>,
    pub args: Vec<Vec<u8>>,
    /// The run of the server that answers becomes the last argument.
    pub with_run: bool,
    /// So many replicas must have what is written; 0 = nobody is asked.
    pub replicas: usize,
}

/// The way to all shards. Dropping it ends the thread.
pub(super) struct Link {
    handle: Handle,
    inner: Arc<Inner>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Inner {
    config: RedisConfig,
    routes: Routes,
    nodes: Mutex<HashMap<RedisAddress, Arc<Node>>>,
    durable: Semaphore,
    metrics: RedisMetrics,
}

/// One server.
#[derive(Default)]
struct Node {
    shared: Mutex<Option<(u64, Wire)>>,
    generation: AtomicU64,
    dialing: AsyncMutex<Dialing>,
    /// Connections for `WAIT`, which holds up whatever comes behind it on the same one.
    idle: Mutex<Vec<Wire>>,
}

#[derive(Default)]
struct Dialing {
    failures: u32,
    failed: Option<(Stopwatch, StoreError)>,
}

impl Link {
    /// Starts the thread; connects to nothing yet.
    pub fn start(config: RedisConfig, slots: Vec<u16>, metrics: RedisMetrics) -> std::io::Result<Self> {
        // The client takes the process's provider of cryptography; another one that is there already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let watches = matches!(config.servers, RedisServers::Sentinel { .. });
        let inner = Arc::new(Inner {
            config,
            routes: Routes::new(slots),
            nodes: Mutex::default(),
            durable: Semaphore::new(DURABLE_AT_ONCE),
            metrics,
        });
        let watched = Arc::clone(&inner);
        let thread = std::thread::Builder::new().name("store-redis".to_owned()).spawn(move || {
            runtime.block_on(async move {
                if watches {
                    tokio::spawn(watched.watch());
                }
                // A sender that is gone means stop as well.
                let _ = stopped.await;
            });
        })?;
        Ok(Self { handle, inner, stop: Some(stop), thread: Some(thread) })
    }

    /// The runtime of the connections.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Asks; the answer is the script's.
    pub async fn call(&self, call: Call) -> StoreResult<Value> {
        let inner = Arc::clone(&self.inner);
        self.on_thread(async move { inner.call(&call).await }).await
    }

    /// Waits up to `wait` for an entry behind `after` in a stream; on a connection of its own, which `own` keeps.
    pub async fn next(
        &self,
        shard: usize,
        own: Arc<Waiter>,
        key: Vec<u8>,
        after: u64,
        count: usize,
        wait: Duration,
    ) -> StoreResult<Value> {
        let inner = Arc::clone(&self.inner);
        self.on_thread(async move { inner.next(shard, &own, &key, after, count, wait).await }).await
    }

    /// What the shard's master says about itself.
    pub async fn info(&self, shard: usize) -> StoreResult<Arc<Info>> {
        let inner = Arc::clone(&self.inner);
        self.on_thread(async move {
            let address = inner.routes.find(&inner.config, shard).await?;
            inner.connect(&address, Some(inner.config.timeout)).await.map(|wire| wire.info)
        })
        .await
    }

    /// A plain command to the shard's master, for what is asked once.
    pub async fn ask(&self, shard: usize, words: &'static [&'static str]) -> StoreResult<Value> {
        let inner = Arc::clone(&self.inner);
        self.on_thread(async move {
            let address = inner.routes.find(&inner.config, shard).await?;
            let wire = inner.connect(&address, Some(inner.config.timeout)).await?;
            let mut ask = redis::Cmd::new();
            ask.arg(words);
            let mut connection = wire.connection;
            let answer = connection.send_packed_command(&ask).await.and_then(Value::extract_error);
            answer.map_err(|error| dial::failed(&address, &error))
        })
        .await
    }

    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl Future<Output = StoreResult<T>> + Send + 'static,
    ) -> StoreResult<T> {
        self.handle
            .spawn(work)
            .await
            .unwrap_or_else(|_| Err(StoreError("the store is being closed".to_owned())))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // It ends at once: nothing on it blocks.
            let _ = thread.join();
        }
    }
}

/// The connection of somebody who waits for entries.
#[derive(Default)]
pub(super) struct Waiter(AsyncMutex<Option<(RedisAddress, Wire)>>);

impl Waiter {
    /// Lets go of the connection, unless somebody waits on it now: that one hears for itself when it is dead.
    pub fn hang_up(&self) {
        if let Ok(mut own) = self.0.try_lock() {
            *own = None;
        }
    }
}

impl Inner {
    async fn call(&self, call: &Call) -> StoreResult<Value> {
        let _counted = self.metrics.ask();
        let begun = Stopwatch::start();
        let mut lost_once = false;
        let mut last = None;
        let mut attempt = 0;
        while attempt < ATTEMPTS {
            attempt += 1;
            let address = self.routes.find(&self.config, call.shard).await?;
            let mut failure = match self.ask(&address, call, false).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            if let Failure::Ask(there) = &failure {
                self.metrics.redirects.count(Redirect::Ask);
                failure = match self.ask(there, call, true).await {
                    Ok(value) => return Ok(value),
                    Err(failure) => failure,
                };
            }
            match failure {
                Failure::Final(error) => return Err(error),
                Failure::Late(error) => {
                    self.routes.forget(call.shard, &address);
                    return Err(error);
                }
                Failure::Moved(there) => {
                    self.metrics.redirects.count(Redirect::Moved);
                    self.routes.learn(call.shard, there);
                }
                Failure::Ask(there) => last = Some(StoreError(format!("{there} sends us on, too"))),
                Failure::Elsewhere(error) => {
                    self.metrics.redirects.count(Redirect::Elsewhere);
                    self.routes.forget(call.shard, &address);
                    last = Some(error);
                    tokio::time::sleep(ELSEWHERE_PAUSE).await;
                }
                Failure::Midway(error) => {
                    self.metrics.redirects.count(Redirect::Midway);
                    if begun.elapsed() > self.config.timeout {
                        return Err(error);
                    }
                    // It arrives in its own time: these attempts do not count.
                    attempt -= 1;
                    tokio::time::sleep(ELSEWHERE_PAUSE).await;
                }
                Failure::Lost(error) => {
                    self.routes.forget(call.shard, &address);
                    if std::mem::replace(&mut lost_once, true) {
                        return Err(error);
                    }
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| StoreError("the shard moves from server to server".to_owned())))
    }

    /// Asks one server.
    async fn ask(&self, address: &RedisAddress, call: &Call, asking: bool) -> Result<Value, Failure> {
        let node = self.node(address);
        if call.replicas == 0 {
            let (generation, mut wire) = self.shared(&node, address).await.map_err(Failure::Lost)?;
            let answer = self.evaluate(&mut wire, address, call, asking).await;
            if matches!(answer, Err(Failure::Lost(_) | Failure::Late(_))) {
                node.drop_shared(generation);
            }
            return answer;
        }
        let closed = |_| Failure::Final(StoreError("the store is being closed".to_owned()));
        let _one = {
            let _waits = self.metrics.wait();
            self.durable.acquire().await.map_err(closed)?
        };
        let idle = node.idle.lock().pop();
        let mut wire = match idle {
            Some(wire) => wire,
            // The answer of `WAIT` comes up to one time-out after that of the script.
            None => {
                let patience = self.config.timeout.saturating_mul(2);
                self.dial(&node, address, patience).await.map_err(Failure::Lost)?
            }
        };
        let answer = self.evaluate(&mut wire, address, call, asking).await;
        match answer {
            Err(Failure::Lost(_) | Failure::Late(_)) => node.idle.lock().clear(),
            _ => node.idle.lock().push(wire),
        }
        answer
    }

    async fn evaluate(
        &self,
        wire: &mut Wire,
        address: &RedisAddress,
        call: &Call,
        asking: bool,
    ) -> Result<Value, Failure> {
        let answer = self.send(wire, call, asking).await;
        match answer {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let mut load = cmd("SCRIPT");
                load.arg("LOAD").arg(call.script.text());
                let loaded = wire.connection.send_packed_command(&load).await.and_then(Value::extract_error);
                loaded.map_err(|error| judge(address, &error))?;
                self.send(wire, call, asking).await.map_err(|error| judge(address, &error))
            }
            answer => answer.map_err(|error| judge(address, &error)),
        }
        .and_then(|mut answers| {
            let acknowledged = if call.replicas == 0 { None } else { answers.pop() };
            if let Some(acknowledged) = acknowledged {
                let count: usize = redis::from_redis_value(acknowledged).unwrap_or(0);
                if count < call.replicas {
                    return Err(Failure::Final(StoreError(format!(
                        "only {count} of {} replicas of {address} have it: perhaps done, perhaps lost",
                        call.replicas
                    ))));
                }
            }
            Ok(answers.pop().unwrap_or(Value::Nil))
        })
    }

    /// The script's answer, and behind it that of `WAIT` if replicas are asked.
    async fn send(&self, wire: &mut Wire, call: &Call, asking: bool) -> Result<Vec<Value>, RedisError> {
        let mut ask = Pipeline::new();
        if asking {
            ask.cmd("ASKING");
        }
        ask.cmd("EVALSHA").arg(call.script.hash()).arg(call.keys.len()).arg(&call.keys).arg(&call.args);
        if call.with_run {
            ask.arg(wire.info.run());
        }
        if call.replicas > 0 {
            ask.cmd("WAIT").arg(call.replicas).arg(self.config.timeout.as_millis().max(1).to_string());
        }
        let count = ask.len();
        let answers = wire.connection.send_packed_commands(&ask, 0, count).await?;
        answers.into_iter().skip(usize::from(asking)).map(Value::extract_error).collect()
    }

    async fn next(
        &self,
        shard: usize,
        own: &Waiter,
        key: &[u8],
        after: u64,
        count: usize,
        wait: Duration,
    ) -> StoreResult<Value> {
        let mut own = own.0.lock().await;
        let address = self.routes.find(&self.config, shard).await?;
        let mut wire = match own.take() {
            Some((there, wire)) if there == address => wire,
            _ => self.connect(&address, None).await?,
        };
        let mut ask = cmd("XREAD");
        ask.arg("COUNT").arg(count).arg("BLOCK").arg(wait.as_millis().max(1).to_string());
        ask.arg("STREAMS").arg(key).arg(format!("{after}-0"));
        let limit = wait.saturating_add(self.config.timeout);
        let answer = tokio::time::timeout(limit, wire.connection.send_packed_command(&ask)).await;
        let answer = match answer {
            Err(_) => Err(Failure::Late(StoreError(format!("{address} does not answer")))),
            Ok(answer) => answer.and_then(Value::extract_error).map_err(|error| judge(&address, &error)),
        };
        match answer {
            Ok(value) => {
                *own = Some((address, wire));
                Ok(value)
            }
            Err(Failure::Moved(there)) => {
                self.routes.learn(shard, there);
                Err(StoreError(format!("the shard is not at {address} any more")))
            }
            Err(failure) => {
                self.routes.forget(shard, &address);
                Err(failure.into_error())
            }
        }
    }

    fn node(&self, address: &RedisAddress) -> Arc<Node> {
        Arc::clone(self.nodes.lock().entry(address.clone()).or_default())
    }

    /// The connection that all share, made if need be.
    async fn shared(&self, node: &Node, address: &RedisAddress) -> StoreResult<(u64, Wire)> {
        if let Some(shared) = node.shared.lock().clone() {
            return Ok(shared);
        }
        let wire = self.dial(node, address, self.config.timeout).await?;
        let mut shared = node.shared.lock();
        // Two may have dialled one after the other; the first one is kept.
        if let Some(shared) = shared.as_ref() {
            return Ok(shared.clone());
        }
        let generation = node.generation.fetch_add(1, Ordering::Relaxed);
        *shared = Some((generation, wire.clone()));
        Ok((generation, wire))
    }

    /// Connects to a master, and counts that.
    async fn connect(&self, address: &RedisAddress, patience: Option<Duration>) -> StoreResult<Wire> {
        let connected = dial::master(&self.config, address, patience, &self.metrics).await;
        self.metrics.connects.count(if connected.is_ok() { Went::Ok } else { Went::Failed });
        connected
    }

    /// One at a time, and not again right after a failure.
    async fn dial(&self, node: &Node, address: &RedisAddress, patience: Duration) -> StoreResult<Wire> {
        let mut dialing = node.dialing.lock().await;
        if let Some((at, error)) = &dialing.failed {
            let pause = FIRST_PAUSE.saturating_mul(1 << dialing.failures.min(5)).min(LONGEST_PAUSE);
            if at.elapsed() < pause {
                return Err(error.clone());
            }
        }
        match self.connect(address, Some(patience)).await {
            Ok(wire) => {
                if dialing.failed.is_some() {
                    tracing::info!(%address, "connected to Redis again");
                }
                *dialing = Dialing::default();
                Ok(wire)
            }
            Err(error) => {
                if dialing.failed.is_none() {
                    tracing::error!(%address, %error, "no connection to Redis");
                }
                dialing.failures = dialing.failures.saturating_add(1);
                dialing.failed = Some((Stopwatch::start(), error.clone()));
                Err(error)
            }
        }
    }

    /// Follows the sentinels, so that a master that was replaced but does not know it is left: at once when one of them says
    /// so, and at the next look when none could be heard.
    async fn watch(self: Arc<Self>) {
        let RedisServers::Sentinel { nodes, service, .. } = &self.config.servers else { return };
        let changed = Arc::new(Notify::new());
        for node in nodes {
            let (inner, changed) = (Arc::clone(&self), Arc::clone(&changed));
            let (node, service) = (node.clone(), service.clone());
            tokio::spawn(async move {
                loop {
                    if let Err(error) = sentinels::listen(&inner.config, &node, &service, &changed).await {
                        tracing::debug!(%error, "a sentinel cannot be heard");
                    }
                    tokio::time::sleep(WATCH_EVERY).await;
                }
            });
        }
        loop {
            let _ = tokio::time::timeout(WATCH_EVERY, changed.notified()).await;
            if self.routes.master_changed(&self.config).await {
                tracing::warn!("the sentinels name another Redis master");
                self.nodes.lock().clear();
            }
        }
    }
}

impl Node {
    fn drop_shared(&self, generation: u64) {
        let mut shared = self.shared.lock();
        if shared.as_ref().is_some_and(|(kept, _)| *kept == generation) {
            *shared = None;
        }
    }
}
