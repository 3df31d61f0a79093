//! The pages: rendered from samples in every language, and through the router for every kind of visitor.

mod samples;
