//! JSON as Python's `json.dumps` writes it with `separators=(",", ":")`: compact, all ASCII, keys in
//! the order in which they were read.
//!
//! It works on the text, so that nothing is lost on the way: numbers of any size and halves of
//! surrogate pairs, which Python programs make of names that are no UTF-8, come out as they went in.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::value::RawValue;

use crate::error::reason;
use crate::json::has_any;

/// How deep lists and objects may lie in each other.
const DEPTH: usize = 128;

/// How many values a text may have: each takes some hundred bytes of memory, however short it is
/// written. A session with as many has some 260 000 events of the network.
const VALUES: usize = 1 << 22;

/// A JSON value. Two are equal if they have the same members, in whatever order.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    /// A string, number or word, as it is written.
    Plain(String),
    /// A list.
    List(Vec<Self>),
    /// An object; the keys are written strings, quotes included, and each is there once.
    Object(Vec<(String, Self)>),
}

impl Node {
    /// Reads a text that holds one value.
    ///
    /// # Errors
    /// It is no JSON, has a key twice in one object, is nested too deeply, or has too many values.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        Self::read_within(text, VALUES)
    }

    fn read_within(text: &str, values: usize) -> Result<Self, String> {
        let raw: &RawValue = serde_json::from_str(text)
            .map_err(|error| format!("malformed JSON: {}", reason(&error)))?;
        Reader { rest: raw.get(), values, left: values }.node(DEPTH)
    }

    /// The text of it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        self.put(&mut text);
        text
    }

    /// The members of an object.
    pub(crate) fn members(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Object(members) => Some(members),
            Self::Plain(_) | Self::List(_) => None,
        }
    }

    /// The member `key` of an object.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let is_key = |written: &str| {
            written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) == Some(key)
        };
        let found = self.members()?.iter().find(|(written, _)| is_key(written));
        found.map(|(_, value)| value)
    }

    /// Takes the member `key` out of an object.
    pub(crate) fn take(&mut self, key: &str) -> Option<Self> {
        let Self::Object(members) = self else {
            return None;
        };
        let written = format!("\"{key}\"");
        let at = members.iter().position(|(name, _)| *name == written)?;
        Some(members.remove(at).1)
    }

    fn put(&self, text: &mut String) {
        match self {
            Self::Plain(plain) => text.push_str(plain),
            Self::List(items) => {
                text.push('[');
                for (at, item) in items.iter().enumerate() {
                    text.push_str(if at > 0 { "," } else { "" });
                    item.put(text);
                }
                text.push(']');
            }
            Self::Object(members) => {
                text.push('{');
                for (at, (key, value)) in members.iter().enumerate() {
                    text.push_str(if at > 0 { "," } else { "" });
                    text.push_str(key);
                    text.push(':');
                    value.put(text);
                }
                text.push('}');
            }
        }
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain(one), Self::Plain(two)) => one == two,
            (Self::List(one), Self::List(two)) => one == two,
            (Self::Object(one), Self::Object(two)) => {
                let by_key = |members: &[(String, Self)]| {
                    let mut order: Vec<_> = (0..members.len()).collect();
                    order.sort_unstable_by(|a, b| members[*a].0.cmp(&members[*b].0));
                    order
                };
                one.len() == two.len()
                    && by_key(one).into_iter().zip(by_key(two)).all(|(a, b)| one[a] == two[b])
            }
            _ => false,
        }
    }
}

/// `text`, which is JSON, with all escaped that is not printable ASCII. What `serde_json` writes is
/// canonical after this, but for its floating-point numbers.
pub(crate) fn ascii(text: &str) -> Cow<'_, str> {
    if is_printable(text.as_bytes()) {
        return text.into();
    }
    let mut ascii = String::with_capacity(2 * text.len());
    for c in text.chars() {
        put_char(c, &mut ascii);
    }
    ascii.into()
}

/// Whether [`ascii`] changes nothing in `text`.
pub(crate) fn is_printable(text: &[u8]) -> bool {
    !has_any(text, |byte| byte >= 0x7f)
}

