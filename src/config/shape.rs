//! Whether the file has the shape that the schema describes: unknown keys, missing keys, wrong types, unknown words;
//! all of them at once.
//!
//! A general JSON Schema validator says "is not valid under any of the schemas" where a choice fails; people need to
//! read which keys or words are allowed there. So this walks the part of JSON Schema that our own types give (a test
//! holds that it is all of it). It also gives the rest of the file, without what is wrong, so that values can be
//! looked at in the same run.

use serde_json::{Map, Value};

use super::{
    fault::{Report, show},
    tree::{Kind, Node},
};

/// What is left of a value when everything wrong is taken out of it.
pub struct Sound {
    /// The tree, for places.
    pub node: Node,
    /// The same as JSON, with the types that the schema wants.
    pub json: Value,
}

/// Checks a value against a schema.
pub fn check(node: &Node, schema: &Value, report: &mut Report) -> Option<Sound> {
    Checker { root: schema, report }.value(node, schema)
}

struct Checker<'s, 'r> {
    root: &'s Value,
    report: &'r mut Report,
}

impl<'s> Checker<'s, '_> {
    fn value(&mut self, node: &Node, schema: &'s Value) -> Option<Sound> {
        let branches = self.branches(schema);
        match &node.kind {
            // An alias that was refused has its fault already.
            Kind::Null if !node.path.is_empty() && self.report.is_broken(&node.path) => None,
            Kind::Null => self.wrong(node, "no value", schema),
            Kind::Map(entries) => {
                let objects: Vec<_> = branches.iter().copied().filter(|b| is(b, "object")).collect();
                // Among several mappings the one is meant that knows the first key that any of them knows.
                let known = |b: &&'s Value| {
                    entries.iter().any(|(key, _)| b.pointer("/properties").and_then(|p| p.get(key)).is_some())
                };
                let meant = objects.iter().copied().find(known).or_else(|| objects.first().copied());
                match meant {
                    Some(object) => self.map(node, entries, object, &objects),
                    None => self.wrong(node, "a mapping", schema),
                }
            }
            Kind::List(items) => match branches.iter().copied().find(|b| is(b, "array")) {
                Some(array) => self.list(node, items, array),
                None => self.wrong(node, "a list", schema),
            },
            Kind::Scalar { text, plain } => self.scalar(node, text, *plain, schema, &branches),
        }
    }

    fn map(
        &mut self,
        node: &Node,
        entries: &[(String, Node)],
        object: &'s Value,
        objects: &[&'s Value],
    ) -> Option<Sound> {
        let empty = Map::new();
        let properties = object.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let others = object.get("additionalProperties").filter(|o| o.is_object());
        let mut kept = Vec::new();
        let mut json = Map::new();
        let mut meant: Vec<&str> = Vec::new();
        for (key, child) in entries {
            let property = objects.iter().find_map(|o| o.get("properties")?.get(key));
            let Some(schema) = property.or(others) else {
                let mut allowed: Vec<&str> = objects.iter().flat_map(|o| keys(o)).collect();
                allowed.sort_unstable();
                let near = nearest(key, &allowed);
                meant.extend(near);
                let hint = near.map(|n| format!(", did you mean {n}?")).unwrap_or_default();
                let text = format!("unknown key{hint}; allowed: {}", allowed.join(", "));
                self.report.structure(child.line, &child.path, text);
                continue;
            };
            if let Some(sound) = self.value(child, schema) {
                kept.push((key.clone(), sound.node));
                json.insert(key.clone(), sound.json);
            }
        }
        // A choice between mappings is the one key that names it.
        if objects.len() > 1 && kept.len() != 1 {
            if kept.len() > 1 || entries.is_empty() {
                let all: Vec<&str> = objects.iter().flat_map(|o| keys(o)).collect();
                let text = format!("found {} keys; allowed: exactly one of {}", kept.len(), all.join(", "));
                self.report.structure(node.line, &node.path, text);
            }
            return None;
        }
        let required = object.get("required").and_then(Value::as_array).into_iter().flatten();
        for key in required.filter_map(Value::as_str) {
            if entries.iter().any(|(k, _)| k == key) {
                continue;
            }
            let path = if node.path.is_empty() { key.to_owned() } else { format!("{}.{key}", node.path) };
            if meant.contains(&key) {
                // It is there, but mistyped: one fault for one mistake.
                self.report.broken(&path);
            } else {
                let meaning = properties.get(key).map(|p| self.describe(p)).unwrap_or_default();
                self.report.structure(node.line, &path, format!("the key is missing; allowed: {meaning}"));
            }
        }
        // So is a choice between words and one mapping, which must then have its key.
        let is_choice = object.get("required").is_some() && properties.len() == 1;
        if is_choice && kept.is_empty() {
            return None;
        }
        Some(Sound { node: Node { kind: Kind::Map(kept), ..node.clone() }, json: Value::Object(json) })
    }

    fn list(&mut self, node: &Node, items: &[Node], array: &'s Value) -> Option<Sound> {
        let schema = array.get("items").unwrap_or(&Value::Bool(true));
        let sound: Vec<Sound> = items.iter().filter_map(|item| self.value(item, schema)).collect();
        let (nodes, json) = sound.into_iter().map(|s| (s.node, s.json)).unzip();
        Some(Sound { node: Node { kind: Kind::List(nodes), ..node.clone() }, json: Value::Array(json) })
    }

    fn scalar(
        &mut self,
        node: &Node,
        text: &str,
        plain: bool,
        schema: &'s Value,
        branches: &[&'s Value],
    ) -> Option<Sound> {
        let json = branches.iter().find_map(|branch| accept(text, plain, branch));
        if let Some(json) = json {
            return Some(Sound { node: node.clone(), json });
        }
        // The text may be shown where a word, a number or a switch belongs: those are no secrets.
        let harmless = branches.iter().any(|b| words(b).is_some() || is(b, "boolean") || is(b, "integer"));
        let found = if harmless { show(text) } else { "a single value".to_owned() };
        let known: Vec<&str> = branches.iter().filter_map(|b| words(b)).flatten().collect();
        let hint = nearest(text, &known).map(|n| format!(", did you mean {n}?")).unwrap_or_default();
        self.report.structure(
            node.line,
            &node.path,
            format!("found {found}{hint}; allowed: {}", self.describe(schema)),
        );
        None
    }

    fn wrong(&mut self, node: &Node, found: &str, schema: &'s Value) -> Option<Sound> {
        self.report.structure(
            node.line,
            &node.path,
            format!("found {found}; allowed: {}", self.describe(schema)),
        );
        None
    }

    /// The choices a schema gives, with references followed; one that is no choice is its own.
    fn branches(&self, schema: &'s Value) -> Vec<&'s Value> {
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            return target
                .strip_prefix('#')
                .and_then(|pointer| self.root.pointer(pointer))
                .map(|schema| self.branches(schema))
                .unwrap_or_default();
        }
        match schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array) {
            Some(choices) => choices.iter().flat_map(|choice| self.branches(choice)).collect(),
            None => vec![schema],
        }
    }

    /// What is allowed, in words.
    fn describe(&self, schema: &'s Value) -> String {
        let mut out: Vec<String> = Vec::new();
        for branch in self.branches(schema) {
            let text = if let Some(words) = words(branch) {
                words.join(", ")
            } else if is(branch, "object") {
                match keys(branch).collect::<Vec<_>>().as_slice() {
                    [] => "a mapping of names to values".to_owned(),
                    [key] => format!("a mapping with {key}"),
                    keys => format!("a mapping with {}", keys.join(", ")),
                }
            } else if is(branch, "array") {
                "a list".to_owned()
            } else if is(branch, "boolean") {
                "true or false".to_owned()
            } else if let Some(title) = branch.get("title").and_then(Value::as_str) {
                title.to_owned()
            } else if is(branch, "integer") {
                range(branch)
            } else if branch.get("writeOnly").is_some() {
                "${NAME}".to_owned()
            } else {
                "a text".to_owned()
            };
            if !out.contains(&text) {
                out.push(text);
            }
        }
        out.join(" or ")
    }
}

