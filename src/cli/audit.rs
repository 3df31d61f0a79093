//! `sluis audit …`: prove that the log is whole, look something up in it, show the keys that an auditor needs.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    sync::Arc,
};

use ipnet::IpNet;

use super::{ConfigFile, Done, Trouble, load, say, shown::clean, written};
use crate::{
    app,
    audit::{
        self,
        search::{Found, Query},
        verify::{self, Checkpoint, Progress, Report, Trust},
    },
    base::{clock::UnixMillis, keyring::Keyring, random::SystemRandom},
    config::AuditPlace,
};

#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Prove that nothing was cut out, changed, inserted or moved; say where it was
    Verify(VerifyOptions),
    /// Look events up (this does not verify them)
    Search(Box<SearchOptions>),
    /// Print the public keys with which somebody without the master key can verify checkpoints
    PublicKey {
        #[command(flatten)]
        file: ConfigFile,
    },
}

#[derive(clap::Args)]
struct Files {
    /// Files in any order, of any number of replicas, unpacked. Default: the file of the configuration and those
    /// rotated beside it
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(clap::Args)]
struct VerifyOptions {
    #[command(flatten)]
    files: Files,
    /// A checkpoint kept elsewhere, `CHAIN:SEQUENCE:HASH`: shows also an end that was cut off
    #[arg(long, value_name = "CHECKPOINT")]
    checkpoint: Vec<String>,
    /// A file with checkpoints in it, such as the server's own log
    #[arg(long, value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    /// Verify by this public key alone, without configuration and master key
    #[arg(long, value_name = "KEY")]
    public_key: Vec<String>,
}

#[derive(clap::Args)]
struct SearchOptions {
    #[command(flatten)]
    files: Files,
    /// About this user
    #[arg(short, long)]
    user: Option<String>,
    /// Done by this administrator
    #[arg(long)]
    actor: Option<String>,
    /// This event; may be given several times
    #[arg(short, long)]
    event: Vec<String>,
    /// How it ended
    #[arg(short, long, value_parser = ["success", "failure"])]
    outcome: Option<String>,
    /// At this app
    #[arg(short, long)]
    app: Option<String>,
    /// On this device
    #[arg(long)]
    device: Option<String>,
    /// From this address or network
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// In this request
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Not before this time: 2026-11-22 (UTC) or 2026-11-22T03:30:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Not after this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// So many at most
    #[arg(short, long)]
    limit: Option<usize>,
}

/// Runs `sluis audit …`.
pub fn run(options: &Options, out: &mut dyn Write) -> Done {
    match &options.command {
        Command::Verify(options) => verify(options, out),
        Command::Search(options) => search(options, out),
        Command::PublicKey { file } => {
            let ring = app::keyring(&load(file)?.config)?;
            for (id, key) in audit::public_keys(&ring) {
                say(out, &format!("{}  {id}", data_encoding::HEXLOWER.encode(&key)))?;
            }
            Ok(())
        }
    }
}

fn verify(options: &VerifyOptions, out: &mut dyn Write) -> Done {
    let checkpoints = checkpoints(options)?;
    let (trust, files) = if options.public_key.is_empty() {
        let config = load(&options.files.file)?.config;
        let files = files(&options.files.files, &config.audit.place)?;
        let ring = Keyring::new(&config.keys, Arc::new(SystemRandom));
        (Trust::Ring(ring.map_err(|error| Trouble::new(error.to_string()))?), files)
    } else {
        let keys: Result<Vec<_>, _> = options.public_key.iter().map(|text| public_key(text)).collect();
        let given = &options.files.files;
        if given.is_empty() {
            return Err(Trouble::new("no file is named")
                .hint("name the files: without the configuration nobody knows them"));
        }
        (Trust::Public(keys?), given.clone())
    };
    let interactive = io::stderr().is_terminal();
    let mut tell = |progress: &Progress| {
        if interactive {
            let percent = progress.done.saturating_mul(100).checked_div(progress.of).unwrap_or(100);
            let _ = write!(io::stderr(), "\r{percent:3} %, {} lines", progress.lines);
        }
    };
    let report = verify::verify(&files, &trust, &checkpoints, &mut tell);
    if interactive {
        let _ = write!(io::stderr(), "\r{:40}\r", "");
    }
    let report = report.map_err(|error| Trouble::new(format!("the audit log cannot be read: {error}")))?;
    if options.files.json {
        say(out, &serde_json::to_string_pretty(&report).unwrap_or_default())?;
    } else {
        show(&report, files.len(), out)?;
    }
    let trusted: Vec<&str> = report.chains.iter().map(|seen| seen.chain.as_str()).collect();
    if let Some(missing) = checkpoints.iter().find(|known| !trusted.contains(&known.chain.as_str())) {
        return Err(Trouble::new(format!(
            "the chain {} of a checkpoint is in none of the files",
            missing.chain
        )));
    }
    match report.fault_count {
        0 if report.lines > 0 => Ok(()),
        0 => Err(Trouble::new("the audit log is empty")),
        1 => Err(Trouble::new("the audit log has a fault")),
        many => Err(Trouble::new(format!("the audit log has {many} faults"))),
    }
}

