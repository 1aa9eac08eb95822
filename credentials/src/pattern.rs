//! Text with a place for a secret in it: `Bearer {}`, `/bot{}/`.

use crate::{ParseError, SecretBuf};

const PLACEHOLDERS: [&str; 2] = ["{}", "{credential}"];

/// Text around one placeholder, `{}` or `{credential}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    before: String,
    after: String,
}

impl Pattern {
    /// Parses text that has exactly one placeholder.
    ///
    /// # Errors
    /// [`ParseError::Invalid`] when there is none, or more than one.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut found = PLACEHOLDERS.iter().flat_map(|p| text.match_indices(p));
        match (found.next(), found.next()) {
            (Some((at, placeholder)), None) => {
                Ok(Self { before: text[..at].into(), after: text[at + placeholder.len()..].into() })
            }
            _ => Err(ParseError::Invalid(
                "it must hold the placeholder `{}` (or `{credential}`) exactly once".into(),
            )),
        }
    }

    /// Whether text holds a placeholder at all.
    pub fn has_placeholder(text: &str) -> bool {
        PLACEHOLDERS.iter().any(|placeholder| text.contains(placeholder))
    }

    /// A pattern that is its placeholder and nothing else.
    pub fn bare() -> Self {
        Self { before: String::new(), after: String::new() }
    }

    /// The text before the placeholder.
    pub fn before(&self) -> &str {
        &self.before
    }

    /// The text after the placeholder.
    pub fn after(&self) -> &str {
        &self.after
    }

    /// The text with `value` in the placeholder's place.
    pub(crate) fn fill(&self, value: &[u8]) -> SecretBuf {
        SecretBuf::concat(&[self.before.as_bytes(), value, self.after.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn one_placeholder_of_either_spelling_is_needed() {
        for text in ["Bearer {}", "Bearer {credential}"] {
            assert_eq!(Pattern::parse(text).unwrap().fill(b"k")[..], *b"Bearer k", "{text}");
        }
        for text in ["Bearer", "", "{} {}", "{}{credential}"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
