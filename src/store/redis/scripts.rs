//! The scripts: each is one atomic step on one shard, and each looks first whether the data set is still the one that
//! is meant. So a Redis that was flushed, or came back with another data set, answers every verb with an error.
//!
//! Names of keys come by `KEYS`, all of one hash tag: one slot of a Cluster.

use std::sync::LazyLock;

/// A script.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Script {
    Create,
    Mark,
    Get,
    Several,
    Swap,
    Consume,
    Scan,
    Due,
    Forget,
    Head,
    Range,
    Beat,
    Progress,
    Leave,
    Ping,
    Field,
    Running,
}

struct Loaded {
    script: Script,
    text: String,
    /// How the server calls it.
    hash: String,
}

const PRELUDE: &str = include_str!("lua/prelude.lua");
const LEASES: &str = include_str!("lua/leases.lua");

static LOADED: LazyLock<Vec<Loaded>> = LazyLock::new(|| {
    let all: [(Script, &[&str]); 17] = [
        (Script::Create, &[include_str!("lua/create.lua")]),
        (Script::Mark, &[PRELUDE, include_str!("lua/mark.lua")]),
        (Script::Get, &[PRELUDE, include_str!("lua/get.lua")]),
        (Script::Several, &[PRELUDE, include_str!("lua/several.lua")]),
        (Script::Swap, &[PRELUDE, include_str!("lua/swap.lua")]),
        (Script::Consume, &[PRELUDE, include_str!("lua/consume.lua")]),
        (Script::Scan, &[PRELUDE, include_str!("lua/scan.lua")]),
        (Script::Due, &[PRELUDE, include_str!("lua/due.lua")]),
        (Script::Forget, &[PRELUDE, include_str!("lua/forget.lua")]),
        (Script::Head, &[PRELUDE, include_str!("lua/head.lua")]),
        (Script::Range, &[PRELUDE, include_str!("lua/range.lua")]),
        (Script::Beat, &[PRELUDE, LEASES, include_str!("lua/beat.lua")]),
        (Script::Progress, &[PRELUDE, LEASES, include_str!("lua/progress.lua")]),
        (Script::Leave, &[PRELUDE, include_str!("lua/leave.lua")]),
        (Script::Ping, &[PRELUDE, include_str!("lua/ping.lua")]),
        (Script::Field, &[PRELUDE, include_str!("lua/field.lua")]),
        (Script::Running, &[PRELUDE, include_str!("lua/running.lua")]),
    ];
    let load = |(script, parts): (Script, &[&str])| {
        let text = parts.concat();
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Loaded { script, text, hash }
    };
    all.into_iter().map(load).collect()
});

impl Script {
    fn loaded(self) -> Option<&'static Loaded> {
        LOADED.iter().find(|loaded| loaded.script == self)
    }

    /// How the server calls it.
    pub fn hash(self) -> &'static str {
        self.loaded().map_or("", |loaded| &loaded.hash)
    }

    /// What it is.
    pub fn text(self) -> &'static str {
        self.loaded().map_or("", |loaded| &loaded.text)
    }
}
