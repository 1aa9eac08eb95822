//! The one type that holds a secret.

use std::fmt;

use http::HeaderValue;
use zeroize::Zeroizing;

use crate::SecretBuf;
use crate::injection::header_value;

/// The bytes of a secret: in no core dump, overwritten on drop, never printed, not serialisable,
/// not cloneable.
pub struct Secret(SecretBuf);

impl Secret {
    /// Takes over `bytes`: where they were is overwritten.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self::copied(&Zeroizing::new(bytes))
    }

    /// A copy of `bytes`.
    pub fn copied(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// It as the whole value of a header, which debugging does not show.
    ///
    /// # Errors
    /// It holds a byte that no header may hold.
    pub(crate) fn to_header_value(&self) -> Result<HeaderValue, &'static str> {
        header_value(SecretBuf::from(&*self.0))
    }

    /// The bytes themselves. Callers render them for the wire and keep no copy.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Without one line ending at the end, as editors and `echo` leave it.
    #[must_use]
    pub fn without_line_ending(mut self) -> Self {
        if self.0.last() == Some(&b'\n') {
            self.0.truncate(self.0.len() - 1);
            if self.0.last() == Some(&b'\r') {
                self.0.truncate(self.0.len() - 1);
            }
        }
        self
    }
}

impl From<SecretBuf> for Secret {
    fn from(bytes: SecretBuf) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_shows_nothing_of_the_value() {
        assert_eq!(format!("{:?}", Secret::new(b"sk-live".to_vec())), "Secret([redacted])");
    }

    #[test]
    fn one_line_ending_is_removed_and_no_more() {
        for (given, kept) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a")] {
            let secret = Secret::new(given.into()).without_line_ending();
            assert_eq!(secret.expose(), kept.as_bytes());
        }
    }
}
