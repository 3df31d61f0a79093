//! `sluis user import` and `sluis user export`: lists of users as CSV.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    time::Duration,
};

use super::{ConfigFile, Done, Trouble, channel::Channel, say, shown::clean, users::print_json, written};
use crate::{
    admin::{
        control::{self, LIST_BYTES},
        operations::{BadCell, Imported, Importing, Told},
    },
    base::clock::Stopwatch,
};

/// Take over a list of users (CSV)
///
/// The first line names the columns: name, and any of email, number, language, networks, preferred, blocked (yes or no),
/// exempt_until, exempt_reason. An empty cell leaves what is there, `-` takes it away. With faults nothing is changed
/// unless `--skip-bad` is given. The same list again changes nothing, and completes a run that was cut off.
#[derive(clap::Args)]
pub struct Import {
    /// The list, in UTF-8
    #[arg(value_name = "CSV")]
    list: PathBuf,
    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Apply the good lines although there are bad ones
    #[arg(long)]
    skip_bad: bool,
    /// Name space, when the configuration has several
    #[arg(short, long)]
    realm: Option<String>,
    /// What stands between cells, `;` or `,`; found out by itself
    #[arg(long, value_parser = delimiter)]
    delimiter: Option<char>,
    /// Why, for the audit log
    #[arg(long)]
    reason: Option<String>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub config: ConfigFile,
}

#[derive(clap::Args)]
pub struct Export {
    /// Name space, when the configuration has several
    #[arg(short, long)]
    realm: Option<String>,
    /// What stands between cells, `;` or `,`
    #[arg(long, default_value = ",", value_parser = delimiter)]
    delimiter: char,
    #[command(flatten)]
    pub config: ConfigFile,
}

fn delimiter(text: &str) -> Result<char, String> {
    match text {
        ";" => Ok(';'),
        "," => Ok(','),
        _ => Err("; or ,".to_owned()),
    }
}

/// Runs `sluis user import`.
pub async fn import(channel: &Channel, options: &Import, out: &mut dyn Write) -> Done {
    let unreadable = |error: io::Error| {
        Trouble::new(format!("the list {} cannot be read: {error}", options.list.display()))
    };
    let length = std::fs::metadata(&options.list).map_err(unreadable)?.len();
    if length > u64::try_from(LIST_BYTES).unwrap_or(u64::MAX) {
        let what = format!("the list has {} MiB, at most {} at a time", length >> 20, LIST_BYTES >> 20);
        return Err(Trouble::new(what).hint("divide it into several, each with the first line"));
    }
    let file = std::fs::read(&options.list).map_err(unreadable)?;
    let how = Importing {
        realm: options.realm.clone(),
        delimiter: options.delimiter,
        dry_run: options.dry_run,
        skip_bad: options.skip_bad,
        reason: options.reason.clone(),
    };
    let mut shown = Shown::new();
    let (mut bad, mut outcome) = (Vec::new(), None);
    let went = channel
        .import(file, &how, &mut |told| {
            match told {
                Told::Judged(rows) => shown.progress(&format!("judged {rows}")),
                Told::Applied { done, of } => shown.progress(&format!("applied {done} of {of}")),
                Told::Bad(cell) if options.json => bad.push(cell),
                Told::Bad(cell) => {
                    shown.end();
                    say(out, &line(&cell))?;
                }
                Told::Done(done) => outcome = Some(done),
                Told::Failed { title, hint } => return Err(Trouble::new(title).hint(hint)),
            }
            Ok(())
        })
        .await;
    shown.end();
    went?;
    let Some(outcome) = outcome else {
        return Err(Trouble::new("the server broke off").hint("the same list again goes on where it was"));
    };
    if options.json {
        print_json(out, &serde_json::json!({ "imported": outcome, "bad": bad }))?;
    } else {
        summary(&outcome, options.dry_run, out)?;
    }
    if outcome.applied || (options.dry_run && outcome.bad == 0) {
        return Ok(());
    }
    let lines = if outcome.bad == 1 {
        "1 line has faults".to_owned()
    } else {
        format!("{} lines have faults", outcome.bad)
    };
    Err(Trouble::new(format!("{lines}: nothing was changed"))
        .hint("mend them, or add `--skip-bad` to apply the others"))
}

fn line(cell: &BadCell) -> String {
    let BadCell { line, column, found, allowed } = cell;
    let column = if column.is_empty() { String::new() } else { format!(", {column}") };
    clean(&format!("line {line}{column}: found `{found}`; allowed: {allowed}"))
}

fn summary(outcome: &Imported, dry_run: bool, out: &mut dyn Write) -> Done {
    let Imported { realm, rows, new, changed, unchanged, bad, .. } = outcome;
    say(
        out,
        &format!(
            "{rows} lines for realm {realm}: {new} new, {changed} changed, {unchanged} unchanged, {bad} bad"
        ),
    )?;
    let nothing = *new == 0 && *changed == 0;
    match (outcome.applied, nothing) {
        (true, true) => say(out, "  nothing had to be changed"),
        (false, _) if dry_run => say(out, "  this is what would be done; nothing was changed"),
        _ => Ok(()),
    }
}

/// Runs `sluis user export`.
pub async fn export(channel: &Channel, options: &Export, out: &mut dyn Write) -> Done {
    let asked = control::Export { realm: options.realm.clone(), delimiter: options.delimiter };
    channel.export(&asked, &mut |piece| written(out.write_all(piece))).await
}

/// The progress: one line that changes on a terminal, a plain line every few seconds elsewhere.
struct Shown {
    terminal: bool,
    last: Stopwatch,
    is_open: bool,
}

impl Shown {
    /// Between two plain lines.
    const EVERY: Duration = Duration::from_secs(5);
    /// Between two changes of the line on a terminal.
    const BLINK: Duration = Duration::from_millis(100);

    fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), last: Stopwatch::start(), is_open: false }
    }

    fn progress(&mut self, text: &str) {
        if self.last.elapsed() < if self.terminal { Self::BLINK } else { Self::EVERY } {
            return;
        }
        self.last = Stopwatch::start();
        // Progress that cannot be shown is no reason to stop.
        let mut err = io::stderr().lock();
        self.is_open = self.terminal;
        let _ = if self.terminal { write!(err, "\r\x1b[K{text}") } else { writeln!(err, "{text}") };
        let _ = err.flush();
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
