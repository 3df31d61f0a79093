//! Answers of the app that came by an own round trip, on their way to the browser.

use bytes::Bytes;
use http::{HeaderValue, header};
use pingora::{http::ResponseHeader, proxy::Session};

use crate::{
    gate::Permit,
    proxy::{Proxy, context::Context, failure::Cause, forward, roundtrip::Answer},
};

impl Proxy {
    /// An ordinary request whose body has been read already: to the app and back by an own round trip.
    pub(super) async fn forward_read(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        permit: Permit,
        body: Bytes,
    ) -> pingora::Result<bool> {
        match self.ordinary_trip(session, ctx, permit, body).await {
            Err(Cause::SessionEnded) => self.refuse_again(session, ctx).await,
            Err(cause) => self.refuse(session, ctx, cause).await,
            Ok((header, answer)) => {
                pass_on(session, header, Bytes::new(), answer, || self.check_permit(ctx)).await
            }
        }
    }

    async fn ordinary_trip(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        permit: Permit,
        body: Bytes,
    ) -> Result<(ResponseHeader, Answer), Cause> {
        self.prepare(ctx, permit).await?;
        let original = session.req_header();
        let site = self.site(ctx).ok_or(Cause::Internal)?;
        let make = || {
            let chosen = self.choose(ctx)?;
            let mut request = forward::copy_for_own_hop(original);
            self.dress_request(original, &mut request, ctx)?;
            Ok((*chosen, request))
        };
        let answer = self.trips.send(site, body, make).await?;
        self.check_permit(ctx)?;
        let mut header = answer.header.clone();
        self.dress_answer(&mut header, ctx).await?;
        Ok((header, answer))
    }
}

/// The app's answer to the browser: its header as dressed, then its body as it comes, for as long as `may` says that it
/// may go on.
pub(super) async fn pass_on(
    session: &mut Session,
    mut header: ResponseHeader,
    begun: Bytes,
    mut answer: Answer,
    may: impl Fn() -> Result<(), Cause>,
) -> pingora::Result<bool> {
    let no_body =
        session.req_header().method == http::Method::HEAD || matches!(header.status.as_u16(), 204 | 304);
    header.set_version(http::Version::HTTP_11);
    if !no_body
        && !header.headers.contains_key(header::CONTENT_LENGTH)
        && !header.headers.contains_key(header::TRANSFER_ENCODING)
    {
        header.insert_header("Transfer-Encoding", HeaderValue::from_static("chunked"))?;
    }
    session.write_response_header(Box::new(header), no_body).await?;
    if no_body {
        return Ok(true);
    }
    if !begun.is_empty() {
        session.write_response_body(Some(begun), false).await?;
    }
    while let Some(piece) = answer.next().await.map_err(Cause::into_error)? {
        may().map_err(Cause::into_error)?;
        session.write_response_body(Some(piece), false).await?;
    }
    session.write_response_body(None, true).await?;
    Ok(true)
}
