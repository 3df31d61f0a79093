//! The administrators' pages through their router, for every kind of caller.

mod house;
mod journeys;
mod table;
