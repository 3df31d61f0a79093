//! `sluis mail test ADDRESS`: does a message get out?

use std::io::Write;

use super::{ConfigFile, Done, Trouble, load, say, shown::clean};
use crate::{
    base::{
        clock::{Clock, SystemClock},
        random::SystemRandom,
    },
    deliver::{
        letter::Letter,
        mail::{Mailer, Undelivered},
        notices::{self, Notice, Person, Scene},
    },
    model::email,
};

#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Send a message to this address, as the configuration says
    Test {
        /// To whom
        address: String,
        #[command(flatten)]
        file: ConfigFile,
    },
}

/// Sends a message by itself, beside whatever server runs.
pub fn run(options: &Options, out: &mut dyn Write) -> Done {
    let Command::Test { address, file } = &options.command;
    let config = load(file)?.config;
    let mail = config.mail.ok_or_else(|| {
        Trouble::new("the configuration has no `mail`").hint("config.example.yaml shows what it needs")
    })?;
    let address = email::canonical(address.trim()).ok_or_else(|| {
        Trouble::new(format!("`{}` is no address", clean(address))).hint("give one like name@example.nl")
    })?;
    let now = SystemClock.now();
    let person = Person { address, name: None, language: mail.language };
    let content = notices::write(&Notice::Test, &Scene::default(), now, &person, &mail.time_zone)
        .map_err(|error| Trouble::new(format!("the message cannot be written: {error}")))?;
    let letter = Letter::new(&mail, &person.address, content, now, &SystemRandom)
        .map_err(|error| Trouble::new(error.to_string()))?;
    let server = format!("{}:{}", mail.host, mail.port);
    let mailer = Mailer::new(mail)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Trouble::new(format!("no runtime: {error}")))?;
    match runtime.block_on(mailer.send(&letter)) {
        Ok(()) => {
            say(out, &format!("{server} has taken a message to {}", person.address))?;
            say(
                out,
                "  whether it arrives, only its reader can tell: look in the folder for unwanted mail, too",
            )
        }
        Err(failure) => {
            let hint = match &failure {
                Undelivered::Later(_) => "`sluis doctor` tells whether the server can be reached at all",
                Undelivered::Never(_) => {
                    "may Sluis send from the address in `mail.from`, and does this one exist?"
                }
                Undelivered::Unknown(_) => "it may have arrived all the same",
            };
            Err(Trouble::new(format!("{server} did not take it: {}", clean(&failure.to_string()))).hint(hint))
        }
    }
}
