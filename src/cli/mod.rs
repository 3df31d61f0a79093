//! The command line: what was typed, and what is shown. The work is done elsewhere (`app`, `admin`, `config`).
//!
//! Whatever goes wrong ends as one readable message on standard error with what to do next, and exit code 1 (2 for a
//! wrong command line). Standard output has results only, so that it can be piped.

mod administrators;
mod audit;
mod channel;
mod check;
mod demo;
mod doctor;
mod init;
mod keys;
mod lists;
mod mail;
mod settings;
mod shown;
mod store;
mod tokens;
mod users;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::LazyLock,
};

use clap::{CommandFactory, Parser, Subcommand};

use crate::{app, config, log};

/// Where the configuration is unless somebody says otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/sluis/config.yaml";

/// Multi-factor authentication in front of apps that know only a password.
#[derive(Parser)]
#[command(name = "sluis", version = VERSION.as_str(), arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
struct ConfigFile {
    /// Configuration file
    #[arg(short, long, env = "SLUIS_CONFIG", default_value = DEFAULT_CONFIG, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key and a first configuration, from answers
    Init(init::Options),
    /// Run the proxy
    Serve(ConfigFile),
    /// Look for faults in a configuration and show what it would serve
    Check(check::Options),
    /// Look whether all that is configured is there and works: store, certificates, apps, files
    Doctor(doctor::Options),
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Show Sluis in front of a small legacy app, on this machine
    Demo(demo::Options),
    /// Look after users: list, show, set, reset, block, unlock, sign out; take lists over
    User(users::Options),
    /// Look after tokens of the administrators' API: create, list, revoke
    Token(tokens::Options),
    /// Accounts at the administrators' pages: invite, list, remove
    Admin(administrators::Options),
    /// Copy the store to a new file, also while the server runs
    Backup(users::Backup),
    /// Move to another store
    Store(store::Options),
    /// Verify and search the audit log
    Audit(audit::Options),
    /// Send a test message
    Mail(mail::Options),
    /// Make master keys
    Keys(keys::Options),
    /// Print completions for a shell
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// Something went wrong; the text is for the person at the terminal.
#[derive(Debug)]
struct Trouble {
    /// What happened.
    what: String,
    /// What to do next.
    hint: Option<String>,
}

type Done = Result<(), Trouble>;

impl Trouble {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Self {
        Self::new(format!("{error:#}"))
    }
}

/// Runs one command line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Not locked: `serve` runs for as long as the server does, and its audit log may go there, too.
    let mut out = io::stdout();
    match run(cli.command, &mut out).and_then(|()| written(out.flush())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            let mut err = io::stderr().lock();
            let _ = writeln!(err, "sluis: {}", trouble.what);
            if let Some(hint) = trouble.hint {
                let _ = writeln!(err, "       {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, out: &mut dyn Write) -> Done {
    match command {
        Command::Serve(file) => {
            let (loaded, files) = read(&file)?;
            let log = log::start(&loaded.config.log)?;
            for warning in &loaded.warnings {
                tracing::warn!(file = %file.config.display(), "{warning}");
            }
            Ok(app::run(loaded.config, app::Source { file: file.config, files, log })?)
        }
        Command::Init(options) => init::run(&options, out),
        Command::Check(options) => check::run(&options, out),
        Command::Doctor(options) => doctor::run(&options, out),
        Command::Schema => {
            let text = serde_json::to_string_pretty(&config::schema()).unwrap_or_default();
            say(out, &text)
        }
        Command::Demo(options) => demo::run(&options, out),
        Command::User(options) => users::run(&options, out),
        Command::Token(options) => tokens::run(&options, out),
        Command::Admin(options) => administrators::run(&options, out),
        Command::Backup(options) => users::backup(&options, out),
        Command::Store(options) => store::run(&options, out),
        Command::Audit(options) => audit::run(&options, out),
        Command::Mail(options) => mail::run(&options, out),
        Command::Keys(options) => keys::run(&options, out),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sluis", &mut text);
            written(out.write_all(&text))
        }
    }
}

fn load(file: &ConfigFile) -> Result<config::Loaded, Trouble> {
    Ok(read(file)?.0)
}

/// The configuration, and the files on which it depends.
fn read(file: &ConfigFile) -> Result<(config::Loaded, Vec<(PathBuf, config::Print)>), Trouble> {
    read_with(file, config::Secrets::Needed)
}

fn read_with(
    file: &ConfigFile,
    secrets: config::Secrets,
) -> Result<(config::Loaded, Vec<(PathBuf, config::Print)>), Trouble> {
    let path = &file.config;
    if let Err(error) = std::fs::metadata(path) {
        let hint = "name another with `--config FILE` or SLUIS_CONFIG; `sluis init` makes one; `sluis demo` needs none";
        return Err(
            Trouble::new(format!("the configuration {} cannot be read: {error}", path.display())).hint(hint)
        );
    }
    let config::Reading { files, outcome } =
        config::read_file(path, &|name| std::env::var(name).ok(), secrets);
    let loaded = outcome.map_err(|faults| {
        let count = faults.0.len();
        let what = if count == 1 { "one fault".to_owned() } else { format!("{count} faults") };
        let list: Vec<String> =
            faults.0.iter().map(|fault| format!("\n  {}", fault.replace('\n', "\n  "))).collect();
        Trouble::new(format!("{} has {what}:{}", path.display(), list.concat()))
            .hint("`sluis schema` describes every key")
    })?;
    Ok((loaded, files))
}

/// Writes one line.
fn say(out: &mut dyn Write, text: &str) -> Done {
    written(writeln!(out, "{text}"))
}

/// Who closed the pipe has read enough.
fn written(result: io::Result<()>) -> Done {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Trouble::new(format!("the output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("SLUIS_COMMIT").unwrap_or("no commit given");
    let kind = if cfg!(debug_assertions) { "debug build" } else { "optimised build" };
    format!(
        "{} ({commit}, {kind}, {} {})",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::env::consts::OS
    )
});

#[cfg(test)]
mod tests;
