//! An authority has one canonical spelling, which has itself; it is the one of a URL parser, but for
//! IPv4 addresses in IPv6 ones.
#![cfg_attr(fuzzing, no_main)]

use nono_proxy::fuzz::target;
use url::Host;

fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(canonical) = target(text) else { return };
    assert_eq!(target(&canonical).as_ref(), Some(&canonical));
    assert!(!canonical.ends_with(":0"));
    // A client that reads the same text as a URL ends at the same place.
    if let Ok(url) = url::Url::parse(&format!("https://{text}/")) {
        let host = match url.host() {
            Some(Host::Domain(name)) => name.strip_suffix('.').unwrap_or(name).to_owned(),
            // What an IPv4 address in an IPv6 one reaches is the IPv4 address.
            Some(Host::Ipv6(ip)) => {
                ip.to_ipv4_mapped().map_or(format!("[{ip}]"), |ip| ip.to_string())
            }
            other => other.map(|host| host.to_string()).unwrap_or_default(),
        };
        let port = url.port().unwrap_or(443);
        assert_eq!(canonical, format!("{host}:{port}"));
    }
}

nono_fuzz::fuzz!(
    check,
    [
        b"api.example.com:443",
        b"[::1]:80",
        b"127.0.0.1",
        b"2130706433:1",
        b"0x7f.1",
        b"LOCALHOST.",
        b"[::ffff:169.254.169.254]",
        b"xn--bcher-kva.example",
        b"a.b",
        b"user@host:1",
        b"0251.0376.1.2",
    ]
);
