//! The way of a request through pingora: one short method per phase. The only user of pingora beside `app`.

pub mod edge;
