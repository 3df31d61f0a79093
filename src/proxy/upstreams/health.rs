//! Active health checks: one GET on a fresh connection; 2xx within the app's time-outs means well.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::header;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;

use super::{Pool, backend::Backend, group::Group};

/// Asks each server of an app once.
pub(super) async fn check(pool: &Arc<Pool>) {
    for (at, group) in pool.groups.iter().enumerate() {
        let backends = group.backends.load_full();
        let mut asked = tokio::task::JoinSet::new();
        for backend in backends.iter() {
            let (pool, backend) = (Arc::clone(pool), Arc::clone(backend));
            asked.spawn(async move {
                if let Some(group) = pool.groups.get(at) {
                    take(&pool, group, &backend).await;
                }
            });
        }
        asked.join_all().await;
    }
}

async fn take(pool: &Pool, group: &Group, backend: &Backend) {
    let Some(path) = group.template.health_path.as_deref() else { return };
    let asked = tokio::time::timeout(LONGEST, ask(group, backend, path)).await;
    let found = asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let well = matches!(found, Ok(status) if (200..300).contains(&status));
    if backend.checked(well) {
        let (app, address) = (&pool.app, backend.address);
        match (well, found) {
            (true, _) => tracing::info!(%app, %address, "an upstream is well again"),
            (false, Ok(status)) => tracing::warn!(%app, %address, status, "an upstream is unwell"),
            (false, Err(error)) => tracing::warn!(%app, %address, %error, "an upstream is unwell"),
        }
    }
}

async fn ask(group: &Group, backend: &Backend, path: &str) -> io::Result<u16> {
    ask_as(group, backend, path, &group.template.own_name).await
}

/// The same under another `Host`.
pub(super) async fn ask_as(
    group: &Group,
    backend: &Backend,
    path: &str,
    host: &http::HeaderValue,
) -> io::Result<u16> {
    let transport = group.template.dialer.dial(backend.address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(transport)).await.map_err(io::Error::other)?;
    let request = http::Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, "sluis-health")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    let answer = tokio::select! {
        answer = &mut answer => answer,
        // The server may have answered and closed at once.
        _ = connection => answer.await,
    };
    Ok(answer.map_err(io::Error::other)?.status().as_u16())
}

pub(super) const LONGEST: Duration = Duration::from_secs(10);
