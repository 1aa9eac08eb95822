//! What may never be recorded: credentials in a path or query.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// The longest path that is recorded, in bytes; what is longer is cut, and ends in `…`.
const PATH_LIMIT: usize = 1024;

/// What stands in a record where a credential stood in the request.
pub const REDACTED: &str = "[redacted]";

/// Query parameters whose values are credentials by convention; compared without case, and
/// with `-` and `_` left out.
const CREDENTIAL_NAMES: [&str; 16] = [
    "accesskey",
    "accesstoken",
    "apikey",
    "auth",
    "authorization",
    "clientsecret",
    "code",
    "credential",
    "key",
    "password",
    "secret",
    "sessiontoken",
    "sig",
    "signature",
    "subscriptionkey",
    "token",
];

/// A path and query fit for a record: [`path_and_query`] alone makes one of what a client sent. A
/// record that was written can be read again.
///
/// ```
/// use nono_audit::redact::{RedactedPath, path_and_query};
/// let path: RedactedPath = path_and_query("/v1/models?key=sk-live", "", &[""; 0]);
/// assert_eq!(&*path, "/v1/models?key=[redacted]");
/// ```
///
/// There is no other way to make one:
///
/// ```compile_fail,E0423
/// use nono_audit::redact::RedactedPath;
/// let path: RedactedPath = RedactedPath("/v1/models?key=sk-live".to_owned());
/// ```
///
/// ```compile_fail,E0277
/// use nono_audit::redact::RedactedPath;
/// let path: RedactedPath = "/v1/models?key=sk-live".to_owned().into();
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RedactedPath(String);

impl Deref for RedactedPath {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Returns `path_and_query` fit for a record: every occurrence of `token` (when not empty) and
/// the value of every credential-like query parameter is replaced by [`REDACTED`].
///
/// `also` names further query parameters to redact, such as those a route injects into.
pub fn path_and_query(path_and_query: &str, token: &str, also: &[impl AsRef<str>]) -> RedactedPath {
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    let mut out = without(path, token);
    if let Some(query) = query {
        let mut separator = '?';
        for pair in query.split('&') {
            out.push(separator);
            out.push_str(&redact_pair(pair, token, also));
            separator = '&';
        }
    }
    cut(&mut out, PATH_LIMIT);
    RedactedPath(out)
}

/// Shortens `text` to at most `limit` bytes and an ellipsis.
pub fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push('…');
    }
}

fn redact_pair(pair: &str, token: &str, also: &[impl AsRef<str>]) -> String {
    match pair.split_once('=') {
        Some((name, _))
            if is_credential_name(name) || also.iter().any(|known| known.as_ref() == name) =>
        {
            format!("{name}={REDACTED}")
        }
        _ => without(pair, token),
    }
}

fn without(text: &str, token: &str) -> String {
    // Most paths are shorter than a token.
    if token.is_empty() || text.len() < token.len() {
        text.to_owned()
    } else {
        text.replace(token, REDACTED)
    }
}

fn is_credential_name(name: &str) -> bool {
    let plain: String =
        name.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect();
    CREDENTIAL_NAMES.iter().any(|known| plain == *known || plain.ends_with(known))
}

#[cfg(test)]
mod tests {
    use super::path_and_query;

    const NONE: [&str; 0] = [];

    #[test]
    fn credential_parameters_and_the_token_are_removed() {
        let seen = path_and_query("/bot-T0K/send?api_key=sk-1&q=T0K&page=2", "T0K", &NONE);
        assert_eq!(&*seen, "/bot-[redacted]/send?api_key=[redacted]&q=[redacted]&page=2");
    }

    #[test]
    fn named_parameters_are_removed() {
        assert_eq!(&*path_and_query("/x?pin=1&a", "", &["pin"]), "/x?pin=[redacted]&a");
    }

    #[test]
    fn a_long_path_is_cut() {
        let seen = path_and_query(&format!("/{}", "ä".repeat(5000)), "", &NONE);
        assert!(seen.len() <= super::PATH_LIMIT + 3 && seen.ends_with('…'));
    }

    #[test]
    fn a_harmless_path_stays_as_it_is() {
        assert_eq!(&*path_and_query("/v1/models?limit=3", "T0K", &NONE), "/v1/models?limit=3");
    }
}
