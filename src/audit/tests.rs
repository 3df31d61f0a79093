//! What an auditor may rely on.

use std::{os::unix::fs::PermissionsExt, sync::Arc};

use super::*;
use crate::{
    base::clock::ManualClock,
    model::{Realm, UserName},
};

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes `left` bytes, then breaks off, then takes all again.
struct Breaks {
    left: usize,
    then: Shared,
    broken: bool,
}

impl Write for Breaks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 && !self.broken {
            self.broken = true;
            return Err(io::Error::other("disk full"));
        }
        let some = if self.broken { bytes } else { &bytes[..bytes.len().min(self.left)] };
        self.left -= self.left.min(some.len());
        self.then.write(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failures() -> IntCounter {
    IntCounter::new("failures", "failures").unwrap()
}

fn clock() -> SharedClock {
    ManualClock::at(UnixMillis(1_790_000_000_123))
}

fn anna(name: &str) -> Subject {
    Subject {
        app: Some(AppId::new("ecd")),
        user: Some(UserKey { realm: Realm::new("zorg"), name: UserName::canonical(name) }),
        device: Some(DeviceId([7; 16])),
        client: Some("::ffff:10.1.2.3".parse().unwrap()),
        request_id: RequestId::new("r-1"),
        actor: None,
    }
}

fn lines(bytes: &[u8]) -> Vec<serde_json::Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn a_line_says_who_what_when_where_and_how_it_ended() {
    let out = Shared::default();
    let auditor = Auditor::to(Box::new(out.clone()), clock(), failures()).unwrap();
    auditor.record(&Event::SecondFactorRefused { method: Method::Totp }, &anna("anna"));
    let bram = UserKey { realm: Realm::new("zorg"), name: UserName::canonical("bram") };
    auditor.record(&Event::DeviceTakenOver { from: bram }, &anna("anna"));
    let reset = Subject { actor: Some("cli:root".to_owned()), ..Subject::default() };
    auditor.record(&Event::UserReset, &reset);
    drop(auditor);
    let lines = lines(&out.0.lock());
    assert_eq!(
        lines[0],
        serde_json::json!({
            "kind": "audit", "time": "2026-09-21T14:13:20.123Z", "event": "second_factor_refused",
            "outcome": "failure", "user": "anna", "realm": "zorg", "app": "ecd",
            "device": "07070707070707070707070707070707", "address": "10.1.2.3", "request_id": "r-1",
            "method": "totp"
        })
    );
    assert_eq!(lines[1]["previous_user"], "bram");
    assert_eq!(lines[2]["actor"], "cli:root");
    assert_eq!(lines.len(), 3);
}

#[test]
fn a_typed_name_cannot_forge_a_line_or_hide_in_one() {
    let out = Shared::default();
    let auditor = Auditor::to(Box::new(out.clone()), clock(), failures()).unwrap();
    let typed = "anna\"}\n{\"event\":\"user_reset\"}\r\u{1b}[2J\u{202e}\u{2028}\u{85}\u{e0041}";
    auditor.record(&Event::FirstFactorRefused, &anna(typed));
    auditor.record(&Event::FirstFactorRefused, &anna(&"é".repeat(5000)));
    drop(auditor);
    let written = out.0.lock().clone();
    let lines = lines(&written);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["user"], typed, "nothing is lost, only escaped");
    let text = String::from_utf8(written).unwrap();
    assert!(text.chars().all(|c| c == '\n' || !(c.is_control() || is_deceptive(c))));
    assert!(text.len() < 2000);
}

#[test]
fn a_file_is_private_appended_to_and_opened_again_after_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    std::fs::write(&path, "before\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let auditor = Auditor::open(&config::Audit::File(path.clone()), clock(), failures()).unwrap();
    auditor.record(&Event::BlockedLogin, &anna("anna"));
    auditor.flush();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("before\n{") && text.ends_with("}\n"), "{text}");

    std::fs::rename(&path, folder.path().join("audit.log.1")).unwrap();
    auditor.reopen();
    auditor.record(&Event::UserBlocked { blocked: false }, &anna("anna"));
    auditor.flush();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert!(text.contains("\"user_unblocked\""));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_failing_sink_is_counted_and_does_not_tear_the_next_line() {
    let (out, failed) = (Shared::default(), failures());
    let breaks = Breaks { left: 20, then: out.clone(), broken: false };
    let auditor = Auditor::to(Box::new(breaks), clock(), failed.clone()).unwrap();
    auditor.record(&Event::SessionEnded, &anna("anna"));
    auditor.record(&Event::SessionEnded, &anna("bram"));
    drop(auditor);
    assert_eq!(failed.get(), 1);
    let written = out.0.lock().clone();
    let text = std::str::from_utf8(&written).unwrap();
    let second: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    assert_eq!(second["user"], "bram");
}

#[test]
fn a_missing_folder_is_told_at_start() {
    let place = config::Audit::File("/nonexistent/folder/audit.log".into());
    assert!(Auditor::open(&place, clock(), failures()).is_err());
}
