//! A watched login on its way to the app and back (design, section 4).
//!
//! The body is read whole and its user name taken out; the request then makes an own round trip, so that nothing of
//! the app's answer leaves before it has been judged. A failed login is the app's own affair. A successful one
//! becomes a session, a pending login, or nothing: when the store fails, not a byte and not a cookie of the app's
//! answer goes out (I9).

use bytes::Bytes;
use http::{HeaderValue, header};
use pingora::{http::ResponseHeader, proxy::Session};

use super::{
    Proxy, answer, arrival::Arrival, body, context::Context, failure::Cause, forward, intake, reply,
    roundtrip::Answer, site::Site, whoami,
};
use crate::{
    audit::{Event, Subject},
    gate::{LoginPermit, Outcome, Permit},
    identity::{
        answer::{is_success, needs_body},
        form::{self, Claim, Submission},
        name,
    },
    metrics::{Answered, FirstFactor, Reason, SessionGround, UpstreamError},
    model::{RequestView, UserKey, UserName, Wants},
    session::{
        admission::{Admission, FirstFactor as Next, Ground, Origin},
        upstream_cookies::{Opened, Scope},
    },
};

/// The most of an answer that is read to judge it.
const JUDGED_BYTES: usize = 1024 * 1024;

/// A login whose answer has been read as far as the rule needs.
struct Judged {
    answer: Answer,
    /// What has been read of its body.
    begun: Bytes,
    judgement: Judgement,
}

/// What the app's answer to a login says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Judgement {
    Passed,
    Refused,
    /// It cannot be read: nobody is let in, and whoever was there before is no longer believed to be.
    Unclear,
}

/// What a login request brings along.
struct Attempt<'a> {
    site: &'a Site,
    arrival: &'a Arrival,
    permit: &'a Permit,
    /// As typed.
    typed: String,
    scopes: Vec<Scope>,
    /// The app's cookies in the request, to be sealed again when the app keeps them.
    opened: Vec<Opened>,
    upstream_host: Option<HeaderValue>,
}

/// The app's own answer, dressed for the browser.
struct TheApps {
    header: ResponseHeader,
    begun: Bytes,
    answer: Answer,
}

/// What the browser gets.
#[expect(clippy::large_enum_variant, reason = "made once for a login and taken apart at once")]
enum Verdict {
    /// The app's own answer, dressed.
    TheApps(Box<TheApps>),
    /// The app's answer stays here; to the challenge.
    Challenge(Vec<HeaderValue>),
}

impl Proxy {
    /// Deals with a request that may be a login.
    pub(super) async fn login(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        login: LoginPermit,
    ) -> pingora::Result<bool> {
        let read = body::read(session, self.parts.limits.login_body_bytes).await;
        let claim = read.and_then(|body| Ok((self.claim(session, ctx, &login, &body)?, body)));
        match claim {
            Err(cause) => self.refuse(session, ctx, cause).await,
            Ok((Claim::Other, body)) => {
                let outcome = self
                    .view(session, ctx)
                    .map(|(site, view)| self.parts.gate.assess_ordinary(&site.app, &view));
                match outcome {
                    Err(cause) => self.refuse(session, ctx, cause).await,
                    Ok(Outcome::Forward(permit)) => self.forward_read(session, ctx, permit, body).await,
                    Ok(other) => self.follow_elsewhere(session, ctx, other, Some(body)).await,
                }
            }
            Ok((Claim::Login { user }, body)) => {
                ctx.answered = Answered::Login;
                match self.attempt(session, ctx, login.permit, user, body).await {
                    Err(cause) => self.refuse(session, ctx, cause).await,
                    Ok(Verdict::Challenge(cookies)) => {
                        ctx.cookies.extend(cookies);
                        let url = format!("{}/challenge", self.parts.prefix);
                        self.send_to(session, ctx, &url).await
                    }
                    Ok(Verdict::TheApps(theirs)) => pass_on(session, *theirs).await,
                }
            }
        }
    }

