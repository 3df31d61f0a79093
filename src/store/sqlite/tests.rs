//! What only a file can get wrong: restarts, other processes, other keys, other versions, copies.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use tempfile::TempDir;

use super::*;
use crate::{
    base::{random::SystemRandom, secret::SecretBytes},
    model::{AppId, AuthenticatorId, DeviceId, LoginId, Revocation, SessionId},
    store::{
        AttemptState,
        contract::{NOW, Recorder, authenticator, enrol, run_contract, user},
    },
};

fn ring(fills: &[u8]) -> Arc<Keyring> {
    let masters: Vec<_> = fills.iter().map(|fill| SecretBytes::new(vec![*fill; 32])).collect();
    Arc::new(Keyring::new(&masters, Arc::new(SystemRandom)).unwrap())
}

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("sluis.db")
}

fn fresh() -> (SharedStore, TempDir) {
    let directory = TempDir::new().unwrap();
    (open(&file(&directory), ring(&[1])).unwrap(), directory)
}

fn refused(path: &Path, keyring: Arc<Keyring>) -> OpenError {
    open(path, keyring).map(|_| ()).unwrap_err()
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

run_contract!(fresh);
run_contract!(fresh; no_revocation_is_told_twice_between_loading_and_following);

#[tokio::test]
async fn i10_what_was_acknowledged_is_there_after_a_restart() {
    let (store, directory) = fresh();
    let (anna, until) = (user("anna"), NOW.plus(Duration::from_secs(1000)));
    let locked = AttemptState { failures: 50, wait_until: NOW };
    enrol(&store, &anna, 1).await;
    assert!(store.advance_step(&anna, AuthenticatorId([1; 16]), 500, 1, NOW).await.unwrap());
    assert!(store.consume(LoginId([1; 16]), until).await.unwrap());
    assert!(store.swap_attempts(&anna, AttemptState::default(), locked).await.unwrap());
    store.own(DeviceId([1; 16]), &anna, until).await.unwrap();
    let bram = store.own(DeviceId([1; 16]), &user("bram"), until).await.unwrap();
    store.end_session(SessionId([1; 16]), until).await.unwrap();
    store.set_blocked(&user("eve"), true, NOW).await.unwrap();
    store.reset(&user("carl"), NOW, until).await.unwrap();
    store.learn_sealed_name(&AppId::new("records"), "sid").await.unwrap();
    drop(store);

    let store = open(&file(&directory), ring(&[1])).unwrap();
    let kept = store.authenticators(&anna).await.unwrap().remove(0);
    assert_eq!((kept.secret.expose(), kept.last_step, kept.drift_steps), ([1; 20].as_slice(), 500, 1));
    assert!(!store.advance_step(&anna, kept.id, 500, 1, NOW).await.unwrap(), "I4 over a restart");
    assert!(!store.consume(LoginId([1; 16]), until).await.unwrap(), "I2 over a restart");
    assert_eq!(store.attempts(&anna).await.unwrap(), locked, "I8 over a restart");
    let present = Recorder::following(&store, NOW).await.take();
    let taken = Revocation::Device { device: DeviceId([1; 16]), epoch: bram.epoch, until };
    assert!(present.contains(&taken), "I3 over a restart");
    assert_eq!(present.len(), 4, "{present:?}");
    assert_eq!(store.sealed_names().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_row_copied_to_another_user_does_not_open() {
    let (store, directory) = fresh();
    enrol(&store, &user("anna"), 1).await;
    enrol(&store, &user("bram"), 2).await;
    drop(store);
    let db = Connection::open(file(&directory)).unwrap();
    // Bram's authenticator, with its id, put in the place of Anna's.
    let moved = "UPDATE authenticators SET user = (SELECT id FROM users WHERE name = 'anna')
                  WHERE user = (SELECT id FROM users WHERE name = 'bram')";
    assert_eq!(db.execute(moved, []).unwrap(), 1);
    drop(db);
    let store = open(&file(&directory), ring(&[1])).unwrap();
    let error = store.authenticators(&user("anna")).await.map(|all| all.len()).unwrap_err();
    assert!(error.0.contains("care/anna does not open"), "an error, never \"not enrolled\" (I9): {error}");
}

#[tokio::test]
async fn a_secret_is_bound_to_its_kind_and_id_and_never_written_in_the_clear() {
    let (keyring, anna) = (ring(&[1]), user("anna"));
    let secret = SecretBytes::new(b"not to be read by anybody".to_vec());
    let place = |id: u8, kind: &'static str| (AuthenticatorId([id; 16]), kind);
    let (id, kind) = place(1, "totp");
    let boxed = sealed::seal(&keyring, &sealed::Place::of(&anna, &id, kind), &secret).unwrap();
    for (id, kind) in [place(2, "totp"), place(1, "sms")] {
        assert!(sealed::open(&keyring, &sealed::Place::of(&anna, &id, kind), &boxed).is_err());
    }
    let (store, directory) = fresh();
    let clear = crate::model::Authenticator { secret, ..authenticator(1) };
    store
        .add(&anna, crate::store::NewAuthenticator { authenticator: clear, at_most: 1, begun: NOW })
        .await
        .unwrap();
    for entry in fs::read_dir(directory.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(25).any(|w| w == b"not to be read by anybody"));
    }
}

#[tokio::test]
async fn keys_rotate_and_an_old_one_can_be_dropped_after_a_restart() {
    let (store, directory) = fresh();
    enrol(&store, &user("anna"), 1).await;
    drop(store);
    drop(open(&file(&directory), ring(&[2, 1])).unwrap());
    let store = open(&file(&directory), ring(&[2])).unwrap();
    let kept = store.authenticators(&user("anna")).await.unwrap().remove(0);
    assert_eq!(kept.secret.expose(), [1; 20]);
    drop(store);
    let error = refused(&file(&directory), ring(&[1]));
    assert!(matches!(error, OpenError::WrongKey { .. }), "{error}");
}

#[test]
fn a_second_opener_is_told_who_has_the_file() {
    let (store, directory) = fresh();
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(file(&directory), &link).unwrap();
    for path in [file(&directory), link] {
        let error = refused(&path, ring(&[1]));
        let text = format!("already in use by process {}", std::process::id());
        assert!(error.to_string().contains(&text), "{error}");
    }
    drop(store);
    open(&file(&directory), ring(&[1])).unwrap();
}

#[tokio::test]
async fn the_files_are_for_the_owner_only() {
    let (store, directory) = fresh();
    enrol(&store, &user("anna"), 1).await;
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(names.len(), 4, "the file, its log, its index, the lock: {names:?}");
    for name in names {
        assert_eq!(mode(&name), 0o600, "{}", name.display());
    }
    drop(store);
    fs::set_permissions(file(&directory), fs::Permissions::from_mode(0o644)).unwrap();
    let _store = open(&file(&directory), ring(&[1])).unwrap();
    assert_eq!(mode(file(&directory)), 0o600, "taken back from others");
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let (store, directory) = fresh();
    drop(store);
    let db = Connection::open(file(&directory)).unwrap();
    db.pragma_update(None, "user_version", schema::newest() + 1).unwrap();
    drop(db);
    let before = fs::read(file(&directory)).unwrap();
    let error = refused(&file(&directory), ring(&[1]));
    assert!(matches!(error, OpenError::Newer { .. }), "{error}");
    assert!(error.to_string().contains("run the newer version again"), "{error}");
    assert_eq!(fs::read(file(&directory)).unwrap(), before);
}

/// Users of a file that an earlier version made are found by a part of their name.
#[tokio::test]
async fn names_of_an_earlier_schema_are_searched() {
    let (store, directory) = fresh();
    store.note_seen(&user("hanna"), true, NOW).await.unwrap();
    drop(store);
    let db = Connection::open(file(&directory)).unwrap();
    db.execute_batch("DROP TABLE user_name_parts; DROP TABLE user_names; PRAGMA user_version = 3;").unwrap();
    drop(db);
    let store = open(&file(&directory), ring(&[1])).unwrap();
    store.note_seen(&user("joanna"), true, NOW).await.unwrap();
    for part in ["anna", "na", "n"] {
        let found = store.list(part, None, 9).await.unwrap();
        assert_eq!(found.iter().map(|r| r.user.name.as_str()).collect::<Vec<_>>(), ["hanna", "joanna"]);
    }
}

#[test]
fn what_is_not_ours_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = file(&directory);
    fs::write(
        &path,
        b"a letter to my mother, longer than the header of a database by quite a bit, so that it is \
                       looked at as one",
    )
    .unwrap();
    let error = refused(&path, ring(&[1]));
    assert!(error.to_string().contains("no SQLite database"), "{error}");
    assert!(fs::read(&path).unwrap().starts_with(b"a letter"));

    let path = directory.path().join("other.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
    let error = refused(&path, ring(&[1]));
    assert!(error.to_string().contains("another program"), "{error}");

    let error = refused(&directory.path().join("no/such/directory.db"), ring(&[1]));
    assert!(error.to_string().contains("make it first"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_under_load_is_whole_private_and_never_overwrites() {
    let (store, directory) = fresh();
    enrol(&store, &user("anna"), 1).await;
    let writing = {
        let store = store.clone();
        tokio::spawn(async move {
            for step in 1..=300_u64 {
                store
                    .advance_step(&user("anna"), AuthenticatorId([1; 16]), 100 + step, 0, NOW)
                    .await
                    .unwrap();
                let device = DeviceId(u128::from(step).to_be_bytes());
                store.own(device, &user("anna"), NOW).await.unwrap();
            }
        })
    };
    for number in 0..5 {
        store.backup(directory.path().join(format!("copy-{number}.db"))).await.unwrap();
    }
    writing.await.unwrap();
    let last = directory.path().join("last.db");
    store.backup(last.clone()).await.unwrap();
    let error = store.backup(last.clone()).await.unwrap_err();
    assert!(error.0.contains("a file of that name already"), "{error}");
    assert!(store.backup(directory.path().join("no/such/directory.db")).await.is_err());
    assert_eq!(mode(&last), 0o600);
    for entry in fs::read_dir(directory.path()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.contains("partial") && !name.starts_with("last.db-"), "left behind: {name}");
    }
    // The copy is a store of its own.
    let copy = open(&last, ring(&[1])).unwrap();
    let kept = copy.authenticators(&user("anna")).await.unwrap().remove(0);
    assert_eq!((kept.last_step, kept.secret.expose()), (400, [1; 20].as_slice()));
}

#[tokio::test]
async fn a_failing_command_undoes_itself_only_and_tells_nobody() {
    let directory = TempDir::new().unwrap();
    let real = lock::real_path(&file(&directory)).unwrap();
    let claim = lock::FileLock::take(&real).unwrap();
    lock::make_private(&real).unwrap();
    let writer = Writer::start(schema::connect(&real).unwrap(), claim).unwrap();
    let recorder = Arc::new(Recorder::default());
    let sink = recorder.clone();
    writer
        .run(move |_, feed| {
            feed.join(sink, Vec::new());
            Ok(())
        })
        .await
        .unwrap();

    let block = |name| Revocation::Blocked { user: user(name), blocked: true, version: NOW.0 };
    let learn = |name: &'static str, fails: bool| {
        let told = block(name);
        writer.run(move |db, feed| {
            db.execute("INSERT INTO sealed_names VALUES ('app', ?1)", [name])?;
            feed.announce(told);
            if fails { Err(StoreError("on second thoughts".to_owned())) } else { Ok(()) }
        })
    };
    let (first, failed, twice, last) =
        tokio::join!(learn("a", false), learn("b", true), learn("a", false), learn("c", false));
    assert_eq!((first.is_ok(), last.is_ok()), (true, true));
    assert_eq!(failed.unwrap_err().0, "on second thoughts");
    assert!(twice.unwrap_err().0.contains("UNIQUE"), "the database's own refusal");
    let count = "SELECT count(*) FROM sealed_names";
    let kept = writer.run(move |db, _| Ok(db.query_row(count, [], |row| row.get::<_, i64>(0))?));
    assert_eq!(kept.await.unwrap(), 2);
    assert_eq!(recorder.take(), [block("a"), block("c")]);
}

#[test]
fn a_store_serves_callers_on_several_runtimes() {
    let (store, _directory) = fresh();
    let threads: Vec<_> = (0..4_u8)
        .map(|number| {
            let store = store.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    for round in 0..50_u8 {
                        let id = LoginId([number.wrapping_mul(50).wrapping_add(round); 16]);
                        assert!(store.consume(id, NOW).await.unwrap());
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
