//! Every tampering is found, and where.

use proptest::prelude::*;

use super::*;
use crate::audit::{
    Event,
    tests::{Rig, ring, subject},
};

/// A log of one run, as lines; the rig it is in; and its end.
fn log(users: usize) -> (Rig, Vec<String>, Checkpoint) {
    let rig = Rig::new();
    let names: Vec<String> = (0..users).map(|n| format!("user-{n}")).collect();
    rig.run(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let lines = rig.text().lines().map(str::to_owned).collect();
    let head = Checkpoint::find(&rig.sound().chains[0].head).remove(0);
    (rig, lines, head)
}

fn put(rig: &Rig, lines: &[String]) {
    std::fs::write(rig.path(), lines.iter().map(|l| format!("{l}\n")).collect::<String>()).unwrap();
}

/// The first fault as kind and line.
fn first(report: &Report) -> (Wrong, u64) {
    let fault = report.faults.first().unwrap_or_else(|| panic!("{report:?}"));
    (fault.wrong, fault.line)
}

#[test]
fn each_kind_of_tampering_is_named_with_its_place() {
    let (rig, lines, head) = log(8);
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut changed = lines.clone();
        change(&mut changed);
        put(&rig, &changed);
        rig.verify_with(std::slice::from_ref(&head))
    };
    assert_eq!(first(&with(&|l| drop(l.remove(4)))), (Wrong::CutOut, 5));
    assert_eq!(first(&with(&|l| drop(l.drain(4..7)))), (Wrong::CutOut, 5));
    assert_eq!(first(&with(&|l| l[4] = l[4].replace("user-2", "user-3"))), (Wrong::Changed, 5));
    assert_eq!(first(&with(&|l| l.swap(4, 5))), (Wrong::Reordered, 5));
    assert_eq!(first(&with(&|l| l.swap(3, 8))), (Wrong::Reordered, 4));
    assert_eq!(first(&with(&|l| l.insert(4, l[6].replace("user-4", "x")))), (Wrong::Inserted, 5));
    assert_eq!(first(&with(&|l| l.insert(4, "hello".to_owned()))), (Wrong::Inserted, 5));
    assert_eq!(first(&with(&|l| l.insert(6, l[3].clone()))), (Wrong::Inserted, 7));
    assert_eq!(first(&with(&|l| drop(l.remove(0)))), (Wrong::CutOut, 1));
    assert_eq!(first(&with(&|l| l.truncate(6))), (Wrong::Truncated, 6));
    let report = with(&|l| l.insert(4, l[4].replace("user-2", "x")));
    assert_eq!((first(&report), report.fault_count), ((Wrong::Inserted, 5), 1), "{report:?}");

    // Without the master key: by links and signatures.
    let keys = crate::audit::public_keys(&ring(&[1])).into_iter().map(|(_, key)| key).collect();
    let trust = Trust::Public(keys);
    let public = |change: &dyn Fn(&mut Vec<String>)| {
        let mut changed = lines.clone();
        change(&mut changed);
        put(&rig, &changed);
        verify(&rig.files(), &trust, &[], &mut |_| {}).unwrap()
    };
    let whole = public(&|_| {});
    assert!(whole.faults.is_empty() && whole.notes.is_empty(), "{whole:?}");
    assert_eq!(first(&public(&|l| l[4] = l[4].replace("user-2", "user-3"))), (Wrong::Changed, 5));
    assert_eq!(first(&public(&|l| drop(l.remove(4)))), (Wrong::CutOut, 5));
    let last = lines.len() - 1;
    let cut = public(&|l| drop(l.remove(last)));
    assert!(cut.faults.is_empty() && cut.notes[0].contains("no checkpoint speaks"), "{cut:?}");
    // A whole new history needs the private key at its next checkpoint.
    let other =
        Trust::Public(crate::audit::public_keys(&ring(&[9])).into_iter().map(|(_, key)| key).collect());
    put(&rig, &lines);
    let report = verify(&rig.files(), &other, &[], &mut |_| {}).unwrap();
    assert!(report.faults.iter().any(|f| f.wrong == Wrong::WrongKey), "{report:?}");
}

