//! One small HTTP/1.1 server for the listeners that are not the proxy's: probes, control and administrators.

use std::{convert::Infallible, future::Future, pin::pin, time::Duration};

use axum::{Router, body::Body, response::Response};
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt;

/// Serves one connection until it ends, or until `stop`; then the request in flight is still answered. `extension`
/// stands in the extensions of every request.
pub async fn connection<S, E>(stream: S, router: Router, extension: E, stop: impl Future<Output = ()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    E: Clone + Send + Sync + 'static,
{
    let answer = move |request: Request<Incoming>| {
        let (router, extension) = (router.clone(), extension.clone());
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(extension);
            router.oneshot(request).await.unwrap_or_else(|never| match never {})
        }
    };
    answered(stream, answer, stop).await;
}

/// The same, with any way to answer.
pub async fn answered<S, A, F>(stream: S, answer: A, stop: impl Future<Output = ()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response>,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection for operations broke");
    }
}

/// A client that sends its header more slowly than this is hung up on; also the longest pause between requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Header and request line together.
const HEADER_BYTES: usize = 16 * 1024;
