//! What a set says of itself: answers that agree with the kernel's, and a text that loses nothing.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nono_sandbox::{
    Access, CapabilitySet, Error, Grant, NetworkAnswer, PathAnswer, ProcessAction, ProcessAnswer,
    Query, Source, State, Suggestion,
};
use proptest::prelude::*;
use support::sandboxed::{run_probe, system, text};
use tempfile::{TempDir, tempdir};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");

/// Everything beneath the tree of [`tree`]: directories, files, and links in all directions.
const NAMES: [&str; 12] = [
    "a",
    "a/file",
    "a/b",
    "a/b/file",
    "c",
    "c/file",
    "c/up",
    "c/up/file",
    "a/out",
    "link",
    "link/b",
    "c/loop",
];

fn tree() -> (TempDir, PathBuf) {
    let dir = tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::create_dir(root.join("c")).unwrap();
    for file in ["a/file", "a/b/file", "c/file"] {
        fs::write(root.join(file), "").unwrap();
    }
    symlink("../a/b", root.join("c/up")).unwrap();
    symlink(root.join("c/file"), root.join("a/out")).unwrap();
    symlink("a", root.join("link")).unwrap();
    symlink("loop", root.join("c/loop")).unwrap();
    (dir, root)
}

fn is_allowed(query: &Query, path: &Path, access: Access) -> bool {
    matches!(query.path(path, access), PathAnswer::Allowed(_))
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::ReadWrite)]
}

/// Paths as somebody might write them to get around the rules.
fn spelling() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => prop::sample::select(&["a", "b", "c", "file", "up", "out", "link"][..]),
        2 => Just(".."),
        1 => prop::sample::select(&[".", "nope", "loop", ""][..]),
    ];
    prop::collection::vec(part, 1..6).prop_map(|parts| parts.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn answers_agree_with_the_kernel(
        grants in prop::collection::vec((prop::sample::select(&NAMES[..]), access()), 0..3),
        denied in prop::option::of(prop::sample::select(&NAMES[..])),
        spellings in prop::collection::vec(spelling(), 24),
    ) {
        let (_dir, root) = tree();
        let mut caps = system();
        for (name, access) in grants {
            let path = root.join(name);
            let is_file = path.is_file();
            // A name that leads nowhere cannot be granted.
            let _ = caps.grant(Grant::new(&path, is_file, access));
        }
        if let Some(name) = denied {
            let _ = caps.deny_path(root.join(name));
        }
        let query = Query::new(caps.clone());
        let paths: Vec<PathBuf> = spellings.iter().map(|path| root.join(path)).collect();
        let mut args = vec!["survey"];
        args.extend(paths.iter().map(|path| path.to_str().unwrap()));
        let said = match run_probe(PROBE, &args, &caps) {
            Ok(output) => text(&output),
            // Not every path can be kept from every grant; such a set is never enforced.
            Err(error @ Error::Deny { .. }) => {
                let reason = error.to_string();
                prop_assert_eq!(query.refusal(), Some(reason.as_str()));
                for path in &paths {
                    prop_assert!(!is_allowed(&query, path, Access::Read), "{:?}", path);
                }
                return Ok(());
            }
            Err(error) => unreachable!("{error}"),
        };
        for (path, said) in paths.iter().zip(said.lines()) {
            // Nobody can open what is not there, nor a directory to write to it.
            let expected = [
                path.exists() && is_allowed(&query, path, Access::Read),
                path.is_file() && is_allowed(&query, path, Access::Write),
            ];
            prop_assert_eq!([said.contains('r'), said.contains('w')], expected, "{:?}", path);
        }
    }
}

#[test]
fn a_path_is_followed_as_the_kernel_does() {
    let (_dir, root) = tree();
    let mut caps = CapabilitySet::new();
    caps.allow_path(root.join("a"), Access::Read).unwrap();
    let granted = caps.fs_capabilities()[0].clone();
    let query = Query::new(caps.clone());
    let ask = |path: &str| query.path(&root.join(path), Access::Read);
    let allowed = PathAnswer::Allowed(vec![granted]);
    for path in ["a", "a/file", "link/b/file", "c/up/file", "c/../a/file", "a/new", "a/new/deeper"]
    {
        assert_eq!(ask(path), allowed, "{path}");
        assert!(caps.path_covered(root.join(path)), "{path}");
    }
    for path in ["c/file", "a/out", "a/../c/file", ".", "a/../new"] {
        assert_eq!(ask(path), PathAnswer::NotGranted, "{path}");
        assert!(!caps.path_covered(root.join(path)), "{path}");
    }
    for path in ["a/nope/../../c/file", "a/nope/..", "a/file/x", "c/loop", "c/loop/x"] {
        assert_eq!(ask(path), PathAnswer::Unreachable, "{path}");
        assert!(!caps.path_covered(root.join(path)), "{path}");
    }
    assert_eq!(query.path(Path::new(""), Access::Read), PathAnswer::Unreachable);
    let write = query.path(&root.join("a/file"), Access::Write);
    assert_eq!(write, PathAnswer::Insufficient { granted: Access::Read });
}

