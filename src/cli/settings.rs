//! What is set for one user, and where they are logged in: `sluis user set`, `sessions`, and the lines of `show`.

use std::io::Write;

use super::{
    Done, Trouble,
    channel::Channel,
    say,
    shown::{Table, clean, moment},
    users::{One, print_json},
};
use crate::admin::{
    control::{Change, Named},
    operations::{ExemptionTyped, Settings, SettingsRow},
};

#[derive(clap::Args)]
pub struct Set {
    #[command(flatten)]
    pub one: One,
    #[command(flatten)]
    what: What,
    /// Why, for the audit log, and for the exemption
    #[arg(long)]
    reason: Option<String>,
}

/// One of them at least.
#[derive(clap::Args)]
#[group(multiple = true, required = true)]
struct What {
    /// Where messages go
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// The number for codes; 06… is taken for a Dutch one
    #[arg(long)]
    number: Option<String>,
    /// Of messages: nl or en
    #[arg(long)]
    language: Option<String>,
    /// Addresses and networks from which the user may come, with commas between
    #[arg(long, value_name = "LIST")]
    networks: Option<String>,
    /// The method that is offered first
    #[arg(long, value_name = "METHOD")]
    preferred: Option<String>,
    /// No second factor is asked before this moment, like 2027-01-31T17:00:00Z; needs a reason
    #[arg(long, value_name = "MOMENT", requires = "reason")]
    exempt_until: Option<String>,
    /// Take away what is set; can stand there several times
    #[arg(long, value_name = "FIELD")]
    clear: Vec<Field>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Field {
    Email,
    Number,
    Language,
    Networks,
    Preferred,
    Exemption,
}

impl Set {
    fn settings(&self) -> Settings {
        let given = |text: &Option<String>| text.clone().map(Some);
        let reason = self.reason.clone().unwrap_or_default();
        let exemption = self.what.exempt_until.clone().map(|until| Some(ExemptionTyped { until, reason }));
        let mut settings = Settings {
            email: given(&self.what.email),
            number: given(&self.what.number),
            language: given(&self.what.language),
            networks: self.what.networks.clone().map(|list| vec![list]),
            preferred: given(&self.what.preferred),
            exemption,
            role: None,
        };
        for field in &self.what.clear {
            match field {
                Field::Email => settings.email = Some(None),
                Field::Number => settings.number = Some(None),
                Field::Language => settings.language = Some(None),
                Field::Networks => settings.networks = Some(Vec::new()),
                Field::Preferred => settings.preferred = Some(None),
                Field::Exemption => settings.exemption = Some(None),
            }
        }
        settings
    }
}

/// Runs `sluis user set`.
pub async fn set(channel: &Channel, set: &Set, out: &mut dyn Write) -> Done {
    let user = Named { reason: set.reason.clone(), ..set.one.named() };
    let settings = set.settings();
    if settings == Settings::default() {
        return Err(Trouble::new("nothing is to be set").hint("`sluis user set --help` lists what can be"));
    }
    let details = channel.set(&Change { user, settings }).await?;
    if set.one.common.json {
        return print_json(out, &details);
    }
    let mut table = Table::new(&["User", &clean(&details.user.name)]);
    rows(&mut table, &details.settings);
    say(out, &table.text())?;
    if details.user.last_login_at.is_none() {
        say(out, "  nobody of that name has logged in yet: is it spelled right?")?;
    }
    Ok(())
}

/// What is set, as lines of a table.
pub fn rows(table: &mut Table, settings: &SettingsRow) {
    let mut row = |name: &str, text: Option<&str>| {
        if let Some(text) = text {
            table.row(&[name, text]);
        }
    };
    row("E-mail", settings.email.as_deref());
    row("Number", settings.number.as_deref());
    row("Language", settings.language.as_deref());
    row("Preferred", settings.preferred.as_deref());
    let networks = settings.networks.join(", ");
    row("May come from", Some(networks.as_str()).filter(|list| !list.is_empty()));
    if let Some(until) = &settings.exempt_until {
        let why = settings.exempt_reason.as_deref().unwrap_or("no reason");
        row("Exempt", Some(&format!("until {}: {why}", moment(Some(until)))));
    }
    if let Some(until) = &settings.invited_until {
        row("Invited", Some(&format!("until {}", moment(Some(until)))));
    }
    if settings.emergency_codes > 0 {
        row("Emergency codes", Some(&settings.emergency_codes.to_string()));
    }
    row("Role", settings.role.as_deref());
}

/// Runs `sluis user sessions`.
pub async fn sessions(channel: &Channel, one: &One, out: &mut dyn Write) -> Done {
    let sessions = channel.sessions(&one.named()).await?;
    if one.common.json {
        return print_json(out, &sessions);
    }
    if sessions.is_empty() {
        return say(out, "logged in nowhere");
    }
    let mut table = Table::new(&["SINCE (UTC)", "AT MOST UNTIL", "APP", "ADDRESS", "DEVICE", "BROWSER"]);
    for s in &sessions {
        let (since, until) = (moment(Some(&s.started_at)), moment(Some(&s.ends_at)));
        table.row(&[&since, &until, &s.app, &s.address, &s.device, &s.agent]);
    }
    say(out, &table.text())
}
