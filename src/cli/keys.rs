//! `sluis keys generate`: 32 random bytes in base64.

use std::{
    fs::OpenOptions,
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use data_encoding::BASE64;

use super::{Done, Trouble, say};
use crate::base::{
    keyring::MIN_MASTER_BYTES,
    random::{Random, SystemRandom, bytes},
    secret::SecretString,
};

#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make a master key: printed, or written to a new file that only you can read
    Generate {
        /// Write it to this file, which must not exist yet
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

pub fn run(options: &Options, out: &mut dyn Write) -> Done {
    let Command::Generate { out: file } = &options.command;
    let key = generate(&SystemRandom)?;
    match file {
        None => say(out, key.expose()),
        Some(path) => {
            write_private(path, key.expose())?;
            say(out, &format!("wrote a new master key to {}", path.display()))?;
            say(out, "  keep a copy in a safe place: without it every user must enrol again")
        }
    }
}

/// A new master key in base64.
pub fn generate(random: &dyn Random) -> Result<SecretString, Trouble> {
    let drawn: [u8; MIN_MASTER_BYTES] = bytes(random).map_err(|error| Trouble::new(error.to_string()))?;
    Ok(SecretString::new(BASE64.encode(&drawn)))
}

/// Writes a new file with mode 0600; one that is there is never replaced.
pub fn write_private(path: &Path, text: &str) -> Done {
    write_new(path, &format!("{text}\n"), 0o600).map_err(|error| {
        let trouble = Trouble::new(format!("{} cannot be written: {error}", path.display()));
        if error.kind() == ErrorKind::AlreadyExists {
            trouble.hint("a key that is in use must not be overwritten: choose another name")
        } else {
            trouble
        }
    })
}

/// Writes a new file; one that is there is never replaced.
pub fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
