//! End-to-end tests: each starts the real binary in front of a real app and tells one story.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a story that cannot go on fails, and the clock it compares with is the machine's"
)]

#[expect(dead_code, reason = "a toolbox: parts are kept for their end, and not every story needs every tool")]
mod support;

mod admin_api;
mod admin_audit;
mod attacks;
mod audit;
mod chart;
mod clients;
mod clock;
mod desk;
mod doctor;
mod endpoints;
mod fleet;
mod fleet_care;
mod fleet_faults;
mod http2;
mod init;
mod invariants;
mod lists;
mod login_watch;
mod mail;
mod main_job;
mod operations;
mod pages;
mod proxy_protocol;
mod real_apps;
mod recovery;
mod redis_servers;
mod reload;
mod revocations;
mod rows;
mod self_service;
mod store_copy;
mod streams;
mod tls;
mod traffic;
mod trust;
