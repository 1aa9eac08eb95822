//! The session token: what a client shows to use the proxy.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;
use memchr::memmem;
use nono_credentials::SecretBuf;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// 256 random bits in lower-case hex, one for each proxy. Also handed to SDKs as their API key.
pub(crate) struct Token(SecretBuf);

/// The length of a token in characters.
pub(crate) const LENGTH: usize = 64;

const DIGITS: [u8; 16] = *b"0123456789abcdef";

impl Token {
    /// A new token from the operating system's random number generator.
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0u8; LENGTH / 2]);
        getrandom::fill(&mut *bytes)?;
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let mut text = SecretBuf::with_capacity(LENGTH);
        for digit in digits {
            text.extend_from_slice(&[DIGITS[usize::from(digit)]]);
        }
        Ok(Self(text))
    }

    /// The text itself, for the environment of clients.
    pub(crate) fn expose(&self) -> &str {
        // It is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The text as bytes, to look for it. Takes no time, where `expose` makes sure that it is text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether `given` is this token. Takes the same time wherever the two differ.
    pub(crate) fn is(&self, given: &[u8]) -> bool {
        let (ours, _) = self.0.as_chunks();
        let (theirs, rest) = given.as_chunks();
        if given.len() != LENGTH || !rest.is_empty() {
            return false;
        }
        // Eight bytes at a time, without asking any of them: only whether all were the same.
        let word = u64::from_ne_bytes;
        let pairs = ours.iter().zip(theirs);
        let different = pairs.fold(0, |different, (a, b)| different | (word(*a) ^ word(*b)));
        different.ct_eq(&0).into()
    }

    /// Whether a header value carries this token: bare, as `Bearer` (or GitHub's `token`), or
    /// as the password, or the user without one, of `Basic` credentials (RFC 7617, RFC 6750).
    pub(crate) fn is_in(&self, value: &HeaderValue) -> bool {
        let value = value.as_bytes();
        let Some(at) = value.iter().position(|b| *b == b' ') else {
            return self.is(value);
        };
        let (scheme, credentials) = (&value[..at], value[at + 1..].trim_ascii());
        if scheme.eq_ignore_ascii_case(b"bearer") || scheme.eq_ignore_ascii_case(b"token") {
            self.is(credentials)
        } else if scheme.eq_ignore_ascii_case(b"basic") {
            let decoded = Zeroizing::new(BASE64.decode(credentials).unwrap_or_default());
            let mut halves = decoded.splitn(2, |b| *b == b':');
            let (user, password) = (halves.next(), halves.next());
            // Some APIs take the key as the user, without a password.
            match (user, password) {
                (Some(user), Some([])) => self.is(user),
                (_, Some(password)) => self.is(password),
                (_, None) => false,
            }
        } else {
            false
        }
    }

    /// Whether a header value holds this token in any form, also one that [`Self::is_in`] does
    /// not take for it. The time depends on how much of it is there: not for strangers.
    pub(crate) fn is_held_by(&self, value: &HeaderValue) -> bool {
        let holds = |bytes: &[u8]| memmem::find(bytes, &self.0).is_some();
        let encoded = value.as_bytes().rsplit(|b| *b == b' ').next().unwrap_or_default();
        holds(value.as_bytes()) || BASE64.decode(encoded).is_ok_and(|decoded| holds(&decoded))
    }

    /// Whether this token stands anywhere in `text`.
    pub(crate) fn is_within(&self, text: &str) -> bool {
        // Every place is compared in full, so the time says nothing of how far one matched.
        text.as_bytes().windows(LENGTH).fold(false, |found, window| found | self.is(window))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use http::HeaderValue;

    use super::{BASE64, Token};

    #[test]
    fn a_token_is_found_in_every_form_that_clients_use() {
        let token = Token::generate().unwrap();
        let text = token.expose();
        let basic = |pair: &str| format!("Basic {}", BASE64.encode(pair));
        for value in [
            text.to_owned(),
            format!("Bearer {text}"),
            format!("bearer {text}"),
            format!("token {text}"),
            basic(&format!("nono:{text}")),
            basic(&format!(":{text}")),
            basic(&format!("{text}:")),
        ] {
            assert!(token.is_in(&HeaderValue::from_str(&value).unwrap()));
        }
        for value in [
            String::new(),
            "Bearer".into(),
            format!("Bearer {}", &text[1..]),
            format!("Digest {text}"),
            format!("Bearer {text}x"),
            basic(text),
            "Basic !".into(),
        ] {
            assert!(!token.is_in(&HeaderValue::from_str(&value).unwrap()));
        }
        for value in [format!("Digest {text}"), format!("Bearer {text}x"), basic(text)] {
            assert!(token.is_held_by(&HeaderValue::from_str(&value).unwrap()));
        }
        assert!(!token.is_held_by(&HeaderValue::from_static("Bearer other")));
        assert!(token.is_within(&format!("/bot{text}/send")));
        assert!(!token.is_within("/bot/send"));
    }

    #[test]
    fn tokens_differ_and_are_not_printed() {
        let [a, b] = [Token::generate().unwrap(), Token::generate().unwrap()];
        assert_eq!(a.expose().len(), 64);
        assert_ne!(a.expose(), b.expose());
        assert!(!format!("{a:?}").contains(a.expose()));
    }
}
