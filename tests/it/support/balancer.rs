//! What stands in front of several replicas, as a Service of Kubernetes does: connections go in turn to those that say they
//! are ready. It tries nothing twice: a connection that a replica refuses or cuts is one that the client sees fail.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::Client;
use tokio::net::{TcpListener, TcpStream};

use super::{Sluis, process::PATIENCE};

/// How often replicas are asked whether they are ready.
const EVERY: Duration = Duration::from_millis(50);

/// The balancer; it ends with the test.
pub struct Balancer {
    /// Where it listens.
    pub address: SocketAddr,
    replicas: Arc<Mutex<Vec<Replica>>>,
    runtime: Option<tokio::runtime::Runtime>,
}

#[derive(Clone)]
struct Replica {
    address: SocketAddr,
    operations: SocketAddr,
    ready: bool,
    connections: Arc<AtomicUsize>,
}

impl Balancer {
    /// In front of these replicas.
    pub fn start(replicas: &[Sluis]) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let replicas = replicas.iter().map(|sluis| Replica {
            address: sluis.address,
            operations: sluis.operations,
            ready: true,
            connections: Arc::default(),
        });
        let replicas = Arc::new(Mutex::new(replicas.collect::<Vec<_>>()));
        runtime.spawn(watch(Arc::clone(&replicas)));
        runtime.spawn(pass_on(listener, Arc::clone(&replicas)));
        Self { address, replicas, runtime: Some(runtime) }
    }

    /// A replica was started anew, elsewhere; it gets connections when it is ready.
    pub fn moved(&self, number: usize, sluis: &Sluis) {
        let mut replicas = self.replicas.lock().unwrap();
        let connections = Arc::clone(&replicas[number].connections);
        let (address, operations) = (sluis.address, sluis.operations);
        replicas[number] = Replica { address, operations, ready: false, connections };
    }

    /// How many connections each replica got so far.
    pub fn connections(&self) -> Vec<usize> {
        self.replicas.lock().unwrap().iter().map(|r| r.connections.load(Ordering::Relaxed)).collect()
    }

    /// Waits until each replica got another connection.
    pub async fn await_turns(&self) {
        let before = self.connections();
        let waiting = async {
            while self.connections().iter().zip(&before).any(|(now, before)| now == before) {
                tokio::time::sleep(EVERY).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "a replica gets no connection");
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn watch(replicas: Arc<Mutex<Vec<Replica>>>) {
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(2)).build().unwrap();
    loop {
        let all: Vec<SocketAddr> = replicas.lock().unwrap().iter().map(|r| r.operations).collect();
        for (number, operations) in all.into_iter().enumerate() {
            let answer = client.get(format!("http://{operations}/readyz")).send().await;
            let ready = answer.is_ok_and(|answer| answer.status().is_success());
            let mut replicas = replicas.lock().unwrap();
            // One that was replaced meanwhile is asked again.
            if replicas[number].operations == operations {
                replicas[number].ready = ready;
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn pass_on(listener: std::net::TcpListener, replicas: Arc<Mutex<Vec<Replica>>>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut turn = 0_usize;
    while let Ok((mut client, _)) = listener.accept().await {
        turn += 1;
        let ready: Vec<Replica> = replicas.lock().unwrap().iter().filter(|r| r.ready).cloned().collect();
        let Some(replica) = ready.get(turn % ready.len().max(1)) else { continue };
        replica.connections.fetch_add(1, Ordering::Relaxed);
        let address = replica.address;
        tokio::spawn(async move {
            if let Ok(mut upstream) = TcpStream::connect(address).await {
                let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
                let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
            }
        });
    }
}