/// A scalar as what the schema wants, if it is that.
fn accept(text: &str, plain: bool, schema: &Value) -> Option<Value> {
    if let Some(words) = words(schema) {
        return words.contains(&text).then(|| Value::from(text));
    }
    if is(schema, "string") {
        return Some(Value::from(text));
    }
    if !plain {
        return None;
    }
    if is(schema, "boolean") {
        return match text {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        };
    }
    if is(schema, "integer") {
        let number: u64 = text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))?;
        let at_least = schema.get("minimum").and_then(Value::as_u64).unwrap_or(0);
        let at_most = schema.get("maximum").and_then(Value::as_u64).unwrap_or(u64::MAX);
        return (at_least..=at_most).contains(&number).then(|| Value::from(number));
    }
    None
}

fn is(schema: &Value, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == kind,
        Some(Value::Array(several)) => several.iter().any(|k| k == kind),
        _ => false,
    }
}

/// The keys of a mapping.
fn keys(object: &Value) -> impl Iterator<Item = &str> {
    object.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str)
}

/// The words of an enumeration.
fn words(schema: &Value) -> Option<Vec<&str>> {
    if let Some(word) = schema.get("const").and_then(Value::as_str) {
        return Some(vec![word]);
    }
    schema.get("enum")?.as_array().map(|words| words.iter().filter_map(Value::as_str).collect())
}

