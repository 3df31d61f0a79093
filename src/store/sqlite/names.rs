//! Users by a part of their name, in about the same time however many there are.
//!
//! What is in many names fills a page from the next few names. Else an index of three characters in a row (`schema_4.sql`)
//! says who may be meant: where those are few, they are looked at and sorted; where they are many, all names are gone
//! through in their order. Whichever way, the name itself decides.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::{StoreResult, users::record};
use crate::{
    model::{UserKey, UserName},
    store::UserRecord,
};

/// A new user's name.
pub(super) fn add(db: &Connection, id: i64, name: &str) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT INTO user_names (rowid, name) VALUES (?1, ?2 || char(1, 1))")?
        .execute(params![id, name])?;
    Ok(())
}

/// A page of those who were met, in the order of (realm, name) after `after`, whose name contains `part`.
pub(super) fn list(
    db: &Connection,
    part: &str,
    after: Option<&UserKey>,
    limit: usize,
) -> StoreResult<Vec<UserRecord>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // No realm is empty.
    let (realm, name) = after.map_or(("", ""), |key| (key.realm.as_str(), key.name.as_str()));
    if !part.is_empty() {
        let page = db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM (
                     SELECT * FROM users WHERE first_seen_at IS NOT NULL AND (realm, name) > (?1, ?2)
                      ORDER BY realm, name LIMIT {NEXT}
                 ) AS users WHERE instr(users.name, ?3) > 0 {PAGE}"
            ))?
            .query_map(params![realm, name, part, limit], record)?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        if i64::try_from(page.len()).is_ok_and(|found| found >= limit) {
            return Ok(page);
        }
    }
    let rows = match way(db, part)? {
        Way::Nobody => Vec::new(),
        Way::InOrder => db
            .prepare_cached(&format!("SELECT {COLUMNS} FROM users WHERE {WANTED} {PAGE}"))?
            .query_map(params![realm, name, part, limit], record)?
            .collect::<rusqlite::Result<_>>()?,
        // CROSS: in this order, and sorted afterwards.
        Way::Indexed(terms) => db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM user_names CROSS JOIN users
                  WHERE user_names MATCH ?5 AND users.id = user_names.rowid AND {WANTED} {PAGE}"
            ))?
            .query_map(params![realm, name, part, limit, terms], record)?
            .collect::<rusqlite::Result<_>>()?,
    };
    Ok(rows)
}

/// How to find them.
enum Way {
    /// There can be none.
    Nobody,
    /// Through all names.
    InOrder,
    /// By these terms of the index.
    Indexed(String),
}

fn way(db: &Connection, part: &str) -> rusqlite::Result<Way> {
    if part.is_empty() {
        return Ok(Way::InOrder);
    }
    if part.len() > UserName::MAX_BYTES || part.contains('\0') {
        return Ok(Way::Nobody);
    }
    let characters: Vec<char> = part.chars().collect();
    let terms = if characters.len() >= GRAM {
        let terms: BTreeSet<String> =
            characters.windows(GRAM).map(|gram| quoted(&gram.iter().collect::<String>())).collect();
        terms.into_iter().collect::<Vec<_>>().join(" AND ")
    } else {
        let mut select =
            db.prepare_cached("SELECT term FROM user_name_parts WHERE term >= ?1 AND term < ?2 LIMIT ?3")?;
        let end = format!("{part}{}", char::MAX);
        let most = i64::try_from(MOST_TERMS).unwrap_or(i64::MAX);
        let terms =
            select.query_map(params![part, end, most.saturating_add(1)], |row| row.get::<_, String>(0))?;
        let terms: Vec<String> = terms.map(|term| Ok(quoted(&term?))).collect::<rusqlite::Result<_>>()?;
        if terms.is_empty() {
            return Ok(Way::Nobody);
        }
        if terms.len() > MOST_TERMS {
            return Ok(Way::InOrder);
        }
        terms.join(" OR ")
    };
    let found: i64 = db
        .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM user_names WHERE user_names MATCH ?1 LIMIT ?2)")?
        .query_row(params![terms, FEW.saturating_add(1)], |row| row.get(0))?;
    Ok(if found > FEW { Way::InOrder } else { Way::Indexed(terms) })
}

/// As a string of FTS5's query language.
fn quoted(term: &str) -> String {
    format!("\"{}\"", term.replace('"', "\"\""))
}

