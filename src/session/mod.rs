//! What is proved: devices, trust, pending logins, sessions, and the app's cookies sealed to them.

pub mod admission;
pub mod cookie;
pub mod live;
pub mod standing;
pub mod token;
pub mod upstream_cookies;
