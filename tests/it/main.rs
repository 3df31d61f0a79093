//! End-to-end tests: each starts the real binary in front of a real app and tells one story.

mod support;

mod invariants;
mod main_job;
mod operations;
mod pages;
mod real_apps;
mod traffic;
mod trust;
