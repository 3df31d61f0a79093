//! Counts and times every verb of a store, and gives up on one that takes too long: then what was asked is unknown, as
//! with every [`StoreError`], and nobody waits for ever (I9). Changes nothing else: what the store answers is what the
//! caller gets.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    Added, AttemptState, Attempts, Collection, Devices, Document, Documents, Enrolments, NewAuthenticator,
    OneTime, Ownership, Rekeyed, RevocationSink, Revocations, SealedCount, SealedNames, SharedStore, Spare,
    StoreError, StoreResult, Upkeep, UserRecord, Users,
};
use crate::{
    base::{
        clock::{SharedClock, UnixMillis},
        keyring::Keyring,
    },
    metrics::{Metrics, StoreOperation as Op},
    model::{AppId, Authenticator, AuthenticatorId, DeviceId, LoginId, MethodSet, SessionId, UserKey},
};

/// No verb of a store that works takes so long, not even one that waits until the lease of another replica has run out
/// (`revocation.lease`, at most 30 s).
const LONGEST: Duration = Duration::from_secs(45);

/// The same store, counted in `sluis_store_operations_total` and `sluis_store_seconds`.
pub fn metered(store: SharedStore, metrics: Arc<Metrics>) -> SharedStore {
    Arc::new(Metered { store, metrics, longest: LONGEST })
}

struct Metered {
    store: SharedStore,
    metrics: Arc<Metrics>,
    longest: Duration,
}

impl Metered {
    async fn timed<T>(&self, op: Op, verb: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        let verb = async {
            let answer = tokio::time::timeout(self.longest, verb).await;
            answer.unwrap_or_else(|_| Err(StoreError(format!("no answer within {:?}", self.longest))))
        };
        self.metrics.store.timed(op, verb).await
    }

    /// For what takes as long as it takes, since it goes through everything.
    async fn untimed<T>(&self, op: Op, verb: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        self.metrics.store.timed(op, verb).await
    }
}

#[async_trait]
impl Enrolments for Metered {
    async fn authenticators(&self, user: &UserKey) -> StoreResult<Vec<Authenticator>> {
        self.timed(Op::Authenticators, self.store.authenticators(user)).await
    }

    async fn add(&self, user: &UserKey, new: NewAuthenticator) -> StoreResult<Added> {
        self.timed(Op::AddAuthenticator, self.store.add(user, new)).await
    }

    async fn advance_step(
        &self,
        user: &UserKey,
        id: AuthenticatorId,
        step: u64,
        drift_steps: i8,
        now: UnixMillis,
    ) -> StoreResult<bool> {
        self.timed(Op::AdvanceStep, self.store.advance_step(user, id, step, drift_steps, now)).await
    }

    async fn rename(&self, user: &UserKey, id: AuthenticatorId, name: &str) -> StoreResult<bool> {
        self.timed(Op::RenameAuthenticator, self.store.rename(user, id, name)).await
    }

    async fn remove_spare(
        &self,
        user: &UserKey,
        id: AuthenticatorId,
        counting: MethodSet,
    ) -> StoreResult<Spare> {
        self.timed(Op::RemoveAuthenticator, self.store.remove_spare(user, id, counting)).await
    }

    async fn remove(&self, user: &UserKey, id: AuthenticatorId) -> StoreResult<bool> {
        self.timed(Op::RemoveAuthenticator, self.store.remove(user, id)).await
    }
}

#[async_trait]
impl Users for Metered {
    async fn note_seen(&self, user: &UserKey, login: bool, now: UnixMillis) -> StoreResult<()> {
        self.timed(Op::NoteSeen, self.store.note_seen(user, login, now)).await
    }

    async fn user(&self, user: &UserKey) -> StoreResult<Option<UserRecord>> {
        self.timed(Op::User, self.store.user(user)).await
    }

    async fn list(&self, part: &str, after: Option<&UserKey>, limit: usize) -> StoreResult<Vec<UserRecord>> {
        self.timed(Op::ListUsers, self.store.list(part, after, limit)).await
    }

    async fn reset(&self, user: &UserKey, now: UnixMillis, until: UnixMillis) -> StoreResult<usize> {
        self.timed(Op::ResetUser, self.store.reset(user, now, until)).await
    }

    async fn sign_out(&self, user: &UserKey, now: UnixMillis, until: UnixMillis) -> StoreResult<()> {
        self.timed(Op::SignOut, self.store.sign_out(user, now, until)).await
    }

    async fn set_blocked(&self, user: &UserKey, blocked: bool, now: UnixMillis) -> StoreResult<()> {
        self.timed(Op::SetBlocked, self.store.set_blocked(user, blocked, now)).await
    }
}

#[async_trait]
impl Documents for Metered {
    async fn document(&self, of: Collection, name: &str) -> StoreResult<Option<Document>> {
        self.timed(Op::Document, self.store.document(of, name)).await
    }

    async fn swap_document(
        &self,
        of: Collection,
        name: &str,
        expected: Option<Document>,
        new: Option<Document>,
    ) -> StoreResult<bool> {
        self.timed(Op::SwapDocument, self.store.swap_document(of, name, expected, new)).await
    }

