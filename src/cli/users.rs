//! `sluis user …` and `sluis backup`.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    ConfigFile, Done, Trouble,
    channel::Channel,
    lists, say, settings,
    shown::{Table, clean, confirmed, is_interactive, moment},
};
use crate::admin::{
    control::{Codes, ListQuery, Named, OneAuthenticator},
    operations::{State, UserRow},
};
use crate::model::AuthenticatorId;

#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the users that have been seen
    List {
        /// Only those whose name contains this
        #[arg(default_value = "")]
        part: String,
        /// How many at most
        #[arg(short, long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Show one user with authenticators
    Show(One),
    /// Show where a user is logged in
    Sessions(One),
    /// Change what is set for a user
    Set(settings::Set),
    /// Remove all authenticators of a user and end all sessions: the next login links a new one
    Reset {
        #[command(flatten)]
        act: Act,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Remove one authenticator of a user and end all sessions
    RemoveAuthenticator {
        #[command(flatten)]
        act: Act,
        /// Which one: `sluis user show` lists them
        #[arg(value_parser = authenticator_id)]
        id: AuthenticatorId,
    },
    /// Let a user pass no more, at once, also in running sessions
    Block(Act),
    /// Lift a block
    Unblock(Act),
    /// Make the one-time activation code by which a user may link a first authenticator (`enrol: invite`)
    Invite {
        #[command(flatten)]
        one: One,
        /// For how many days it is valid
        #[arg(short, long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=30))]
        days: u64,
    },
    /// Make emergency codes for a user (`break_glass`): each gets in once, with a reason; earlier ones are void
    EmergencyCodes {
        #[command(flatten)]
        one: One,
        /// How many
        #[arg(short = 'n', long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=10))]
        count: u8,
        /// For how many days they are valid
        #[arg(short, long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=366))]
        days: u64,
    },
    /// Take wrong codes off, so that a user who is locked out may try again
    Unlock(Act),
    /// End all sessions of a user, everywhere
    SignOut(Act),
    Import(lists::Import),
    /// Write the users as a list (CSV) that `import` takes
    Export(lists::Export),
}

#[derive(clap::Args)]
pub(super) struct One {
    /// The user, as listed or as typed at the login
    #[arg(value_name = "USER")]
    name: String,
    /// Name space, when the configuration has several
    #[arg(short, long)]
    realm: Option<String>,
    #[command(flatten)]
    pub common: Common,
}

impl One {
    pub fn named(&self) -> Named {
        Named { name: self.name.clone(), realm: self.realm.clone(), reason: None }
    }
}

/// Something done to a user.
#[derive(clap::Args)]
struct Act {
    #[command(flatten)]
    one: One,
    /// Why, for the audit log
    #[arg(long)]
    reason: Option<String>,
}

impl Act {
    fn named(&self) -> Named {
        Named { reason: self.reason.clone(), ..self.one.named() }
    }
}

#[derive(clap::Args)]
pub(super) struct Common {
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub file: ConfigFile,
}

fn authenticator_id(text: &str) -> Result<AuthenticatorId, String> {
    AuthenticatorId::parse(text).ok_or_else(|| "an id has 32 hexadecimal digits".to_owned())
}

#[derive(clap::Args)]
pub struct Backup {
    /// The new file; must not exist yet
    to: PathBuf,
    #[command(flatten)]
    file: ConfigFile,
}

const DAY_SECS: u64 = 24 * 60 * 60;

/// Runs `sluis user …`.
pub fn run(options: &Options, out: &mut dyn Write) -> Done {
    let file = match &options.command {
        Command::List { common, .. } => &common.file,
        Command::Show(one) | Command::Sessions(one) => &one.common.file,
        Command::Invite { one, .. } | Command::EmergencyCodes { one, .. } => &one.common.file,
        Command::Set(set) => &set.one.common.file,
        Command::Reset { act, .. }
        | Command::RemoveAuthenticator { act, .. }
        | Command::Block(act)
        | Command::Unblock(act)
        | Command::Unlock(act)
        | Command::SignOut(act) => &act.one.common.file,
        Command::Import(import) => &import.config,
        Command::Export(export) => &export.config,
    };
    runtime()?.block_on(async {
        let channel = Channel::open(file).await?;
        match &options.command {
            Command::List { part, limit, common } => list(&channel, part, *limit, common.json, out).await,
            Command::Show(one) => show(&channel, one, out).await,
            Command::Sessions(one) => settings::sessions(&channel, one, out).await,
            Command::Set(set) => settings::set(&channel, set, out).await,
            Command::Reset { act, yes } => reset(&channel, act, *yes, out).await,
            Command::RemoveAuthenticator { act, id } => remove(&channel, act, *id, out).await,
            Command::Block(act) => set_blocked(&channel, act, true, out).await,
            Command::Unblock(act) => set_blocked(&channel, act, false, out).await,
            Command::Unlock(act) => {
                let user = channel.unlock(&act.named()).await?;
                tell(act, &user, "is not locked by wrong codes", out)
            }
            Command::SignOut(act) => {
                let user = channel.sign_out(&act.named()).await?;
                tell(act, &user, "is logged in nowhere", out)
            }
            Command::Import(import) => lists::import(&channel, import, out).await,
            Command::Export(export) => lists::export(&channel, export, out).await,
            Command::Invite { one, days } => invite(&channel, one, *days, out).await,
            Command::EmergencyCodes { one, count, days } => {
                emergency_codes(&channel, one, usize::from(*count), *days, out).await
            }
        }
    })
}

/// Runs `sluis backup TO`.
pub fn backup(options: &Backup, out: &mut dyn Write) -> Done {
    // the server has a working directory of its own
    let to = std::path::absolute(&options.to)
        .map_err(|error| Trouble::new(format!("{} is no path: {error}", options.to.display())))?;
    if to.exists() {
        return Err(Trouble::new(format!("{} exists already", to.display())).hint("name a new file"));
    }
    runtime()?.block_on(async { Channel::open(&options.file).await?.backup(to.clone()).await })?;
    say(out, &format!("copied the store to {}{}", to.display(), size(&to)))?;
    say(out, "  the keys of the configuration are needed to use it: keep them apart from it")
}

async fn list(channel: &Channel, part: &str, limit: u32, json: bool, out: &mut dyn Write) -> Done {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut query = ListQuery { part: part.to_owned(), limit, ..ListQuery::default() };
    let mut users: Vec<UserRow> = Vec::new();
    let more = loop {
        let page = channel.list(&query).await?;
        let got = page.users.len();
        users.extend(page.users);
        query.limit = limit.saturating_sub(users.len());
        if let Some(last) = users.last() {
            (query.after_realm, query.after_name) = (Some(last.realm.clone()), Some(last.name.clone()));
        }
        if !page.more || got == 0 || query.limit == 0 {
            break page.more;
        }
    };
    if json {
        return print_json(out, &users);
    }
    if users.is_empty() {
        let text = if part.is_empty() { "no user has been seen yet" } else { "no user has that in the name" };
        return say(out, text);
    }
    let realms = users.iter().any(|user| Some(&user.realm) != users.first().map(|first| &first.realm));
    let mut table = Table::new(if realms {
        &["USER", "STATE", "AUTHENTICATORS", "LAST LOGIN (UTC)", "REALM"]
    } else {
        &["USER", "STATE", "AUTHENTICATORS", "LAST LOGIN (UTC)"]
    });
    for user in &users {
        let cells = [
            &*user.name,
            &state(user),
            &user.authenticators.to_string(),
            &moment(user.last_login_at.as_deref()),
        ];
        if realms {
            table.row(&[cells.as_slice(), &[&user.realm]].concat());
        } else {
            table.row(&cells);
        }
    }
    say(out, &table.text())?;
    if more {
        say(out, &format!("… and more: `--limit {}` shows them", limit.saturating_mul(10)))
    } else {
        Ok(())
    }
}

async fn show(channel: &Channel, one: &One, out: &mut dyn Write) -> Done {
    let details = channel.show(&one.named()).await?;
    if one.common.json {
        return print_json(out, &details);
    }
    let user = &details.user;
    let mut table = Table::new(&["User", &clean(&user.name)]);
    table.row(&["Realm", &user.realm]);
    table.row(&["State", &state(user)]);
    table.row(&["First seen", &moment(user.first_seen_at.as_deref())]);
    table.row(&["Last login", &moment(user.last_login_at.as_deref())]);
    if user.failures > 0 {
        table.row(&["Wrong codes", &format!("{} since the last right one", user.failures)]);
    }
    settings::rows(&mut table, &details.settings);
    say(out, &table.text())?;
    say(out, "")?;
    if details.authenticators.is_empty() {
        return say(out, "No authenticator: one is linked at the next login, if the policy lets this user.");
    }
    let mut table = Table::new(&["AUTHENTICATOR", "KIND", "LINKED (UTC)", "LAST USED (UTC)", "CLOCK", "ID"]);
    for a in &details.authenticators {
        let clock =
            if a.clock_off_secs == 0 { "right".to_owned() } else { format!("{:+} s", a.clock_off_secs) };
        table.row(&[
            &a.name,
            &a.method,
            &moment(Some(&a.confirmed_at)),
            &moment(a.last_used_at.as_deref()),
            &clock,
            &a.id,
        ]);
    }
    say(out, &table.text())
}

async fn remove(channel: &Channel, act: &Act, id: AuthenticatorId, out: &mut dyn Write) -> Done {
    channel.remove_authenticator(&OneAuthenticator { user: act.named(), id }).await?;
    if act.one.common.json {
        return print_json(out, &channel.show(&act.named()).await?);
    }
    say(out, &format!("{}: removed the authenticator and ended all sessions", clean(&act.one.name)))
}

fn tell(act: &Act, user: &UserRow, what: &str, out: &mut dyn Write) -> Done {
    if act.one.common.json {
        print_json(out, user)
    } else {
        say(out, &format!("{} {what}", clean(&user.name)))
    }
}

async fn reset(channel: &Channel, act: &Act, yes: bool, out: &mut dyn Write) -> Done {
    let one = &act.one;
    if !yes && !one.common.json && is_interactive() {
        let details = channel.show(&one.named()).await?;
        let question = format!(
            "Remove {} of {} and end all sessions?",
            authenticators(details.authenticators.len()),
            clean(&details.user.name)
        );
        if !confirmed(&question) {
            return Err(Trouble::new("nothing was done"));
        }
    }
    let done = channel.reset(&act.named()).await?;
    if one.common.json {
        return print_json(out, &done);
    }
    let removed = authenticators(done.removed);
    say(out, &format!("{}: removed {removed} and ended all sessions", clean(&done.name)))?;
    say(out, "  a new one is linked at the next login; tell the user to delete the old entry in the app")
}

async fn set_blocked(channel: &Channel, act: &Act, blocked: bool, out: &mut dyn Write) -> Done {
    let user = channel.set_blocked(&act.named(), blocked).await?;
    if act.one.common.json {
        return print_json(out, &user);
    }
    let name = clean(&user.name);
    say(
        out,
        &if blocked {
            format!("{name} is blocked and passes no more")
        } else {
            format!("{name} is not blocked")
        },
    )?;
    match user.state {
        _ if user.last_login_at.is_none() => {
            say(out, "  nobody of that name has logged in yet: is it spelled right?")
        }
        State::Locked => say(out, "  still locked by wrong codes: `sluis user unlock` lifts that"),
        _ => Ok(()),
    }
}

async fn invite(channel: &Channel, one: &One, days: u64, out: &mut dyn Write) -> Done {
    let made = channel.invite(&Codes { user: one.named(), secs: days * DAY_SECS, count: 1 }).await?;
    if one.common.json {
        return print_json(out, &made);
    }
    let until = moment(Some(&made.until));
    say(out, &format!("activation code of {}, until {until} UTC:", clean(&made.name)))?;
    say(out, &format!("\n    {}\n", made.code))?;
    say(
        out,
        "  it is shown only now, works once, and makes earlier ones void; hand it over in person or by a way",
    )?;
    say(out, "  that does not need the password")
}

async fn emergency_codes(channel: &Channel, one: &One, count: usize, days: u64, out: &mut dyn Write) -> Done {
    let made = channel.emergency_codes(&Codes { user: one.named(), secs: days * DAY_SECS, count }).await?;
    if one.common.json {
        return print_json(out, &made);
    }
    let until = moment(Some(&made.until));
    say(out, &format!("emergency codes of {}, until {until} UTC; each works once:\n", clean(&made.name)))?;
    for code in &made.codes {
        say(out, &format!("    {code}"))?;
    }
    say(out, "\n  they are shown only now, and make earlier ones void; keep them sealed, on paper")
}

fn state(user: &UserRow) -> String {
    match &user.wait_until {
        Some(until) => format!("waiting until {}", until.get(11..19).unwrap_or(until)),
        None => user.state.text().to_owned(),
    }
}

fn authenticators(count: usize) -> String {
    match count {
        0 => "no authenticator".to_owned(),
        1 => "1 authenticator".to_owned(),
        many => format!("{many} authenticators"),
    }
}

fn size(path: &Path) -> String {
    std::fs::metadata(path)
        .map_or_else(|_| String::new(), |about| format!(" ({} KiB)", about.len().div_ceil(1024)))
}

pub(super) fn print_json(out: &mut dyn Write, value: &impl Serialize) -> Done {
    say(out, &serde_json::to_string_pretty(value).unwrap_or_default())
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Trouble::new(format!("no runtime: {error}")))
}
