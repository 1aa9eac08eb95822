//! What the programs of the benchmarks share: their arguments, how they fail, and requests that
//! more than one of them measures.

pub mod layers;
pub mod round_trip;

use std::collections::HashMap;
use std::fmt::Display;
use std::io::Write as _;
use std::str::FromStr;

/// Why a program of the benchmarks ends early.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Arguments of the form `--name value`; a name may be given more than once.
#[derive(Debug)]
pub struct Arguments(HashMap<String, Vec<String>>);

impl Arguments {
    /// The pairs in `words`.
    ///
    /// # Errors
    /// A word that is no name, or a name without its value.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, Failure> {
        let mut found: HashMap<String, Vec<String>> = HashMap::new();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or_else(|| format!("{word}: not an option"))?;
            let value = words.next().ok_or_else(|| format!("--{name} needs a value"))?;
            found.entry(name.to_owned()).or_default().push(value);
        }
        Ok(Self(found))
    }

    /// Every value of `name`, in order.
    pub fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The last value of `name`, if it was given.
    ///
    /// # Errors
    /// The value cannot be parsed.
    pub fn optional<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Failure> {
        let parse = |text: &String| {
            text.parse().map_err(|error| Failure::from(format!("--{name} {text}: {error}")))
        };
        self.all(name).last().map(parse).transpose()
    }

    /// The last value of `name`.
    ///
    /// # Errors
    /// It was not given, or cannot be parsed.
    pub fn required<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, Failure> {
        self.optional(name)?.ok_or_else(|| format!("--{name} is needed").into())
    }
}

/// Writes one JSON value as a line on standard output: the answer that the harness reads.
///
/// # Errors
/// Standard output is closed.
pub fn answer(value: &serde_json::Value) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}
