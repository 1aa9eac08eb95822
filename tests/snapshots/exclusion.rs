//! What is left out of snapshots, and stays left alone.

use std::fs;

use nono_sandbox::snapshot::{ExclusionConfig, SnapshotError, SnapshotManager};

use crate::{Session, forget_tree, keep_going};

fn files(session: &Session) -> Vec<String> {
    let manifest = session.manager.create_baseline(&keep_going).unwrap();
    let base = session.path("");
    let name = |path: &std::path::Path| path.strip_prefix(&base).unwrap().to_owned();
    manifest.files().map(|(path, _)| name(path).to_string_lossy().into_owned()).collect()
}

fn fill(root: &std::path::Path, names: &[(&str, &str)]) {
    for (name, content) in names {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), content).unwrap();
    }
}

#[test]
fn gitignore_counts_at_every_level_and_the_inner_one_decides() {
    let session = Session::new(|root| {
        fill(
            root,
            &[
                (".gitignore", "*.log\n/target\n"),
                ("a.log", ""),
                ("target/x", ""),
                ("deep/target/x", ""),
                ("deep/.gitignore", "!keep.log\ncache/\n"),
                ("deep/keep.log", ""),
                ("deep/b.log", ""),
                ("deep/cache/x", ""),
            ],
        );
    });
    assert_eq!(
        files(&session),
        [".gitignore", "deep/.gitignore", "deep/keep.log", "deep/target/x"]
    );
}

#[test]
fn patterns_globs_and_what_is_included_whatever_they_say() {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let exclusion = ExclusionConfig {
        use_gitignore: false,
        exclude_patterns: words(&["node_modules", "build/out"]),
        exclude_globs: words(&["*.tmp"]),
        force_include: words(&["node_modules/mine"]),
    };
    let session = Session::with(exclusion, |root| {
        fill(
            root,
            &[
                ("x.tmp", ""),
                ("node_modules/a/b", ""),
                ("node_modules/mine/b", ""),
                ("my_node_modules", ""),
                ("build/out/x", ""),
                ("build/in/x", ""),
            ],
        );
    });
    assert_eq!(files(&session), ["build/in/x", "my_node_modules", "node_modules/mine/b"]);
}

/// As in the reference; what was left out is left alone by a restore.
#[test]
fn a_glob_leaves_out_directories_too_but_never_a_tracked_one() {
    let globs = ["cache-*", "tracked", "*.egg-info"].map(ToOwned::to_owned).into();
    let exclusion = ExclusionConfig { exclude_globs: globs, ..ExclusionConfig::default() };
    let session = Session::with(exclusion, |root| {
        fill(
            root,
            &[("a.egg-info/x", ""), ("src/cache-1/x", ""), ("src/tracked/x", ""), ("src/y", "")],
        );
    });
    assert_eq!(files(&session), ["src/y"]);
    session.baseline();
    fill(&session.path(""), &[("cache-2/made-since", ""), ("src/made-since", "")]);
    session.restore();
    assert!(session.path("cache-2/made-since").exists());
    assert!(session.path("src/cache-1/x").exists());
    assert!(!session.path("src/made-since").exists());
}

#[test]
fn what_was_ignored_stays_though_the_rules_change() {
    let session = Session::new(|root| {
        fill(root, &[(".gitignore", "*.log\n"), ("mine.log", "old"), ("file", "x")]);
    });
    session.baseline();
    fs::write(session.path(".gitignore"), "nothing\n").unwrap();
    fs::write(session.path("mine.log"), "new").unwrap();
    session.restore();
    assert_eq!(fs::read_to_string(session.path("mine.log")).unwrap(), "new");
}

#[test]
fn ignoring_a_new_file_does_not_keep_it() {
    let session = Session::new(|root| fill(root, &[("file", "x")]));
    session.baseline();
    fs::write(session.path(".gitignore"), "*\n").unwrap();
    fs::write(session.path("planted"), "x").unwrap();
    session.restore();
    assert!(!session.path("planted").exists());
    assert!(!session.path(".gitignore").exists());
}

