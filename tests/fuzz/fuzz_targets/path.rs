//! A path that is not ambiguous stays below its base, for the most lenient server and for a URL
//! parser.
#![cfg_attr(fuzzing, no_main)]

use nono_proxy::fuzz::ambiguity;

fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = format!("/{}", text.split('?').next().unwrap_or_default());
    if ambiguity(&path).is_some() {
        return;
    }
    let mut depth = 0_i64;
    for segment in path.replace('\\', "/").split('/').map(|part| part.split(';').next()) {
        match segment.unwrap_or_default() {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        assert!(depth >= 0, "it leaves its base");
    }
    let url = url::Url::parse(&format!("http://host/base{path}")).expect("a path is one of a URL");
    assert!(url.path().starts_with("/base/"), "{url}");
    assert_eq!(url.path().matches('/').count(), 1 + path.matches('/').count(), "{url}");
}

nono_fuzz::fuzz!(
    check,
    [
        b"v1/chat/completions",
        b"a/../b",
        b"a/%2e%2e/b",
        b"..;/x",
        b"a%2fb",
        b"a\\..\\b",
        b"%c0%ae/",
        b"a//b",
        b"%252e%252e",
        b"caf%c3%a9",
        b"\xc3\xa4",
        b"a;v=1/b",
        b"...",
        b".a",
        b"a|b{c}\"<>`^",
    ]
);