fn put_char(c: char, text: &mut String) {
    if c.is_ascii() && c != '\x7f' {
        return text.push(c);
    }
    for unit in c.encode_utf16(&mut [0; 2]) {
        put_unit(*unit, text);
    }
}

fn put_unit(unit: u16, text: &mut String) {
    // To a string this cannot fail.
    let _ = write!(text, "\\u{unit:04x}");
}

/// Takes apart a text that is known to be JSON.
struct Reader<'a> {
    rest: &'a str,
    /// How many values it may have, and how many of them may come yet.
    values: usize,
    left: usize,
}

impl<'a> Reader<'a> {
    fn node(&mut self, depth: usize) -> Result<Node, String> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(format!("malformed JSON: nested deeper than {DEPTH}"));
        };
        let too_many = || format!("JSON of more than {} values", self.values);
        self.left = self.left.checked_sub(1).ok_or_else(too_many)?;
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => Ok(Node::Plain(self.string())),
            _ => number_or_word(self.token()).map(Node::Plain),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Node, String> {
        let mut items = Vec::new();
        self.skip();
        while self.peek() != Some(b']') {
            items.push(self.node(depth)?);
            self.comma();
        }
        self.skip();
        Ok(Node::List(items))
    }

    fn object(&mut self, depth: usize) -> Result<Node, String> {
        let (mut members, mut keys) = (Vec::new(), HashSet::new());
        self.skip();
        while self.peek() == Some(b'"') {
            let key = self.string();
            if !keys.insert(key.clone()) {
                return Err(format!("malformed JSON: the key {key} is there twice"));
            }
            // The colon.
            self.peek();
            self.skip();
            members.push((key, self.node(depth)?));
            self.comma();
        }
        self.skip();
        Ok(Node::Object(members))
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.rest.bytes().next()
    }

    /// Passes over one character.
    fn skip(&mut self) {
        let mut chars = self.rest.chars();
        chars.next();
        self.rest = chars.as_str();
    }

    fn comma(&mut self) {
        if self.peek() == Some(b',') {
            self.skip();
        }
    }

    /// A number or a word.
    fn token(&mut self) -> &'a str {
        let end = self.rest.find([',', ']', '}', ' ', '\t', '\n', '\r']);
        let (token, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        token
    }

    /// A string, escaped as Python escapes it, quotes included.
    fn string(&mut self) -> String {
        let mut text = String::from('"');
        let mut chars = self.rest.chars();
        chars.next();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => match chars.next() {
                    Some('u') => {
                        let digits = chars.as_str().get(..4).unwrap_or_default();
                        put_escape(u16::from_str_radix(digits, 16).unwrap_or_default(), &mut text);
                        chars = chars.as_str().get(4..).unwrap_or_default().chars();
                    }
                    Some('/') => text.push('/'),
                    escaped => text.extend(['\\'].into_iter().chain(escaped)),
                },
                c => put_char(c, &mut text),
            }
        }
        self.rest = chars.as_str();
        text.push('"');
        text
    }
}

/// What was escaped by its number, and may have a shorter form.
fn put_escape(unit: u16, text: &mut String) {
    match u8::try_from(unit) {
        Ok(b'"') => text.push_str("\\\""),
        Ok(b'\\') => text.push_str("\\\\"),
        Ok(b'\n') => text.push_str("\\n"),
        Ok(b'\r') => text.push_str("\\r"),
        Ok(b'\t') => text.push_str("\\t"),
        Ok(0x08) => text.push_str("\\b"),
        Ok(0x0c) => text.push_str("\\f"),
        Ok(byte @ b' '..=b'~') => text.push(byte.into()),
        _ => put_unit(unit, text),
    }
}

fn number_or_word(token: &str) -> Result<String, String> {
    let is_float = token.contains(['.', 'e', 'E']) && !token.starts_with(['t', 'f', 'n']);
    if !is_float {
        // Python has one zero among the integers.
        return Ok(if token == "-0" { "0" } else { token }.to_owned());
    }
    match token.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(float(number)),
        _ => Err(format!("malformed JSON: the number {token} is too large")),
    }
}

/// A number as Python's `repr` has it: the shortest digits that mean it, with an exponent of at
/// least two digits where it is below -4 or above 15.
fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        let plain = format!("{number}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests;
