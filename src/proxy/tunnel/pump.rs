//! Moves bytes both ways until one of the ends.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Entry, Limits, TunnelEnd};
use crate::{base::clock::Stopwatch, proxy::edge::Transport};

/// Runs a tunnel. `first` are bytes of the app that came together with its answer.
pub(super) async fn run(
    client: Transport,
    app: Transport,
    first: Bytes,
    entry: &mut Entry,
    limits: Limits,
) -> TunnelEnd {
    let clock = Clock { start: Stopwatch::start(), moved: AtomicU64::new(0) };
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_app, mut to_app) = tokio::io::split(app);
    let both = async {
        let down = async {
            if !first.is_empty() {
                to_client.write_all(&first).await?;
                to_client.flush().await?;
                clock.tick();
            }
            copy(&mut from_app, &mut to_client, &clock).await
        };
        let up = copy(&mut from_client, &mut to_app, &clock);
        // A side that ends may still be told things; a side that breaks ends both.
        let _ = tokio::try_join!(down, up);
    };
    let end = tokio::select! {
        () = both => TunnelEnd::Closed,
        () = entry.ended() => TunnelEnd::Revoked,
        () = clock.idle(limits.idle) => TunnelEnd::Idle,
        () = past(limits.longest) => TunnelEnd::Revoked,
    };
    // In order, as far as it goes at once.
    let close = async {
        let _ = tokio::join!(to_client.shutdown(), to_app.shutdown());
    };
    let _ = tokio::time::timeout(CLOSING, close).await;
    end
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    clock: &Clock,
) -> io::Result<()> {
    // Grows with what comes: most tunnels are idle most of the time, and there may be very many.
    let mut buffer = Vec::with_capacity(SMALL);
    loop {
        let n = from.read_buf(&mut buffer).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        clock.tick();
        to.write_all(&buffer).await?;
        to.flush().await?;
        clock.tick();
        let full = buffer.len() == buffer.capacity();
        buffer.clear();
        if full && buffer.capacity() < LARGE {
            buffer.reserve(LARGE);
        }
    }
}

/// When a byte last moved, in milliseconds since the start.
struct Clock {
    start: Stopwatch,
    moved: AtomicU64,
}

impl Clock {
    fn tick(&self) {
        self.moved.store(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    async fn idle(&self, limit: Duration) {
        if limit.is_zero() {
            return std::future::pending().await;
        }
        loop {
            let due = Duration::from_millis(self.moved.load(Relaxed)).saturating_add(limit);
            let left = due.saturating_sub(self.start.elapsed());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

async fn past(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

const SMALL: usize = 1 << 10;
const LARGE: usize = 32 << 10;
const CLOSING: Duration = Duration::from_secs(1);