fn show(report: &Report, files: usize, out: &mut dyn Write) -> Done {
    for seen in &report.chains {
        let end = if seen.is_closed {
            "closed by an orderly stop"
        } else {
            "open: the server runs, was killed, or its end is cut off (give a --checkpoint to know)"
        };
        say(out, &format!("chain {} of {}", seen.chain, clean(&seen.replica)))?;
        say(
            out,
            &format!(
                "  lines {} to {}, {} to {}",
                seen.seqs.0,
                seen.seqs.1,
                clean(&seen.times.0),
                clean(&seen.times.1)
            ),
        )?;
        say(out, &format!("  {end}"))?;
        if seen.torn > 0 {
            say(out, &format!("  {} torn by a kill, as the chain itself tells", plural(seen.torn, "line")))?;
        }
        if seen.lost > 0 {
            say(
                out,
                &format!(
                    "  {} missing because the sink failed, as the chain itself tells",
                    plural(seen.lost, "event")
                ),
            )?;
        }
        say(out, &format!("  end: {}", seen.head))?;
    }
    for note in &report.notes {
        say(out, &format!("note: {note}"))?;
    }
    for fault in &report.faults {
        say(
            out,
            &format!("FAULT {}:{}: {}: {}", fault.file.display(), fault.line, name(fault.wrong), fault.text),
        )?;
    }
    let shown = report.faults.len();
    if report.fault_count > shown {
        say(out, &format!("… and {} more", report.fault_count.saturating_sub(shown)))?;
    }
    let verdict = if report.fault_count == 0 { "no fault" } else { "NOT WHOLE" };
    say(
        out,
        &format!(
            "{} in {}: {verdict}",
            plural(report.lines, "line"),
            plural(u64::try_from(files).unwrap_or(u64::MAX), "file")
        ),
    )
}

fn plural(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn name(wrong: verify::Wrong) -> &'static str {
    use verify::Wrong;

    match wrong {
        Wrong::CutOut => "cut out",
        Wrong::Changed => "changed",
        Wrong::Inserted => "inserted",
        Wrong::Reordered => "re-ordered",
        Wrong::WrongKey => "wrong key",
        Wrong::Torn => "torn",
        Wrong::Forked => "two histories",
        Wrong::Truncated => "truncated",
        Wrong::Rewritten => "rewritten",
    }
}

fn checkpoints(options: &VerifyOptions) -> Result<Vec<Checkpoint>, Trouble> {
    let mut all = Vec::new();
    for typed in &options.checkpoint {
        let found = Checkpoint::find(typed);
        if found.is_empty() {
            return Err(Trouble::new("this is no checkpoint; one looks like CHAIN:SEQUENCE:HASH")
                .hint("the server's log has one in each line `audit checkpoint`"));
        }
        all.extend(found);
    }
    for path in &options.checkpoints {
        let bytes = std::fs::read(path)
            .map_err(|error| Trouble::new(format!("{} cannot be read: {error}", path.display())))?;
        all.extend(Checkpoint::find(&String::from_utf8_lossy(&bytes)));
    }
    Ok(all)
}

