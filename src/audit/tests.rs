//! What an auditor may rely on.

use std::{os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use super::*;
use crate::{
    base::{
        clock::{ManualClock, UnixMillis},
        random::SystemRandom,
        secret::SecretBytes,
    },
    config::Rotate,
    model::{AppId, DeviceId, Method, Realm, RequestId, UserKey, UserName},
};

/// A log in a folder of its own, and everything it needs.
pub(super) struct Rig {
    pub folder: tempfile::TempDir,
    pub ring: Keyring,
    pub clock: Arc<ManualClock>,
    pub meters: Meters,
    pub settings: config::Audit,
}

pub(super) fn ring(fills: &[u8]) -> Keyring {
    let masters: Vec<_> = fills.iter().map(|fill| SecretBytes::new(vec![*fill; 32])).collect();
    Keyring::new(&masters, Arc::new(SystemRandom)).unwrap()
}

impl Rig {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = AuditPlace::File(folder.path().join("audit.jsonl"));
        Self {
            settings: config::Audit {
                place,
                copy: None,
                on_failure: OnFailure::Continue,
                rotate: Rotate::default(),
            },
            folder,
            ring: ring(&[1]),
            clock: ManualClock::at(UnixMillis(1_790_000_000_123)),
            meters: Meters::unseen().unwrap(),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    fn setup(&self) -> Setup<'_> {
        Setup {
            keyring: &self.ring,
            replica: "pod-1",
            clock: self.clock.clone(),
            random: &SystemRandom,
            meters: self.meters.clone(),
        }
    }

    pub fn open(&self) -> Auditor {
        Auditor::open(&self.settings, self.setup()).unwrap()
    }

    pub fn to(&self, stream: impl Write + Send + 'static) -> Auditor {
        Auditor::to(Box::new(stream), self.settings.on_failure, self.setup()).unwrap()
    }

    /// One run of a server that saw these users.
    pub fn run(&self, users: &[&str]) {
        let auditor = self.open();
        for user in users {
            auditor.record(&Event::SessionEnded, &subject(user));
        }
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap()
    }

    /// All files, in the order of their names.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut all = siblings(&self.path());
        all.extend(self.path().exists().then(|| self.path()));
        all
    }

    pub fn verify(&self) -> verify::Report {
        self.verify_with(&[])
    }

    pub fn verify_with(&self, checkpoints: &[verify::Checkpoint]) -> verify::Report {
        let masters: Vec<u8> = vec![1];
        verify::verify(&self.files(), &verify::Trust::Ring(ring(&masters)), checkpoints, &mut |_| {}).unwrap()
    }

    /// Every file is whole.
    pub fn sound(&self) -> verify::Report {
        let report = self.verify();
        assert!(report.faults.is_empty(), "{report:#?}");
        report
    }
}

