//! Whether JSON has the shape of the value that was read from it: what `serde` reads it does not
//! always look at.

use std::collections::HashMap;

use serde::Serialize;

use crate::canonical::Node;

/// Refuses a list in place of an object, which would be taken for one whose keys are left out.
///
/// # Errors
/// There is one; its path is named.
pub(crate) fn check(given: &Node, read: &impl Serialize) -> Result<(), String> {
    // Most events have no list at all.
    if !has_list(given) {
        return Ok(());
    }
    match list_for_object(given, &again(read)?) {
        Some(path) => Err(format!("{path}: it is no JSON object")),
        None => Ok(()),
    }
}

/// Whether `given` says something that `read` did not take.
///
/// # Errors
/// `read` cannot be JSON.
pub(crate) fn has_more(given: &Node, read: &impl Serialize) -> Result<bool, String> {
    Ok(is_beyond(given, &again(read)?))
}

/// What was read, as JSON again.
fn again(read: &impl Serialize) -> Result<Node, String> {
    Node::read(&serde_json::to_string(read).map_err(|error| error.to_string())?)
}

fn has_list(node: &Node) -> bool {
    match node {
        Node::Plain(_) => false,
        Node::List(_) => true,
        Node::Object(members) => members.iter().any(|(_, value)| has_list(value)),
    }
}

/// The path of the first list in `given` that is an object in `read`.
fn list_for_object(given: &Node, read: &Node) -> Option<String> {
    match (given, read) {
        (Node::List(_), Node::Object(_)) => Some(".".into()),
        (Node::List(given), Node::List(read)) => {
            let found = given.iter().zip(read).map(|(given, read)| list_for_object(given, read));
            let (at, inner) = found.enumerate().find_map(|(at, found)| Some((at, found?)))?;
            Some(below(&format!("[{at}]"), &inner))
        }
        (Node::Object(given), Node::Object(read)) => {
            let read = by_key(read);
            given.iter().find_map(|(key, value)| {
                let inner = list_for_object(value, read.get(&**key)?)?;
                Some(below(key.trim_matches('"'), &inner))
            })
        }
        _ => None,
    }
}

/// The members of an object by their keys, as they are written: there may be a million.
fn by_key(members: &[(String, Node)]) -> HashMap<&str, &Node> {
    members.iter().map(|(key, value)| (&**key, value)).collect()
}

fn below(outer: &str, inner: &str) -> String {
    match inner {
        "." => outer.to_owned(),
        inner if inner.starts_with('[') => format!("{outer}{inner}"),
        inner => format!("{outer}.{inner}"),
    }
}

/// Whether an object of `given` has a key that it has not in `read`; `null` is none.
fn is_beyond(given: &Node, read: &Node) -> bool {
    match (given, read) {
        (Node::List(given), Node::List(read)) => {
            given.iter().zip(read).any(|(given, read)| is_beyond(given, read))
        }
        (Node::Object(given), Node::Object(read)) => {
            let read = by_key(read);
            given.iter().any(|(key, value)| match read.get(&**key) {
                Some(read) => is_beyond(value, read),
                None => !matches!(value, Node::Plain(text) if text == "null"),
            })
        }
        _ => false,
    }
}
