//! The parts of a story: Sluis itself, apps behind it, clients in front of it, authenticators, and a clock.

pub mod admin;
pub mod apps;
pub mod authenticator;
pub mod authority;
pub mod balancer;
pub mod chromium;
pub mod clock;
pub mod faults;
pub mod fleet;
pub mod frames;
pub mod jar;
pub mod mail;
pub mod probe;
pub mod process;
pub mod raw;
pub mod redis;
pub mod sluis;
pub mod upstream;

pub use authenticator::Authenticator;
pub use jar::Browser;
pub use sluis::{Demo, Sluis};
