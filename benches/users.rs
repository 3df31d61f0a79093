//! How long a search for users takes with many users, and how long with few: the ratio should be about 1.
//!
//!     cargo bench --bench users [-- USERS]
//!
//! Prints a table in Markdown. SQLite in a temporary folder.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that cannot go on ends"
)]

use std::{sync::Arc, time::Duration};

use sluis::{
    base::{
        clock::{Stopwatch, UnixMillis},
        keyring::Keyring,
        random::SystemRandom,
        secret::SecretBytes,
    },
    model::{Realm, UserKey, UserName},
    store::{SharedStore, sqlite},
};

const FEW: usize = 1000;
/// What is looked for, and what it stands for.
const PARTS: [(&str, &str); 6] = [
    ("", "no part: the first page"),
    ("zorg", "in every name"),
    ("qx", "two characters, in few names"),
    ("0999@", "in few names"),
    ("zzz", "in none"),
    ("last", "in many names, all at the end"),
];

fn main() {
    let many = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(100_000);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (few, many_store) = runtime.block_on(async {
        let few = filled(&folder.path().join("few.db"), FEW).await;
        (few, filled(&folder.path().join("many.db"), many).await)
    });
    println!("| part of the name | found in | {FEW} users, µs | {many} users, µs | ratio |");
    println!("|---|---|---|---|---|");
    for (part, where_) in PARTS {
        let [a, b] = [&few, &many_store].map(|store| runtime.block_on(median(store, part)));
        let ratio = b.as_secs_f64() / a.as_secs_f64();
        println!("| `{part}` | {where_} | {:.0} | {:.0} | {ratio:.1} |", micros(a), micros(b));
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Half of the searches for a page of 100 take longer.
async fn median(store: &SharedStore, part: &str) -> Duration {
    let mut times = Vec::new();
    for _ in 0..51 {
        let begun = Stopwatch::start();
        store.list(part, None, 101).await.unwrap();
        times.push(begun.elapsed());
    }
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

async fn filled(path: &std::path::Path, users: usize) -> SharedStore {
    let keyring = Keyring::new(&[SecretBytes::new(vec![1; 32])], Arc::new(SystemRandom)).unwrap();
    let store = sqlite::open(path, Arc::new(keyring)).unwrap();
    let begun = Stopwatch::start();
    let mut left = 0..users;
    loop {
        let some: Vec<_> = left.by_ref().take(1000).collect();
        if some.is_empty() {
            break;
        }
        let one = |n: usize| {
            let store = Arc::clone(&store);
            async move {
                let last = if n >= users / 2 { "z-last" } else { "user" };
                let rare = if n % (users / 5) == 7 { "qx" } else { "" };
                let name = UserName::canonical(format!("{last}{n}@zorg{rare}.example"));
                let user = UserKey { realm: Realm::new("care"), name };
                store.note_seen(&user, true, UnixMillis(1)).await.unwrap();
            }
        };
        futures_util::future::join_all(some.into_iter().map(one)).await;
    }
    eprintln!("{users} users made in {:?}", begun.elapsed());
    store
}