#[test]
fn a_moved_directory_takes_its_grant_along() {
    let (_dir, root) = tree();
    let mut caps = CapabilitySet::new();
    caps.allow_path(root.join("a"), Access::Read).unwrap();
    fs::rename(root.join("a"), root.join("moved")).unwrap();
    fs::rename(root.join("c"), root.join("a")).unwrap();
    let query = Query::new(caps);
    assert!(is_allowed(&query, &root.join("moved/file"), Access::Read));
    assert_eq!(query.path(&root.join("a/file"), Access::Read), PathAnswer::NotGranted);
}

#[test]
fn two_grants_can_allow_together() {
    let (_dir, root) = tree();
    let mut caps = CapabilitySet::new();
    caps.allow_path(root.join("a"), Access::Read).unwrap();
    caps.allow_path(root.join("a/b"), Access::Write).unwrap();
    let both = caps.fs_capabilities().to_vec();
    let query = Query::new(caps);
    let file = root.join("a/b/file");
    assert_eq!(query.path(&file, Access::ReadWrite), PathAnswer::Allowed(both));
    assert_eq!(query.suggest_path(&file, Access::ReadWrite), None);
}

#[test]
fn what_is_denied_is_denied_by_name() {
    let (_dir, root) = tree();
    let mut caps = CapabilitySet::new();
    caps.allow_path(&root, Access::Read).unwrap();
    caps.deny_path(root.join("link/b")).unwrap();
    let denied = caps.denied_paths()[0].clone();
    assert!(!caps.path_covered(root.join("c/up/file")));
    let query = Query::new(caps);
    for path in ["a/b/file", "a/b", "c/up/file", "link/b/new"] {
        let path = root.join(path);
        assert_eq!(query.path(&path, Access::Read), PathAnswer::Denied(denied.clone()));
        assert_eq!(query.suggest_path(&path, Access::Read), None);
    }
    assert!(is_allowed(&query, &root.join("a/file"), Access::Read));
    // What is not there yet is not among what is granted around the denied path.
    assert_eq!(query.path(&root.join("a/new"), Access::Read), PathAnswer::Denied(denied.clone()));
    assert_eq!(query.path(&root.join("a"), Access::Read), PathAnswer::Denied(denied));
}

