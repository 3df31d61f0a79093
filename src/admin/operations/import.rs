//! Lists of users, from a spreadsheet or a personnel system.
//!
//! A list is read twice in effect: first all of it is judged, and every fault told; then what is good is applied. With
//! faults nothing is applied unless whoever asks wants the good lines nevertheless. The same list again changes nothing,
//! and so goes on where an earlier run was cut off: each line is compared with what is kept, and written only where it
//! differs.
//!
//! A cell that is empty says nothing: what is kept stays.

mod sheet;

use std::collections::HashMap;

use futures_util::{
    StreamExt,
    stream::{FuturesOrdered, FuturesUnordered},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Sender;

pub use self::sheet::BadCell;
pub(super) use self::sheet::{Column, escaped};
use self::sheet::{Row, Sheet};
use super::{
    By, Failure, Operations,
    settings::{Read, differences},
};
use crate::{
    audit::{Event, IMPORTED},
    base::clock::UnixMillis,
    config::App,
    identity::name,
    model::{UserKey, UserName},
    store::documents,
};

/// How a list is to be taken.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Importing {
    /// Whose users they are; needed when there are several.
    pub realm: Option<String>,
    /// `;` or `,`; found out otherwise.
    pub delimiter: Option<char>,
    /// Judge only.
    pub dry_run: bool,
    /// Apply the good lines although there are bad ones.
    pub skip_bad: bool,
    /// Why, for the audit log.
    pub reason: Option<String>,
}

/// What is told while it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// So many lines have been judged.
    Judged(usize),
    /// Something cannot be.
    Bad(BadCell),
    /// So many users have been written.
    Applied {
        /// So many …
        done: usize,
        /// … of these.
        of: usize,
    },
    /// The end.
    Done(Imported),
    /// It broke off.
    Failed {
        /// Why.
        title: String,
        /// What to do next.
        hint: String,
    },
}

/// What became of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Whose users they are.
    pub realm: String,
    /// Lines that say something.
    pub rows: usize,
    /// Users who had not been met.
    pub new: usize,
    /// Others of whom something changes.
    pub changed: usize,
    /// Users who are as the list says.
    pub unchanged: usize,
    /// Lines with faults.
    pub bad: usize,
    /// It was done; otherwise this is what would be.
    pub applied: bool,
}

/// A good line.
struct Good {
    user: UserKey,
    settings: Read,
    blocked: Option<bool>,
}

/// What a line comes to.
enum Verdict {
    Bad(Vec<BadCell>),
    Good { line: u64, good: Box<Good>, effect: Effect },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Effect {
    New,
    Changed,
    Nothing,
}

impl Operations {
    /// Takes over a list of users, and tells how it goes on; the last thing that is told is [`Told::Done`].
    ///
    /// # Errors
    /// When it is no list (then nothing is changed), nobody listens any more, or the store or the audit log fails (then
    /// every user is either as before or as the list says; one who was being written may be known without the rest).
    pub async fn import(
        &self,
        file: &[u8],
        how: &Importing,
        by: &By<'_>,
        tell: &Sender<Told>,
    ) -> Result<(), Failure> {
        self.auditor.ready()?;
        let app = self.app_of(how.realm.as_deref())?;
        let mut sheet = Sheet::open(file, how.delimiter, self.clock.now())?;
        let mut outcome = Imported { realm: app.realm.as_str().to_owned(), ..Imported::default() };
        let work = self.judge_all(&mut sheet, &app, by, tell, &mut outcome).await?;
        if how.dry_run || (outcome.bad > 0 && !how.skip_bad) {
            return say(tell, Told::Done(outcome)).await;
        }
        let planned = std::mem::take(&mut outcome.new).saturating_add(std::mem::take(&mut outcome.changed));
        let applied = self.apply_all(work, by, tell, &mut outcome).await;
        let event = Event::UsersImported { new: outcome.new, changed: outcome.changed };
        let recorded = self.record(&event, None, by).await;
        applied?;
        recorded?;
        // Somebody else can have done the same in between.
        let done = outcome.new.saturating_add(outcome.changed);
        outcome.unchanged = outcome.unchanged.saturating_add(planned.saturating_sub(done));
        outcome.applied = true;
        say(tell, Told::Done(outcome)).await
    }

    /// Counts, tells every fault, and gives those lines that change something.
    async fn judge_all(
        &self,
        sheet: &mut Sheet<'_>,
        app: &App,
        by: &By<'_>,
        tell: &Sender<Told>,
        outcome: &mut Imported,
    ) -> Result<Vec<Good>, Failure> {
        let mut work = Vec::new();
        let mut lines: HashMap<UserName, u64> = HashMap::new();
        let mut asked = FuturesOrdered::new();
        let mut is_read = false;
        loop {
            while !is_read && asked.len() < AT_ONCE {
                match sheet.next()? {
                    None => is_read = true,
                    Some(row) => asked.push_back(self.judge(app, row, by)),
                }
            }
            let Some(verdict) = asked.next().await else { return Ok(work) };
            outcome.rows = outcome.rows.saturating_add(1);
            let bad = match verdict? {
                Verdict::Bad(bad) => bad,
                Verdict::Good { line, good, effect } => match lines.get(&good.user.name) {
                    Some(first) => {
                        let why = format!("each user once; line {first} is the same user");
                        vec![BadCell::new(line, Column::Name, good.user.name.as_str(), why)]
                    }
                    None => {
                        lines.insert(good.user.name.clone(), line);
                        let count = match effect {
                            Effect::New => &mut outcome.new,
                            Effect::Changed => &mut outcome.changed,
                            Effect::Nothing => &mut outcome.unchanged,
                        };
                        *count = count.saturating_add(1);
                        if effect != Effect::Nothing {
                            work.push(*good);
                        }
                        Vec::new()
                    }
                },
            };
            if !bad.is_empty() {
                outcome.bad = outcome.bad.saturating_add(1);
            }
            for cell in bad {
                say(tell, Told::Bad(cell)).await?;
            }
            if outcome.rows.is_multiple_of(TELL_EVERY) {
                say(tell, Told::Judged(outcome.rows)).await?;
            }
        }
    }

