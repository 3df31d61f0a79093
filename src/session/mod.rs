//! What is proved: devices, trust, pending logins, sessions, and the app's cookies sealed to them.

pub mod admission;
mod cache;
pub mod cookie;
pub mod live;
mod sealed_names;
mod set_cookie;
pub mod standing;
pub mod target;
pub mod token;
pub mod upstream_cookies;

#[cfg(test)]
mod testing;