/// Those who were met, not those who were only counted or reset. ?1 and ?2: after whom; ?3: the part.
const WANTED: &str =
    "first_seen_at IS NOT NULL AND (users.realm, users.name) > (?1, ?2) AND instr(users.name, ?3) > 0";
const PAGE: &str = "ORDER BY users.realm, users.name LIMIT ?4";

/// What [`record`] reads.
pub(super) const COLUMNS: &str =
    "users.realm, users.name, blocked, first_seen_at, last_login_at, failures, wait_until,
     (SELECT count(*) FROM authenticators WHERE user = users.id)";

/// Characters in a term of the index.
const GRAM: usize = 3;
/// A part that begins more terms than this is in many names.
const MOST_TERMS: usize = 200;
/// So many names are looked at before the index is.
const NEXT: usize = 1000;
/// So many are sorted.
const FEW: i64 = 5000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Realm, store::sqlite::schema};

    fn filled(names: &[&str]) -> (Connection, tempfile::TempDir) {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("sluis.db");
        std::fs::write(&path, "").unwrap();
        let db = schema::connect(&path).unwrap();
        let tx = db.unchecked_transaction().unwrap();
        for name in names {
            let key = UserKey { realm: Realm::new("care"), name: UserName::canonical(*name) };
            let id = super::super::users::make_id_of(&tx, &key).unwrap();
            tx.execute("UPDATE users SET first_seen_at = 1 WHERE id = ?1", [id]).unwrap();
        }
        tx.commit().unwrap();
        (db, directory)
    }

    /// Whichever way is taken, the answer is what looking at every name gives.
    #[test]
    fn every_way_finds_what_looking_at_each_name_finds() {
        let mut names: Vec<String> = (0..5500).map(|n| format!("user{n}@zorg.example")).collect();
        names.extend(
            ["zoë", "100%", "a_b", "say \"hi\"", "aa", "aaaa", "x", "日本語", "o'hara", "*", "and or not"]
                .map(str::to_owned),
        );
        names.sort();
        let (db, _directory) = filled(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut ways = [0; 3];
        for part in [
            "",
            "user",
            "@zorg.example",
            "99@",
            "1499",
            "user54",
            "zoë",
            "oë",
            "ë",
            "%",
            "_",
            "\"",
            "\"hi\"",
            "aa",
            "aaa",
            "aaaaa",
            "x",
            "日",
            "本語",
            "'",
            "*",
            "and",
            " or ",
            "u",
            "r7",
            "q",
            "zzz",
            "e",
            "le",
            "USER",
            "\u{1}",
            "a\0b",
        ] {
            ways[match way(&db, part).unwrap() {
                Way::Nobody => 0,
                Way::InOrder => 1,
                Way::Indexed(_) => 2,
            }] += 1;
            for after in ["", "user5", "zz"] {
                let key = UserKey { realm: Realm::new("care"), name: UserName::canonical(after) };
                let found = list(&db, part, Some(&key), 20).unwrap();
                let found: Vec<_> = found.iter().map(|r| r.user.name.as_str()).collect();
                let wanted = names.iter().map(String::as_str).filter(|n| n.contains(part) && *n > after);
                assert_eq!(found, wanted.take(20).collect::<Vec<_>>(), "{part:?} after {after:?}");
            }
        }
        assert!(ways.iter().all(|taken| *taken > 0), "{ways:?}");
    }

    /// Nothing is gone through that is not looked for.
    #[test]
    fn a_page_is_read_from_an_index() {
        let (db, _directory) = filled(&["anna"]);
        let plan = |statement: &str| -> String {
            let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
            let steps = explain.query_map(params!["", "", "", 1, "\"ann\""], |row| row.get::<_, String>(3));
            steps.unwrap().collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ")
        };
        let in_order = plan(&format!("SELECT {COLUMNS} FROM users WHERE ?5 = ?5 AND {WANTED} {PAGE}"));
        assert!(in_order.contains("((realm,name)>(?,?))") && !in_order.contains("TEMP B-TREE"), "{in_order}");
        let indexed = plan(&format!(
            "SELECT {COLUMNS} FROM user_names CROSS JOIN users
              WHERE user_names MATCH ?5 AND users.id = user_names.rowid AND {WANTED} {PAGE}"
        ));
        assert!(
            indexed.contains("SCAN user_names VIRTUAL TABLE") && indexed.contains("INTEGER PRIMARY KEY"),
            "{indexed}"
        );
    }
}
