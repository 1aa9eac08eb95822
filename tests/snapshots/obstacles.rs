//! What a program puts in the way of a restore: it goes, or the rest is restored without it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nono_sandbox::snapshot::{
    ExclusionConfig, Failure, Limits, Phase, Progress, SnapshotError, SnapshotManager,
};

use crate::damage::object;
use crate::tree::describe;
use crate::{Session, forget_tree, keep_going};

/// A file, a link and two directories, of which one is the only thing that is tracked in another.
fn session() -> Session {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let exclusion = ExclusionConfig {
        exclude_patterns: words(&["node_modules"]),
        force_include: words(&["node_modules/mine"]),
        ..ExclusionConfig::default()
    };
    Session::with(exclusion, |root| {
        fs::write(root.join(".gitignore"), "*.log\nbuild/\nsub\n!sub/\n").unwrap();
        fs::write(root.join("config"), "before").unwrap();
        fs::write(root.join("build"), "before").unwrap();
        symlink("config", root.join("link")).unwrap();
        for directory in ["sub/inner", "node_modules/mine/deep"] {
            fs::create_dir_all(root.join(directory)).unwrap();
            fs::write(root.join(directory).join("file"), "before").unwrap();
        }
    })
}

/// What is there but for what is excluded, of which nothing is known.
fn tracked(session: &Session) -> Vec<(std::path::PathBuf, String)> {
    let all = describe(&session.path("")).into_iter();
    all.filter(|(path, _)| path != Path::new("node_modules")).collect()
}

fn is_restored_after(spoil: impl FnOnce(&Path)) {
    let session = session();
    session.baseline();
    let before = tracked(&session);
    spoil(&session.path(""));
    session.restore();
    assert_eq!(tracked(&session), before);
    assert_eq!(session.restore(), []);
}

#[test]
fn what_is_ignored_keeps_no_directory_where_something_else_was() {
    is_restored_after(|root| {
        for name in ["config", "link", "build"] {
            fs::remove_file(root.join(name)).unwrap();
            fs::create_dir(root.join(name)).unwrap();
            fs::write(root.join(name).join("x.log"), "").unwrap();
        }
    });
}

#[test]
fn what_is_ignored_keeps_no_place_where_a_directory_was() {
    is_restored_after(|root| {
        fs::remove_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("sub"), "").unwrap();
    });
}