    fn claim(
        &self,
        session: &Session,
        ctx: &Context,
        login: &LoginPermit,
        body: &[u8],
    ) -> Result<Claim, Cause> {
        let (site, view) = self.view(session, ctx)?;
        let headers = &session.req_header().headers;
        let content_type = joined(headers, &header::CONTENT_TYPE);
        let content_encoding = joined(headers, &header::CONTENT_ENCODING);
        let submission = Submission {
            method: view.method,
            query: view.query,
            content_type: content_type.as_deref(),
            content_encoding: content_encoding.as_deref(),
            body,
        };
        form::read(&site.app.login.watch, &login.candidates, &submission).map_err(|bad| {
            site.metrics.first_factor.count(FirstFactor::BadForm);
            tracing::info!(app = %site.app.id, request_id = %view.id, %bad, "a login form was refused");
            Cause::Malformed("a login form that can be read in two ways")
        })
    }

    /// Sends the login to the app, judges the answer, and does what follows.
    async fn attempt(
        &self,
        session: &Session,
        ctx: &Context,
        permit: Permit,
        typed: String,
        body: Bytes,
    ) -> Result<Verdict, Cause> {
        let (site, view) = self.view(session, ctx)?;
        let arrival = ctx.arrival.as_ref().ok_or(Cause::Internal)?;
        site.metrics.decisions.count(Reason::Login);
        let mut scopes: Vec<Scope> = permit.scope().into_iter().collect();
        scopes.extend(permit.device().map(Scope::Device).filter(|device| !scopes.contains(device)));
        let lines = session.req_header().headers.get_all(header::COOKIE);
        let opened = self.parts.sealer.opened(&site.app, lines.iter().map(HeaderValue::as_bytes), &scopes);
        let mut attempt =
            Attempt { site, arrival, permit: &permit, typed, scopes, opened, upstream_host: None };
        let asked = self.ask_the_app(session, &mut attempt, body).await;
        let verdict = match asked {
            Ok(judged) if judged.judgement == Judgement::Passed => {
                self.passed(session, &attempt, judged, &view).await
            }
            Ok(judged) => self.failed(&attempt, judged).await,
            Err(cause) => {
                site.metrics.first_factor.count(FirstFactor::Unavailable);
                Err(cause)
            }
        };
        if let Err(cause) = &verdict
            && !was_not_sent(*cause)
        {
            self.end_in_doubt(&attempt).await;
        }
        verdict
    }

    /// The app may have switched its session to somebody else, and we do not know it: the session that was running
    /// on this browser ends, so that nobody goes on in its name (threats D9).
    async fn end_in_doubt(&self, attempt: &Attempt<'_>) {
        if let Some(live) = attempt.permit.session() {
            // When the store fails, it has ended here at least, and the log has it.
            let _ = self.end(attempt.site, attempt.arrival, live).await;
        }
    }

