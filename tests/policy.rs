//! Policies: what is refused and how it is said, what choosing groups does to a set, and which
//! denials a set would break.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nono_sandbox::policy::{EMBEDDED, Policy, PolicyError, Variables, check_overlaps};
use nono_sandbox::{
    Access, CapabilitySet, DeniedPath, FsCapability, Network, PathAnswer, Query, Source,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::sandboxed::{run_probe, system, text};
use tempfile::{TempDir, tempdir};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");

/// A home with what groups grant and deny, and links that lead around.
fn home() -> (TempDir, PathBuf) {
    let dir = tempdir().unwrap();
    let home = dir.path().canonicalize().unwrap();
    for directory in ["work", "keys/deep", ".config/tool", "tmp"] {
        fs::create_dir_all(home.join(directory)).unwrap();
    }
    for file in ["work/note", "keys/id", "keys/deep/id", ".config/tool/rc"] {
        fs::write(home.join(file), "x").unwrap();
    }
    symlink(home.join("keys"), home.join("link")).unwrap();
    (dir, home)
}

fn variables(home: &Path) -> Variables {
    let home = home.to_owned();
    Variables::new(move |name| (name == "HOME").then(|| OsString::from(&home)))
}

fn policy(group: Value) -> Policy {
    let mut group = group;
    group["description"] = "a group".into();
    Policy::parse(&json!({ "groups": { "g": group } }).to_string()).unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn resolved(policy: &Policy, home: &Path) -> CapabilitySet {
    let mut caps = CapabilitySet::new();
    policy.resolve(&names(&["g"]), &mut caps, &variables(home)).unwrap();
    caps
}

fn refusal(text: &str) -> String {
    Policy::parse(text).unwrap_err().to_string()
}

#[test]
fn a_mistake_is_named_with_its_place_and_what_comes_nearest() {
    let text = "{\n \"groups\": {\"web\": {\n  \"description\": \"d\",\n  \"network\": \
                {\"alow_domain\": []}}}}";
    let said = refusal(text);
    assert!(said.starts_with("Configuration parse error: Failed to parse policy.json: "), "{said}");
    for part in
        ["alow_domain", "line 4 column", "groups.web.network", "did you mean `allow_domain`"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(
        refusal(r#"{"groups": {"g": {"description": "d", "platform": "linuks"}}}"#)
            .contains("did you mean `linux`")
    );
}

#[test]
fn a_list_is_no_object_whose_fields_it_has_in_order() {
    for (text, place) in [
        ("[{}]", "an object"),
        (r#"{"groups": {"g": ["d", null, false, {"read": ["/etc"]}]}}"#, "`groups.g`"),
        (r#"{"groups": {"g": {"description": "d", "allow": [["/etc"]]}}}"#, "`groups.g.allow`"),
        (r#"{"groups": {"g": {"description": "d", "network": [true]}}}"#, "`groups.g.network`"),
    ] {
        let said = refusal(text);
        assert!(said.contains("expected an object") && said.contains(place), "{said}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let group = |body: &str| format!(r#"{{"groups": {{"g": {{"description": "d", {body}}}}}}}"#);
    for text in [
        String::new(),
        "{}".to_owned(),
        r#"{"groups": {}, "goups": {}}"#.to_owned(),
        r#"{"groups": {}} x"#.to_owned(),
        r#"{"groups": {"g": {}}}"#.to_owned(),
        r#"{"groups": {"": {"description": "d"}}}"#.to_owned(),
        r#"{"groups": {"g": {"description": "a"}, "g": {"description": "b"}}}"#.to_owned(),
        group(r#""allow": {"reed": []}"#),
        group(r#""allow": {"read": "/etc"}"#),
        group(r#""allow": {"read": [""]}"#),
        group(r#""allow": {"read": ["~root/x"]}"#),
        group(r#""allow": {"read": ["$USER/x"]}"#),
        group(r#""allow": {"read": ["${HOME}/x"]}"#),
        group(r#""allow": {"read": ["/a/$HOME"]}"#),
        group(r#""allow": {"read": ["~/*.py"]}"#),
        group(r#""allow": {"read": ["/a\u0000"]}"#),
        group(r#""allow": {"read": ["/run/$UIDX"]}"#),
        group(r#""network": {"allow_domain": [], "allow_proxy": []}"#),
        group(r#""network": {"max_connections": 0}"#),
        group(r#""network": {"bind_ports": [65536]}"#),
        group(r#""network": {"custom_credentials": {"a": {"prefix": "/a"}}}"#),
        group(r#""network": {"custom_credentials": {"a": {"preset": "openai", "x": 1}}}"#),
        group(r#""limits": {"timeout_secs": -1}"#),
        group(r#""limits": {"max_processes": 1.5}"#),
    ] {
        assert!(matches!(Policy::parse(&text), Err(PolicyError::Format { .. })), "{text}");
    }
}

#[test]
fn a_group_that_does_not_exist_is_named_with_the_nearest() {
    let mut caps = CapabilitySet::new();
    let asked = names(&["system_read_linus"]);
    let error = Policy::parse(EMBEDDED).unwrap();
    let error = error.resolve(&asked, &mut caps, &Variables::of_process()).unwrap_err();
    assert!(error.to_string().contains("did you mean `system_read_linux`"), "{error}");
}

#[test]
fn paths_are_expanded_and_granted_in_the_name_of_their_group() {
    let (_dir, home) = home();
    let policy = policy(json!({ "allow": {
        "read": ["~/work", "$XDG_CONFIG_HOME/tool/rc", "~/missing"],
        "write": ["$HOME/tmp"],
    }}));
    let mut caps = CapabilitySet::new();
    let resolved = policy.resolve(&names(&["g", "g"]), &mut caps, &variables(&home)).unwrap();
    let granted: Vec<_> = caps.fs_capabilities().iter().map(FsCapability::resolved).collect();
    assert_eq!(granted, [home.join("work"), home.join(".config/tool/rc"), home.join("tmp")]);
    assert!(
        caps.fs_capabilities().iter().all(|grant| *grant.source() == Source::Group("g".into()))
    );
    assert_eq!(caps.fs_capabilities()[2].access(), Access::Write);
    assert_eq!(resolved.skipped_paths().collect::<Vec<_>>(), [home.join("missing")]);
    assert_eq!(resolved.names(), ["g", "g"]);
}

#[test]
fn every_variable_has_a_meaning_or_is_an_error() {
    let (_dir, home) = home();
    let paths = |path: &str, variables: &Variables| {
        policy(json!({ "deny": { "access": [path] } })).deny_paths(&names(&["g"]), variables)
    };
    let plain = variables(&home);
    let uid = fs::metadata("/proc/self")
        .map(|status| std::os::unix::fs::MetadataExt::uid(&status).to_string());
    let uid = uid.unwrap();
    for (written, expected) in [
        ("~", home.clone()),
        ("~/", home.clone()),
        ("$HOME/a", home.join("a")),
        ("$XDG_CACHE_HOME", home.join(".cache")),
        ("$XDG_DATA_HOME/a", home.join(".local/share/a")),
        ("$XDG_STATE_HOME/a", home.join(".local/state/a")),
        ("$TMPDIR/none", "/tmp/none".into()),
        ("/none/$UID/a-$UID", format!("/none/{uid}/a-{uid}").into()),
    ] {
        assert_eq!(paths(written, &plain).unwrap(), [expected], "{written}");
    }
    let set = Variables::new(|name| {
        Some(if name == "TMPDIR" { "relative".into() } else { format!("/none/{name}").into() })
    });
    assert_eq!(paths("$XDG_RUNTIME_DIR/a", &set).unwrap(), [Path::new("/none/XDG_RUNTIME_DIR/a")]);
    assert!(
        paths("$TMPDIR/a", &set).unwrap_err().to_string().contains("TMPDIR is not an absolute")
    );
    let none = Variables::new(|_| None);
    assert!(paths("~/a", &none).unwrap_err().to_string().contains("HOME is not set"));
}

#[test]
fn groups_are_all_chosen_or_none() {
    let (_dir, home) = home();
    symlink("circle", home.join("circle")).unwrap();
    let text = json!({ "groups": {
        "good": { "description": "d", "allow": { "read": ["~/work"] }, "network": { "block": true } },
        "wrong": { "description": "d", "deny": { "access": ["~/circle"] } },
    }});
    let policy = Policy::parse(&text.to_string()).unwrap();
    for asked in [["good", "wrong"], ["good", "none"]] {
        let mut caps = CapabilitySet::new();
        policy.resolve(&names(&asked), &mut caps, &variables(&home)).unwrap_err();
        assert_eq!(caps, CapabilitySet::new(), "{asked:?}");
    }
}

#[test]
fn a_link_to_what_is_not_there_keeps_no_group_from_denying() {
    let (_dir, home) = home();
    symlink("gone/rc", home.join(".rc")).unwrap();
    let policy = policy(json!({ "deny": { "access": ["~/.rc", "~/work/note/below"] } }));
    let caps = resolved(&policy, &home);
    let denied: Vec<_> = caps.denied_paths().iter().map(DeniedPath::resolved).collect();
    assert_eq!(denied, [home.join("gone/rc"), home.join("work/note/below")]);
}

#[test]
fn a_group_for_another_platform_says_nothing() {
    let (_dir, home) = home();
    let policy = policy(json!({
        "platform": if cfg!(target_os = "macos") { "linux" } else { "macos" },
        "allow": { "read": ["~/work"] },
        "network": { "allow_domain": ["example.com"] },
    }));
    let mut caps = CapabilitySet::new();
    let resolved = policy.resolve(&names(&["g"]), &mut caps, &variables(&home)).unwrap();
    assert_eq!((resolved.names(), caps), (&[][..], CapabilitySet::new()));
    assert_eq!(policy.network_plan(&names(&["g"])).unwrap(), None);
}

#[test]
fn what_a_group_lets_nobody_remove_no_grant_to_write_does() {
    let (_dir, home) = home();
    let group = |name: &str, is_over: bool| {
        json!({
            "description": name,
            "allow": { "readwrite": ["~/work"] },
            "deny": { "unlink": !is_over, "unlink_override_for_user_writable": is_over },
        })
    };
    let groups = json!({ "groups": { "held": group("held", false), "over": group("over", true) } });
    let policy = Policy::parse(&groups.to_string()).unwrap();
    let mut caps = CapabilitySet::new();
    for _ in 0..2 {
        policy.resolve(&names(&["held"]), &mut caps, &variables(&home)).unwrap();
    }
    // After the grants, since the last rule counts; and once.
    let profile = caps.seatbelt_profile().unwrap();
    let (grants, rest) = profile.split_once("(deny file-write-unlink)\n").unwrap();
    assert!(grants.contains("(allow file-write* (subpath \"") && !rest.contains("file-write"));
    caps.allow_removal();
    assert!(!caps.seatbelt_profile().unwrap().contains("unlink"));
    let mut caps = CapabilitySet::new();
    let chosen = policy.resolve(&names(&["held", "over"]), &mut caps, &variables(&home)).unwrap();
    assert!(chosen.needs_unlink_overrides() && caps.platform_rules().is_empty());
}

#[test]
fn the_network_is_blocked_by_block_and_by_rules_for_a_proxy() {
    let (_dir, home) = home();
    for (rules, network) in [
        (json!({ "block": true }), Network::Blocked),
        (json!({ "allow_domain": ["a.example"] }), Network::Blocked),
        (json!({ "localhost_ports": [8080.0] }), Network::Open),
    ] {
        let caps = resolved(&policy(json!({ "network": rules })), &home);
        assert_eq!(caps.network(), network, "{rules}");
    }
    let proxy = Network::ProxyOnly(([127, 0, 0, 1], 8080).into());
    for (rules, network) in [
        (json!({ "allow_domain": ["a.example"] }), proxy),
        (json!({ "block": true }), Network::Blocked),
    ] {
        let mut caps = CapabilitySet::new();
        caps.proxy_only(([127, 0, 0, 1], 8080).into());
        policy(json!({ "network": rules }))
            .resolve(&names(&["g"]), &mut caps, &variables(&home))
            .unwrap();
        assert_eq!(caps.network(), network, "{rules}");
    }
}

#[test]
fn what_a_group_denies_is_denied_by_the_kernel() {
    let (_dir, home) = home();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    let policy = policy(json!({ "allow": { "read": ["~"] }, "deny": { "access": ["~/link"] } }));
    let mut caps = system();
    caps.allow_file(PROBE, Access::Read).unwrap();
    policy.resolve(&names(&["g"]), &mut caps, &variables(&home)).unwrap();
    let at = |name: &str| home.join(name).to_str().unwrap().to_owned();
    for (file, expected) in [("work/note", "xok"), ("keys/id", "13"), ("link/deep/id", "13")] {
        let output = run_probe(PROBE, &["read", &at(file)], &caps).unwrap();
        assert_eq!(text(&output), expected, "{file}");
    }
}

#[test]
fn overlaps_are_seen_whoever_granted_and_however_it_is_spelled() {
    let (_dir, home) = home();
    let grants = |path: &str, access: Access| {
        let mut caps = CapabilitySet::new();
        caps.allow_path(home.join(path), access).unwrap();
        caps
    };
    let overlaps =
        |denied: &str, caps: &CapabilitySet| check_overlaps(&[home.join(denied)], caps).is_err();
    let user = grants("", Access::Read);
    for denied in ["keys", "link", "work/../keys", "keys/none/yet", "keys/id", ""] {
        assert!(overlaps(denied, &user), "{denied}");
    }
    assert!(overlaps("keys", &grants("keys/deep", Access::Read)));
    assert!(!overlaps("keys", &grants("work", Access::ReadWrite)));
    let mut file = CapabilitySet::new();
    file.allow_file(home.join("keys/id"), Access::Read).unwrap();
    assert!(overlaps("keys/id", &file));
    assert!(!overlaps("keys/id/none", &file));
    let group = resolved(&policy(json!({ "allow": { "read": ["~"] } })), &home);
    let error = check_overlaps(&[home.join("keys")], &group).unwrap_err().to_string();
    let line =
        format!("deny '{0}/keys' overlaps allowed parent '{0}' (source: group:g)", home.display());
    assert!(error.starts_with("deny-overlap") && error.contains(&line), "{error}");
}

#[test]
fn a_denial_that_the_sandbox_keeps_is_no_overlap() {
    let (_dir, home) = home();
    let denied = [home.join("keys")];
    let mut caps = CapabilitySet::new();
    caps.allow_path(&home, Access::Read).unwrap();
    caps.deny_path(&denied[0]).unwrap();
    check_overlaps(&denied, &caps).unwrap();
    // Nothing keeps a right to write out of it.
    caps.allow_path(&home, Access::Write).unwrap();
    assert!(check_overlaps(&denied, &caps).is_err());
}

/// Groups that block the network, open some of it, limit it, or more than one of these.
fn networks() -> Policy {
    let group = |network: Value| json!({ "description": "d", "network": network });
    let text = json!({ "groups": {
        "closed": group(json!({ "block": true })),
        "web": group(json!({ "allow_domain": ["a.example"] })),
        "behind": group(json!({ "upstream_proxy": "p.example:1" })),
        "local": group(json!({ "localhost_ports": [5432] })),
        "db": group(json!({ "connect_ports": [5432] })),
        "serving": group(json!({ "bind_ports": [5432] })),
        "narrow": group(json!({ "block": true, "connect_ports": [5432], "bind_ports": [8000] })),
        "torn": group(json!({ "block": true, "allow_domain": ["a.example"] })),
        "few": group(json!({ "max_connections": 1 })),
        "wary": group(json!({ "deny_domain": ["a.example"], "upstream_bypass": ["b.example"] })),
        "strict": group(json!({ "block": true, "max_connections": 1 })),
    }});
    Policy::parse(&text.to_string()).unwrap()
}

#[test]
fn what_one_group_blocks_no_other_opens() {
    let (_dir, home) = home();
    let policy = networks();
    for (asked, opened) in [
        (&["closed", "db"][..], "closed blocks the network, and db opens connect_ports 5432"),
        (&["db", "closed", "local"], "and db opens connect_ports 5432"),
        (&["closed", "narrow"], "and narrow opens connect_ports 5432"),
        (&["closed", "serving"], "and serving opens bind_ports 5432"),
        (&["narrow", "serving"], "and serving opens bind_ports 5432"),
    ] {
        let asked = names(asked);
        let mut caps = CapabilitySet::new();
        let error = policy.resolve(&asked, &mut caps, &variables(&home)).unwrap_err();
        assert!(error.to_string().contains(opened), "{error}");
        assert_eq!(caps, CapabilitySet::new());
        assert_eq!(policy.check_blocking(&asked).unwrap_err().to_string(), error.to_string());
    }
    for asked in [
        &["narrow", "db"][..],
        &["narrow", "local"],
        &["closed", "local"],
        &["web", "db", "few"],
        &["closed", "few", "wary"],
        &["strict"],
    ] {
        let asked = names(asked);
        policy.resolve(&asked, &mut CapabilitySet::new(), &variables(&home)).unwrap();
        policy.check_blocking(&asked).unwrap();
    }
}

#[test]
fn what_a_proxy_would_open_is_planned_and_the_network_stays_blocked() {
    let (_dir, home) = home();
    let policy = networks();
    for (asked, opened) in [
        (&["closed", "web"][..], "closed blocks the network, and web opens some of it"),
        (&["closed", "behind"], "and behind opens some of it"),
        (&["torn"], "torn blocks the network, and torn opens some of it"),
    ] {
        let asked = names(asked);
        let error = policy.check_blocking(&asked).unwrap_err();
        assert!(error.to_string().contains(opened), "{error}");
        let mut caps = CapabilitySet::new();
        policy.resolve(&asked, &mut caps, &variables(&home)).unwrap();
        assert_eq!(caps.network(), Network::Blocked);
        assert!(policy.network_plan(&asked).unwrap().is_some());
    }
}

#[test]
fn overlaps_are_of_sockets_too_and_of_what_can_be_followed() {
    let (_dir, home) = home();
    let _listener = UnixListener::bind(home.join("work/socket")).unwrap();
    let denied = [home.join("work")];
    let overlap = |caps: &CapabilitySet, denied: &[PathBuf]| {
        check_overlaps(denied, caps).map_err(|error| error.to_string())
    };
    for (granted, denied, relation) in [
        ("work/socket", "work", "path beneath"),
        ("work", "work", "parent"),
        ("", "work/socket", "parent"),
    ] {
        let mut caps = CapabilitySet::new();
        caps.allow_unix_socket(home.join(granted)).unwrap();
        let said = overlap(&caps, &[home.join(denied)]).unwrap_err();
        let granted = home.join(granted).components().collect::<PathBuf>();
        let expected = format!("allowed {relation} '{}' (unix sockets)", granted.display());
        assert!(said.contains(&expected), "{said}");
        // One that the set denies is kept out of what is above it, and leaves nothing of the rest.
        caps.deny_path(home.join(denied)).unwrap();
        assert_eq!(overlap(&caps, &[home.join(denied)]).is_ok(), granted == home);
    }
    // The relation is that of the resolved paths.
    let mut caps = CapabilitySet::new();
    caps.allow_path(home.join("keys/deep"), Access::Read).unwrap();
    let said = overlap(&caps, &[home.join("link")]).unwrap_err();
    assert!(said.contains("overlaps allowed path beneath"), "{said}");
    // Where it leads nobody can say.
    symlink("circle", home.join("circle")).unwrap();
    for path in ["circle", "circle/x", "none/../work"] {
        let error = check_overlaps(&[home.join(path)], &caps).unwrap_err();
        assert!(matches!(error, PolicyError::Unresolved { .. }), "{error}");
    }
    assert!(check_overlaps(&denied, &CapabilitySet::new()).is_ok());
}

#[test]
fn hosts_keep_their_order_and_conflicts_are_named() {
    let group = |network: Value| json!({ "description": "d", "network": network });
    let route = |url: &str| json!({ "api": { "prefix": "/api", "upstream": url } });
    let text = json!({ "groups": {
        "a": group(json!({ "allow_proxy": ["b.example", "a.example"], "max_connections": 9 })),
        "b": group(json!({ "proxy_allow": ["a.example", "c.example"], "max_connections": 3 })),
        "p": group(json!({ "external_proxy": "p.example:1" })),
        "q": group(json!({ "upstream_proxy": "q.example:1" })),
        "r": group(json!({ "custom_credentials": route("https://r.example") })),
        "s": group(json!({ "custom_credentials": route("https://s.example") })),
        "c": group(json!({ "credentials": ["openai"] })),
    }});
    let policy = Policy::parse(&text.to_string()).unwrap();
    let plan = |asked: &[&str]| policy.network_plan(&names(asked)).map(Option::unwrap);
    let both = plan(&["b", "a"]).unwrap();
    let hosts: Vec<_> = both.allowed_hosts.iter().map(|(_, host)| host.as_str()).collect();
    assert_eq!(
        (hosts, both.max_connections),
        (vec!["a.example", "c.example", "b.example"], Some(3))
    );
    for (asked, parts) in [
        (["p", "q"], ["Conflicting upstream_proxy values", "`p`", "`q`"]),
        (["r", "s"], ["custom_credentials `api`", "`r`", "`s`"]),
        (["a", "c"], ["`c`", "custom_credentials", "credential_key"]),
    ] {
        let said = plan(&asked).unwrap_err().to_string();
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    }
    plan(&["p", "p"]).unwrap();
}

#[test]
fn required_groups_cannot_be_left_out() {
    let policy = Policy::parse(EMBEDDED).unwrap();
    assert!(policy.required_groups().any(|name| name == "deny_credentials"));
    assert!(policy.check_exclusions(&names(&["deny_credentials"])).is_err());
    policy.check_exclusions(&names(&["git_config", "unknown"])).unwrap();
}

#[test]
fn of_limits_the_smallest_counts() {
    let text = json!({ "groups": {
        "a": { "description": "d", "limits": { "timeout_secs": 9, "max_processes": 4 } },
        "b": { "description": "d", "limits": { "timeout_secs": 3, "max_open_files": 7 } },
    }});
    let policy = Policy::parse(&text.to_string()).unwrap();
    let limits: Vec<_> = policy.limits(&names(&["a", "b"])).unwrap().given().collect();
    assert_eq!(limits, [("timeout_secs", 3), ("max_processes", 4), ("max_open_files", 7)]);
}

#[test]
fn no_group_of_the_embedded_policy_opens_what_is_everybodys() {
    let (_dir, home) = home();
    let policy = Policy::parse(EMBEDDED).unwrap();
    let (tmp, config) = (home.join("tmp"), home.clone());
    let variables = Variables::new(move |name| match name {
        "HOME" => Some(config.clone().into()),
        "TMPDIR" => Some(tmp.clone().into()),
        _ => None,
    });
    // All but the one that says so in its name, and the one that the others are a conflict with.
    let others = policy.group_names().filter(|name| !["proc_linux", "offline"].contains(name));
    let all: Vec<_> = others.map(ToOwned::to_owned).collect();
    let mut caps = CapabilitySet::new();
    let resolved = policy.resolve(&all, &mut caps, &variables).unwrap();
    // What it denies it does not grant.
    check_overlaps(&resolved.deny_paths(), &caps).unwrap();
    let query = Query::new(caps);
    for path in [
        "/",
        "/run",
        "/run/systemd",
        "/sys",
        "/tmp",
        "/var/run",
        "/var",
        "/home",
        "/root",
        "/etc",
        "/etc/shadow",
        "/etc/ssl",
        "/etc/ssl/private",
        "/etc/pki/tls",
        "/dev",
        "/dev/pts",
        "/dev/tty",
        "/proc",
        "/proc/1",
    ] {
        let answer = query.path(Path::new(path), Access::Read);
        assert!(!matches!(answer, PathAnswer::Allowed(_)), "{path}");
    }
    for name in policy.group_names() {
        let description = policy.group(name).unwrap().description();
        assert!(description.len() > 10 && description.ends_with('.'), "{name}: {description}");
    }
}

#[test]
fn the_embedded_policy_has_every_group_that_programs_ask_for() {
    let policy = Policy::parse(EMBEDDED).unwrap();
    for name in [
        "deny_credentials",
        "deny_keychains_linux",
        "deny_keychains_macos",
        "deny_browser_data_linux",
        "deny_browser_data_macos",
        "deny_macos_private",
        "deny_shell_configs",
        "deny_shell_history",
        "unlink_protection",
        "system_read_linux",
        "system_write_linux",
        "system_read_macos",
        "system_write_macos",
        "git_config",
        "python_runtime",
        "node_runtime",
        "rust_runtime",
        "go_runtime",
        "nix_runtime",
        "homebrew",
        "user_tools",
        "user_caches_linux",
        "user_caches_macos",
        "vscode_linux",
        "vscode_macos",
        "claude_code_linux",
        "claude_code_macos",
        "claude_cache_linux",
        "codex_macos",
        "opencode_linux",
    ] {
        assert!(policy.group(name).is_ok(), "{name}");
    }
}

proptest! {
    #[test]
    fn any_text_is_a_policy_or_an_error(text in ".{0,200}") {
        let _ = Policy::parse(&text);
    }

    #[test]
    fn a_cut_or_changed_document_is_a_policy_or_an_error(at in 0..EMBEDDED.len(), byte in 32u8..127) {
        let mut bytes = EMBEDDED.as_bytes().to_vec();
        bytes[at] = byte;
        let _ = Policy::parse(std::str::from_utf8(&bytes).unwrap());
        let _ = Policy::parse(&EMBEDDED[..at]);
    }

    #[test]
    fn an_expanded_path_is_beneath_its_variable(rest in "[a-z./]{0,12}") {
        let variables = Variables::new(|_| Some("/none/base".into()));
        let document = json!({ "deny": { "access": [format!("~/{rest}")] } });
        if let Ok(paths) = policy(document).deny_paths(&names(&["g"]), &variables) {
            prop_assert!(paths[0].starts_with("/none/base") || rest.contains(".."));
        }
    }
}
