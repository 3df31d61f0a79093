//! `sluis token …`: tokens of the administrators' API.

use std::io::Write;

use super::{
    Done,
    channel::Channel,
    say,
    shown::{Table, clean, moment},
    users::{Common, print_json, runtime},
};
use crate::admin::{
    control::{TokenNamed, TokenWanted},
    tokens::Scope,
};

#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make a token; it is printed here and never again
    Create {
        /// What it is for: 1 to 64 of a-z, A-Z, 0-9 and . _ -
        name: String,
        /// What it may do; may be given several times
        #[arg(short, long, required = true, value_parser = scope, value_name = "read|helpdesk|admin|audit")]
        scope: Vec<Scope>,
        /// After so many days it is worth nothing
        #[arg(short, long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=366))]
        days: u32,
        #[command(flatten)]
        common: Common,
    },
    /// List all tokens, also those that ended lately
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Make a token worth nothing, at once
    Revoke {
        /// Its id, as listed
        id: String,
        #[command(flatten)]
        common: Common,
    },
}

/// Runs `sluis token …`.
pub fn run(options: &Options, out: &mut dyn Write) -> Done {
    runtime()?.block_on(async {
        match &options.command {
            Command::Create { name, scope, days, common } => {
                let wanted = TokenWanted { name: name.clone(), scopes: scope.clone(), days: *days };
                create(&Channel::open(&common.file).await?, &wanted, common.json, out).await
            }
            Command::List { common } => list(&Channel::open(&common.file).await?, common.json, out).await,
            Command::Revoke { id, common } => {
                let channel = Channel::open(&common.file).await?;
                let token = channel.revoke_token(&TokenNamed { id: id.clone() }).await?;
                if common.json {
                    return print_json(out, &token);
                }
                say(out, &format!("{} ({}) is worth nothing any more", token.name, token.id))
            }
        }
    })
}

/// Standard output has the token alone, so that it can go straight to where it is kept.
async fn create(channel: &Channel, wanted: &TokenWanted, json: bool, out: &mut dyn Write) -> Done {
    let made = channel.make_token(wanted).await?;
    if json {
        return print_json(out, &made);
    }
    say(out, &made.token)?;
    let ends = moment(Some(&made.shown.expires_at));
    let note = format!(
        "shown once: keep it as a secret. It ends {ends} UTC; `sluis token revoke {}` ends it now",
        made.shown.id
    );
    super::written(writeln!(std::io::stderr(), "{note}"))
}

async fn list(channel: &Channel, json: bool, out: &mut dyn Write) -> Done {
    let tokens = channel.tokens().await?;
    if json {
        return print_json(out, &tokens);
    }
    if tokens.is_empty() {
        return say(out, "no token has been made");
    }
    let mut table = Table::new(&["ID", "NAME", "MAY", "STATE", "ENDS (UTC)", "LAST USED (UTC)"]);
    for token in &tokens {
        let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.name()).collect();
        table.row(&[
            &token.id,
            &clean(&token.name),
            &scopes.join(", "),
            token.state.text(),
            &moment(Some(&token.expires_at)),
            &moment(token.last_used_at.as_deref()),
        ]);
    }
    say(out, &table.text())
}

fn scope(typed: &str) -> Result<Scope, String> {
    Scope::parse(typed).ok_or_else(|| "read, helpdesk, admin or audit".to_owned())
}