#[test]
fn the_smallest_grant_is_suggested_and_is_enough() {
    let (_dir, root) = tree();
    for (path, expected) in [
        ("a/b/file", Suggestion::File(root.join("a/b/file"), Access::ReadWrite)),
        ("c/up/file", Suggestion::File(root.join("a/b/file"), Access::ReadWrite)),
        ("link", Suggestion::Directory(root.join("a"), Access::ReadWrite)),
        ("a/b/new", Suggestion::Directory(root.join("a/b"), Access::ReadWrite)),
    ] {
        let mut caps = CapabilitySet::new();
        let path = root.join(path);
        let suggestion = Query::new(caps.clone()).suggest_path(&path, Access::ReadWrite).unwrap();
        assert_eq!(suggestion, expected);
        match suggestion {
            Suggestion::File(path, access) => caps.allow_file(path, access).unwrap(),
            Suggestion::Directory(path, access) => caps.allow_path(path, access).unwrap(),
            other => panic!("not a path: {other}"),
        }
        assert!(is_allowed(&Query::new(caps), &path, Access::ReadWrite));
    }
    let text = Suggestion::File("/a \"b".into(), Access::ReadWrite).to_string();
    assert_eq!(text, r#"allow_file("/a \"b", AccessMode.READ_WRITE)"#);
}

#[test]
fn connections_are_judged_by_address_and_port() {
    use NetworkAnswer::{Blocked, Open, PortGranted, PortNotGranted, Proxy};
    let proxy: SocketAddr = ([127, 0, 0, 1], 4180).into();
    let (here, there) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4([192, 0, 2, 1].into()));
    let mut ports = CapabilitySet::new();
    ports.allow_tcp_connect_port(443).unwrap();
    let mut blocked = CapabilitySet::new();
    blocked.block_network();
    let mut proxied = CapabilitySet::new();
    proxied.proxy_only(proxy);
    proxied.allow_localhost_port(80).unwrap();
    // Address, port, and what an open set, one with ports, a blocked and a proxied one say.
    for (ip, port, expected) in [
        (there, 443, [Open, PortGranted, Blocked, Blocked]),
        (here, 4180, [Open, PortNotGranted, Blocked, Proxy]),
        (there, 4180, [Open, PortNotGranted, Blocked, Blocked]),
        ("::ffff:127.0.0.1".parse().unwrap(), 4180, [Open, PortNotGranted, Blocked, Proxy]),
        (here, 80, [Open, PortNotGranted, Blocked, PortGranted]),
        (there, 80, [Open, PortNotGranted, Blocked, Blocked]),
    ] {
        let sets = [CapabilitySet::new(), ports.clone(), blocked.clone(), proxied.clone()];
        let said = sets.map(|set| Query::new(set).connect(SocketAddr::new(ip, port)));
        assert_eq!(said, expected, "{ip} {port}");
    }
    let query = Query::new(proxied);
    assert_eq!(query.suggest_connect(Some(here), 81), Some(Suggestion::LocalhostPort(81)));
    assert_eq!(query.suggest_connect(Some(there), 81), Some(Suggestion::ConnectPort(81)));
    assert_eq!(query.suggest_connect(Some(here), 4180), None);
    assert_eq!(query.suggest_bind(None, 81), Some(Suggestion::BindPort(81)));
    assert_eq!(query.suggest_bind(Some(there), 81), Some(Suggestion::BindPort(81)));
    assert_eq!(query.suggest_bind(Some(here), 81), Some(Suggestion::LocalhostPort(81)));
    assert_eq!(Query::new(ports).bind(None, 443), PortNotGranted);
}

#[test]
fn other_processes_are_out_of_reach() {
    let all = [
        (ProcessAction::Signal, "signal-parent"),
        (ProcessAction::Trace, "trace-parent"),
        (ProcessAction::Change, "limit-parent"),
        (ProcessAction::Change, "nice-parent"),
    ];
    let mut seeing = system();
    seeing.allow_path("/proc", Access::Read).unwrap();
    for caps in [system(), seeing.clone()] {
        let query = Query::new(caps.clone());
        for (action, probe) in all {
            assert_eq!(query.process(action), ProcessAnswer::Outside);
            assert_eq!(query.suggest_process(action), None);
            // "Not permitted", by whoever refuses it.
            assert_eq!(text(&run_probe(PROBE, &[probe], &caps).unwrap()), "1", "{probe}");
        }
    }
    let see = |caps: &CapabilitySet| Query::new(caps.clone()).process(ProcessAction::See);
    let reads = |caps: &CapabilitySet| {
        let path = format!("/proc/{}/status", std::process::id());
        text(&run_probe(PROBE, &["survey", &path], caps).unwrap()).contains('r')
    };
    let grant = seeing.fs_capabilities().last().unwrap().clone();
    assert_eq!((see(&seeing), reads(&seeing)), (ProcessAnswer::Granted(vec![grant]), true));
    assert_eq!((see(&system()), reads(&system())), (ProcessAnswer::NotGranted, false));
    let suggestion = Query::new(system()).suggest_process(ProcessAction::See);
    assert_eq!(suggestion, Some(Suggestion::Directory("/proc".into(), Access::Read)));
}

