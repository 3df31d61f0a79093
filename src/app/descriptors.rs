//! How many files this process may open, and so how many connections it may serve.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Limits;

/// Raises the limit of open files as far as it goes without privileges: the low default is for programs that use
/// `select`, which this one does not.
pub(super) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) =
            setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "the limit of open files stays low");
    }
}

/// How many connections of clients are open at most; 0 = no limit.
pub(super) fn connections(limits: &Limits) -> usize {
    match limits.connections {
        0 => getrlimit(Resource::Nofile).current.map_or(0, allowed),
        chosen => chosen,
    }
}

/// Each connection may need a second one to the app. What is kept back is for the store, the logs, idle connections to
/// apps, and the operations listener, which must answer when all else waits.
fn allowed(files: u64) -> usize {
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    (files.saturating_sub(KEPT_BACK) / 2).max(LEAST)
}

const KEPT_BACK: usize = 200;
const LEAST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_leaves_room_for_upstreams_and_files() {
        for (files, connections) in [(64, 32), (1024, 412), (524_288, 262_044)] {
            assert_eq!(allowed(files), connections, "{files}");
        }
    }
}