fn public_key(text: &str) -> Result<[u8; 32], Trouble> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        Trouble::new("a public key has 64 hexadecimal digits").hint("`sluis audit public-key` prints it")
    })
}

/// The files that were named; else that of the configuration and what rotation left beside it.
fn files(named: &[PathBuf], place: &AuditPlace) -> Result<Vec<PathBuf>, Trouble> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let AuditPlace::File(path) = place else {
        return Err(
            Trouble::new("the audit log of this configuration is no file").hint("name the files to read")
        );
    };
    let mut all = audit::siblings(path);
    if all.iter().any(|path| audit::is_packed(path)) {
        let _ = writeln!(io::stderr(), "note: packed files are passed over; unpack and name them");
    }
    all.retain(|path| !audit::is_packed(path));
    all.extend(path.exists().then(|| path.clone()));
    Ok(all)
}

fn search(options: &SearchOptions, out: &mut dyn Write) -> Done {
    let query = query(options)?;
    let files = if options.files.files.is_empty() {
        files(&[], &load(&options.files.file)?.config.audit.place)?
    } else {
        options.files.files.clone()
    };
    let json = options.files.json;
    let mut left = options.limit.unwrap_or(usize::MAX);
    let mut told: Done = Ok(());
    if !json {
        say(out, &row("TIME (UTC)", "EVENT", "OUTCOME", "USER", "APP", "ADDRESS", "MORE"))?;
    }
    for file in &files {
        let mut take = |text: &str, found: &Found| {
            if left == 0 {
                return false;
            }
            left = left.saturating_sub(1);
            told = written(writeln!(out, "{}", if json { text.to_owned() } else { line(found) }));
            told.is_ok() && left > 0
        };
        let goes_on = audit::search::search(file, &query, &mut take)
            .map_err(|error| Trouble::new(format!("{} cannot be read: {error}", file.display())))?;
        if !goes_on {
            break;
        }
    }
    told
}

fn query(options: &SearchOptions) -> Result<Query, Trouble> {
    let time = |typed: &Option<String>, end: bool| -> Result<Option<UnixMillis>, Trouble> {
        let Some(text) = typed else { return Ok(None) };
        let moment = if end { audit::search::end_of(text) } else { audit::search::moment(text) };
        let no_time =
            || Trouble::new(format!("`{text}` is no time; type 2026-11-22 or 2026-11-22T03:30:00Z"));
        Ok(Some(moment.ok_or_else(no_time)?))
    };
    let network = match &options.address {
        None => None,
        Some(text) => {
            let network =
                text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
            Some(network.ok_or_else(|| Trouble::new(format!("`{text}` is no address or network")))?)
        }
    };
    Ok(Query {
        user: options.user.clone(),
        actor: options.actor.clone(),
        events: options.event.clone(),
        outcome: options.outcome.clone(),
        app: options.app.clone(),
        device: options.device.clone(),
        network,
        request_id: options.request_id.clone(),
        since: time(&options.since, false)?,
        until: time(&options.until, true)?,
    })
}

fn line(found: &Found) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_else(|| "-".to_owned());
    let mut more: Vec<String> = Vec::new();
    for (name, value) in [
        ("", &found.method),
        ("", &found.detail),
        ("by ", &found.actor),
        ("because ", &found.reason),
        ("request ", &found.request_id),
    ] {
        more.extend(value.as_ref().map(|value| format!("{name}{value}")));
    }
    row(
        found.time.get(..19).unwrap_or(&found.time),
        &found.event,
        &found.outcome,
        &text(&found.user),
        &text(&found.app),
        &found.address.map_or_else(|| "-".to_owned(), |a| a.to_string()),
        &more.join(", "),
    )
}

/// A row as soon as it is known: the columns have their width beforehand.
fn row(time: &str, event: &str, outcome: &str, user: &str, app: &str, address: &str, more: &str) -> String {
    let [time, event, user, app, more] = [time, event, user, app, more].map(clean);
    format!("{time:19}  {event:22}  {outcome:7}  {user:16}  {app:12}  {address:15}  {more}")
        .trim_end()
        .to_owned()
}
