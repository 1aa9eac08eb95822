//! The profile for macOS, as text: what is said is what was granted, and no path says more.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nono_sandbox::{Access, CapabilitySet, DenyFault, Error};
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
    caps.deny_path(root.join("read/secret")).unwrap();
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
(deny file-read* file-write* process-exec* (subpath "DIR/read/secret"))
(deny network-outbound (remote unix-socket (subpath "DIR/read/secret")))
(deny file-write-unlink (literal "DIR/read"))
(deny file-write-unlink (literal "DIR"))
"#;
    let said = rules(&caps, root.to_str().unwrap());
    let (said, above) = said.split_at(expected.len());
    assert_eq!(said, expected);
    let parents = root.ancestors().skip(1).filter(|path| path.parent().is_some());
    let is_held = |path: &Path| above.contains(&format!("(literal \"{}\")", path.display()));
    assert!(parents.into_iter().all(is_held), "{above}");
}

#[test]
fn nothing_denied_is_had_by_another_path() {
    let dir = tempdir().unwrap();
    fs::create_dir_all(dir.path().join("on the way/secret")).unwrap();
    let secret = dir.path().join("on the way/secret");
    for access in [Access::Write, Access::ReadWrite] {
        let mut caps = CapabilitySet::new();
        caps.allow_path(dir.path(), access).unwrap();
        caps.deny_path(&secret).unwrap();
        let error = caps.seatbelt_profile().unwrap_err();
        assert!(matches!(error, Error::Deny { fault: DenyFault::Writable, .. }), "{error}");
    }
    // What is beside it on the way can be written: nobody may rename that.
    fs::create_dir(dir.path().join("on the way/open")).unwrap();
    let mut caps = CapabilitySet::new();
    caps.allow_path(dir.path(), Access::Read).unwrap();
    caps.allow_path(dir.path().join("on the way/open"), Access::Write).unwrap();
    caps.deny_path(&secret).unwrap();
    caps.seatbelt_profile().unwrap();
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

/// Why a rule of the platform is not taken; nothing, if it is.
fn refusal(rule: &str) -> &'static str {
    match CapabilitySet::new().platform_rule(rule) {
        Err(Error::PlatformRule { reason, .. }) => reason,
        _ => "",
    }
}

#[test]
fn a_rule_of_the_platform_is_one_rule_that_computes_nothing() {
    for (rule, reason) in [
        ("allow file-read*", "must start with `(`"),
        (" (allow signal)", "must start with `(`"),
        ("(allow signal", "not balanced"),
        ("(allow signal))", "one rule"),
        ("(allow signal) (allow default)", "one rule"),
        ("(allow signal \")\"", "not balanced"),
        ("(allow signal \"x", "does not end"),
        ("(allow signal) ; (", "comment"),
        ("(allow file-read* (subpath \"/opt/..\"))", "absolute"),
        ("(allow file-read* (subpath \"./opt\"))", "absolute"),
        ("(allow file-read* (subpath home))", "must be a string"),
        ("(allow file-read* (subpath (string-append \"/\" \"\")))", "must be a string"),
        ("(allow file-read* (subpath \"\\x2f\"))", "escape"),
        ("(allow file-read* (regex #\"^/opt\\\"))", "escaped quote"),
        ("(allow file-read* (subpath))", "allow OPERATION"),
        ("(allow file-read* (require-any))", "allow OPERATION"),
        ("(allow file-read* \"/opt\")", "allow OPERATION"),
        ("(allow)", "allow OPERATION"),
        ("()", "allow OPERATION"),
        ("((allow default))", "allow OPERATION"),
        ("(allow Default)", "allow OPERATION"),
        ("(ALLOW signal)", "allow OPERATION"),
        ("(version 1)", "allow OPERATION"),
        ("(import \"bsd.sb\")", "allow OPERATION"),
        ("(begin (allow default))", "allow OPERATION"),
        ("(let ((a 1)) (allow file-read*))", "allow OPERATION"),
        ("(apply allow (list 'default))", "neither a name"),
        ("(if #t (allow file*))", "neither a name"),
        ("(allow\u{a0}default)", "neither a name"),
        ("(allow signal#\"\")", "neither a name"),
        ("(allow (begin default))", "allow OPERATION"),
        ("(deny signal (begin (allow default)))", "no filter"),
        ("(allow mach-lookup (global-name (allow default)))", "no filter"),
        ("(allow process-exec (with no-sandbox) (literal \"/bin/sh\"))", "not known"),
        ("(allow (with no-sandbox) process-exec)", "not known"),
        ("(allow signal (with report (allow default)))", "not known"),
    ] {
        assert!(refusal(rule).contains(reason), "{rule}: {}", refusal(rule));
    }
}

