//! Who is asking, learned from the app's own login form.

pub mod answer;
pub mod form;
pub mod name;
pub mod password;
