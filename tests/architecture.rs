//! What the build tools do not enforce of how this repository is made.

#![expect(clippy::expect_used, reason = "a test that cannot read the repository fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What each crate may depend on of this workspace. `tests` and `benches` may use anything.
const DIRECTION: [(&str, &[&str]); 5] = [
    ("nono-audit", &[]),
    ("nono-credentials", &[]),
    ("nono-sandbox", &[]),
    ("nono-proxy", &["nono-audit", "nono-credentials"]),
    ("nono-py", &["nono-audit", "nono-credentials", "nono-proxy", "nono-sandbox"]),
];

/// All that may be visible at the root.
const ROOT: [&str; 11] = [
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "Makefile",
    "audit",
    "benches",
    "credentials",
    "proxy",
    "py",
    "sandbox",
    "tests",
];

/// Where unsafe code is: the system calls of the sandbox, and those that its tests try.
const SYSTEM_CALLS: [&str; 2] = ["sandbox/src/sys/", "tests/support/probe.rs"];

/// A second TLS or crypto library would double what has to be trusted.
const BANNED: [&str; 4] = ["ring", "openssl", "openssl-sys", "native-tls"];

const MAX_LINES: usize = 600;

#[test]
fn dependencies_point_one_way() {
    for package in members() {
        let name = text(&package["name"]);
        let Some((_, allowed)) = DIRECTION.iter().find(|(known, _)| *known == name) else {
            assert!(["nono-tests", "nono-benches"].contains(&name), "unknown crate {name}");
            continue;
        };
        for dependency in list(&package["dependencies"]) {
            let on = text(&dependency["name"]);
            let is_ours = !dependency["path"].is_null();
            assert!(!is_ours || allowed.contains(&on), "{name} must not depend on {on}");
        }
    }
}

#[test]
fn the_root_holds_only_what_belongs_there() {
    let visible = fs::read_dir(root()).expect("the root is readable").filter_map(|entry| {
        let name = entry.expect("an entry").file_name().into_string().expect("a UTF-8 name");
        (!name.starts_with('.') && name != "target").then_some(name)
    });
    let strangers: Vec<_> = visible.filter(|name| !ROOT.contains(&name.as_str())).collect();
    assert!(strangers.is_empty(), "does not belong at the root: {strangers:?}");
}

#[test]
fn unsafe_code_is_where_system_calls_are() {
    // In two parts, or this line would be a finding.
    let keyword = concat!("un", "safe");
    for file in rust_files() {
        let is_allowed = SYSTEM_CALLS.iter().any(|allowed| file.starts_with(root().join(allowed)));
        let source = fs::read_to_string(&file).expect("a readable source file");
        let found = source.lines().position(|line| {
            let code = line.split("//").next().unwrap_or_default();
            code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == keyword)
        });
        let line = found.map_or(0, |index| index + 1);
        assert!(is_allowed || line == 0, "{}:{line}: {keyword} code", file.display());
    }
}

#[test]
fn files_stay_readable() {
    for file in rust_files() {
        let lines = fs::read_to_string(&file).expect("a readable source file").lines().count();
        assert!(lines <= MAX_LINES, "{}: {lines} lines, at most {MAX_LINES}", file.display());
    }
}

#[test]
fn members_share_versions_and_lints() {
    for package in members() {
        let path = text(&package["manifest_path"]);
        let manifest = fs::read_to_string(path).expect("a readable manifest");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{path}: lints of its own");
        for field in ["version", "edition", "rust-version", "license", "publish"] {
            let line = format!("{field}.workspace = true");
            assert!(manifest.contains(&line), "{path}: {field} of its own");
        }
        for line in dependency_lines(&manifest) {
            assert!(line.contains("workspace = true"), "{path}: a version of its own: {line}");
        }
    }
}

#[test]
fn only_one_crypto_library_is_built() {
    let tree = cargo(&["tree", "--workspace", "--prefix", "none", "--format", "{p}"]);
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    let banned: Vec<_> = names.filter(|name| BANNED.contains(name)).collect();
    assert!(banned.is_empty(), "in the dependency tree: {banned:?}");
}

fn dependency_lines(manifest: &str) -> impl Iterator<Item = &str> {
    let mut is_inside = false;
    manifest.lines().filter(move |line| {
        if line.starts_with('[') {
            is_inside = line.ends_with("dependencies]");
            return false;
        }
        is_inside && !line.is_empty() && !line.starts_with('#')
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn members() -> Vec<Value> {
    let json = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&json).expect("metadata is JSON");
    list(&metadata["packages"]).clone()
}

fn cargo(arguments: &[&str]) -> String {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(arguments)
        .arg("--locked")
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("an array")
}

fn rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories: Vec<_> = ROOT.iter().map(|name| root().join(name)).collect();
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("target") {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}
