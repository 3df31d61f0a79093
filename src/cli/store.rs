//! `sluis store copy`.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use super::{ConfigFile, Done, Trouble, load, say};
use crate::{
    app,
    base::{
        clock::{SharedClock, Stopwatch, SystemClock},
        keyring::Keyring,
    },
    config::StoreConfig,
    store::{
        copy::{CopyError, Phase, Progress, Report, copy},
        portable::Portable,
    },
};

#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Copy everything into another store, for example from SQLite to Redis
    ///
    /// Stop Sluis first, copy, and start it with the configuration of the new store: sessions, authenticators, locks and
    /// revocations go on as they were. A copy that was cut off is completed by the same command; until then nothing
    /// serves the new store.
    ///
    /// A store is named by a configuration file (its `store:` and `keys:` are meant) or as `sqlite:FILE`; a bare file has
    /// the keys of the configuration on the other side, or of `--config`.
    Copy(Copy),
}

#[derive(clap::Args)]
struct Copy {
    /// Where from: a configuration file, or sqlite:FILE
    #[arg(long, value_name = "STORE")]
    from: Spec,
    /// Where to: a configuration file, or sqlite:FILE
    #[arg(long, value_name = "STORE")]
    to: Spec,
    /// Also into a store that has data of its own: whatever either of them forbids stays forbidden
    #[arg(long)]
    merge: bool,
    #[command(flatten)]
    file: ConfigFile,
}

/// How a store is named.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Spec {
    /// The store of a configuration.
    Config(PathBuf),
    /// A bare file.
    Sqlite(PathBuf),
}

impl std::str::FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("sqlite", "")) => Err("which file? sqlite:FILE".to_owned()),
            Some(("sqlite", path)) => Ok(Self::Sqlite(path.into())),
            Some(("redis" | "rediss" | "redis-sentinel" | "redis-cluster", _)) => {
                Err("a Redis is named by a configuration file that has it as `store:`, since its password and the \
                     keys belong to it"
                    .to_owned())
            }
            _ => Ok(Self::Config(text.into())),
        }
    }
}

/// Runs `sluis store …`.
pub fn run(options: &Options, out: &mut dyn Write) -> Done {
    let Command::Copy(options) = &options.command;
    let from = End::of(&options.from)?;
    let to = End::of(&options.to)?;
    if from.place() == to.place() {
        return Err(Trouble::new("both sides are the same store").hint("name another with --from or --to"));
    }
    // A bare file has the keys of the other side.
    let others = match (&from.keyring, &to.keyring) {
        (Some(keyring), _) | (None, Some(keyring)) => Arc::clone(keyring),
        (None, None) => app::keyring(&load(&options.file)?.config)?,
    };
    let keys = |end: &End| end.keyring.clone().unwrap_or_else(|| Arc::clone(&others));
    if keys(&from).current() != keys(&to).current() {
        let text = "the two sides do not sign with the same key: unless the configuration that will serve has both \
                    keys, everybody logs in anew";
        super::written(writeln!(io::stderr(), "sluis: warning: {text}"))?;
    }
    // The memory of what is over is measured by the clock of servers.
    let clock: SharedClock = Arc::new(SystemClock);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| Trouble::new(format!("no runtime: {error}")))?;
    let mut shown = Shown::new();
    let report = runtime.block_on(async {
        if let StoreConfig::Sqlite { path } = &from.store
            && !path.exists()
        {
            return Err(Trouble::new(format!("{} is not there", path.display())));
        }
        let source = open(&from, keys(&from), false)?;
        let target = open(&to, keys(&to), true)?;
        let done =
            copy(source.as_ref(), target.as_ref(), &clock, options.merge, &mut |p| shown.show(p)).await;
        done.map_err(trouble)
    })?;
    shown.end();
    tell(&report, &from, &to, out)
}

fn open(end: &End, keyring: Arc<Keyring>, is_target: bool) -> Result<Arc<dyn Portable>, Trouble> {
    let opened = app::open_portable(&end.store, keyring, is_target);
    opened.map_err(|error| {
        Trouble::new(format!("{error:#}"))
            .hint("no server may use either store while it is copied: stop it first")
    })
}