#[test]
fn a_directory_that_is_in_no_snapshot_is_made_again_for_what_is() {
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path();
    is_restored_after(|root| fs::remove_dir_all(root.join("node_modules")).unwrap());
    is_restored_after(|root| {
        fs::remove_dir_all(root.join("node_modules")).unwrap();
        fs::write(root.join("node_modules"), "").unwrap();
    });
    is_restored_after(|root| {
        fs::remove_dir_all(root.join("node_modules")).unwrap();
        symlink(outside, root.join("node_modules")).unwrap();
    });
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn the_directories_of_a_snapshot_that_tells_of_none_are_made_again() {
    let session = session();
    session.baseline();
    forget_tree(&session.session("snapshots/000.json"));
    for directory in ["sub", ""] {
        fs::remove_dir_all(session.path(directory)).unwrap();
        session.restore();
        assert_eq!(fs::read_to_string(session.path("sub/inner/file")).unwrap(), "before");
        assert_eq!(fs::read_to_string(session.path("config")).unwrap(), "before");
    }
}

#[test]
fn what_cannot_be_restored_is_named_when_all_else_is() {
    let session = Session::new(|root| {
        fs::create_dir(root.join("sub")).unwrap();
        for name in ["a", "sub/b", "sub/c"] {
            fs::write(root.join(name), name).unwrap();
        }
    });
    session.baseline();
    let before = describe(&session.path(""));
    for name in ["a", "sub/b", "sub/c", "since"] {
        fs::write(session.path(name), "after").unwrap();
    }
    let (kept, lost) = (session.directory.path().join("kept"), object(&session, "sub/b"));
    // Once every object was found to be right.
    let take_away = |progress: Progress| {
        if progress.phase == Phase::Check {
            fs::rename(&lost, &kept).unwrap();
        }
        true
    };
    let error = session.manager.restore_to(0, &take_away).unwrap_err();
    let SnapshotError::Incomplete { failed } = &error else { panic!("{error}") };
    let failed: Vec<_> = failed.iter().map(|one| (one.step, &*one.path)).collect();
    assert_eq!(failed, [("write", &*session.path("sub/b"))]);
    assert!(error.to_string().contains("sub/b (No such file"), "{error}");
    for (name, content) in [("a", "a"), ("sub/b", "after"), ("sub/c", "sub/c")] {
        assert_eq!(fs::read_to_string(session.path(name)).unwrap(), content);
    }
    assert!(!session.path("since").exists());
    fs::rename(&kept, &lost).unwrap();
    session.manager.restore_to(0, &keep_going).unwrap();
    assert_eq!(describe(&session.path("")), before);
}

/// What a restore to the first snapshot could not do, when `spoil` is done once all was checked.
pub(crate) fn failures(manager: &SnapshotManager, spoil: impl Fn() + Sync) -> Vec<Failure> {
    let spoil = |progress: Progress| {
        if progress.phase == Phase::Check {
            spoil();
        }
        true
    };
    let failed = match manager.restore_to(0, &spoil).unwrap_err() {
        SnapshotError::Incomplete { failed } => Ok(failed),
        error => Err(error),
    };
    failed.unwrap()
}

pub(crate) fn named(failed: &[Failure]) -> Vec<(&'static str, &Path)> {
    failed.iter().map(|one| (one.step, &*one.path)).collect()
}

#[test]
fn no_name_becomes_a_link_to_what_stands_where_its_file_could_not_be_written() {
    let session = Session::new(|root| {
        fs::write(root.join("a"), "before").unwrap();
        fs::hard_link(root.join("a"), root.join("b")).unwrap();
    });
    session.baseline();
    let before = describe(&session.path(""));
    for (name, content) in [("a", "evil"), ("b", "before")] {
        fs::remove_file(session.path(name)).unwrap();
        fs::write(session.path(name), content).unwrap();
    }
    let (kept, lost) = (session.directory.path().join("kept"), object(&session, "before"));
    let failed = failures(&session.manager, || fs::rename(&lost, &kept).unwrap());
    let both = ["a", "b"].map(|name| session.path(name));
    assert_eq!(named(&failed), [("write", &*both[0]), ("write", &*both[1])]);
    assert_eq!(fs::read_to_string(&both[0]).unwrap(), "evil");
    assert_eq!(fs::read_to_string(&both[1]).unwrap(), "before");
    fs::rename(&kept, &lost).unwrap();
    session.manager.restore_to(0, &keep_going).unwrap();
    assert_eq!(describe(&session.path("")), before);
}

#[test]
fn all_names_of_a_file_that_cannot_be_written_in_place_are_told_and_it_keeps_what_it_has() {
    let session = Session::new(|root| {
        fs::write(root.join("a"), "before").unwrap();
        fs::hard_link(root.join("a"), root.join("b")).unwrap();
    });
    fs::hard_link(session.path("a"), session.directory.path().join("outside")).unwrap();
    session.baseline();
    fs::write(session.path("a"), "after").unwrap();
    let (kept, lost) = (session.directory.path().join("kept"), object(&session, "before"));
    let failed = failures(&session.manager, || fs::rename(&lost, &kept).unwrap());
    let both = ["a", "b"].map(|name| session.path(name));
    assert_eq!(named(&failed), [("write", &*both[0]), ("write", &*both[1])]);
    assert_eq!(fs::read_to_string(&both[0]).unwrap(), "after");
}

#[test]
fn a_file_comes_back_at_its_other_names_where_its_first_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for name in ["one/tracked", "two"] {
        fs::create_dir_all(path(name)).unwrap();
    }
    fs::write(path("one/tracked/a"), "before").unwrap();
    for name in ["two/b", "two/c"] {
        fs::hard_link(path("one/tracked/a"), path(name)).unwrap();
    }
    let tracked = ["one/tracked", "two"].map(path);
    let exclusion = ExclusionConfig::default();
    let manager =
        SnapshotManager::new(&path("session"), &tracked, exclusion, Limits::default()).unwrap();
    manager.create_baseline(&keep_going).unwrap();
    let before = describe(&path("two"));
    for name in ["one/tracked/a", "two/b", "two/c"] {
        fs::remove_file(path(name)).unwrap();
        fs::write(path(name), "after").unwrap();
    }
    // A restore makes no way to what is tracked.
    let failed = failures(&manager, || fs::rename(path("one"), path("aside")).unwrap());
    let first = path("one/tracked/a");
    assert_eq!(named(&failed), [("change", &*path("one/tracked")), ("write", &*first)]);
    assert_eq!(describe(&path("two")), before);
}
