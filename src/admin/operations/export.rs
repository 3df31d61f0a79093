//! The list of users as a file that [`Operations::import`] takes: what is set, and no secret.

use futures_util::{StreamExt, stream::FuturesOrdered};
use tokio::sync::mpsc::Sender;

use super::{
    By, Failure, Operations,
    import::{Column, escaped},
    view,
};
use crate::{
    audit::Event,
    model::{Realm, UserKey, UserName},
    store::{UserRecord, documents},
};

impl Operations {
    /// Gives all users of a realm, a piece at a time. What a spreadsheet would take for a formula has a `'` in front.
    ///
    /// That it begins is in the audit log before the first piece is given, and how many it was at its end, however it ends.
    ///
    /// # Errors
    /// When there are several realms and none was named, nobody listens any more, the store fails, or the audit log
    /// cannot be written and `audit.on_failure` is `deny`.
    pub async fn export(
        &self,
        realm: Option<&str>,
        delimiter: char,
        by: &By<'_>,
        give: &Sender<Vec<u8>>,
    ) -> Result<(), Failure> {
        let realm = self.app_of(realm)?.realm.clone();
        let delimiter = match delimiter {
            ';' => b';',
            _ => b',',
        };
        self.auditor.ready()?;
        self.record(&Event::UsersExported { users: None, is_whole: false }, None, by).await?;
        let mut users = 0;
        let given = self.give_all(realm, delimiter, &mut users, give).await;
        let event = Event::UsersExported { users: Some(users), is_whole: given.is_ok() };
        self.record(&event, None, by).await?;
        given
    }

    async fn give_all(
        &self,
        realm: Realm,
        delimiter: u8,
        users: &mut usize,
        give: &Sender<Vec<u8>>,
    ) -> Result<(), Failure> {
        let mut after = UserKey { realm: realm.clone(), name: UserName::canonical("") };
        let mut piece = lines(delimiter, [Column::ALL.map(|column| column.name().to_owned())])?;
        loop {
            let page = self.store.list("", Some(&after), PAGE).await?;
            let ours: Vec<UserRecord> =
                page.into_iter().take_while(|record| record.user.realm == realm).collect();
            let mut rows = FuturesOrdered::new();
            for record in &ours {
                rows.push_back(self.exported(record));
            }
            let mut cells = Vec::with_capacity(ours.len());
            while let Some(row) = rows.next().await {
                cells.push(row?);
            }
            piece.extend(lines(delimiter, cells)?);
            give.send(std::mem::take(&mut piece)).await.map_err(|_| Failure::Abandoned)?;
            *users = users.saturating_add(ours.len());
            match ours.last() {
                Some(last) if ours.len() == PAGE => after = last.user.clone(),
                _ => return Ok(()),
            }
        }
    }

    async fn exported(&self, record: &UserRecord) -> Result<[String; 9], Failure> {
        let profile = documents::profile(self.store.as_ref(), &record.user).await?;
        let settings = view::settings(&profile, self.clock.now());
        Ok(Column::ALL.map(|column| {
            let cell = match column {
                Column::Name => Some(record.user.name.as_str().to_owned()),
                Column::Email => settings.email.clone(),
                Column::Number => settings.number.clone(),
                Column::Language => settings.language.clone(),
                Column::Networks => Some(settings.networks.join(" ")),
                Column::Preferred => settings.preferred.clone(),
                Column::Blocked => Some(if record.blocked { "yes" } else { "no" }.to_owned()),
                Column::ExemptUntil => settings.exempt_until.clone(),
                Column::ExemptReason => settings.exempt_reason.clone(),
            };
            escaped(&cell.unwrap_or_default())
        }))
    }
}

fn lines(delimiter: u8, rows: impl IntoIterator<Item = [String; 9]>) -> Result<Vec<u8>, Failure> {
    let mut out = csv::WriterBuilder::new()
        .delimiter(delimiter)
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    let failed = |error: &dyn std::fmt::Display| Failure::BadList(error.to_string());
    for row in rows {
        out.write_record(row).map_err(|error| failed(&error))?;
    }
    out.into_inner().map_err(|error| failed(&error))
}

const PAGE: usize = 500;
