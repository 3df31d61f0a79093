//! Emergency access ("break glass"): a session without a second factor of the usual kinds, for a while, with a reason.
//!
//! It rests on the first factor and on a code that an administrator prepared (I2), which is spent by then. Nothing is
//! remembered of it: no trust is made, it proves no method, and at its end it is over; it is never renewed by another code,
//! since that needs a new login. Whoever wants to go on proves a second factor.

use std::time::Duration;

use super::{Admission, Admissions, Completion, Ground, Origin, demand_clear, horizon, target};
use crate::{
    config::App,
    factor::EmergencyProof,
    model::{MethodSet, Terms},
    policy::{self, Decision, Facts},
    session::{
        cookie::Kind,
        standing::{self, PENDING_LIVES},
        token::{Pending, Purpose, Session, issue},
    },
    store::{StoreError, documents},
};

impl Admissions {
    /// The pending user has typed an emergency code. Consumes the login, takes the device, makes a session that ends
    /// `lives` from now at the latest.
    ///
    /// # Errors
    /// When the store fails: nobody is admitted.
    pub async fn complete_in_emergency(
        &self,
        app: &App,
        pending: Pending,
        proof: EmergencyProof,
        lives: Duration,
        origin: Origin<'_>,
    ) -> Result<Completion, StoreError> {
        let now = self.clock.now();
        let lives_on = || standing::pending_lives(&self.live, app, &pending, now);
        let terms = documents::profile(self.store.as_ref(), &pending.user).await?.terms(now);
        let facts = Facts { user: &pending.user.name, client: origin.client, terms: &terms, now };
        let elsewhere = matches!(policy::decide(app, &facts), Decision::Elsewhere);
        if *proof.user() != pending.user || pending.purpose != Purpose::Login || elsewhere || !lives_on() {
            return Ok(Completion::Void);
        }
        self.may_begin()?;
        if !self.store.consume(pending.login, pending.started.plus(PENDING_LIVES * 2)).await? {
            return Ok(Completion::Void);
        }
        self.store.note_seen(&pending.user, true, now).await?;
        let owned = self.store.own(pending.device, &pending.user, horizon(app, now)).await?;
        // Once more: a reset or block that came while the store worked must not be overtaken.
        let glance = self.lookout.glance();
        if !lives_on() {
            return Ok(Completion::Void);
        }
        demand_clear(&glance)?;
        let until = now.plus(lives);
        let token = Session {
            id: pending.session,
            app: pending.app.clone(),
            user: pending.user.clone(),
            device: pending.device,
            epoch: owned.epoch,
            started: now,
            seen: now,
            proved_at: None,
            methods: MethodSet::EMPTY,
            // Exempt exactly as long as it lives: it opens everything until then, and nothing after.
            terms: Terms { exempt_until: Some(until), ..terms },
            emergency_until: Some(until),
        };
        self.note_begun(app, &token, &origin).await?;
        Ok(Completion::Admitted(Admission {
            session: pending.session,
            user: pending.user,
            device: pending.device,
            ground: Ground::Emergency,
            taken_from: owned.taken_from,
            cookies: vec![
                self.names.set(Kind::Session, &issue(&self.keyring, &token), None),
                self.names.clear(Kind::Login),
            ],
            target: target::clean(&pending.target, &self.prefix).to_owned(),
        }))
    }
}
