//! What a decision costs, and the memory, with many revocations: the ratios should be about 1.
//!
//!     cargo bench --bench revocations
//!
//! Prints a table in Markdown.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot be set up may stop, and prints what it found"
)]

#[expect(dead_code, reason = "what other measurements need, too")]
mod world;

use std::{hint::black_box, time::Duration};

use sluis::{
    base::clock::{Stopwatch, UnixMillis},
    gate::Outcome,
    model::{DeviceId, Epoch, Realm, RequestId, Revocation, SessionId, UserKey, UserName},
    session::token::Session,
    store::RevocationSink,
};
use world::World;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// So many revocations there are, one after the other.
const AMOUNTS: [u32; 3] = [0, 10_000, 1_000_000];
const ROUNDS: usize = 101;
const IN_A_ROUND: u32 = 4096;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let world = World::new(&runtime);
    let id = RequestId::new("bench").unwrap();
    let view = world.page(&id);
    // Each of another user on another device, so that the look-ups meet cold memory as those of many people do.
    let sessions: Vec<Session> = (0..IN_A_ROUND).map(|n| somebody(&world.session, n)).collect();

    println!(
        "| revocations | a verified request, ns | ratio | a session held against all, ns | ratio | memory, MiB | bytes each |"
    );
    println!("|---|---|---|---|---|---|---|");
    let empty = resident();
    let (mut there, mut first) = (0, None);
    for amount in AMOUNTS {
        (there..amount).for_each(|n| world.live.apply(&revocation(n)));
        there = amount;
        let request = median(|_| match world.gate.assess(&world.app, black_box(&view)) {
            Outcome::Forward(permit) => drop(black_box(permit)),
            _ => std::process::abort(),
        });
        let held = median(|n| {
            let session = sessions.get(n as usize % sessions.len()).unwrap();
            if !black_box(world.live.session_lives(black_box(session))) {
                std::process::abort();
            }
        });
        let memory = resident().saturating_sub(empty);
        let (request0, held0) = *first.get_or_insert((request, held));
        let each =
            if amount == 0 { "–".to_owned() } else { format!("{:.0}", memory as f64 / f64::from(amount)) };
        println!(
            "| {amount} | {request:.0} | {:.2} | {held:.0} | {:.2} | {:.1} | {each} |",
            request / request0,
            held / held0,
            memory as f64 / 1024.0 / 1024.0,
        );
    }
}

/// Half are ended sessions, a quarter devices with a new owner, the rest resets and blocks.
fn revocation(n: u32) -> Revocation {
    let until = UnixMillis(u64::MAX);
    match n % 8 {
        0..4 => Revocation::Session { id: SessionId(sixteen(n)), until },
        4 | 5 => Revocation::Device { device: DeviceId(sixteen(n)), epoch: Epoch(1), until },
        6 => Revocation::User { user: user(n), before: UnixMillis(1), until },
        _ => Revocation::Blocked { user: user(n), blocked: true, version: 1 },
    }
}

fn somebody(one: &Session, n: u32) -> Session {
    let n = u32::MAX - n;
    Session { id: SessionId(sixteen(n)), device: DeviceId(sixteen(n)), user: user(n), ..one.clone() }
}

fn sixteen(n: u32) -> [u8; 16] {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&n.to_be_bytes());
    id
}

fn user(n: u32) -> UserKey {
    UserKey { realm: Realm::new("bench"), name: UserName::canonical(format!("user{n}@care.example")) }
}

/// Nanoseconds for one, of half the rounds.
fn median(mut one: impl FnMut(u32)) -> f64 {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Stopwatch::start();
            (0..IN_A_ROUND).for_each(&mut one);
            begun.elapsed()
        })
        .collect();
    times.sort();
    times.get(ROUNDS / 2).unwrap().as_secs_f64() * 1e9 / f64::from(IN_A_ROUND)
}

/// Memory of this process in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
