//! Our own pages: an axum router, called in process. No socket, no second HTTP parser.

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use pingora::proxy::Session;
use tower::ServiceExt as _;

use super::{Proxy, body, context::Context, failure::Cause, intake, reply};
use crate::web::Visit;

/// The largest form of ours.
const FORM_BYTES: usize = 64 * 1024;
/// The largest page or asset of ours.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

impl Proxy {
    /// Answers from our own pages.
    pub(super) async fn own(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        body: Option<Bytes>,
    ) -> pingora::Result<bool> {
        let body = match body {
            Some(body) => Ok(body),
            None if session.is_body_empty() => Ok(Bytes::new()),
            None => body::read(session, FORM_BYTES).await,
        };
        let page = match body.and_then(|body| self.own_request(session, ctx, body)) {
            Ok(request) => self.page(request).await,
            Err(cause) => Err(cause),
        };
        match page {
            Ok(response) => {
                reply::send(session, reply::with_cookies(response, &ctx.cookies)).await?;
                Ok(true)
            }
            Err(cause) => self.refuse(session, ctx, cause).await,
        }
    }

    fn own_request(
        &self,
        session: &Session,
        ctx: &Context,
        body: Bytes,
    ) -> Result<http::Request<Body>, Cause> {
        let (Some(arrival), Some(site)) = (ctx.arrival.as_ref(), self.site(ctx)) else {
            return Err(Cause::Internal);
        };
        let header = session.req_header();
        let mut request = http::Request::new(Body::from(body));
        *request.method_mut() = header.method.clone();
        let target = header.uri.path_and_query().map_or("/", |target| target.as_str());
        *request.uri_mut() = target.parse().map_err(|_| Cause::Malformed("the target is no path"))?;
        *request.headers_mut() = header.headers.clone();
        request.extensions_mut().insert(Visit {
            app: site.app.clone(),
            client: arrival.client,
            request_id: arrival.id.clone(),
            authority: intake::authority(header).to_owned(),
        });
        Ok(request)
    }

    async fn page(&self, request: http::Request<Body>) -> Result<http::Response<Bytes>, Cause> {
        let Ok(response) = self.parts.pages.clone().oneshot(request).await;
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, PAGE_BYTES).await.map_err(|_| Cause::Internal)?;
        Ok(http::Response::from_parts(parts, body))
    }
}
