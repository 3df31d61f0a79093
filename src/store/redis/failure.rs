//! What it means when a question has no answer: who is to be asked next, or that nobody is.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::dial;
use crate::{config::shared::RedisAddress, store::StoreError};

/// Why a question has no answer.
pub(super) enum Failure {
    /// The server says no, and would again.
    Final(StoreError),
    /// The server is not the master of the shard, or not yet.
    Elsewhere(StoreError),
    /// Another server has the shard.
    Moved(RedisAddress),
    /// Another server has it for this question only.
    Ask(RedisAddress),
    /// The slot is moving from one server to another, and what is asked for is partly here and partly there.
    Midway(StoreError),
    /// There is no connection, or it broke.
    Lost(StoreError),
    /// No answer in time.
    Late(StoreError),
}

impl Failure {
    /// For the log.
    pub fn into_error(self) -> StoreError {
        match self {
            Self::Final(error)
            | Self::Elsewhere(error)
            | Self::Midway(error)
            | Self::Lost(error)
            | Self::Late(error) => error,
            Self::Moved(there) | Self::Ask(there) => StoreError(format!("the shard is at {there}")),
        }
    }
}

/// What an error of a server or of the connection to it means.
pub(super) fn judge(address: &RedisAddress, error: &RedisError) -> Failure {
    let text = dial::failed(address, error);
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => {
            let there = error.redirect_node().and_then(|(there, _)| redirect(there, address));
            match there {
                None => Failure::Elsewhere(text),
                Some(there) if error.kind() == ErrorKind::Server(ServerErrorKind::Ask) => Failure::Ask(there),
                Some(there) => Failure::Moved(there),
            }
        }
        ErrorKind::Server(
            ServerErrorKind::ReadOnly
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::BusyLoading,
        ) => Failure::Elsewhere(text),
        ErrorKind::Server(ServerErrorKind::TryAgain) => Failure::Midway(text),
        ErrorKind::Server(_) | ErrorKind::Extension => {
            // A script's error carries the command's own code inside.
            let elsewhere = ["READONLY", "MASTERDOWN", "UNBLOCKED"];
            let said = error.to_string();
            if elsewhere.iter().any(|code| said.contains(code)) {
                Failure::Elsewhere(text)
            } else {
                Failure::Final(text)
            }
        }
        _ if error.is_timeout() => Failure::Late(text),
        _ => Failure::Lost(text),
    }
}

/// `host:port`; without a host it is the one that was asked.
fn redirect(there: &str, asked: &RedisAddress) -> Option<RedisAddress> {
    let (host, port) = there.rsplit_once(':')?;
    let port = port.parse().ok()?;
    match (host, asked) {
        ("", RedisAddress::Tcp(host, _)) => Some(RedisAddress::Tcp(host.clone(), port)),
        ("", RedisAddress::Unix(_)) => None,
        (host, _) => Some(RedisAddress::Tcp(host.to_owned(), port)),
    }
}
