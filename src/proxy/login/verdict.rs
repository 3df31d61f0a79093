//! What follows from the app's answer to a login: its own answer as it is, a session, or a pending login.

use http::{HeaderValue, header};
use pingora::{http::ResponseHeader, proxy::Session};

use super::{
    Attempt, Verdict,
    judge::{Judged, Judgement},
};
use crate::{
    audit::{Event, Subject},
    identity::answer::sets,
    metrics::{FirstFactor, SessionGround},
    model::{UserKey, UserName, Wants},
    proxy::{Proxy, answer, failure::Cause, forward, whoami},
    session::{
        admission::{Admission, FirstFactor as Next, Ground, Origin},
        standing::LiveSession,
        upstream_cookies::Scope,
    },
};

impl Proxy {
    /// The app refused: its own answer goes through. A session of another user than the one whose name was typed
    /// has ended by this.
    pub(super) async fn failed(&self, attempt: &Attempt<'_>, mut judged: Judged) -> Result<Verdict, Cause> {
        self.keep_back_the_mark(attempt, &mut judged.answer.header);
        attempt.site.metrics.first_factor.count(FirstFactor::Refused);
        self.record(attempt, attempt.typed.clone(), &Event::FirstFactorRefused);
        let goes_on = attempt.same_user().filter(|_| judged.judgement == Judgement::Refused);
        let cookies = match (goes_on, attempt.permit.session()) {
            (None, Some(live)) => self.end(attempt.site, attempt.arrival, live).await?,
            _ => Vec::new(),
        };
        // Never to another user's session: should the app have let them in without our seeing it, one user's
        // account would be open under another's second factor.
        let device = attempt.permit.device().map(Scope::Device);
        // With that user's own cookies along, the app's are theirs: when their session has ended, so have those.
        let scope = attempt.same_user().map(|live| Scope::Session(live.session().id)).or(device);
        self.the_apps(attempt, judged, scope, cookies).await
    }

    /// The cookie by which a success is known does not leave with a refusal. The app may have let somebody in all the
    /// same (a password that has run out, a question that comes first): their session would go along with the
    /// next login from this device, whose answer would then be about them and not about its password (threats D9).
    fn keep_back_the_mark(&self, attempt: &Attempt<'_>, header: &mut ResponseHeader) {
        let Some(mark) = &attempt.site.app.login.success.cookie else { return };
        let now = self.parts.clock.now();
        let lines = set_cookies(header);
        if !lines.iter().any(|line| sets(mark, line.as_bytes(), now)) {
            return;
        }
        header.remove_header(&header::SET_COOKIE);
        for line in lines.into_iter().filter(|line| !sets(mark, line.as_bytes(), now)) {
            // It was in such a header a moment ago.
            let _ = header.append_header("Set-Cookie", line);
        }
        tracing::debug!(
            app = %attempt.site.app.id,
            request_id = %attempt.arrival.id,
            "a refused login set the cookie of login.success: it was kept back"
        );
    }

