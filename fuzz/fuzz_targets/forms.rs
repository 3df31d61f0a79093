//! Login bodies: a name is read in one way, or the login is refused (threats D9, D10).

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluis::identity::form::{Candidate, Claim, Submission, query_logs_in, read};
use sluis_fuzz::APP;

fuzz_target!(|input: (u8, Option<&str>, Option<&str>, &[u8])| {
    let (choice, typed, query, body) = input;
    let kind = match choice & 3 {
        0 => Some("application/x-www-form-urlencoded"),
        1 => Some("multipart/form-data; boundary=B"),
        2 => Some("application/json"),
        _ => typed,
    };
    let watches = &APP.login.watch;
    let submission =
        Submission { method: &http::Method::POST, query, content_type: kind, content_encoding: None, body };
    let candidates: Vec<Candidate> = (0..watches.len())
        .filter(|at| choice & (4 << at) != 0)
        .map(|watch| Candidate { watch, near: choice & 128 != 0 })
        .collect();
    let claim = read(watches, &candidates, &submission);
    if let Some(query) = query {
        let _ = query_logs_in(&watches[0], query);
    }
    // A second opinion, where there is one that all agree on.
    if choice & 3 == 0
        && candidates.len() == 1
        && candidates[0].watch == 0
        && query.is_none()
        && let Ok(Claim::Login { user }) = claim
    {
        let mut names = form_urlencoded::parse(body).filter(|(name, _)| name == "user");
        let (_, value) = names.next().expect("a name that nobody sent");
        assert_eq!(value, user);
        assert!(names.all(|(_, other)| other == user), "there is another name");
    }
});