#[test]
fn unix_sockets_are_judged_by_what_is_there() {
    let (_dir, root) = tree();
    let _listener = UnixListener::bind(root.join("a/socket")).unwrap();
    let mut caps = CapabilitySet::new();
    let ask =
        |caps: &CapabilitySet, path: &str| Query::new(caps.clone()).unix_socket(&root.join(path));
    assert_eq!(ask(&caps, "a/socket"), NetworkAnswer::Open);
    caps.block_network();
    assert_eq!(ask(&caps, "a/socket"), NetworkAnswer::SocketNotGranted);
    // A grant of what is no socket, or is denied, would help nobody.
    let mut denied = caps.clone();
    denied.deny_path(root.join("a")).unwrap();
    for (caps, path) in [(&caps, "a/file"), (&caps, "a"), (&caps, "none"), (&denied, "a/socket")] {
        let suggestion = Query::new(caps.clone()).suggest_unix_socket(&root.join(path));
        assert_eq!(suggestion, None, "{path}");
    }
    let suggestion = Query::new(caps.clone()).suggest_unix_socket(&root.join("link/socket"));
    assert_eq!(suggestion, Some(Suggestion::UnixSocket(root.join("a/socket"))));
    caps.allow_unix_socket(root.join("link/socket")).unwrap();
    assert_eq!(ask(&caps, "a/socket"), NetworkAnswer::SocketGranted);
    assert_eq!(ask(&caps, "c/socket"), NetworkAnswer::SocketNotGranted);
}

fn everything(root: &Path) -> CapabilitySet {
    let mut caps = CapabilitySet::new();
    caps.allow_path(root.join("link"), Access::Read).unwrap();
    caps.allow_file_no_exec(root.join("c/file"), Access::ReadWrite).unwrap();
    let path = root.join("a/b");
    let source = Source::Group("tools".to_owned());
    caps.grant(Grant { source, ..Grant::new(&path, false, Access::Write) }).unwrap();
    caps.deny_path(root.join("a/secret")).unwrap();
    caps.allow_unix_socket(root.join("c")).unwrap();
    caps.allow_tcp_connect_port(443).unwrap();
    caps.allow_bind_port(8080).unwrap();
    caps.allow_localhost_port(5432).unwrap();
    caps.platform_rule("(allow iokit-open)").unwrap();
    caps.accept_less();
    caps
}

#[test]
fn the_text_of_a_set_loses_nothing() {
    let (_dir, root) = tree();
    let (mut blocked, mut proxied) = (everything(&root), everything(&root));
    blocked.block_network();
    proxied.proxy_only(([127, 0, 0, 1], 4180).into());
    for caps in [CapabilitySet::new(), everything(&root), blocked, proxied] {
        let json = State::of(&caps).to_json().unwrap();
        let again = State::from_json(&json).unwrap();
        assert_eq!(again, State::of(&caps));
        assert_eq!(again.to_caps().unwrap(), caps, "{json}");
    }
    // What is the process's own is so in every process that reads the text.
    let mut own = CapabilitySet::new();
    own.allow_path("/proc/self", Access::Read).unwrap();
    let json = State::of(&own).to_json().unwrap();
    assert!(json.contains("\"resolved\": \"/proc/self\""), "{json}");
    assert_eq!(State::from_json(&json).unwrap().to_caps().unwrap(), own);
    let empty = State::of(&CapabilitySet::new()).to_json().unwrap();
    assert_eq!(empty, "{\n  \"fs\": [],\n  \"net_blocked\": false\n}");
}

#[test]
fn a_forged_text_is_refused() {
    let (_dir, root) = tree();
    let mut caps = CapabilitySet::new();
    caps.allow_path(root.join("link"), Access::Read).unwrap();
    let json = State::of(&caps).to_json().unwrap();
    let resolved = root.join("a").display().to_string();

    let elsewhere = json.replace(&resolved, &root.join("c").display().to_string());
    let error = State::from_json(&elsewhere).unwrap().to_caps().unwrap_err();
    assert!(matches!(error, Error::StatePath { .. }), "{error}");
    let relative = json.replace(&resolved, "a");
    assert!(State::from_json(&relative).unwrap().to_caps().is_err());
    let kind = json.replace("\"is_file\": false", "\"is_file\": true");
    assert!(matches!(State::from_json(&kind).unwrap().to_caps(), Err(Error::ExpectedFile { .. })));
    for (from, to) in [
        ("\"fs\"", "\"more\": 1, \"fs\""),
        ("\"is_file\"", "\"mode\": 1, \"is_file\""),
        ("\"read\"", "\"all\""),
        ("\"fs\": [", "\"fs\": [[\"/\", \"/\", \"read\", false], "),
        ("\"net_blocked\": false", "\"net_blocked\": false, \"proxy\": \"127.0.0.1:1\""),
        ("\"net_blocked\": false", "\"net_blocked\": false, \"net_blocked\": true"),
        ("\"is_file\"", "\"source\": \"root\", \"is_file\""),
        ("\"net_blocked\": false", "\"net_blocked\": false, \"tcp_bind_ports\": [65536]"),
    ] {
        let forged = json.replacen(from, to, 1);
        assert_ne!(forged, json);
        assert!(matches!(State::from_json(&forged), Err(Error::StateFormat { .. })), "{forged}");
    }
    // What happened since counts as much as what was written.
    fs::remove_file(root.join("link")).unwrap();
    symlink("c", root.join("link")).unwrap();
    assert!(matches!(State::from_json(&json).unwrap().to_caps(), Err(Error::StatePath { .. })));
}

