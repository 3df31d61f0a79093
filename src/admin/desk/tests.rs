//! The administrators' pages through their router, for every kind of caller.

mod accounts;
mod acts;
mod house;
mod journeys;
mod table;
