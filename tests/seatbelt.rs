//! The profile for macOS, as text: what is said is what was granted, and no path says more.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]

use std::fs;
use std::os::unix::net::UnixListener;

use nono_sandbox::{Access, CapabilitySet, Error};
use proptest::prelude::*;
use tempfile::tempdir;

/// The profile with the test's directory as `DIR`, without what is always there.
fn rules(caps: &CapabilitySet, root: &str) -> String {
    let profile = caps.seatbelt_profile().unwrap().replace(root, "DIR");
    let (base, rules) = profile
        .split_once("(allow mach-lookup (global-name \"com.apple.system.logger\"))\n")
        .unwrap();
    assert!(base.starts_with("(version 1)\n(deny default)\n"), "{base}");
    rules.to_owned()
}

#[test]
fn every_grant_has_its_rule() {
    let dir = tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    for name in ["read", "both", "plain"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    fs::write(root.join("file"), "").unwrap();
    let _listener = UnixListener::bind(root.join("socket")).unwrap();
    let mut caps = CapabilitySet::new();
    caps.allow_path(root.join("read"), Access::Read).unwrap();
    caps.allow_path(root.join("both"), Access::ReadWrite).unwrap();
    caps.allow_path_no_exec(root.join("plain"), Access::Read).unwrap();
    caps.allow_file(root.join("file"), Access::Write).unwrap();
    caps.allow_unix_socket(root.join("socket")).unwrap();
    caps.allow_unix_socket(root.join("read")).unwrap();
    caps.allow_tcp_connect_port(443).unwrap();
    caps.allow_bind_port(8080).unwrap();
    caps.allow_localhost_port(5432).unwrap();
    caps.proxy_only(([127, 0, 0, 1], 4180).into());
    caps.platform_rule("(allow mach-lookup (global-name \"com.example.x\"))").unwrap();
    caps.deny_path(root.join("both/secret")).unwrap();
    let expected = r#"(allow file-read* (subpath "DIR/read"))
(allow process-exec* file-map-executable (subpath "DIR/read"))
(allow file-read* (subpath "DIR/both"))
(allow process-exec* file-map-executable (subpath "DIR/both"))
(allow file-write* (subpath "DIR/both"))
(allow file-read* (subpath "DIR/plain"))
(allow file-write* (literal "DIR/file"))
(deny file-mknod)
(allow network-outbound (remote tcp "localhost:4180"))
(allow network-outbound (remote tcp "*:443"))
(allow network-bind (local tcp "*:8080"))
(allow network-inbound (local tcp "*:8080"))
(allow network-outbound (remote tcp "localhost:5432"))
(allow network-bind (local tcp "localhost:5432"))
(allow network-inbound (local tcp "localhost:5432"))
(allow network-outbound (remote unix-socket (path-literal "DIR/socket")))
(allow network-outbound (remote unix-socket (subpath "DIR/read")))
(allow mach-lookup (global-name "com.example.x"))
(deny file-read* file-write* process-exec* (subpath "DIR/both/secret"))
(deny network-outbound (remote unix-socket (subpath "DIR/both/secret")))
"#;
    assert_eq!(rules(&caps, root.to_str().unwrap()), expected);
}

#[test]
fn the_network_is_open_only_where_it_is() {
    let mut caps = CapabilitySet::new();
    let open = "(deny file-mknod)\n(allow network*)\n(allow system-socket)\n";
    assert_eq!(rules(&caps, "/no/such"), open);
    caps.block_network();
    assert_eq!(rules(&caps, "/no/such"), "(deny file-mknod)\n");
    caps.proxy_only(([192, 0, 2, 1], 4180).into());
    assert!(matches!(caps.seatbelt_profile(), Err(Error::Unsupported { .. })));
}

#[test]
fn a_rule_of_the_platform_is_one_rule() {
    for (rule, reason) in [
        ("allow file-read*", "must start with `(`"),
        (" (allow signal)", "must start with `(`"),
        ("(allow signal", "not balanced"),
        ("(allow signal))", "one rule"),
        ("(allow signal) (allow default)", "one rule"),
        ("(allow signal \")\"", "not balanced"),
        ("(allow signal \"x", "does not end"),
        ("(allow signal) ; (", "comment"),
        ("(allow file-read* (subpath \"/\"))", "whole file system"),
        ("(allow file-write* (subpath \"//\"))", "whole file system"),
        ("(allow  file-read*\n( subpath\t\"/\" ))", "whole file system"),
        ("(allow file-read*)", "whole file system"),
        ("(allow default)", "whole file system"),
        ("(allow signal file-write* (regex #\"^/.*\"))", "whole file system"),
    ] {
        match CapabilitySet::new().platform_rule(rule) {
            Err(Error::PlatformRule { reason: said, .. }) => {
                assert!(said.contains(reason), "{rule}: {said}");
            }
            other => panic!("{rule}: {other:?}"),
        }
    }
    for rule in [
        "(allow file-read* (subpath \"/opt\"))",
        "(deny file-write* (subpath \"/\"))",
        "(allow signal \"(\\\"\")",
    ] {
        CapabilitySet::new().platform_rule(rule).unwrap();
    }
}

/// Reads the string that begins the text, as the language does, and gives what follows.
fn read_string(text: &str) -> (String, &str) {
    let mut characters = text.strip_prefix('"').unwrap().char_indices();
    let mut value = String::new();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 2..]),
            '\\' => match characters.next().unwrap().1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                'x' => {
                    let digits: String =
                        characters.by_ref().take(2).map(|(_, digit)| digit).collect();
                    value.push(char::from(u8::from_str_radix(&digits, 16).unwrap()));
                }
                plain => value.push(plain),
            },
            plain => value.push(plain),
        }
    }
    unreachable!("the string does not end")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn no_path_ends_its_string(name in "[\"\\\\()\n\r\t\u{1}-\u{1f}\u{7f} ;#a-zäé\u{2028}]{1,24}") {
        let dir = tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join(&name);
        fs::write(&path, "").unwrap();
        let mut caps = CapabilitySet::new();
        caps.allow_file(&path, Access::Write).unwrap();
        let profile = caps.seatbelt_profile().unwrap();
        let (_, rest) = profile.split_once("(allow file-write* (literal ").unwrap();
        let (read, rest) = read_string(rest);
        prop_assert_eq!(read, path.to_str().unwrap());
        prop_assert_eq!(rest, "))\n(deny file-mknod)\n(allow network*)\n(allow system-socket)\n");
        // One rule a line: nothing in a path begins another.
        prop_assert!(profile.lines().all(|line| line.starts_with('(') && line.ends_with(')')));
    }
}
