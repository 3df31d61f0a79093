//! Sluis: multi-factor authentication in front of apps that know only a password.

pub mod admin;
pub mod app;
pub mod audit;
pub mod base;
pub mod cli;
pub mod config;
pub mod deliver;
pub mod demo;
pub mod factor;
pub mod gate;
pub mod i18n;
pub mod identity;
pub mod log;
pub mod metrics;
pub mod model;
pub mod policy;
pub mod proxy;
pub mod session;
pub mod store;
pub mod throttle;
pub mod tls;
pub mod web;