#[test]
fn a_directory_stays_for_what_is_ignored_in_it() {
    let session = Session::new(|root| fill(root, &[(".gitignore", "*.log\n")]));
    session.baseline();
    fill(&session.path(""), &[("new/a.log", ""), ("new/b", "")]);
    session.restore();
    assert!(session.path("new/a.log").exists());
    assert!(!session.path("new/b").exists());
}

#[test]
fn a_glob_that_cannot_be_parsed_is_an_error_at_the_beginning() {
    let exclusion =
        ExclusionConfig { exclude_globs: vec!["[".to_owned()], ..ExclusionConfig::default() };
    let directory = tempfile::tempdir().unwrap();
    let limits = nono_sandbox::snapshot::Limits::default();
    let error = SnapshotManager::new(directory.path(), &[], exclusion, limits).unwrap_err();
    assert!(matches!(error, SnapshotError::Glob { pattern, .. } if pattern == "["));
}

#[test]
fn rules_without_end_are_an_error_before_they_are_read_or_prepared() {
    let session = Session::new(|root| fill(root, &[("a", ""), (".gitignore", "*.log\n")]));
    session.baseline();
    let rules = fs::File::create(session.path(".gitignore")).unwrap();
    for size in [1 << 40, 3 << 20] {
        rules.set_len(size).unwrap();
        let error = session.manager.create_incremental(&keep_going).unwrap_err();
        let SnapshotError::Budget { what, limit, .. } = error else { panic!("{error}") };
        assert_eq!((what, limit), ("bytes of .gitignore files", 2 << 20));
    }
    drop(rules);
    fs::write(session.path(".gitignore"), "*.log\n").unwrap();
    session.manager.create_incremental(&keep_going).unwrap();
}

/// As virtual environments and the caches of tools have them.
#[test]
fn what_a_gitignore_leaves_out_that_leaves_out_itself_stays() {
    let session = Session::new(|root| fill(root, &[("c/.gitignore", "*\n"), ("c/x", "theirs")]));
    session.baseline();
    assert!(session.manager.compute_restore_diff(0, &keep_going).unwrap().is_empty());
    assert_eq!(session.restore(), []);
    fs::write(session.path("c/since"), "").unwrap();
    fs::write(session.path("since"), "").unwrap();
    fs::write(session.path("c/.gitignore"), "").unwrap();
    assert_eq!(session.restore(), [("since".to_owned(), "deleted")]);
    assert_eq!(fs::read_to_string(session.path("c/x")).unwrap(), "theirs");
    assert!(session.path("c/since").exists() && session.path("c/.gitignore").exists());
}

#[test]
fn what_an_excluded_gitignore_leaves_out_stays() {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let none = ExclusionConfig::default;
    for exclusion in [
        ExclusionConfig { exclude_globs: words(&[".*"]), ..none() },
        ExclusionConfig { exclude_patterns: words(&[".gitignore"]), ..none() },
    ] {
        let session = Session::with(exclusion, |root| {
            fill(root, &[(".gitignore", "*.log\n"), ("a.log", "theirs"), ("file", "")]);
        });
        session.baseline();
        fs::write(session.path("planted"), "").unwrap();
        assert_eq!(session.restore(), [("planted".to_owned(), "deleted")]);
        assert_eq!(fs::read_to_string(session.path("a.log")).unwrap(), "theirs");
        assert!(session.path(".gitignore").exists());
    }
}

/// As one of the `nono` tools.
#[test]
fn a_snapshot_that_does_not_tell_its_rules_removes_nothing_that_may_have_been_left_out() {
    let session = Session::new(|root| {
        fill(root, &[("c/.gitignore", "*\n"), ("c/x", "theirs"), ("file", "")]);
    });
    session.baseline();
    forget_tree(&session.session("snapshots/000.json"));
    fill(&session.path(""), &[("d/.gitignore", "*.log\n"), ("d/planted.log", "")]);
    session.restore();
    assert!(session.path("c/x").exists() && session.path("c/.gitignore").exists());
    assert!(!session.path("d/planted.log").exists());
}
