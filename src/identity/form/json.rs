//! JSON with nothing lost: members that are there twice stay twice (serde_json takes the last, others the first;
//! RFC 8259, section 4, leaves it open).

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

use super::{
    BadForm,
    fields::{Field, Target, same_key},
};

/// A JSON value.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::identity) enum Node {
    /// A string, or a whole number as digits.
    Text(String),
    /// `null`, a truth value, a fraction.
    Other,
    /// An array.
    List(Vec<Self>),
    /// An object, with every member as it came.
    Map(Vec<(String, Self)>),
}

/// Reads a whole body.
///
/// # Errors
/// `Malformed` for anything but one JSON value in UTF-8 without a byte order mark.
pub(in crate::identity) fn parse(body: &[u8]) -> Result<Node, BadForm> {
    serde_json::from_slice(body).map_err(|_| BadForm::Malformed)
}

impl Node {
    /// The members of the outermost object as fields of a form, for the pair that tells a login.
    pub(super) fn members(&self) -> Vec<Field> {
        let Self::Map(members) = self else { return Vec::new() };
        let value = |node: &Self| match node {
            Self::Text(text) => Ok(text.clone()),
            _ => Ok(String::new()),
        };
        members.iter().map(|(name, node)| Field::new(name.clone(), value(node))).collect()
    }

    /// The text at an RFC 6901 pointer whose keys are each there once, in one spelling.
    ///
    /// # Errors
    /// `Twice` when a key on the way is there twice, also in another spelling; `Malformed` when the value is
    /// neither a string nor a whole number. `Ok(None)` when there is none.
    pub(in crate::identity) fn text_at(&self, keys: &[String]) -> Result<Option<&str>, BadForm> {
        let Some((key, rest)) = keys.split_first() else {
            return match self {
                Self::Text(text) => Ok(Some(text)),
                _ => Err(BadForm::Malformed),
            };
        };
        match self {
            Self::Map(members) => {
                let mut found = members.iter().filter(|(name, _)| same_key(name, key));
                match (found.next(), found.next()) {
                    (None, _) => Ok(None),
                    (Some((name, node)), None) if name == key => node.text_at(rest),
                    _ => Err(BadForm::Twice),
                }
            }
            Self::List(items) => {
                key.parse().ok().and_then(|i: usize| items.get(i)).map_or(Ok(None), |node| node.text_at(rest))
            }
            _ => Ok(None),
        }
    }
}

/// The user name in a login body.
pub(super) fn find(node: &Node, target: &Target) -> Result<Option<String>, BadForm> {
    Ok(node.text_at(target.pointer())?.map(ToOwned::to_owned))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Text(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Text(number.to_string()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = access.next_entry()? {
            members.push(member);
        }
        Ok(Node::Map(members))
    }
}
