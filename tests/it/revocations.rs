//! What a replica keeps in memory.

use sluis::{
    base::clock::UnixMillis,
    model::{DeviceId, Epoch, Realm, Revocation, SessionId, UserKey, UserName},
    session::live::Live,
    store::RevocationSink,
};

/// The highest this process's memory has been, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// [F7 I3] A million revocations of all kinds stay below 200 MB, also while the tables grow. (Each test has a process to
/// itself.)
#[test]
fn f7_a_million_revocations_stay_below_200_mb() {
    const MANY: u32 = 1_000_000;
    let before = peak();
    let live = Live::default();
    let until = UnixMillis(u64::MAX);
    for n in 0..MANY {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&n.to_be_bytes());
        let user = || UserKey {
            realm: Realm::new("care"),
            name: UserName::canonical(format!("user{n}@care.example")),
        };
        live.apply(&match n % 8 {
            0..4 => Revocation::Session { id: SessionId(id), until },
            4 | 5 => Revocation::Device { device: DeviceId(id), epoch: Epoch(1), until },
            6 => Revocation::User { user: user(), before: UnixMillis(1), until },
            _ => Revocation::Blocked { user: user(), blocked: true, version: 1 },
        });
    }
    assert_eq!(live.len(), MANY as usize);
    let taken = peak() - before;
    eprintln!("{MANY} revocations: {} MB, {} bytes each", taken / 1_000_000, taken / u64::from(MANY));
    assert!(taken < 200_000_000, "{taken} bytes");
}
