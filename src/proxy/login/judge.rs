//! Asks the app, and judges what it answers. Whether the answer may be believed at all has been settled by what was
//! sent along (see the parent module).

use bytes::Bytes;
use http::{HeaderValue, header};
use pingora::{http::ResponseHeader, proxy::Session};

use super::{Attempt, bad_name};
use crate::{
    config::app::Whoami,
    identity::{
        answer::{is_success, needs_body},
        name,
    },
    model::UserName,
    proxy::{
        Proxy,
        failure::Cause,
        forward,
        roundtrip::Answer,
        whoami::{self, Told},
    },
};

/// The most of an answer that is read to judge it.
const JUDGED_BYTES: usize = 1024 * 1024;

/// A login whose answer has been read as far as the rule needs.
pub(super) struct Judged {
    pub answer: Answer,
    /// What has been read of its body.
    pub begun: Bytes,
    pub judgement: Judgement,
}

/// What the app's answer to a login says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Judgement {
    Passed,
    Refused,
    /// It cannot be read: nobody is let in, and whoever was there before is no longer believed to be.
    Unclear,
}

impl Proxy {
    /// Whether the app has a user for the cookies of this login before it is sent: its answer would then be about
    /// them and not about the password. Only `whoami` can tell; for the running session's own user it need not,
    /// since nothing is renewed for them.
    pub(super) async fn is_logged_in_already(
        &self,
        session: &Session,
        attempt: &Attempt<'_>,
    ) -> Result<bool, Cause> {
        let Some(rule) = &attempt.site.app.login.whoami else { return Ok(false) };
        if attempt.opened.is_empty() || attempt.same_user().is_some() {
            return Ok(false);
        }
        // What cannot be told counts as a user.
        Ok(self.whoami(session, attempt, rule, None).await? != Told::Nobody)
    }

    pub(super) async fn ask_the_app(
        &self,
        session: &Session,
        attempt: &mut Attempt<'_>,
        body: Bytes,
    ) -> Result<Judged, Cause> {
        let original = session.req_header();
        let site = attempt.site;
        let mut upstream_host = None;
        let make = || {
            let chosen = site.choose()?;
            upstream_host.clone_from(&chosen.host);
            let mut request = forward::copy_for_own_hop(original);
            forward::dress(&mut request, original, &attempt.dress(chosen.host.as_ref()), &self.parts.sealer)?;
            // The answer is read here: it must not come compressed.
            request
                .insert_header("Accept-Encoding", HeaderValue::from_static("identity"))
                .map_err(|_| Cause::Internal)?;
            Ok((*chosen.peer, request))
        };
        let mut answer = self.trips.send(site, body, make).await?;
        attempt.upstream_host = upstream_host;
        let rule = &attempt.site.app.login.success;
        let (begun, whole) =
            if needs_body(rule) { answer.read(JUDGED_BYTES).await? } else { (Bytes::new(), false) };
        let headers = &answer.header.headers;
        let plain = headers
            .get(header::CONTENT_ENCODING)
            .is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        let unclear = needs_body(rule) && !(whole && plain);
        if unclear {
            tracing::warn!(
                app = %attempt.site.app.id,
                request_id = %attempt.arrival.id,
                whole,
                plain,
                "the answer to a login cannot be judged by its body: it counts as refused"
            );
        }
        let success = !unclear
            && is_success(
                rule,
                answer.header.status.as_u16(),
                headers.get(header::LOCATION).and_then(|l| l.to_str().ok()),
                headers.get_all(header::SET_COOKIE).iter().map(HeaderValue::as_bytes),
                (whole && plain).then_some(&*begun),
                self.parts.clock.now(),
            );
        let judgement = match success {
            true => Judgement::Passed,
            false if unclear => Judgement::Unclear,
            false => Judgement::Refused,
        };
        Ok(Judged { answer, begun, judgement })
    }

    /// The canonical name: what the app itself says when it is asked, else what was typed.
    pub(super) async fn name(
        &self,
        session: &Session,
        attempt: &Attempt<'_>,
        judged: &Judged,
    ) -> Result<UserName, Cause> {
        let login = &attempt.site.app.login;
        let Some(rule) = &login.whoami else { return Ok(attempt.typed.clone()) };
        let told = self.whoami(session, attempt, rule, Some(&judged.answer.header)).await?;
        let Told::Name(name) = told else { return Err(whoami::no_name(rule)) };
        name::canonical(&login.name, &name).map_err(|bad| bad_name(attempt.site, attempt.arrival, bad))
    }

    /// Asks the app who its user is: before `answer`, or after it.
    async fn whoami(
        &self,
        session: &Session,
        attempt: &Attempt<'_>,
        rule: &Whoami,
        answer: Option<&ResponseHeader>,
    ) -> Result<Told, Cause> {
        let make = || {
            let chosen = attempt.site.choose()?;
            let dress = attempt.dress(chosen.host.as_ref());
            let request = whoami::request(rule, session.req_header(), &dress, &self.parts.sealer, answer)?;
            Ok((*chosen.peer, request))
        };
        whoami::ask(&self.trips, attempt.site, make, rule).await
    }
}
