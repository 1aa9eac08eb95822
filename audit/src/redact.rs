//! What may never be recorded: credentials in a path or query.

use std::borrow::Cow;
use std::ops::Deref;

use arrayvec::ArrayString;
use memchr::memchr;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest path that is recorded, in bytes; what is longer is cut, and ends in `…`.
const PATH_LIMIT: usize = 1024;

/// What stands in a record where a credential stood in the request.
pub const REDACTED: &str = "[redacted]";

/// Query parameters whose values are credentials by convention, or whose names end in one of these;
/// compared as servers read them, by their letters alone and without case.
const CREDENTIAL_NAMES: [&str; 21] = [
    "accesskey",
    "accesstoken",
    "apikey",
    "auth",
    "authorization",
    "clientsecret",
    "code",
    "credential",
    "jwt",
    "key",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "pwd",
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
/// No other code makes one of a text that is at hand:
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedactedPath(Text);

/// A short one, as most are, lies in the record: memory that one thread asks for and another gives
/// back costs both of them more than a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Text {
    Short(ArrayString<40>),
    Long(Box<str>),
}

impl RedactedPath {
    fn new(text: Cow<'_, str>) -> Self {
        Self(match ArrayString::from(&text) {
            Ok(short) => Text::Short(short),
            Err(_) => Text::Long(text.into()),
        })
    }
}

impl Deref for RedactedPath {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Text::Short(short) => short,
            Text::Long(long) => long,
        }
    }
}

impl Serialize for RedactedPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for RedactedPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::deserialize(deserializer).map(Self::new)
    }
}

/// Returns `path_and_query` fit for a record: every occurrence of `token` (when not empty) and
/// the value of every credential-like query parameter is replaced by [`REDACTED`].
///
/// `also` names further query parameters to redact, such as those a route injects into.
pub fn path_and_query(
    path_and_query: &str,
    token: impl AsRef<[u8]>,
    also: &[impl AsRef<str>],
) -> RedactedPath {
    let token = token.as_ref();
    let end = memchr(b'?', path_and_query.as_bytes()).unwrap_or(path_and_query.len());
    let (path, query) = path_and_query.split_at(end);
    let mut out = without(path, token);
    if let Some(query) = query.strip_prefix('?') {
        let out = out.to_mut();
        let mut separator = '?';
        for pair in query.split('&') {
            out.push(separator);
            out.push_str(&redact_pair(pair, token, also));
            separator = '&';
        }
    }
    if out.len() > PATH_LIMIT {
        cut(out.to_mut(), PATH_LIMIT);
    }
    RedactedPath::new(out)
}

/// Shortens `text` to at most `limit` bytes and an ellipsis.
pub fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push('…');
    }
}

fn redact_pair<'a>(pair: &'a str, token: &[u8], also: &[impl AsRef<str>]) -> Cow<'a, str> {
    match pair.split_once('=') {
        Some((name, _)) if is_credential(&decoded(name), also) => {
            format!("{name}={REDACTED}").into()
        }
        _ => without(pair, token),
    }
}

/// `text` without `token`, also where servers read it as one.
pub fn without(text: &str, token: impl AsRef<[u8]>) -> Cow<'_, str> {
    let token = token.as_ref();
    // Most paths are shorter than a token.
    if token.is_empty() || text.len() < token.len() {
        return text.into();
    }
    // What is no text is in none.
    let Ok(token) = str::from_utf8(token) else { return text.into() };
    let has = |text: &str| text.contains(token);
    let plain = if has(text) { text.replace(token, REDACTED).into() } else { Cow::Borrowed(text) };
    if !plain.contains('%') || !has(&decoded(&plain)) {
        return plain;
    }
    let parts = plain.split('/').map(|part| if has(&decoded(part)) { REDACTED } else { part });
    parts.collect::<Vec<_>>().join("/").into()
}

/// What a server reads.
fn decoded(name: &str) -> Cow<'_, str> {
    percent_decode_str(name).decode_utf8_lossy()
}

fn is_credential(name: &str, also: &[impl AsRef<str>]) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect();
    CREDENTIAL_NAMES.iter().any(|known| plain.ends_with(known))
        || also.iter().any(|known| known.as_ref() == name)
}

#[cfg(test)]
mod tests {
    use super::{RedactedPath, path_and_query};

    const NONE: [&str; 0] = [];

    #[test]
    fn credential_parameters_and_the_token_are_removed() {
        let seen = path_and_query("/bot-T0K/send?api_key=sk-1&q=T0K&page=2", "T0K", &NONE);
        assert_eq!(&*seen, "/bot-[redacted]/send?api_key=[redacted]&q=[redacted]&page=2");
    }

    #[test]
    fn the_token_is_removed_as_a_server_reads_it() {
        let token = "ab0cab0cab0c";
        for (path, seen) in [
            ("/x/ab0cab0cab0%63/y%2Fz", "/x/[redacted]/y%2Fz"),
            ("/x?q=%61b0cab0cab0c&a=%20", "/x?[redacted]&a=%20"),
            ("/ab0cab0cab0c/b%61b0cab0cab0c", "/[redacted]/[redacted]"),
        ] {
            assert_eq!(&*path_and_query(path, token, &NONE), seen);
        }
    }

    #[test]
    fn a_name_is_what_a_server_reads() {
        for query in [
            "%6Bey=s",
            "api%5Fkey=s",
            "PASSWD=s",
            "db_pwd=s",
            "id_token%2djwt=s",
            "token[]=s",
            "key2=s",
        ] {
            let (name, _) = query.split_once('=').unwrap();
            let seen = path_and_query(&format!("/x?{query}&a=b"), "", &NONE);
            assert_eq!(&*seen, format!("/x?{name}=[redacted]&a=b"));
        }
        assert_eq!(&*path_and_query("/x?p%69n=1", "", &["pin"]), "/x?p%69n=[redacted]");
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
    fn a_path_is_the_same_however_long_it_is() {
        for len in [0, 39, 40, 41, 1000] {
            let path = format!("/{}", "é".repeat(len / 2));
            let redacted = path_and_query(&path, "", &[""; 0]);
            assert_eq!(&*redacted, path);
            let text = serde_json::to_string(&redacted).unwrap();
            assert_eq!(text, serde_json::to_string(&path).unwrap());
            assert_eq!(serde_json::from_str::<RedactedPath>(&text).unwrap(), redacted);
        }
    }

    #[test]
    fn a_harmless_path_stays_as_it_is() {
        assert_eq!(&*path_and_query("/v1/models?limit=3", "T0K", &NONE), "/v1/models?limit=3");
    }
}
