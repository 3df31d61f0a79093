//! A mail server that is not ours.

#[path = "../../smtp/server.rs"]
mod server;

pub use server::Server;
