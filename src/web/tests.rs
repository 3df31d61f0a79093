//! The pages: rendered from samples in every language, and through the router for every kind of visitor.

mod emergency;
mod house;
mod invited;
mod journeys;
mod me;
mod recovery;
mod samples;
mod table;