    async fn judge(
        &self,
        app: &App,
        row: Result<Row, Vec<BadCell>>,
        by: &By<'_>,
    ) -> Result<Verdict, Failure> {
        let row = match row {
            Ok(row) => row,
            Err(bad) => return Ok(Verdict::Bad(bad)),
        };
        let bad = |why: String| Ok(Verdict::Bad(vec![BadCell::new(row.line, Column::Name, &row.name, why)]));
        // As listed, else as typed at the login.
        let mut user = UserKey { realm: app.realm.clone(), name: UserName::canonical(row.name.as_str()) };
        let mut kept = self.store.user(&user).await?;
        if kept.is_none() {
            match name::typed(&app.login.name, &row.name) {
                Err(why) => return bad(format!("a name that can log in: {why}")),
                Ok(name) if name != user.name => {
                    user.name = name;
                    kept = self.store.user(&user).await?;
                }
                Ok(_) => {}
            }
        }
        if by.own == Some(&user) {
            return bad("anybody but yourself: another administrator must do that".to_owned());
        }
        let profile = documents::profile(self.store.as_ref(), &user).await?;
        if by.is_helpdesk && profile.role.is_some() {
            return bad("nobody who is an administrator: ask somebody with the right `admin`".to_owned());
        }
        let edited = row.settings.applied(&profile);
        let effect = match &kept {
            None => Effect::New,
            Some(kept) if edited != profile || row.blocked.is_some_and(|blocked| blocked != kept.blocked) => {
                Effect::Changed
            }
            Some(_) => Effect::Nothing,
        };
        let good = Box::new(Good { user, settings: row.settings, blocked: row.blocked });
        Ok(Verdict::Good { line: row.line, good, effect })
    }

    /// Many at once: the store brings what comes together to the disk together.
    async fn apply_all(
        &self,
        work: Vec<Good>,
        by: &By<'_>,
        tell: &Sender<Told>,
        outcome: &mut Imported,
    ) -> Result<(), Failure> {
        let of = work.len();
        let mut left = work.into_iter();
        let mut running = FuturesUnordered::new();
        let mut failure = None;
        let mut done: usize = 0;
        loop {
            while failure.is_none() && running.len() < AT_ONCE {
                let Some(good) = left.next() else { break };
                running.push(self.apply(good, by));
            }
            // What has begun is always brought to its end.
            let Some(effect) = running.next().await else { break };
            match effect {
                Ok(Effect::New) => outcome.new = outcome.new.saturating_add(1),
                Ok(Effect::Changed) => outcome.changed = outcome.changed.saturating_add(1),
                Ok(Effect::Nothing) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
            done = done.saturating_add(1);
            if done.is_multiple_of(TELL_EVERY)
                && let Err(error) = say(tell, Told::Applied { done, of }).await
            {
                failure = failure.or(Some(error));
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// What the user is known for comes last: a line that was cut off is not as the list says, and so is done again.
    async fn apply(&self, good: Good, by: &By<'_>) -> Result<Effect, Failure> {
        let Good { user, settings, blocked } = good;
        let now: UnixMillis = self.clock.now();
        let (changed, former) = documents::change_profile(self.store.as_ref(), &user, |kept| {
            let edited = settings.applied(kept);
            let changed = differences(kept, &edited, now);
            (Some(edited).filter(|edited| edited != kept), (changed, kept.email.clone()))
        })
        .await?;
        // A login notes its user and then reads the settings: whoever is not known by now reads the new ones.
        let kept = self.store.user(&user).await?;
        if kept.is_some() && changed.iter().any(|change| change.voids) {
            self.void(&user).await?;
        }
        let blocks = blocked.filter(|blocked| kept.as_ref().is_none_or(|kept| kept.blocked != *blocked));
        match (blocks, &kept) {
            (Some(blocked), Some(_)) | (Some(blocked @ true), None) => {
                self.store.set_blocked(&user, blocked, now).await?;
                self.record(&Event::UserBlocked { blocked }, Some(&user), by).await?;
            }
            (_, None) => self.store.note_seen(&user, false, now).await?,
            (None, Some(_)) => {}
        }
        let effect = match kept {
            None => Effect::New,
            Some(_) if changed.is_empty() && blocks.is_none() => return Ok(Effect::Nothing),
            Some(_) => Effect::Changed,
        };
        self.record(&Event::UserChanged { what: IMPORTED }, Some(&user), by).await?;
        if effect == Effect::Changed {
            self.tell_of_contact(&user, &changed, former);
        }
        Ok(effect)
    }
}

async fn say(tell: &Sender<Told>, told: Told) -> Result<(), Failure> {
    tell.send(told).await.map_err(|_| Failure::Abandoned)
}

/// Users at once. The store has room for many more, of those who log in meanwhile.
const AT_ONCE: usize = 256;
/// Lines between two words about the progress.
const TELL_EVERY: usize = 250;
