//! Care of a running Sluis: what administrators do to users, and what operations looks at.
//!
//! [`operations`] is the one place where a user is shown, reset or blocked; the command line reaches it over the
//! [`control`] socket while a server runs, so that the server's own store announces the effect at once. [`probes`]
//! serves metrics and probes on a listener of its own.

pub mod clock_watch;
pub mod control;
mod http;
pub mod operations;
pub mod probes;
pub mod tokens;

#[cfg(test)]
mod tests;