#[derive(Clone, Default)]
pub(super) struct Shared(pub Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes as many bytes as there is room for, as a disk does.
#[derive(Clone, Default)]
struct Full {
    room: Arc<Mutex<usize>>,
    then: Shared,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut room = self.room.lock();
        if *room == 0 {
            return Err(io::Error::other("disk full"));
        }
        let some = &bytes[..bytes.len().min(*room)];
        *room -= some.len();
        self.then.write(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn subject(name: &str) -> Subject {
    Subject {
        app: Some(AppId::new("ecd")),
        user: Some(UserKey { realm: Realm::new("zorg"), name: UserName::canonical(name) }),
        device: Some(DeviceId([7; 16])),
        client: Some("::ffff:10.1.2.3".parse().unwrap()),
        request_id: RequestId::new("r-1"),
        ..Subject::default()
    }
}

fn lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn events(text: &str) -> Vec<String> {
    lines(text).iter().map(|l| l["event"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_line_says_who_what_when_where_why_and_how_it_ended() {
    let rig = Rig::new();
    let auditor = rig.open();
    auditor.record(&Event::SecondFactorRefused { method: Method::Totp }, &subject("anna"));
    let bram = UserKey { realm: Realm::new("zorg"), name: UserName::canonical("bram") };
    auditor.record(&Event::DeviceTakenOver { from: bram }, &subject("anna"));
    let (actor, reason) = (Some("cli:root".to_owned()), Some("lost phone".to_owned()));
    auditor.record(&Event::UserReset, &Subject { actor, reason, ..Subject::default() });
    drop(auditor);
    let lines = lines(&rig.text());
    let mut line = lines[2].clone();
    for field in ["chain", "key", "prev", "mac"] {
        assert!(line.as_object_mut().unwrap().remove(field).unwrap().is_string(), "{field}");
    }
    assert_eq!(
        line,
        serde_json::json!({
            "kind": "audit", "seq": 3, "replica": "pod-1", "time": "2026-09-21T14:13:20.123Z",
            "event": "second_factor_refused", "outcome": "failure", "user": "anna", "realm": "zorg", "app": "ecd",
            "device": "07070707070707070707070707070707", "address": "10.1.2.3", "request_id": "r-1",
            "method": "totp"
        })
    );
    assert_eq!(lines[3]["previous_user"], "bram");
    assert_eq!((&lines[4]["actor"], &lines[4]["reason"]), (&"cli:root".into(), &"lost phone".into()));
    let all = events(&rig.text());
    assert_eq!(
        (all[0].as_str(), all[1].as_str(), all.last().unwrap().as_str()),
        ("chain_started", "checkpoint", "checkpoint")
    );
    let report = rig.sound();
    assert!(report.chains[0].is_closed);
}

#[test]
fn a_typed_name_cannot_forge_a_line_or_hide_in_one() {
    let rig = Rig::new();
    let auditor = rig.open();
    let typed = "anna\"}\n{\"event\":\"user_reset\"}\r\u{1b}[2J\u{202e}\u{2028}\u{85}\u{e0041}\u{0}\u{7f}é";
    auditor.record(&Event::FirstFactorRefused, &subject(typed));
    auditor.record(&Event::FirstFactorRefused, &subject(&"é".repeat(5000)));
    drop(auditor);
    let text = rig.text();
    assert_eq!(lines(&text)[2]["user"], typed, "nothing is lost, only escaped");
    assert!(text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "{text}");
    assert!(text.lines().all(|line| line.len() < 2000));
    assert_eq!(events(&text).iter().filter(|e| *e == "first_factor_refused").count(), 2);
    rig.sound();
}

#[test]
fn a_file_is_private_and_its_chain_goes_on_after_stop_kill_and_rotation() {
    let rig = Rig::new();
    rig.run(&["anna"]);
    assert_eq!(std::fs::metadata(rig.path()).unwrap().permissions().mode() & 0o777, 0o600);
    // a kill in the middle of a line
    let whole = rig.text();
    std::fs::write(rig.path(), [&whole, whole.lines().next().unwrap().get(..100).unwrap()].concat()).unwrap();
    let torn = rig.verify();
    assert_eq!(torn.faults[0].wrong, verify::Wrong::Torn, "{torn:?}");

    let auditor = rig.open();
    auditor.record(&Event::BlockedLogin, &subject("bram"));
    auditor.flush();
    let report = rig.sound();
    assert_eq!((report.chains.len(), report.chains[0].torn), (1, 1));

    // a kill while that was being repaired, and one that took the line break only
    auditor.close();
    let text = rig.text();
    std::fs::write(rig.path(), [&text, "{\"kind\":\"aud\n{\"kind\":\"audit\",\"seq\":9"].concat()).unwrap();
    rig.run(&["carla"]);
    assert_eq!(rig.sound().chains[0].torn, 2);
    let text = rig.text();
    std::fs::write(rig.path(), text.trim_end()).unwrap();
    rig.run(&["dirk"]);
    rig.sound();

    // logrotate
    let auditor = rig.open();
    std::fs::rename(rig.path(), rig.folder.path().join("audit.jsonl.1")).unwrap();
    auditor.record(&Event::SessionEnded, &subject("in the old one"));
    auditor.flush();
    auditor.reopen();
    auditor.record(&Event::UserBlocked { blocked: false }, &subject("in the new one"));
    auditor.flush();
    auditor.reopen();
    auditor.flush();
    assert_eq!(events(&rig.text()), ["file_opened", "user_unblocked"], "a second signal changes nothing");
    drop(auditor);
    assert_eq!(rig.sound().chains.len(), 1);

    // rotated while nothing runs
    std::fs::rename(rig.path(), rig.folder.path().join("audit.jsonl.0")).unwrap();
    rig.run(&["emma"]);
    let report = rig.sound();
    assert_eq!((report.chains.len(), report.notes.len()), (1, 0), "{report:?}");
}

#[test]
fn what_others_did_to_the_file_is_told_and_nothing_is_written_into_it() {
    let rig = Rig::new();
    rig.run(&["anna"]);
    let edited = rig.text().replace("\"detail\":\"stopping\"", "\"detail\":\"stoppinG\"");
    std::fs::write(rig.path(), &edited).unwrap();
    rig.run(&["bram"]);
    let files = rig.files();
    assert_eq!(files.len(), 2, "{files:?}");
    let aside = files.iter().find(|f| f.extension().is_some_and(|e| e == "unreadable")).unwrap();
    assert_eq!(std::fs::read_to_string(aside).unwrap(), edited);
    assert_eq!(lines(&rig.text())[0]["detail"], "last_line_changed");

    // copytruncate, and a deleted file
    let auditor = rig.open();
    auditor.flush();
    std::fs::File::options().write(true).open(rig.path()).unwrap().set_len(0).unwrap();
    auditor.record(&Event::SessionEnded, &subject("anna"));
    auditor.flush();
    assert_eq!(lines(&rig.text())[0]["detail"], "truncated");
    std::fs::remove_file(rig.path()).unwrap();
    auditor.record(&Event::SessionEnded, &subject("anna"));
    auditor.flush();
    let text = rig.text();
    assert_eq!(
        (events(&text), lines(&text)[0]["detail"].as_str()),
        (vec!["file_opened".into(), "session_ended".into()], Some("removed"))
    );
}

#[test]
fn two_writers_never_share_a_file() {
    let rig = Rig::new();
    let _one = rig.open();
    let other = Auditor::open(&rig.settings, rig.setup()).map(|_| ()).unwrap_err();
    assert!(other.to_string().contains("another process writes"), "{other}");
}

#[test]
fn our_own_rotation_loses_nothing_and_retention_is_told() {
    let mut rig = Rig::new();
    rig.settings.rotate = Rotate {
        size: Some(64 << 10),
        every: Some(Duration::from_hours(24)),
        keep: Some(Duration::from_hours(24 * 30)),
    };
    let auditor = rig.open();
    for number in 0..400 {
        auditor.record(&Event::SessionEnded, &subject(&format!("user-{number}")));
    }
    auditor.flush();
    let files = rig.files();
    assert!(files.len() >= 3, "{files:?}");
    rig.clock.advance(Duration::from_hours(25));
    auditor.record(&Event::SessionEnded, &subject("tomorrow"));
    auditor.flush();
    assert_eq!(rig.files().len(), files.len() + 1, "by age");
    drop(auditor);
    let report = rig.sound();
    assert_eq!((report.chains.len(), report.chains[0].lost), (1, 0));
    let all: String = rig.files().iter().map(|f| std::fs::read_to_string(f).unwrap()).collect();
    assert_eq!(events(&all).iter().filter(|e| *e == "session_ended").count(), 401);

    let before = rig.files().len();
    rig.clock.advance(Duration::from_hours(24 * 31));
    rig.run(&["much later"]);
    assert!(rig.files().len() < before);
    let report = rig.sound();
    assert!(report.notes.iter().any(|note| note.contains("deleted by retention")), "{report:?}");
    let all: String = rig.files().iter().map(|f| std::fs::read_to_string(f).unwrap()).collect();
    assert!(events(&all).contains(&"file_removed".to_owned()));
}

#[test]
fn after_a_new_master_key_both_halves_are_vouched_for() {
    let mut rig = Rig::new();
    rig.run(&["anna"]);
    rig.ring = ring(&[2, 1]);
    rig.run(&["bram"]);
    let text = rig.text();
    let all = events(&text);
    let at = all.iter().position(|e| e == "key_changed").unwrap();
    assert_eq!((all[at - 1].as_str(), all[at + 1].as_str()), ("checkpoint", "checkpoint"));
    let keys: Vec<_> = lines(&text).iter().map(|l| l["key"].as_str().unwrap().to_owned()).collect();
    assert!(keys[at - 1] != keys[at] && keys[at] == keys[at + 1]);
    let by = |ring| verify::verify(&rig.files(), &verify::Trust::Ring(ring), &[], &mut |_| {}).unwrap();
    assert!(by(ring(&[2, 1])).faults.is_empty());
    let report = by(ring(&[2]));
    assert!(
        report.faults.iter().all(|f| f.wrong == verify::Wrong::WrongKey) && report.fault_count == at,
        "{report:?}"
    );
    // and while it runs
    let auditor = rig.open();
    auditor.rekey(&ring(&[3, 2, 1]));
    auditor.record(&Event::SessionEnded, &subject("carla"));
    drop(auditor);
    assert!(by(ring(&[3, 2, 1])).faults.is_empty());
}

#[tokio::test]
async fn a_failing_sink_is_counted_and_the_gap_stands_in_the_chain() {
    let rig = Rig::new();
    let full = Full::default();
    *full.room.lock() = 1 << 20;
    let auditor = rig.to(full.clone());
    auditor.record(&Event::SessionEnded, &subject("anna"));
    auditor.flush();
    *full.room.lock() = 20;
    for _ in 0..3 {
        auditor.record(&Event::SessionEnded, &subject("lost"));
    }
    auditor.grant(&Event::SessionStarted { ground: "factor" }, &subject("lost")).await.unwrap();
    auditor.ready().unwrap();
    auditor.flush();
    assert_eq!((rig.meters.lost.get(), rig.meters.failing.get()), (4, 1));
    *full.room.lock() = 1 << 20;
    while rig.meters.failing.get() == 1 {
        auditor.reopen();
        auditor.flush();
    }
    auditor.record(&Event::SessionEnded, &subject("bram"));
    drop(auditor);
    std::fs::write(rig.path(), &*full.then.0.lock()).unwrap();
    let report = rig.sound();
    assert_eq!((report.chains[0].lost, report.chains[0].torn), (4, 1), "{report:?}");
}

#[tokio::test]
async fn under_deny_nothing_is_granted_that_is_not_on_the_disk() {
    let mut rig = Rig::new();
    rig.settings.on_failure = OnFailure::Deny;
    let full = Full::default();
    *full.room.lock() = 1 << 20;
    let auditor = rig.to(full.clone());
    let started = Event::SessionStarted { ground: "factor" };
    auditor.grant(&started, &subject("anna")).await.unwrap();
    let text = String::from_utf8(full.then.0.lock().clone()).unwrap();
    assert!(text.contains("session_started"), "written before it is granted");
    *full.room.lock() = 0;
    assert!(auditor.grant(&started, &subject("bram")).await.is_err());
    assert!(auditor.ready().is_err());
    *full.room.lock() = 1 << 20;
    let works = async {
        while auditor.ready().is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), works).await.expect("it recovers by itself");
    auditor.grant(&started, &subject("carla")).await.unwrap();
}

#[test]
fn a_missing_folder_is_told_at_start() {
    let mut rig = Rig::new();
    rig.settings.place = AuditPlace::File("/nonexistent/folder/audit.log".into());
    assert!(Auditor::open(&rig.settings, rig.setup()).is_err());
}

#[test]
fn syslog_gets_the_line_whole_by_every_way() {
    use std::{
        io::Read,
        net::{TcpListener, UdpSocket},
        os::unix::net::UnixDatagram,
    };

    let mut rig = Rig::new();
    let unix = UnixDatagram::bind(rig.folder.path().join("log")).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let targets = [
        config::SyslogTarget::Unix(rig.folder.path().join("log")),
        config::SyslogTarget::Udp(udp.local_addr().unwrap().to_string()),
        config::SyslogTarget::Tcp(tcp.local_addr().unwrap().to_string()),
    ];
    let mut all: Vec<Vec<String>> = vec![Vec::new(); 3];
    for (target, got) in targets.into_iter().zip(&mut all) {
        rig.settings.place = AuditPlace::Syslog(target.clone());
        let auditor = rig.open();
        auditor.record(&Event::FirstFactorRefused, &subject("anna"));
        auditor.close();
        let mut buffer = vec![0; 65536];
        match target {
            config::SyslogTarget::Tcp(_) => {
                let mut text = String::new();
                tcp.accept().unwrap().0.read_to_string(&mut text).unwrap_or(0);
                let mut rest = text.as_str();
                while let Some((length, after)) = rest.split_once(' ') {
                    let (message, more) = after.split_at(length.parse().unwrap());
                    got.push(message.to_owned());
                    rest = more;
                }
            }
            _ => {
                while got.len() < 4 {
                    let read = match target {
                        config::SyslogTarget::Unix(_) => unix.recv(&mut buffer).unwrap(),
                        _ => udp.recv(&mut buffer).unwrap(),
                    };
                    got.push(String::from_utf8(buffer[..read].to_vec()).unwrap());
                }
            }
        }
    }
    // And as a copy beside a file.
    rig.settings.place = AuditPlace::File(rig.path());
    rig.settings.copy = Some(config::SyslogTarget::Udp(udp.local_addr().unwrap().to_string()));
    rig.run(&["bram"]);
    let mut buffer = vec![0; 65536];
    for line in rig.text().lines() {
        let read = udp.recv(&mut buffer).unwrap();
        assert!(String::from_utf8_lossy(&buffer[..read]).ends_with(line));
    }
    for got in &all {
        assert_eq!(got.len(), 4, "chain_started, checkpoint, the event, checkpoint: {got:#?}");
        let refused = &got[2];
        let head = "<109>1 2026-09-21T14:13:20.123Z pod-1 sluis ";
        assert!(
            refused.starts_with(head) && refused.contains(" first_factor_refused - {\"kind\""),
            "{refused}"
        );
        let chain: String = got.iter().map(|m| format!("{{{}\n", m.split_once('{').unwrap().1)).collect();
        std::fs::write(rig.path(), chain).unwrap();
        rig.sound();
    }
}

/// `docs/audit.md` has a row for each event and each field, and no others.
#[test]
fn every_event_and_field_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/audit.md")).unwrap();
    let table = |heading: &str| -> std::collections::BTreeSet<String> {
        let section = text.split(heading).nth(1).unwrap().split("\n## ").next().unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        rows.map(str::to_owned).collect()
    };
    let source = std::fs::read_to_string(root.join("src/audit/event.rs")).unwrap();
    let names: std::collections::BTreeSet<String> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once("=> \"")?.1.split('"').next())
        .map(str::to_owned)
        .collect();
    assert!(names.contains("user_reset") && names.contains("key_changed"), "{names:?}");
    assert_eq!(table("\n## Events\n"), names);
    let mut fields: std::collections::BTreeSet<String> = source
        .split("struct Body<'a> {")
        .nth(1)
        .unwrap()
        .split('}')
        .next()
        .unwrap()
        .lines()
        .filter(|line| !line.contains('#'))
        .filter_map(|line| line.trim().split_once(':').map(|(name, _)| name.to_owned()))
        .collect();
    for name in ["kind", "seq", "chain", "replica", "key", "prev", "public_key", "signature", "mac"] {
        fields.insert(name.to_owned());
    }
    assert_eq!(table("\n## Fields\n"), fields);
}
