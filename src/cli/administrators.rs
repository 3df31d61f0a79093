//! `sluis admin …`: accounts at the administrators' pages.

use std::io::Write;

use super::{
    ConfigFile, Done, Trouble,
    channel::Channel,
    say,
    shown::{Table, clean, confirmed, is_interactive, moment},
    users::{print_json, runtime},
};
use crate::{
    admin::control::{AdministratorWanted, Named},
    model::Role,
};

#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make an account, or a new way into one: prints a code by which a password is set, once
    Invite {
        /// The name to log in with
        name: String,
        /// What they may do: auditor (reads), helpdesk (also resets, unlocks, invites, signs out), admin (everything)
        #[arg(short, long, value_parser = role)]
        role: Role,
        #[command(flatten)]
        common: Common,
    },
    /// List the accounts
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Take an account away, and end its sessions at once
    Remove {
        /// The name of the account
        name: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// Why, for the audit log
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(clap::Args)]
struct Common {
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: ConfigFile,
}

fn role(typed: &str) -> Result<Role, String> {
    Role::parse(typed).ok_or_else(|| "allowed: auditor, helpdesk, admin".to_owned())
}

/// Runs `sluis admin …`.
pub fn run(options: &Options, out: &mut dyn Write) -> Done {
    let (Command::Invite { common, .. } | Command::List { common } | Command::Remove { common, .. }) =
        &options.command;
    runtime()?.block_on(async {
        let channel = Channel::open(&common.file).await?;
        match &options.command {
            Command::Invite { name, role, .. } => {
                let wanted = AdministratorWanted { name: name.clone(), role: *role };
                invite(&channel, &wanted, common.json, out).await
            }
            Command::List { .. } => list(&channel, common.json, out).await,
            Command::Remove { name, yes, reason, .. } => {
                remove(&channel, name, *yes || common.json, reason.as_deref(), out).await
            }
        }
    })
}

async fn invite(channel: &Channel, wanted: &AdministratorWanted, json: bool, out: &mut dyn Write) -> Done {
    let invitation = channel.invite_administrator(wanted).await?;
    if json {
        return print_json(out, &invitation);
    }
    let mut table = Table::new(&["Name", &invitation.name]);
    table.row(&["Role", wanted.role.name()]);
    table.row(&["Code", &invitation.code]);
    table.row(&["Valid until", &format!("{} (UTC)", moment(Some(&invitation.until)))]);
    say(out, &table.text())?;
    say(out, "")?;
    say(
        out,
        "The code works once and is not shown again. With it a password is set and an authenticator app linked:",
    )?;
    say(out, "  open /invitation at the address of the administrators' pages (listen.admin)")
}

async fn list(channel: &Channel, json: bool, out: &mut dyn Write) -> Done {
    let all = channel.administrators().await?;
    if json {
        return print_json(out, &all);
    }
    if all.is_empty() {
        return say(out, "no account yet: `sluis admin invite NAME --role admin` makes the first one");
    }
    let mut table = Table::new(&["NAME", "ROLE", "STATE", "INVITED UNTIL (UTC)", "LAST LOGIN (UTC)"]);
    for account in &all {
        table.row(&[
            &account.name,
            &account.role,
            account.state.text(),
            &moment(account.invited_until.as_deref()),
            &moment(account.last_login_at.as_deref()),
        ]);
    }
    say(out, &table.text())
}

async fn remove(channel: &Channel, name: &str, yes: bool, reason: Option<&str>, out: &mut dyn Write) -> Done {
    let question = format!("Take the account {} away and end its sessions?", clean(name));
    if !yes && is_interactive() && !confirmed(&question) {
        return Err(Trouble::new("nothing was done"));
    }
    let named = Named { name: name.to_owned(), realm: None, reason: reason.map(str::to_owned) };
    channel.remove_administrator(&named).await?;
    say(out, &format!("{} is no administrator any more", clean(name)))
}