    async fn ask_the_app(
        &self,
        session: &Session,
        attempt: &mut Attempt<'_>,
        body: Bytes,
    ) -> Result<Judged, Cause> {
        let original = session.req_header();
        let site = attempt.site;
        let make = || {
            let chosen = site.choose()?;
            attempt.upstream_host = chosen.host.clone();
            let mut request = forward::copy_for_own_hop(original);
            let dress = forward::Dress {
                site,
                arrival: attempt.arrival,
                permit: attempt.permit,
                scopes: &attempt.scopes,
                host: attempt.upstream_host.as_ref(),
            };
            forward::dress(&mut request, original, &dress, &self.parts.sealer)?;
            // The answer is read here: it must not come compressed.
            request
                .insert_header("Accept-Encoding", HeaderValue::from_static("identity"))
                .map_err(|_| Cause::Internal)?;
            Ok((*chosen.peer, request))
        };
        let mut answer = self.trips.send(site, body, make).await?;
        let rule = &attempt.site.app.login.success;
        let (begun, whole) =
            if needs_body(rule) { answer.read(JUDGED_BYTES).await? } else { (Bytes::new(), false) };
        let headers = &answer.header.headers;
        let plain = headers
            .get(header::CONTENT_ENCODING)
            .is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        if needs_body(rule) && !(whole && plain) {
            tracing::warn!(
                app = %attempt.site.app.id,
                request_id = %attempt.arrival.id,
                whole,
                plain,
                "the answer to a login cannot be judged by its body: it counts as refused"
            );
        }
        let unclear = needs_body(rule) && !(whole && plain);
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

    /// The app refused: its own answer goes through.
    async fn failed(&self, attempt: &Attempt<'_>, judged: Judged) -> Result<Verdict, Cause> {
        attempt.site.metrics.first_factor.count(FirstFactor::Refused);
        let typed = UserName::canonical(shortened(&attempt.typed));
        self.record(attempt, typed, &Event::FirstFactorRefused);
        let Judged { answer, begun, judgement } = judged;
        let unclear = judgement == Judgement::Unclear;
        if unclear {
            self.end_in_doubt(attempt).await;
        }
        let mut header = answer.header.clone();
        let device = attempt.permit.device().map(Scope::Device);
        let dress = answer::Dress {
            site: attempt.site,
            scope: if unclear { device } else { attempt.permit.scope() },
            protected: attempt.permit.session().is_some(),
            withholds_cookies: false,
            cookies: Vec::new(),
            upstream_host: attempt.upstream_host.clone(),
        };
        answer::dress(&mut header, dress, &self.parts.sealer, &self.parts.admissions).await?;
        Ok(Verdict::TheApps(Box::new(TheApps { header, begun, answer })))
    }

    /// The app accepted: who is it, and what does policy ask?
    async fn passed(
        &self,
        session: &Session,
        attempt: &Attempt<'_>,
        judged: Judged,
        view: &RequestView<'_>,
    ) -> Result<Verdict, Cause> {
        let site = attempt.site;
        let unavailable = |cause: Cause| {
            site.metrics.first_factor.count(FirstFactor::Unavailable);
            cause
        };
        let user = self.name(session, attempt, &judged).await.map_err(unavailable)?;
        let target = target(session, attempt, &judged.answer.header);
        let origin = Origin { cookies: view.cookies, client: view.client };
        let next = self.parts.admissions.first_factor(&site.app, user.clone(), origin, &target).await;
        let next = next.map_err(|error| {
            tracing::error!(app = %site.app.id, request_id = %view.id, %error, "a login could not be kept");
            unavailable(Cause::Store)
        })?;
        if let Next::Blocked = next {
            site.metrics.first_factor.count(FirstFactor::Blocked);
            self.record(attempt, user, &Event::BlockedLogin);
            return Err(Cause::Blocked);
        }
        site.metrics.first_factor.count(FirstFactor::Passed);
        self.record(attempt, user.clone(), &Event::FirstFactorPassed);
        if let Some(live) = attempt.permit.session() {
            site.metrics.sessions_ended.inc();
            self.record(attempt, live.session().user.name.clone(), &Event::SessionEnded);
        }
        match next {
            Next::Admitted(admission) => self.admitted(attempt, judged, admission).await,
            Next::Pending { session: id, cookies } => {
                let header = &judged.answer.header;
                let lines: Vec<HeaderValue> =
                    header.headers.get_all(header::SET_COOKIE).iter().cloned().collect();
                let scope = Scope::Session(id);
                let mut all = cookies;
                all.extend(answer::seal_lines(site, &lines, scope, &self.parts.sealer).await?);
                all.extend(self.sealed_again(attempt, &lines, scope)?);
                Ok(Verdict::Challenge(all))
            }
            Next::Blocked => Err(Cause::Blocked),
        }
    }

    /// No second factor is asked: the app's own answer goes through, its cookies sealed to the new session.
    async fn admitted(
        &self,
        attempt: &Attempt<'_>,
        judged: Judged,
        admission: Admission,
    ) -> Result<Verdict, Cause> {
        let site = attempt.site;
        let (ground, label) = match admission.ground {
            Ground::Exempt => ("exempt", SessionGround::Exempt),
            Ground::Trust => ("trust", SessionGround::Trust),
            Ground::Factor => ("factor", SessionGround::Factor),
        };
        site.metrics.sessions_started.count(label);
        self.record(attempt, admission.user.name.clone(), &Event::SessionStarted { ground });
        if let Some(from) = admission.taken_from {
            site.metrics.takeovers.inc();
            self.record(attempt, admission.user.name.clone(), &Event::DeviceTakenOver { from });
        }
        let Judged { answer, begun, .. } = judged;
        let mut header = answer.header.clone();
        let scope = Scope::Session(admission.session);
        let lines: Vec<HeaderValue> = header.headers.get_all(header::SET_COOKIE).iter().cloned().collect();
        let mut cookies = admission.cookies;
        cookies.extend(self.sealed_again(attempt, &lines, scope)?);
        let dress = answer::Dress {
            site,
            scope: Some(scope),
            protected: true,
            withholds_cookies: false,
            cookies,
            upstream_host: attempt.upstream_host.clone(),
        };
        answer::dress(&mut header, dress, &self.parts.sealer, &self.parts.admissions).await?;
        Ok(Verdict::TheApps(Box::new(TheApps { header, begun, answer })))
    }

    /// The cookies that the app kept (it set none of their names anew), sealed to the new session.
    fn sealed_again(
        &self,
        attempt: &Attempt<'_>,
        lines: &[HeaderValue],
        scope: Scope,
    ) -> Result<Vec<HeaderValue>, Cause> {
        let set: Vec<&[u8]> = lines.iter().map(|line| whoami::cookie_name(line.as_bytes())).collect();
        let kept = attempt.opened.iter().filter(|opened| !set.contains(&opened.name.as_bytes()));
        let seal = |opened| self.parts.sealer.reseal(&attempt.site.app, opened, scope);
        kept.map(|opened| seal(opened).map_err(|_| Cause::Store)).collect()
    }

    /// The canonical name: what the app itself says when it is asked, else what was typed.
    async fn name(
        &self,
        session: &Session,
        attempt: &Attempt<'_>,
        judged: &Judged,
    ) -> Result<UserName, Cause> {
        let login = &attempt.site.app.login;
        let found = match &login.whoami {
            None => None,
            Some(rule) => {
                let original = session.req_header();
                let make = || {
                    let chosen = attempt.site.choose()?;
                    let dress = forward::Dress {
                        site: attempt.site,
                        arrival: attempt.arrival,
                        permit: attempt.permit,
                        scopes: &attempt.scopes,
                        host: chosen.host.as_ref(),
                    };
                    let request =
                        whoami::request(rule, original, &dress, &self.parts.sealer, &judged.answer.header)?;
                    Ok((*chosen.peer, request))
                };
                Some(whoami::ask(&self.trips, attempt.site, make, rule).await?)
            }
        };
        let typed = found.as_deref().unwrap_or(&attempt.typed);
        name::canonical(&login.name, typed).map_err(|bad| {
            tracing::info!(app = %attempt.site.app.id, request_id = %attempt.arrival.id, %bad, "a user name was refused");
            Cause::Malformed("a user name that is none")
        })
    }

    fn record(&self, attempt: &Attempt<'_>, user: UserName, event: &Event) {
        let app = &attempt.site.app;
        let subject = Subject {
            app: Some(app.id.clone()),
            user: Some(UserKey { realm: app.realm.clone(), name: user }),
            device: attempt.permit.device(),
            client: Some(attempt.arrival.client),
            request_id: Some(attempt.arrival.id.clone()),
            actor: None,
        };
        self.parts.auditor.record(event, &subject);
    }

    /// An ordinary request whose body has been read already: to the app and back by an own round trip.
    async fn forward_read(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        permit: Permit,
        body: Bytes,
    ) -> pingora::Result<bool> {
        match self.ordinary_trip(session, ctx, permit, body).await {
            Err(cause) => self.refuse(session, ctx, cause).await,
            Ok((header, answer)) => pass_on(session, TheApps { header, begun: Bytes::new(), answer }).await,
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
        let mut header = answer.header.clone();
        self.dress_answer(&mut header, ctx).await?;
        Ok((header, answer))
    }
}

/// Whether the app cannot have seen the login.
const fn was_not_sent(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::NoUpstream
            | Cause::Upstream(UpstreamError::Connect | UpstreamError::Tls)
            | Cause::UpstreamTooSlow(UpstreamError::ConnectTimeout | UpstreamError::Tls)
    )
}

/// Where the browser goes after the challenge: where the app sends it, else the page it was on.
fn target(session: &Session, attempt: &Attempt<'_>, answer: &ResponseHeader) -> String {
    let request = session.req_header();
    let own = |url: &str| forward::own_target(url, request, attempt.upstream_host.as_ref());
    let redirects = answer.status.is_redirection();
    let location = answer.headers.get(header::LOCATION).filter(|_| redirects);
    if let Some(target) = location.and_then(|l| own(l.to_str().ok()?)) {
        return target;
    }
    let page = match attempt.arrival.wants {
        Wants::Page => request.uri.path_and_query().map(|target| target.as_str().to_owned()),
        // A script logged in: the page that it ran on.
        Wants::Data | Wants::Upgrade => {
            request.headers.get(header::REFERER).and_then(|referer| own(referer.to_str().ok()?))
        }
    };
    page.unwrap_or_else(|| "/".to_owned())
}

/// The app's answer to the browser: its header as dressed, then its body as it comes.
async fn pass_on(session: &mut Session, theirs: TheApps) -> pingora::Result<bool> {
    let TheApps { mut header, begun, mut answer } = theirs;
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
        session.write_response_body(Some(piece), false).await?;
    }
    session.write_response_body(None, true).await?;
    Ok(true)
}

