//! Where on a request a credential goes, and its form there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::{Pattern, Secret, SecretBuf};

/// What may stand unescaped in a path segment or query value: RFC 3986's unreserved characters.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where on a request a credential goes.
#[derive(Debug, Clone)]
pub enum Injection {
    /// In header `name`, in the form `format`.
    Header {
        /// The header.
        name: HeaderName,
        /// Its value, with a place for the secret.
        format: Pattern,
    },
    /// In header `name`, as HTTP Basic credentials (RFC 7617); the secret is `user:password`.
    BasicAuth {
        /// The header.
        name: HeaderName,
    },
    /// As the value of the query parameter `name`.
    QueryParam {
        /// The parameter.
        name: String,
    },
    /// In the path: wherever `pattern` holds the session token, `replacement` with the secret.
    UrlPath {
        /// What the client sends, with a place for the session token.
        pattern: Pattern,
        /// What the upstream gets, with a place for the secret.
        replacement: Pattern,
    },
}

/// A further header that goes with a credential, and replaces the client's.
#[derive(Debug, Clone)]
pub enum Header {
    /// The same for every request: a version of the API.
    Constant(HeaderName, HeaderValue),
    /// One with the secret in it.
    Secret(HeaderName, Pattern),
}

impl Header {
    /// Its name.
    pub fn name(&self) -> &HeaderName {
        match self {
            Self::Constant(name, _) | Self::Secret(name, _) => name,
        }
    }

    /// Renders it with `secret`.
    pub(crate) fn render(
        &self,
        secret: &Secret,
    ) -> Result<(HeaderName, HeaderValue), &'static str> {
        match self {
            Self::Constant(name, value) => Ok((name.clone(), value.clone())),
            Self::Secret(name, format) => {
                Ok((name.clone(), header_value(format.fill(secret.expose()))?))
            }
        }
    }
}

/// A credential in the form in which it goes onto requests. Overwritten when dropped.
#[derive(Debug, PartialEq, Eq)]
pub enum Rendered {
    /// A header, its value marked sensitive.
    Header(HeaderName, HeaderValue),
    /// A query parameter and its escaped value.
    Query(String, EscapedSecret),
    /// The pattern to find and what to put in its place.
    Path {
        /// What the client sends, with a place for the session token.
        pattern: Pattern,
        /// What replaces it; escaped, and never of more than one path segment.
        replacement: EscapedSecret,
    },
}

/// Text that holds a secret in percent-encoded form, which is ASCII; not printable.
#[derive(PartialEq, Eq)]
pub struct EscapedSecret(SecretBuf);

impl EscapedSecret {
    /// The text itself, for the inject layer.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for EscapedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EscapedSecret([redacted])")
    }
}

impl Injection {
    /// The header that this injection sets, if it sets one.
    pub fn header(&self) -> Option<&HeaderName> {
        match self {
            Self::Header { name, .. } | Self::BasicAuth { name } => Some(name),
            Self::QueryParam { .. } | Self::UrlPath { .. } => None,
        }
    }

    /// Renders `secret` for the wire.
    ///
    /// # Errors
    /// The rule of HTTP that the secret breaks: for a header it must not hold control
    /// characters, for Basic it must hold a colon.
    pub fn render(&self, secret: &Secret) -> Result<Rendered, &'static str> {
        match self {
            Self::Header { name, format } => header(name, format.fill(secret.expose())),
            Self::BasicAuth { name } => {
                if !secret.expose().contains(&b':') {
                    return Err("for basic_auth it must have the form `user:password`");
                }
                header(name, basic(secret.expose())?)
            }
            Self::QueryParam { name } => Ok(Rendered::Query(name.clone(), escape(secret))),
            Self::UrlPath { pattern, replacement } => {
                let secret = escape(secret);
                let replacement = EscapedSecret(replacement.fill(&secret.0));
                Ok(Rendered::Path { pattern: pattern.clone(), replacement })
            }
        }
    }
}

fn header(name: &HeaderName, value: SecretBuf) -> Result<Rendered, &'static str> {
    Ok(Rendered::Header(name.clone(), header_value(value)?))
}

/// A sensitive header value in memory that is overwritten with the last copy's drop.
pub(crate) fn header_value(value: SecretBuf) -> Result<HeaderValue, &'static str> {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from(value))
        .map_err(|_| "it holds a line ending, NUL or another byte that no header may hold")?;
    value.set_sensitive(true);
    Ok(value)
}

/// The secret as it may stand in a URL.
pub(crate) fn escape(secret: &Secret) -> EscapedSecret {
    let mut text = SecretBuf::with_capacity(secret.expose().len() * 3);
    percent_encode(secret.expose(), UNRESERVED)
        .for_each(|part| text.extend_from_slice(part.as_bytes()));
    EscapedSecret(text)
}

/// Basic credentials (RFC 7617) for `pair`, a user and a password with a colon between them.
pub(crate) fn basic(pair: &[u8]) -> Result<SecretBuf, &'static str> {
    let length = pair.len().div_ceil(3) * 4;
    let mut value = SecretBuf::with_capacity(6 + length);
    value.extend_from_slice(b"Basic ");
    let encoded = value.write_with(length, |room| BASE64.encode_slice(pair, room));
    encoded.map_err(|_| "it is too long").map(|()| value)
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;

    use super::{Injection, Rendered};
    use crate::{Pattern, Secret};

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

    fn bearer() -> Injection {
        Injection::Header { name: AUTHORIZATION, format: Pattern::parse("Bearer {}").unwrap() }
    }

    #[test]
    fn a_header_is_formatted_and_sensitive() {
        let Rendered::Header(_, value) = bearer().render(&secret("sk-1")).unwrap() else {
            panic!("not a header");
        };
        assert_eq!(value.as_bytes(), b"Bearer sk-1");
        assert_eq!(format!("{value:?}"), "Sensitive");
    }

    #[test]
    fn bytes_that_would_split_a_header_are_refused() {
        for bad in ["a\nb", "a\rb", "a\0b", "a\r\nX: y"] {
            assert!(bearer().render(&secret(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn basic_needs_user_and_password() {
        let basic = Injection::BasicAuth { name: AUTHORIZATION };
        let Rendered::Header(_, value) = basic.render(&secret("u:p")).unwrap() else {
            panic!("not a header");
        };
        assert_eq!(value.as_bytes(), b"Basic dTpw");
        assert!(basic.render(&secret("only-a-password")).is_err());
    }

    #[test]
    fn a_secret_in_a_url_is_escaped() {
        let query = Injection::QueryParam { name: "key".into() };
        let Rendered::Query(_, value) = query.render(&secret("a/b&c=d?e#f")).unwrap() else {
            panic!("not a query");
        };
        assert_eq!(value.expose(), b"a%2Fb%26c%3Dd%3Fe%23f");
        let pattern = Pattern::parse("/bot{}/").unwrap();
        let path = Injection::UrlPath { pattern: pattern.clone(), replacement: pattern };
        let Rendered::Path { replacement, .. } = path.render(&secret("../x")).unwrap() else {
            panic!("not a path");
        };
        assert_eq!(replacement.expose(), b"/bot..%2Fx/");
    }
}