    /// The app accepted: who is it, and what does policy ask?
    pub(super) async fn passed(
        &self,
        session: &Session,
        attempt: &Attempt<'_>,
        judged: Judged,
    ) -> Result<Verdict, Cause> {
        let site = attempt.site;
        let unavailable = |cause: Cause| {
            site.metrics.first_factor.count(FirstFactor::Unavailable);
            cause
        };
        let user = self.name(session, attempt, &judged).await.map_err(unavailable)?;
        let agent =
            session.req_header().headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        let origin = Origin {
            cookies: attempt.view.cookies,
            client: attempt.view.client,
            agent: agent.unwrap_or_default(),
        };
        if let Some(live) = attempt.same_user() {
            if user != attempt.typed {
                tracing::warn!(
                    app = %site.app.id,
                    request_id = %attempt.arrival.id,
                    "the app has another user than the running session: that one ends"
                );
                return self.failed(attempt, Judged { judgement: Judgement::Unclear, ..judged }).await;
            }
            if !self.parts.admissions.would_ask(&site.app, live, &origin) {
                return self.goes_on(attempt, judged, live).await;
            }
        }
        let target = target(session, attempt, &judged.answer.header);
        let next = self.parts.admissions.first_factor(&site.app, user.clone(), origin, &target).await;
        let next = next.map_err(|error| {
            tracing::error!(app = %site.app.id, request_id = %attempt.arrival.id, %error, "a login could not be kept");
            unavailable(Cause::Store)
        })?;
        if let Next::Blocked = next {
            site.metrics.first_factor.count(FirstFactor::Blocked);
            self.record(attempt, user, &Event::BlockedLogin);
            return Err(Cause::Blocked);
        }
        if let Next::Elsewhere = next {
            site.metrics.first_factor.count(FirstFactor::Elsewhere);
            self.record(attempt, user, &Event::LoginFromElsewhere);
            return Err(Cause::Elsewhere);
        }
        if let Next::TooMany = next {
            site.metrics.first_factor.count(FirstFactor::TooMany);
            tracing::warn!(app = %site.app.id, request_id = %attempt.arrival.id, "too many logins of one user");
            return Err(Cause::TooManyLogins);
        }
        site.metrics.first_factor.count(FirstFactor::Passed);
        self.record(attempt, user, &Event::FirstFactorPassed);
        if let Some(live) = attempt.permit.session() {
            site.metrics.sessions_ended.inc();
            self.record(attempt, live.session().user.name.clone(), &Event::SessionEnded);
        }
        match next {
            Next::Admitted(admission) => self.admitted(attempt, judged, admission).await,
            Next::Pending { session: id, cookies, .. } => {
                let lines = set_cookies(&judged.answer.header);
                let scope = Scope::Session(id);
                let mut all = cookies;
                all.extend(answer::seal_lines(site, &lines, scope, &self.parts.sealer).await?);
                all.extend(self.sealed_again(attempt, &lines, scope)?);
                Ok(Verdict::Challenge(all))
            }
            Next::Blocked => Err(Cause::Blocked),
            Next::Elsewhere => Err(Cause::Elsewhere),
            Next::TooMany => Err(Cause::TooManyLogins),
        }
    }

    /// The running session's own user again: the app may not have looked at the password, so nothing begins anew.
    async fn goes_on(
        &self,
        attempt: &Attempt<'_>,
        judged: Judged,
        live: &LiveSession,
    ) -> Result<Verdict, Cause> {
        let cookies = self.parts.admissions.renew(live, self.parts.clock.now()).into_iter().collect();
        let scope = Scope::Session(live.session().id);
        self.the_apps(attempt, judged, Some(scope), cookies).await
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
            Ground::Emergency => ("emergency", SessionGround::Emergency),
        };
        site.metrics.sessions_started.count(label);
        let started = Event::SessionStarted { ground };
        let subject = subject(attempt, admission.user.name.clone());
        self.parts.auditor.grant(&started, &subject).await.map_err(|_| Cause::Audit)?;
        if let Some(from) = admission.taken_from {
            site.metrics.takeovers.inc();
            self.record(attempt, admission.user.name.clone(), &Event::DeviceTakenOver { from });
        }
        let scope = Scope::Session(admission.session);
        let mut cookies = admission.cookies;
        cookies.extend(self.sealed_again(attempt, &set_cookies(&judged.answer.header), scope)?);
        self.the_apps(attempt, judged, Some(scope), cookies).await
    }

    /// The app's own answer, dressed.
    async fn the_apps(
        &self,
        attempt: &Attempt<'_>,
        judged: Judged,
        scope: Option<Scope>,
        cookies: Vec<HeaderValue>,
    ) -> Result<Verdict, Cause> {
        let Judged { answer, begun, .. } = judged;
        let mut header = answer.header.clone();
        let protected = matches!(scope, Some(Scope::Session(_))) || attempt.permit.session().is_some();
        let dress = answer::Dress {
            site: attempt.site,
            scope,
            protected,
            withholds_cookies: false,
            cookies,
            upstream_host: attempt.upstream_host.clone(),
        };
        answer::dress(&mut header, dress, &self.parts.sealer, &self.parts.admissions).await?;
        Ok(Verdict::TheApps(Box::new(header), begun, answer))
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

    fn record(&self, attempt: &Attempt<'_>, user: UserName, event: &Event) {
        self.parts.auditor.record(event, &subject(attempt, user));
    }
}

fn subject(attempt: &Attempt<'_>, user: UserName) -> Subject {
    let app = &attempt.site.app;
    Subject {
        app: Some(app.id.clone()),
        user: Some(UserKey { realm: app.realm.clone(), name: user }),
        device: attempt.permit.device(),
        client: Some(attempt.arrival.client),
        request_id: Some(attempt.arrival.id.clone()),
        ..Subject::default()
    }
}

fn set_cookies(header: &ResponseHeader) -> Vec<HeaderValue> {
    header.headers.get_all(header::SET_COOKIE).iter().cloned().collect()
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
