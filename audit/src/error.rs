//! What a verification comes to that does not succeed.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::canonical::Node;
use crate::shape;

/// Why something is not verified.
#[derive(Debug)]
pub enum VerifyError {
    /// A file cannot be read or written.
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not as it was written, or is not what it should be. In words, with the line where there
    /// is one.
    Invalid(String),
}

impl VerifyError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid(reason.into())
    }
}

/// What is wrong with a JSON text, without where in it: that is of no use where the text is not the
/// caller's own, and misleads where it is one line of many.
pub(crate) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ").and_then(|end| text.get(..end)).unwrap_or(&text).to_owned()
}

/// The object that `text` is. A list would be taken for one whose keys are left out.
///
/// # Errors
/// It is none.
pub(crate) fn object<'de, T: serde::Deserialize<'de>>(text: &'de str) -> Result<T, String> {
    if !text.trim_start().starts_with(['{']) {
        return Err("not a JSON object".into());
    }
    serde_json::from_str(text).map_err(|error| reason(&error))
}

/// As [`object`], where it has objects within, of which none may be a list either.
///
/// # Errors
/// It is none, or can be read in two ways.
pub(crate) fn whole_object<T>(text: &str) -> Result<T, String>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    let value = object(text)?;
    shape::check(&Node::read(text)?, &value)?;
    Ok(value)
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, .. } => write!(f, "{}", path.display()),
            Self::Invalid(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for VerifyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Invalid(_) => None,
        }
    }
}