    async fn documents(
        &self,
        of: Collection,
        after: Option<&str>,
        limit: usize,
    ) -> StoreResult<Vec<(String, Document)>> {
        self.timed(Op::Documents, self.store.documents(of, after, limit)).await
    }
}

#[async_trait]
impl OneTime for Metered {
    async fn consume(&self, login: LoginId, until: UnixMillis) -> StoreResult<bool> {
        self.timed(Op::Consume, self.store.consume(login, until)).await
    }
}

#[async_trait]
impl Attempts for Metered {
    async fn attempts(&self, user: &UserKey) -> StoreResult<AttemptState> {
        self.timed(Op::Attempts, self.store.attempts(user)).await
    }

    async fn swap_attempts(
        &self,
        user: &UserKey,
        expected: AttemptState,
        new: AttemptState,
    ) -> StoreResult<bool> {
        self.timed(Op::SwapAttempts, self.store.swap_attempts(user, expected, new)).await
    }
}

#[async_trait]
impl Devices for Metered {
    async fn own(&self, device: DeviceId, user: &UserKey, until: UnixMillis) -> StoreResult<Ownership> {
        self.timed(Op::OwnDevice, self.store.own(device, user, until)).await
    }
}

#[async_trait]
impl Revocations for Metered {
    async fn end_session(&self, id: SessionId, until: UnixMillis) -> StoreResult<()> {
        self.timed(Op::EndSession, self.store.end_session(id, until)).await
    }

    async fn follow(&self, sink: Arc<dyn RevocationSink>, now: UnixMillis) -> StoreResult<()> {
        self.untimed(Op::Follow, self.store.follow(sink, now)).await
    }
}

#[async_trait]
impl SealedNames for Metered {
    async fn learn_sealed_name(&self, app: &AppId, name: &str) -> StoreResult<()> {
        self.timed(Op::LearnSealedName, self.store.learn_sealed_name(app, name)).await
    }

    async fn sealed_names(&self) -> StoreResult<Vec<(AppId, String)>> {
        self.timed(Op::SealedNames, self.store.sealed_names()).await
    }
}

#[async_trait]
impl Upkeep for Metered {
    async fn ping(&self) -> StoreResult<Duration> {
        self.timed(Op::Ping, self.store.ping()).await
    }

    async fn clock_ahead(&self, clock: &SharedClock) -> StoreResult<Option<i64>> {
        self.timed(Op::Ping, self.store.clock_ahead(clock)).await
    }

    async fn prune(&self, now: UnixMillis) -> StoreResult<usize> {
        self.untimed(Op::Prune, self.store.prune(now)).await
    }

    async fn backup(&self, to: PathBuf) -> StoreResult<()> {
        self.untimed(Op::Backup, self.store.backup(to)).await
    }

    async fn sealed(&self) -> StoreResult<SealedCount> {
        self.timed(Op::Sealed, self.store.sealed()).await
    }

    async fn rekey(&self, keyring: Arc<Keyring>) -> StoreResult<Rekeyed> {
        self.untimed(Op::Rekey, self.store.rekey(keyring)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;

    #[tokio::test]
    async fn verbs_are_counted_by_outcome() {
        let metrics = Arc::new(Metrics::new(&[]));
        let store = metered(memory::open(), metrics.clone());
        let user = UserKey {
            realm: crate::model::Realm::new("zorg"),
            name: crate::model::UserName::canonical("anna"),
        };
        store.note_seen(&user, true, UnixMillis(1)).await.unwrap();
        assert!(store.user(&user).await.unwrap().is_some(), "the same store");
        // the memory store has nothing to copy
        assert!(store.backup("/nonexistent/folder/copy".into()).await.is_err());
        let text = metrics.render();
        for series in [
            r#"sluis_store_operations_total{operation="note_seen",outcome="ok"} 1"#,
            r#"sluis_store_operations_total{operation="backup",outcome="failed"} 1"#,
            r#"sluis_store_seconds_count{operation="user"} 1"#,
        ] {
            assert!(text.contains(series), "{series}");
        }
    }

    /// Answers a ping, and everything else never.
    struct Hangs(SharedStore);

    #[async_trait]
    impl OneTime for Hangs {
        async fn consume(&self, login: LoginId, until: UnixMillis) -> StoreResult<bool> {
            std::future::pending::<()>().await;
            self.0.consume(login, until).await
        }
    }

    /// [I9] A store that hangs has failed, and is counted so.
    #[tokio::test]
    async fn i9_a_verb_that_hangs_is_a_failure() {
        let metrics = Arc::new(Metrics::new(&[]));
        let longest = Duration::from_millis(20);
        let metered = Metered { store: memory::open(), metrics: metrics.clone(), longest };
        let hangs = Hangs(memory::open());
        let asked = hangs.consume(LoginId([1; 16]), UnixMillis(1));
        let error = metered.timed(Op::Consume, asked).await.unwrap_err();
        assert!(error.to_string().contains("no answer within 20ms"), "{error}");
        let series = r#"sluis_store_operations_total{operation="consume",outcome="failed"} 1"#;
        assert!(metrics.render().contains(series));
    }
}
