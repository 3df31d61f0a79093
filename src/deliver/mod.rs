//! Reaching people: by mail.
//!
//! 1. `notices`: the closed list of what people are told, and in which words.
//! 2. `outbox`: a message waits here, and is tried again, until a server has it or it is given up.
//! 3. `letter`: a message as bytes (RFC 5322, RFC 2045). `mail`: the conversation with a server (RFC 5321).
//!
//! **What must not be lost is not promised here.** A message lives in memory: a stop, a kill, a full queue or a server
//! that stays away loses it. Whoever needs to know that something was done has the audit log. In return nothing that a
//! message is about waits for it, or fails with it.

pub mod letter;
pub mod mail;
pub mod notices;
pub mod outbox;

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests;