#[test]
fn grants_of_one_object_become_one() {
    let (_dir, root) = tree();
    let mut caps = CapabilitySet::new();
    let path = root.join("a");
    let group = Source::Group("tools".to_owned());
    caps.grant(Grant { source: group, ..Grant::new(&path, false, Access::Write) }).unwrap();
    caps.allow_path_no_exec(root.join("link"), Access::Read).unwrap();
    caps.allow_path(root.join("c"), Access::Read).unwrap();
    caps.allow_tcp_connect_port(443).unwrap();
    caps.allow_tcp_connect_port(443).unwrap();
    caps.deduplicate();
    let [both, other] = caps.fs_capabilities() else { panic!("two are left") };
    assert_eq!((both.access(), both.source()), (Access::ReadWrite, &Source::User));
    assert_eq!((both.original(), both.resolved()), (&*root.join("link"), &*path));
    assert!(!both.is_executable() && other.is_executable());
    assert_eq!(caps.tcp_connect_ports(), [443]);
}

#[test]
fn a_grant_keeps_no_name_that_leads_elsewhere() {
    let (_dir, root) = tree();
    let (file, other) = (root.join("c/file"), root.join("c/other"));
    fs::hard_link(&file, &other).unwrap();
    symlink("file", root.join("c/link")).unwrap();
    for second in ["c/other", "c/link"] {
        let mut caps = CapabilitySet::new();
        caps.allow_file(&file, Access::Read).unwrap();
        caps.allow_file(root.join(second), Access::Write).unwrap();
        caps.deduplicate();
        let json = State::of(&caps).to_json().unwrap();
        let stored = State::from_json(&json).unwrap().to_caps().unwrap();
        assert_eq!(stored, caps, "{second}");
    }
}

#[test]
fn everything_granted_is_told() {
    let (_dir, root) = tree();
    let root = root.as_path();
    let at = |name: &str| root.join(name).display().to_string();
    let expected = [
        "Filesystem:".to_owned(),
        format!("  {} [read] (dir)", at("a")),
        format!("  {} [read+write] (file, not executable)", at("c/file")),
        format!("  {} [write] (dir)", at("a/b")),
        "Unix sockets:".to_owned(),
        format!("  {} [connect] (dir)", at("c")),
        "Denied:".to_owned(),
        format!("  {}", at("a/secret")),
        "Network:".to_owned(),
        "  outbound: allowed".to_owned(),
        "  tcp connect ports: 443".to_owned(),
        "  tcp bind ports: 8080".to_owned(),
        "  localhost ports: 5432".to_owned(),
    ];
    assert_eq!(everything(root).summary(), expected.join("\n"));
}

#[test]
fn the_system_is_granted_narrowly() {
    let mut caps = CapabilitySet::new();
    caps.allow_system().unwrap();
    assert_eq!(
        text(&support::sandboxed::shell("echo $((6 * 7)) < /dev/null").run(&caps).unwrap()),
        "42"
    );
    let query = Query::new(caps.clone());
    for path in ["/usr/bin/env", "/dev/null", "/etc/ssl/certs", "/proc/self/status"] {
        let exists = Path::new(path).exists();
        assert!(!exists || is_allowed(&query, Path::new(path), Access::Read), "{path}");
    }
    for path in [
        "/",
        "/run",
        "/var/run",
        "/sys",
        "/tmp",
        "/dev/pts",
        "/root",
        "/home",
        "/proc/1",
        "/etc/shadow",
        // Private keys.
        "/etc/ssl",
        "/etc/ssl/private",
        "/etc/pki/tls",
    ] {
        assert!(!is_allowed(&query, Path::new(path), Access::Read), "{path}");
    }
    assert!(!is_allowed(&query, Path::new("/usr/new"), Access::Write));
    assert!(caps.fs_capabilities().iter().all(|grant| *grant.source() == Source::System));

    let temp = caps.allow_temp().unwrap();
    assert!(is_allowed(&Query::new(caps), &temp.join("new"), Access::ReadWrite));
}