/// One side, as configured.
struct End {
    store: StoreConfig,
    keyring: Option<Arc<Keyring>>,
}

impl End {
    fn of(spec: &Spec) -> Result<Self, Trouble> {
        match spec {
            Spec::Sqlite(path) => {
                Ok(Self { store: StoreConfig::Sqlite { path: path.clone() }, keyring: None })
            }
            Spec::Config(path) => {
                let config = load(&ConfigFile { config: path.clone() })?.config;
                let keyring = Some(app::keyring(&config)?);
                Ok(Self { store: config.store, keyring })
            }
        }
    }

    /// Where it is, for people.
    fn place(&self) -> String {
        match &self.store {
            StoreConfig::Sqlite { path } => {
                format!("SQLite, {}", std::fs::canonicalize(path).unwrap_or_else(|_| path.clone()).display())
            }
            StoreConfig::Redis(redis) => format!("{redis}, prefix {}", redis.prefix),
            StoreConfig::Memory => "memory".to_owned(),
        }
    }
}

fn trouble(error: CopyError) -> Trouble {
    let hint = match &error {
        CopyError::TargetHasData => "name an empty one, or add `--merge` when both are to become one",
        CopyError::InUse(_) => "stop it, wait until its lease has run out (a few seconds), and try again",
        CopyError::SourceUnfinished => "complete that copy first, or name the store that it was made from",
        CopyError::Store { .. } | CopyError::Differ { .. } => {
            "the same command goes on where it was; until it is through, no server opens the new store"
        }
    };
    Trouble::new(error.to_string()).hint(hint)
}

fn tell(report: &Report, from: &End, to: &End, out: &mut dyn Write) -> Done {
    let begun = if report.resumed { "completed the copy" } else { "copied" };
    say(out, &format!("{begun}: {} → {}", from.place(), to.place()))?;
    for (kind, count) in &report.kinds {
        let already = count.compared.saturating_sub(count.written);
        let already = match already {
            0 => String::new(),
            some => format!(" ({some} were there already, or are over)"),
        };
        say(out, &format!("  {:>10} {}{already}", count.compared, kind.name()))?;
    }
    say(out, "  every one of them was read again and compared")?;
    say(out, "  serve only the new store from now on: in the old one used codes would count again")
}

/// The progress: one line that changes on a terminal, a plain line every few seconds elsewhere.
struct Shown {
    terminal: bool,
    last: Option<Stopwatch>,
}

impl Shown {
    /// Between two plain lines.
    const EVERY: Duration = Duration::from_secs(5);
    /// Between two changes of the line on a terminal.
    const BLINK: Duration = Duration::from_millis(100);

    fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), last: None }
    }

    fn show(&mut self, progress: Progress) {
        let pause = if self.terminal { Self::BLINK } else { Self::EVERY };
        let begins = self.last.is_none();
        let silent = self.last.is_some_and(|last| last.elapsed() < pause);
        // The end of each kind is told always, an empty one never.
        let ends = progress.complete && progress.phase == Phase::Copying && progress.done > 0;
        if (silent || begins) && !ends {
            self.last.get_or_insert_with(Stopwatch::start);
            return;
        }
        self.last = Some(Stopwatch::start());
        let doing = match progress.phase {
            Phase::Copying => "copying",
            Phase::Comparing => "comparing",
            Phase::ComparingBack => "comparing back",
        };
        let text = format!("{doing} {}: {}", progress.kind.name(), progress.done);
        // Progress that cannot be shown is no reason to stop.
        let mut err = io::stderr().lock();
        let _ = if self.terminal { write!(err, "\r\x1b[K{text}") } else { writeln!(err, "{text}") };
        let _ = err.flush();
    }

    fn end(&self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_named_by_its_configuration_or_its_file() {
        assert_eq!("sqlite:/a b.db".parse(), Ok(Spec::Sqlite("/a b.db".into())));
        assert_eq!("/etc/sluis/config.yaml".parse(), Ok(Spec::Config("/etc/sluis/config.yaml".into())));
        assert!("sqlite:".parse::<Spec>().is_err());
        let error = "redis://:secret@host".parse::<Spec>().unwrap_err();
        assert!(error.contains("configuration file") && !error.contains("secret"), "{error}");
    }
}
