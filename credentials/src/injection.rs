//! Where on a request a credential goes, and its form there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

use crate::{Pattern, Secret};

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

/// Text that holds a secret in percent-encoded form; overwritten on drop, not printable.
#[derive(PartialEq, Eq)]
pub struct EscapedSecret(Zeroizing<String>);

impl EscapedSecret {
    /// The text itself, for the inject layer.
    pub fn expose(&self) -> &str {
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
                let mut value = Vec::with_capacity(6 + secret.expose().len().div_ceil(3) * 4);
                value.extend_from_slice(b"Basic ");
                let encoded = Zeroizing::new(BASE64.encode(secret.expose()));
                value.extend_from_slice(encoded.as_bytes());
                header(name, value)
            }
            Self::QueryParam { name } => Ok(Rendered::Query(name.clone(), escape(secret))),
            Self::UrlPath { pattern, replacement } => {
                let secret = escape(secret);
                let mut text = Zeroizing::new(String::with_capacity(
                    replacement.before().len() + secret.0.len() + replacement.after().len(),
                ));
                text.push_str(replacement.before());
                text.push_str(&secret.0);
                text.push_str(replacement.after());
                Ok(Rendered::Path { pattern: pattern.clone(), replacement: EscapedSecret(text) })
            }
        }
    }
}

fn header(name: &HeaderName, value: Vec<u8>) -> Result<Rendered, &'static str> {
    Ok(Rendered::Header(name.clone(), header_value(value)?))
}

/// A sensitive header value in memory that is overwritten with the last copy's drop.
pub(crate) fn header_value(value: Vec<u8>) -> Result<HeaderValue, &'static str> {
    let owner = Bytes::from_owner(Zeroizing::new(value));
    let mut value = HeaderValue::from_maybe_shared(owner)
        .map_err(|_| "it holds a line ending, NUL or another byte that no header may hold")?;
    value.set_sensitive(true);
    Ok(value)
}

/// The secret as it may stand in a URL.
pub(crate) fn escape(secret: &Secret) -> EscapedSecret {
    let mut text = Zeroizing::new(String::with_capacity(secret.expose().len() * 3));
    text.extend(percent_encode(secret.expose(), UNRESERVED));
    EscapedSecret(text)
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
        assert_eq!(value.expose(), "a%2Fb%26c%3Dd%3Fe%23f");
        let pattern = Pattern::parse("/bot{}/").unwrap();
        let path = Injection::UrlPath { pattern: pattern.clone(), replacement: pattern };
        let Rendered::Path { replacement, .. } = path.render(&secret("../x")).unwrap() else {
            panic!("not a path");
        };
        assert_eq!(replacement.expose(), "/bot..%2Fx/");
    }
}