#[test]
fn an_older_copy_that_was_put_back_is_found() {
    let rig = Rig::new();
    rig.run(&["anna"]);
    let old = rig.text();
    rig.run(&["bram", "carla"]);
    let head = Checkpoint::find(&rig.sound().chains[0].head).remove(0);
    let newer = rig.text();

    std::fs::write(rig.path(), &old).unwrap();
    assert_eq!(first(&rig.verify_with(std::slice::from_ref(&head))).0, Wrong::Truncated);
    // Sluis went on with it
    rig.run(&["dirk", "emma", "frits"]);
    let report = rig.verify_with(&[head]);
    assert_eq!(first(&report).0, Wrong::Rewritten, "{report:?}");
    // and where the other history is still there, no checkpoint is needed
    let mut both = newer;
    both.push_str(rig.text().strip_prefix(&old).unwrap());
    std::fs::write(rig.path(), both).unwrap();
    let report = rig.verify();
    assert_eq!(first(&report), (Wrong::Forked, 10), "{report:?}");
}

#[test]
fn files_of_two_replicas_in_any_order() {
    let (one, two) = (Rig::new(), Rig::new());
    for rig in [&one, &two] {
        let auditor = rig.open();
        auditor.record(&Event::SessionEnded, &subject("anna"));
        auditor.flush();
        std::fs::rename(rig.path(), rig.folder.path().join("audit.jsonl-1")).unwrap();
        auditor.reopen();
        auditor.record(&Event::SessionEnded, &subject("bram"));
    }
    let mut files = [two.files(), one.files()].concat();
    files.reverse();
    let report = verify(&files, &Trust::Ring(ring(&[1])), &[], &mut |_| {}).unwrap();
    assert!(report.faults.is_empty() && report.notes.is_empty(), "{report:?}");
    assert_eq!((report.chains.len(), files.len()), (2, 4));
    // and mixed into one, as a collector leaves them
    let (a, b) = (one.text(), two.text());
    let mixed: String = a.lines().zip(b.lines()).map(|(a, b)| format!("{a}\n{b}\n")).collect();
    let (first, second) = (one.folder.path().join("audit.jsonl-1"), two.folder.path().join("audit.jsonl-1"));
    let path = one.folder.path().join("mixed");
    std::fs::write(&path, mixed).unwrap();
    let report = verify(&[path, second, first], &Trust::Ring(ring(&[1])), &[], &mut |_| {}).unwrap();
    assert!(report.faults.is_empty(), "{report:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// One byte, anywhere, changed to anything, added or taken away.
    #[test]
    fn every_single_byte_is_vouched_for(at in any::<prop::sample::Index>(), byte in any::<u8>(), how in 0..3) {
        static LOG: std::sync::LazyLock<(Rig, Vec<String>, Checkpoint)> = std::sync::LazyLock::new(|| log(6));
        let (_, lines, head) = &*LOG;
        let mut bytes: Vec<u8> = lines.iter().flat_map(|l| format!("{l}\n").into_bytes()).collect();
        let whole = bytes.clone();
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            _ => drop(bytes.remove(at)),
        }
        prop_assume!(bytes != whole);
        let rig = Rig::new();
        std::fs::write(rig.path(), &bytes).unwrap();
        let report = rig.verify_with(std::slice::from_ref(head));
        prop_assert!(!report.faults.is_empty());
        // and it is found where it is: the line of that byte, or the one after it
        let line = u64::try_from(whole[..at].iter().filter(|b| **b == b'\n').count()).unwrap() + 1;
        let found = report.faults[0].line;
        prop_assert!(found.abs_diff(line) <= 1, "byte {} is in line {}, found in {:?}", at, line, report.faults);
    }

    /// Any lines left out, doubled or exchanged; any end cut off, in the middle of a line or behind one.
    #[test]
    fn every_other_order_is_found(from in 0usize..9, to in 0usize..9, how in 0..4, cut in any::<prop::sample::Index>()) {
        static LOG: std::sync::LazyLock<(Rig, Vec<String>, Checkpoint)> = std::sync::LazyLock::new(|| log(6));
        let (_, lines, head) = &*LOG;
        let mut changed = lines.clone();
        match how {
            0 => drop(changed.remove(from)),
            1 => changed.swap(from, to),
            2 => changed.insert(to, changed[from].clone()),
            _ => {}
        }
        let mut text: String = changed.iter().map(|l| format!("{l}\n")).collect();
        if how == 3 {
            text.truncate(cut.index(text.len()));
        }
        let whole: String = lines.iter().map(|l| format!("{l}\n")).collect();
        prop_assume!(text != whole && !text.is_empty());
        let rig = Rig::new();
        std::fs::write(rig.path(), text).unwrap();
        let report = rig.verify_with(std::slice::from_ref(head));
        prop_assert!(!report.faults.is_empty(), "{report:?}");
    }
}
