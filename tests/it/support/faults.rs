//! A TCP proxy that misbehaves on demand.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
};

/// What it does with connections, those that are open included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing: bytes go both ways.
    None,
    /// Connections are closed, new ones at once.
    Cut,
    /// Connections are reset, new ones at once.
    Reset,
    /// What the server says arrives so much later.
    Slow(Duration),
    /// Of the next thing that the server says on a connection half arrives, then it ends.
    HalfReply,
    /// Connections stay open and are accepted, and nothing moves, as when a cable is pulled; it goes on where it
    /// was afterwards.
    BlackHole,
}

/// The proxy; it runs on a thread of its own, whatever the test does, and ends with it.
pub struct FaultProxy {
    /// Where it listens.
    pub address: SocketAddr,
    fault: watch::Sender<Fault>,
    bytes_back: Arc<AtomicUsize>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl FaultProxy {
    /// Starts it before a server, without a fault.
    pub fn start(server: SocketAddr) -> Self {
        let (fault, follow) = watch::channel(Fault::None);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let bytes_back = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&bytes_back);
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(client, server, follow.clone(), Arc::clone(&count)));
            }
        });
        Self { address, fault, bytes_back, runtime: Some(runtime) }
    }

    /// From now on.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Bytes of the server that went through so far.
    pub fn bytes_back(&self) -> usize {
        self.bytes_back.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn connection(
    mut client: TcpStream,
    server: SocketAddr,
    mut fault: watch::Receiver<Fault>,
    count: Arc<AtomicUsize>,
) {
    let Ok(now) = fault.wait_for(|fault| *fault != Fault::BlackHole).await.map(|fault| *fault) else {
        return;
    };
    match now {
        Fault::Cut => return,
        Fault::Reset => return reset(client),
        Fault::None | Fault::Slow(_) | Fault::HalfReply | Fault::BlackHole => {}
    }
    let Ok(mut upstream) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = upstream.split();
        tokio::select! {
            () = forth(from_client, to_server, fault.clone()) => Fault::Cut,
            () = back(from_server, to_client, fault.clone(), &count) => Fault::Cut,
            end = fault.wait_for(|fault| matches!(fault, Fault::Cut | Fault::Reset)) => {
                end.map_or(Fault::Cut, |fault| *fault)
            }
        }
    };
    if end == Fault::Reset {
        reset(client);
    }
}

fn reset(client: TcpStream) {
    let _ = client.set_zero_linger();
}

/// What the client says.
async fn forth(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut fault: watch::Receiver<Fault>) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        if fault.wait_for(|fault| *fault != Fault::BlackHole).await.is_err()
            || to.write_all(&piece[..read]).await.is_err()
        {
            return;
        }
    }
}

/// What the server says.
async fn back(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut fault: watch::Receiver<Fault>,
    count: &AtomicUsize,
) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        let Ok(now) = fault.wait_for(|fault| *fault != Fault::BlackHole).await.map(|fault| *fault) else {
            return;
        };
        match now {
            Fault::Slow(time) => {
                // Until it is due, or until the line is fast again.
                let _ = tokio::time::timeout(time, fault.wait_for(|fault| *fault != now)).await;
            }
            Fault::HalfReply => {
                let _ = to.write_all(&piece[..read / 2]).await;
                return;
            }
            Fault::None | Fault::Cut | Fault::Reset | Fault::BlackHole => {}
        }
        if to.write_all(&piece[..read]).await.is_err() {
            return;
        }
        count.fetch_add(read, Ordering::Relaxed);
    }
}
