//! Paths as a policy writes them: absolute, relative to the working directory, or beginning with
//! `~` or a variable.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::PolicyError;

/// What a path may begin with besides `~`, which is `$HOME`; and what it stands for where nothing
/// is set, as a path from the home directory on.
const BEGINNINGS: [(&str, Option<&str>); 7] = [
    ("HOME", None),
    ("TMPDIR", None),
    ("XDG_CACHE_HOME", Some(".cache")),
    ("XDG_CONFIG_HOME", Some(".config")),
    ("XDG_DATA_HOME", Some(".local/share")),
    ("XDG_STATE_HOME", Some(".local/state")),
    ("XDG_RUNTIME_DIR", None),
];
/// The number of the user, wherever it stands in a path.
const UID: &str = "$UID";

/// A path that can be expanded; what cannot be meant was refused when it was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct PathRule(String);

impl PathRule {
    /// Whether it can only be a directory: it ends in `/`.
    pub fn is_directory(&self) -> bool {
        self.0.ends_with('/')
    }
}

impl Display for PathRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PathRule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match fault(&text) {
            Some(fault) => Err(format!("the path `{}` {fault}", text.escape_debug())),
            None => Ok(Self(text)),
        }
    }
}

/// Why a text is no path that could be meant.
fn fault(text: &str) -> Option<&'static str> {
    let (_, rest) = beginning(text);
    if text.is_empty() {
        Some("is empty")
    } else if text.contains('\0') {
        Some("holds a NUL")
    } else if text.starts_with('~') && !["~", "~/"].contains(&text.get(..2).unwrap_or(text)) {
        Some("is somebody else's home; write it in full")
    } else if rest.contains('*') {
        Some("holds a `*`, and paths are not patterns; a directory grants all beneath it")
    } else if !has_no_other_variable(rest) {
        Some(
            "holds a `$`; it may begin with $HOME, $TMPDIR, $XDG_CACHE_HOME, $XDG_CONFIG_HOME, \
             $XDG_DATA_HOME, $XDG_STATE_HOME or $XDG_RUNTIME_DIR, and hold $UID",
        )
    } else {
        None
    }
}

/// The variable that a path begins with, and what follows it.
fn beginning(text: &str) -> (Option<&'static str>, &str) {
    let ends = |rest: &&str| rest.is_empty() || rest.starts_with('/');
    if let Some(rest) = text.strip_prefix('~').filter(ends) {
        return (Some("HOME"), rest);
    }
    let of = |name: &str| text.strip_prefix('$')?.strip_prefix(name).filter(ends);
    match BEGINNINGS.iter().find_map(|(name, _)| Some((*name, of(name)?))) {
        Some((name, rest)) => (Some(name), rest),
        None => (None, text),
    }
}

/// Whether every `$` in what follows the beginning is that of `$UID`.
fn has_no_other_variable(text: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices('$').all(|(at, _)| {
        let rest = text.get(at..).and_then(|rest| rest.strip_prefix(UID));
        rest.is_some_and(|rest| !rest.starts_with(is_name))
    })
}

/// What the variables in paths stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variables {
    values: BTreeMap<&'static str, OsString>,
    uid: u32,
}

impl Variables {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self::new(|name| env::var_os(name))
    }

    /// Those that `get` knows; the user is this process's.
    pub fn new(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let known = |(name, _): &(&'static str, _)| {
            get(name).filter(|value| !value.is_empty()).map(|value| (*name, value))
        };
        Self { values: BEGINNINGS.iter().filter_map(known).collect(), uid: own_user() }
    }

    /// The path that a rule is about.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Variable`].
    pub fn path(&self, rule: &PathRule) -> Result<PathBuf, PolicyError> {
        self.expand(rule).map_err(|(variable, fault)| PolicyError::Variable {
            path: rule.to_string(),
            variable,
            fault,
        })
    }

    /// The path, or the variable and what is wrong with its value.
    fn expand(&self, rule: &PathRule) -> Result<PathBuf, (&'static str, &'static str)> {
        let (variable, rest) = beginning(&rule.0);
        let rest = rest.replace(UID, &self.uid.to_string());
        let Some(variable) = variable else { return Ok(rest.into()) };
        let rest = rest.trim_start_matches('/');
        let base = self.value(variable)?;
        Ok(if rest.is_empty() { base } else { base.join(rest) })
    }

    fn value(&self, name: &'static str) -> Result<PathBuf, (&'static str, &'static str)> {
        if let Some(value) = self.values.get(name) {
            let path = Path::new(value);
            return if path.is_absolute() {
                Ok(path.to_owned())
            } else {
                Err((name, "is not an absolute path"))
            };
        }
        let default = BEGINNINGS.iter().find_map(|(known, path)| path.filter(|_| *known == name));
        match (name, default) {
            ("TMPDIR", _) => Ok("/tmp".into()),
            ("XDG_RUNTIME_DIR", _) => Ok(format!("/run/user/{}", self.uid).into()),
            (_, Some(path)) => Ok(self.value("HOME")?.join(path)),
            (_, None) => Err((name, "is not set")),
        }
    }
}

/// The number of the user whose process this is. Zero where users have none, as on Windows: its
/// directories are not those that a policy names by number.
fn own_user() -> u32 {
    #[cfg(unix)]
    return rustix::process::getuid().as_raw();
    #[cfg(not(unix))]
    0
}
