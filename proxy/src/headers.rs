//! Header fields that belong to one connection and end here (RFC 9110 §7.6.1), and the few that
//! are said anew on the next one.

use http::Version;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    UPGRADE,
};
use percent_encoding::percent_decode_str;

/// Fields that make some servers take a request for one with another method: what endpoint rules
/// judged would not be what the server does.
pub(crate) const METHOD_OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// Whether `name` is one of `names`, also to servers that take `_` for `-`: those that have fields as
/// variables (RFC 3875 §4.1.18), and all that is made after them.
pub(crate) fn is_among(name: &HeaderName, names: &[HeaderName]) -> bool {
    names.contains(name) || is_among_variables(name.as_str(), names)
}

fn is_among_variables(name: &str, names: &[HeaderName]) -> bool {
    let same = |(a, b)| a == b || (a == b'_' && b == b'-');
    let is_same = |other: &HeaderName| {
        other.as_str().len() == name.len() && name.bytes().zip(other.as_str().bytes()).all(same)
    };
    name.contains('_') && names.iter().any(is_same)
}

/// Whether the query of a request replaces its method, as [`METHOD_OVERRIDES`] do. PHP passes over
/// spaces before a name, makes `_` of a dot, and ends the name at a NUL or bracket.
pub(crate) fn overrides_method(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let name = pair.split('=').next().unwrap_or_default().replace('+', " ");
        let name: Vec<u8> = percent_decode_str(&name)
            .skip_while(|byte| b" []".contains(byte))
            .take_while(|byte| !b"\0[]".contains(byte))
            .collect();
        matches!(&*name, b"_method" | b".method")
    })
}

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
        || is_among(name, key_headers)
        || is_among(name, &METHOD_OVERRIDES)
        || is_among(name, &[HOST, CONTENT_LENGTH, COOKIE, EXPECT])
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

/// Strips the trailers of a response, also of what would say anew where it ends (RFC 9110 §6.5.1).
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    strip_hop_by_hop(trailers);
    trailers.remove(CONTENT_LENGTH);
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

    use super::{METHOD_OVERRIDES, is_among, is_of_head, overrides_method, strip_request};

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

    #[test]
    fn a_name_with_underscores_is_the_one_with_hyphens() {
        for (name, is_one) in [
            ("x-http-method", true),
            ("X_HTTP_Method", true),
            ("x-http_method-override", true),
            ("x_http_methods", false),
            ("x.http-method", false),
            ("x_other", false),
        ] {
            let name = name.parse().unwrap();
            assert_eq!(is_among(&name, &METHOD_OVERRIDES), is_one, "{name}");
        }
        assert!(is_of_head(&"x_api_key".parse().unwrap(), &["x-api-key".parse().unwrap()]));
        assert!(is_of_head(&"content_length".parse().unwrap(), &[]));
    }

    #[test]
    fn a_parameter_that_replaces_the_method_is_found() {
        for query in [
            "_method=DELETE",
            "a=1&_method=put",
            "a;_method=x",
            "%5Fm%65thod",
            ".method=",
            "+_method=x",
            "%20_method=x",
            "+.method=x",
            "_method%00x=x",
            "[_method]=x",
        ] {
            assert!(overrides_method(query), "{query}");
        }
        for query in [
            "",
            "method=x",
            "[method=x",
            "%2B_method=x",
            "a=_method",
            "_methods=x",
            "x_method=y",
            "_metho=d",
        ] {
            assert!(!overrides_method(query), "{query}");
        }
    }
}
