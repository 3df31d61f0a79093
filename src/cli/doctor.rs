//! `sluis doctor`: is all that is configured there, and does it work?

use std::io::Write;

use super::{ConfigFile, Done, Trouble, channel::Channel, read_with, say, shown::clean};
use crate::{
    app::doctor::{Finding, Level, look},
    config::{Secrets, StoreConfig},
};

#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    file: ConfigFile,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// Looks at everything; a failure is a reason for exit code 1.
pub fn run(options: &Options, out: &mut dyn Write) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Trouble::new(format!("no runtime: {error}")))?;
    let found = runtime.block_on(examine(&options.file));
    if options.json {
        say(out, &serde_json::to_string_pretty(&found).unwrap_or_default())?;
    } else {
        for finding in &found {
            let level = match finding.level {
                Level::Ok => "ok",
                Level::Warning => "warning",
                Level::Failure => "FAILURE",
            };
            say(out, &format!("{level:<8} {:<14} {}", finding.check, clean(&finding.text)))?;
            if let Some(hint) = &finding.hint {
                say(out, &format!("{:<24}{hint}", ""))?;
            }
        }
    }
    match found.iter().filter(|finding| finding.level == Level::Failure).count() {
        0 => Ok(()),
        1 => Err(Trouble::new("one thing does not work")),
        many => Err(Trouble::new(format!("{many} things do not work"))),
    }
}

async fn examine(file: &ConfigFile) -> Vec<Finding> {
    let loaded = match read_with(file, Secrets::Needed) {
        Ok((loaded, _)) => loaded,
        Err(trouble) => {
            let hint = trouble.hint.unwrap_or_default();
            return vec![Finding::failure("configuration", trouble.what, hint)];
        }
    };
    let mut found = vec![Finding::ok("configuration", format!("{} has no faults", file.config.display()))];
    let warnings = loaded.warnings.iter();
    found.extend(warnings.map(|warning| Finding {
        level: Level::Warning,
        check: "configuration",
        text: warning.clone(),
        hint: None,
    }));
    if matches!(loaded.config.store, StoreConfig::Memory) {
        found.push(Finding::warning(
            "store",
            "memory: everything is forgotten at a stop",
            "for demos and tests only",
        ));
    } else {
        found.extend(store(file).await);
    }
    found.extend(look(&loaded.config).await);
    found
}

async fn store(file: &ConfigFile) -> Vec<Finding> {
    let channel = match Channel::open(file).await {
        Ok(channel) => channel,
        Err(Trouble { what, hint }) => {
            return vec![Finding::failure("store", what, hint.unwrap_or_default())];
        }
    };
    let (running, state) = match channel.state().await {
        Ok(state) => state,
        Err(Trouble { what, hint }) => {
            return vec![Finding::failure("store", what, hint.unwrap_or_default())];
        }
    };
    let mut found = Vec::new();
    let own = env!("CARGO_PKG_VERSION");
    found.push(if !running {
        Finding::warning("server", "no server answers on the control socket", "start it: `sluis serve`")
    } else if state.version == own {
        Finding::ok("server", format!("version {own} runs"))
    } else {
        let text = format!("version {} runs, this is {own}", state.version);
        Finding::warning("server", text, "restart the server to run what is installed")
    });
    let millis = state.ping_micros / 1000;
    let text = format!("answers in {}.{:03} ms", millis, state.ping_micros % 1000);
    found.push(if millis >= SLOW_MILLIS {
        Finding::warning("store", text, "every login waits for it: is the disk or the network busy?")
    } else {
        Finding::ok("store", text)
    });
    found.extend(state.clock_ahead_millis.map(clocks));
    let sealed = state.first + state.older + state.unknown;
    found.push(if state.unknown > 0 {
        Finding::failure(
            "keys",
            format!(
                "{} of {sealed} authenticators are sealed by keys that are not configured",
                state.unknown
            ),
            "put the old keys back behind the new ones; without them these users must enrol again",
        )
    } else if state.older > 0 {
        let text = format!("{} of {sealed} authenticators still need an older key", state.older);
        Finding::warning("keys", text, "keep it until none does; a start puts them under the first key")
    } else {
        Finding::ok("keys", format!("all of {sealed} authenticators are under the first key"))
    });
    found
}

/// The clock of the store's server against this machine's.
fn clocks(ahead_millis: i64) -> Finding {
    let off = ahead_millis.unsigned_abs();
    let where_to = if ahead_millis < 0 { "behind" } else { "ahead of" };
    let text = format!("Redis is {}.{:03} s {where_to} this machine", off / 1000, off % 1000);
    if off >= FAR_APART_MILLIS {
        let hint =
            "one of the two is wrong: set both by the same time server; codes are judged by this machine's";
        Finding::warning("clock", text, hint)
    } else {
        Finding::ok("clock", text)
    }
}

const SLOW_MILLIS: u64 = 100;
/// Machines that a time server sets are milliseconds apart; a code of an authenticator app is good for 30 s.
const FAR_APART_MILLIS: u64 = 2000;