/// All lines of a header, joined as `identity::form` wants them.
fn joined(headers: &http::HeaderMap, name: &http::HeaderName) -> Option<String> {
    let lines: Vec<String> = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// A typed name as it is kept in the audit log: not longer than a real one.
fn shortened(typed: &str) -> String {
    typed.chars().take(UserName::MAX_BYTES / 4).collect()
}

/// Cookies of ours that go with an answer of our own.
pub(super) fn with_cookies(
    mut response: http::Response<Bytes>,
    cookies: &[HeaderValue],
) -> http::Response<Bytes> {
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie.clone());
    }
    response
}

impl Proxy {
    /// To a page of ours: 303, or 401 for whoever cannot follow.
    pub(super) async fn send_to(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        url: &str,
    ) -> pingora::Result<bool> {
        let Some(arrival) = ctx.arrival.as_ref() else {
            return Err(Cause::Internal.into_error());
        };
        let response = reply::challenge(arrival.wants, &arrival.id, url);
        reply::send(session, with_cookies(response, &ctx.cookies)).await?;
        Ok(true)
    }

    /// The view of an accepted request, and its site.
    pub(super) fn view<'a>(
        &'a self,
        session: &'a Session,
        ctx: &'a Context,
    ) -> Result<(&'a Site, RequestView<'a>), Cause> {
        let (Some(arrival), Some(accepted)) = (ctx.arrival.as_ref(), ctx.accepted) else {
            return Err(Cause::Internal);
        };
        let site = self.sites.get(accepted.site).ok_or(Cause::Internal)?;
        let view = intake::view(session.req_header(), arrival, accepted, &self.parts.names)?;
        Ok((site, view))
    }
}
