//! Header fields that belong to one connection and end here (RFC 9110 §7.6.1), and the few that
//! are said anew on the next one.

use http::Version;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    UPGRADE,
};

/// Fields that make some servers take a request for one with another method: what endpoint rules
/// judged would not be what the server does.
pub(crate) const METHOD_OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// Whether `name` is of one connection only.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    // A comparison of strings by length and content; names are kept in lower case.
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether a field must not be a trailer (RFC 9110 §6.5.1), because it is of a kind that is judged
/// in the head, or is one of `key_headers`: some servers would take it from behind the body as well.
pub(crate) fn is_of_head(name: &HeaderName, key_headers: &[HeaderName]) -> bool {
    is_hop_by_hop(name)
        || key_headers.contains(name)
        || METHOD_OVERRIDES.contains(name)
        || [HOST, CONTENT_LENGTH, COOKIE, EXPECT].contains(name)
}

/// Removes the fields of this connection, those that `Connection` names included. They are looked
/// for among those that are there: most messages have one or none, and to look each one up costs
/// more than to pass over the names.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name)).cloned() {
        if name == CONNECTION {
            strip_named(headers);
        }
        headers.remove(name);
    }
}

/// Removes the fields that `Connection` names.
fn strip_named(headers: &mut HeaderMap) {
    // The most common one is removed with the others of its kind, and need not be looked up.
    let is_other = |name: &&[u8]| !name.eq_ignore_ascii_case(b"keep-alive");
    let named = tokens(headers, &CONNECTION).filter(is_other);
    let named: Vec<HeaderName> = named.filter_map(|name| name.try_into().ok()).collect();
    for name in named {
        headers.remove(name);
    }
}

/// Strips a request, but says again what the proxy passes on itself: that the client takes
/// trailers, and that it asks for a WebSocket. Other upgrades are ignored, as a server may
/// (RFC 9110 §7.8), and must in HTTP/1.0.
pub(crate) fn strip_request(headers: &mut HeaderMap, version: Version) {
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    let takes_trailers = has_token(headers, &TE, b"trailers");
    let asks_websocket = version != Version::HTTP_10
        && has_token(headers, &CONNECTION, b"upgrade")
        && has_token(headers, &UPGRADE, b"websocket");
    strip_hop_by_hop(headers);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    if asks_websocket {
        set_upgrade(headers, HeaderValue::from_static("websocket"));
    }
}

/// Strips a response that switches protocols, but for the protocol that it switches to.
pub(crate) fn strip_switching(headers: &mut HeaderMap) {
    let protocol = headers.get(UPGRADE).cloned();
    strip_hop_by_hop(headers);
    if let Some(protocol) = protocol {
        set_upgrade(headers, protocol);
    }
}

/// Whether a request, stripped, asks for another protocol.
pub(crate) fn asks_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
}

fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Whether `token` is among the members of a list field, in any case.
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &[u8]) -> bool {
    tokens(headers, name).any(|member| member.eq_ignore_ascii_case(token))
}

/// The members of all fields of a `name` whose value is a list.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).into_iter().flat_map(members)
}

/// The members of a list; as bytes, so that one that is no word hides none of the others.
pub(crate) fn members(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::strip_request;

    fn stripped(fields: &[(&'static str, &str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        strip_request(&mut headers, http::Version::HTTP_11);
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn connection_fields_and_those_it_names_are_removed() {
        let left = stripped(&[
            ("connection", "close, X-Hop"),
            ("connection", "x-other"),
            ("x-hop", "1"),
            ("x-other", "2"),
            ("te", "gzip"),
            ("keep-alive", "timeout=5"),
            ("x-kept", "3"),
        ]);
        assert_eq!(left, ["x-kept: 3"]);
    }

    #[test]
    fn trailers_and_websockets_are_asked_for_again() {
        let left = stripped(&[("te", "deflate, trailers"), ("connection", "TE")]);
        assert_eq!(left, ["te: trailers", "connection: te"]);
        let left = stripped(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")]);
        assert_eq!(left, ["connection: upgrade", "upgrade: websocket"]);
    }

    #[test]
    fn other_upgrades_are_ignored() {
        assert!(stripped(&[("connection", "upgrade"), ("upgrade", "h2c")]).is_empty());
        assert!(stripped(&[("upgrade", "websocket")]).is_empty());
    }
}
