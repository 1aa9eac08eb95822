//! A rule lets through the host that it names in every spelling, and no wildcard its own apex.
#![cfg_attr(fuzzing, no_main)]

use nono_proxy::fuzz::{host_rule, target};

fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (rule, host) = text.split_once('|').unwrap_or((text, text));
    let judged = host_rule(rule, host);
    // The canonical spelling is judged like the one that was given.
    if let Some(canonical) = target(host) {
        assert_eq!(judged, host_rule(rule, &canonical));
    }
    if let Some(domain) = rule.strip_prefix("*.") {
        assert_ne!(host_rule(rule, domain), Some(true));
    }
    if host_rule(rule, rule).is_some() {
        assert_eq!(host_rule(rule, rule), Some(true));
    }
}

nono_fuzz::fuzz!(
    check,
    [
        b"api.example.com|API.example.com.",
        b"*.example.com|a.b.example.com",
        b"::1|[::1]:80",
        b"127.0.0.1|2130706433",
        b"a.example:8080|a.example:8080",
        b"*.com|com",
        b"[::1]:80|[::1]:80",
    ]
);