fn range(schema: &Value) -> String {
    let number = |key| schema.get(key).and_then(Value::as_u64);
    match (number("minimum"), number("maximum")) {
        (low, Some(high)) => format!("a whole number from {} to {high}", low.unwrap_or(0)),
        (Some(low), None) if low > 0 => format!("a whole number from {low}"),
        _ => "a whole number".to_owned(),
    }
}

/// The word that a mistyped one most likely stands for.
pub fn nearest<'w>(typed: &str, words: &[&'w str]) -> Option<&'w str> {
    let typed = typed.to_lowercase().replace('-', "_");
    words
        .iter()
        .map(|word| (distance(&typed, &word.replace('-', "_")), *word))
        .filter(|(distance, word)| *distance <= (word.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Levenshtein distance; swapped neighbours count once.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i.saturating_add(1)];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let mut best = at(&last, j.saturating_add(1)).min(at(&row, j)).saturating_add(1);
            best = best.min(at(&last, j).saturating_add(usize::from(x != y)));
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1).saturating_add(1));
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keywords that this module obeys, or that say nothing about the shape.
    const KNOWN: &[&str] = &[
        "$defs",
        "$ref",
        "$schema",
        "additionalProperties",
        "anyOf",
        "const",
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maximum",
        "minimum",
        "oneOf",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
        "writeOnly",
    ];

    fn keywords(schema: &Value, found: &mut Vec<String>) {
        for (key, value) in schema.as_object().into_iter().flatten() {
            found.push(key.clone());
            match key.as_str() {
                "properties" | "$defs" => {
                    value.as_object().unwrap().values().for_each(|v| keywords(v, found))
                }
                "items" | "additionalProperties" => keywords(value, found),
                "anyOf" | "oneOf" => value.as_array().unwrap().iter().for_each(|v| keywords(v, found)),
                _ => {}
            }
        }
    }

    #[test]
    fn every_keyword_of_the_schema_is_obeyed() {
        let mut found = Vec::new();
        keywords(&crate::config::schema(), &mut found);
        found.retain(|key| !KNOWN.contains(&key.as_str()));
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_mistyped_word_finds_the_one_that_was_meant() {
        let words = ["validity", "methods", "judged", "enrol", "hosts"];
        assert_eq!(nearest("validty", &words), Some("validity"));
        assert_eq!(nearest("host", &words), Some("hosts"));
        assert_eq!(nearest("enroll", &words), Some("enrol"));
        assert_eq!(nearest("Methods", &words), Some("methods"));
        assert_eq!(nearest("jugded", &words), Some("judged"));
        assert_eq!(nearest("password", &words), None);
    }
}
