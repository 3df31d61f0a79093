//! What the app keeps, in memory: users, sessions, clients with notes and documents.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::base::{
    clock::SharedClock,
    random::{SharedRandom, bytes},
};

/// Users and their passwords.
pub const USERS: &[(&str, &str)] = &[("anna", "anna-secret"), ("bram", "bram-secret")];

/// The cookie of a session.
pub const COOKIE: &str = "ZORGSESSIE";

/// How the app behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Starts a session with the first page, and keeps its cookie value at login: what careless apps do.
    pub keep_cookie: bool,
    /// Knows everybody whose password is their name and `-secret`, not only [`USERS`].
    pub any_user: bool,
}

/// A person in care.
#[derive(Clone)]
pub struct Client {
    /// Number in URLs.
    pub id: usize,
    /// Name.
    pub name: &'static str,
    /// Date of birth.
    pub born: &'static str,
    /// Where they live.
    pub room: &'static str,
    /// What is agreed on.
    pub plan: &'static str,
    /// Newest first.
    pub notes: Vec<Note>,
    /// In order of arrival.
    pub documents: Vec<Document>,
}

/// A line of a report.
#[derive(Clone)]
pub struct Note {
    /// When.
    pub at: String,
    /// Who wrote it.
    pub by: String,
    /// What.
    pub text: String,
}

/// An attached file.
#[derive(Clone)]
pub struct Document {
    /// As the browser named it.
    pub name: String,
    /// The bytes.
    pub bytes: bytes::Bytes,
}

/// Everything.
pub struct Records {
    /// How the app behaves.
    pub options: Options,
    /// The time, for notes.
    pub clock: SharedClock,
    random: SharedRandom,
    sessions: Mutex<HashMap<String, Option<Arc<str>>>>,
    clients: Mutex<Vec<Client>>,
}

impl Records {
    /// The app as it starts: no session, five clients.
    pub fn new(options: Options, clock: SharedClock, random: SharedRandom) -> Self {
        Self { options, clock, random, sessions: Mutex::default(), clients: Mutex::new(clients()) }
    }

    /// Starts a session (of nobody, before a login); `None` without random bytes.
    pub fn start_session(&self, user: Option<Arc<str>>) -> Option<String> {
        let drawn: [u8; 16] = bytes(self.random.as_ref()).ok()?;
        let id = data_encoding::HEXLOWER.encode(&drawn);
        self.sessions.lock().insert(id.clone(), user);
        Some(id)
    }

    /// Gives a session that is there to a user; false when it is not there.
    pub fn give_session(&self, id: &str, user: Arc<str>) -> bool {
        self.sessions.lock().get_mut(id).map(|owner| *owner = Some(user)).is_some()
    }

    /// Whether there is such a session, and whose it is.
    pub fn session(&self, id: &str) -> Option<Option<Arc<str>>> {
        self.sessions.lock().get(id).cloned()
    }

    /// Ends a session.
    pub fn end_session(&self, id: &str) {
        self.sessions.lock().remove(id);
    }

    /// The user whose password this is.
    pub fn user_of(&self, name: &str, password: &str) -> Option<Arc<str>> {
        let name = name.trim().to_ascii_lowercase();
        let listed = USERS.iter().any(|(n, p)| *n == name && *p == password);
        let anybody = self.options.any_user && !name.is_empty() && password == format!("{name}-secret");
        (listed || anybody).then(|| name.into())
    }

    /// All clients.
    pub fn clients(&self) -> Vec<Client> {
        self.clients.lock().clone()
    }

    /// One client.
    pub fn client(&self, id: usize) -> Option<Client> {
        self.clients.lock().iter().find(|c| c.id == id).cloned()
    }

    /// Changes one client; false when there is none.
    pub fn change(&self, id: usize, change: impl FnOnce(&mut Client)) -> bool {
        self.clients.lock().iter_mut().find(|c| c.id == id).map(change).is_some()
    }

    /// Now, for people.
    pub fn now(&self) -> String {
        let text = self.clock.now().rfc3339();
        text.get(..16).unwrap_or_default().replace('T', " ")
    }
}

/// A shared [`Records`], as handlers hold it.
pub type Shared = Arc<Records>;

fn clients() -> Vec<Client> {
    let client = |id, name, born, room, plan, note: &str| Client {
        id,
        name,
        born,
        room,
        plan,
        notes: vec![Note { at: "2024-11-04 08:15".into(), by: "nachtdienst".into(), text: note.to_owned() }],
        documents: Vec::new(),
    };
    vec![
        client(
            1,
            "Mevr. J. de Boer",
            "12-03-1938",
            "Linde 4",
            "Help with washing, mornings. Walks with a rollator.",
            "Slept well. Asked for a second blanket.",
        ),
        client(
            2,
            "Dhr. P. Verhagen",
            "30-09-1931",
            "Linde 7",
            "Diabetes type 2: glucose before breakfast and dinner.",
            "Glucose 6.8 at 07:40.",
        ),
        client(
            3,
            "Mevr. A. Yılmaz-Öztürk",
            "01-01-1944",
            "Iep 2",
            "Daughter visits on Sundays. Speaks Turkish and some Dutch.",
            "Daughter called, comes on Saturday this week.",
        ),
        client(
            4,
            "Dhr. W. van ’t Hoff",
            "22-06-1929",
            "Iep 5",
            "Fall risk: sensor mat beside the bed.",
            "Sensor went off at 03:10, was on his way to the toilet.",
        ),
        client(
            5,
            "Mevr. C. Jansen",
            "17-11-1947",
            "Beuk 1",
            "Short stay until the hip has healed; physiotherapy Tue and Thu.",
            "Practised the stairs, six steps.",
        ),
    ]
}