#[test]
fn a_rule_of_the_platform_opens_no_files_without_saying_where() {
    for rule in [
        "(allow file-read* (subpath \"/\"))",
        "(allow file-write* (subpath \"//\"))",
        "(allow  file-read*\n( subpath\t\"/\" ))",
        "(allow file-read*)",
        "(allow default)",
        "(allow signal default)",
        "(allow file*)",
        "(allow file-read-data)",
        "(allow file-map-executable process-exec* file-write-data)",
        "(allow signal file-write* (regex #\"^/.*\"))",
        "(allow file-read* (regex #\"^/(.*)$\"))",
        "(allow file-read* (regex #\"^/opt/|.\"))",
        "(allow file-read* (regex #\"^/o*\"))",
        "(allow file-read* (regex #\".?\"))",
        "(allow file-read* (regex \"/opt/\"))",
        "(allow file-read* (path-prefix \"/\"))",
        "(allow file-read* (vnode-type REGULAR-FILE))",
        "(allow file-read* (literal \"/opt\") (subpath \"/\"))",
        "(allow file-read* (require-not (literal \"/x\")))",
        "(allow file-read* (require-any (literal \"/x\") (subpath \"/\")))",
        "(allow file-read* (require-all (vnode-type REGULAR-FILE)))",
        "(allow file-read* (with no-log))",
    ] {
        assert!(refusal(rule).contains("whole file system"), "{rule}: {}", refusal(rule));
    }
}

#[test]
fn other_rules_of_the_platform_are_taken() {
    for rule in [
        "(allow file-read* (subpath \"/opt\"))",
        "(allow file-read-data file-write* (subpath \"/opt\") (literal \"/\"))",
        "(allow file-read* (require-all (subpath \"/opt\") (require-not (subpath \"/opt/x\"))))",
        "(allow file-read* (require-any (regex #\"^/opt/[a-z]+\\.py$\") (prefix \"/tmp/x\")))",
        "(allow file-read-metadata)",
        "(deny file-write* (subpath \"/\"))",
        "(deny file-read* (regex #\"\\.key$\") (with no-log))",
        "(deny default (with message \"no\"))",
        "(deny (with no-log) file-read* (subpath \"/opt\"))",
        "(allow network-outbound (remote unix-socket (path-literal \"/var/run/x\")))",
        "(allow network-outbound (remote tcp \"*:443\"))",
        "(allow mach-lookup (global-name \"(\\\"\") (local-name \"x\"))",
        "(allow process-info* (target self))",
        "(allow iokit-open)",
    ] {
        CapabilitySet::new().platform_rule(rule).unwrap();
    }
}

#[test]
fn a_rule_of_any_depth_and_length_is_judged() {
    let deep = format!("(allow signal {}{})", "(".repeat(100_000), ")".repeat(100_000));
    let wide = format!("(deny signal {})", "(target self)".repeat(100_000));
    for (rule, is_taken) in [(deep, false), (wide, true)] {
        assert_eq!(CapabilitySet::new().platform_rule(&rule).is_ok(), is_taken);
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
