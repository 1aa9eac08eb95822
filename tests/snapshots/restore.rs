//! What a restore gives back, and what it leaves alone.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use nono_sandbox::snapshot::{
    ExclusionConfig, Limits, Phase, SkipReason, SnapshotError, SnapshotManager,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::tree::describe;
use crate::{Session, keep_going};

#[test]
fn what_is_only_another_mode_or_time_is_restored() {
    let session = Session::new(|root| {
        fs::create_dir(root.join("bin")).unwrap();
        fs::write(root.join("bin/run"), "#!").unwrap();
        fs::set_permissions(root.join("bin/run"), Permissions::from_mode(0o755)).unwrap();
    });
    session.baseline();
    let before = describe(&session.path(""));
    fs::set_permissions(session.path("bin/run"), Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(session.path("bin"), Permissions::from_mode(0o711)).unwrap();
    assert_eq!(
        session.incremental(),
        [("bin".to_owned(), "permissions_changed"), ("bin/run".to_owned(), "permissions_changed"),]
    );
    session.restore();
    assert_eq!(describe(&session.path("")), before);
}

#[test]
fn a_name_outside_keeps_the_file_it_is_a_name_of() {
    let session = Session::new(|root| fs::write(root.join("shared"), "before").unwrap());
    let outside = session.directory.path().join("outside");
    fs::hard_link(session.path("shared"), &outside).unwrap();
    session.baseline();
    fs::write(session.path("shared"), "after").unwrap();
    session.restore();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "before");
    assert_eq!(fs::metadata(&outside).unwrap().nlink(), 2);
}

/// As a program that is kept from a file may do to have it written by whoever restores.
#[test]
fn a_name_that_was_put_there_since_keeps_the_file_outside_as_it_is() {
    let session = Session::new(|root| {
        for name in ["content", "mode", "linked", "plain"] {
            fs::write(root.join(name), "before").unwrap();
        }
    });
    let outside = |name: &str| session.directory.path().join(name);
    fs::hard_link(session.path("linked"), outside("first")).unwrap();
    session.baseline();
    let before = describe(&session.path(""));
    for (name, content) in [("content", "theirs"), ("mode", "before"), ("linked", "theirs")] {
        fs::write(outside(name), content).unwrap();
        fs::set_permissions(outside(name), Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(session.path(name)).unwrap();
        fs::hard_link(outside(name), session.path(name)).unwrap();
    }
    fs::write(session.path("plain"), "after").unwrap();
    fs::hard_link(session.path("plain"), outside("plain")).unwrap();
    session.restore();
    assert_eq!(describe(&session.path("")), before);
    for (name, content) in [("content", "theirs"), ("mode", "before"), ("linked", "theirs")] {
        assert_eq!(fs::read_to_string(outside(name)).unwrap(), content, "{name}");
        assert_eq!(fs::metadata(outside(name)).unwrap().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(fs::read_to_string(outside("first")).unwrap(), "before");
    assert_eq!(fs::read_to_string(outside("plain")).unwrap(), "after");
    assert_eq!(session.restore(), []);
}

#[test]
fn a_file_that_is_rewritten_in_one_step_is_never_half_there() {
    let session = Session::new(|root| fs::write(root.join("file"), "before").unwrap());
    session.baseline();
    fs::write(session.path("file"), "after").unwrap();
    let held = fs::File::open(session.path("file")).unwrap();
    session.restore();
    assert_eq!(std::io::read_to_string(held).unwrap(), "after", "it was another file");
    assert_eq!(fs::read_to_string(session.path("file")).unwrap(), "before");
}

#[test]
fn no_link_is_followed_out_of_what_is_tracked() {
    let session = Session::new(|root| {
        fs::create_dir(root.join("inner")).unwrap();
        fs::write(root.join("inner/file"), "before").unwrap();
    });
    let outside = session.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "theirs").unwrap();
    fs::write(outside.join("more"), "theirs").unwrap();
    session.baseline();
    fs::remove_dir_all(session.path("inner")).unwrap();
    symlink(&outside, session.path("inner")).unwrap();
    let before = describe(&outside);
    session.restore();
    assert_eq!(describe(&outside), before);
    assert_eq!(fs::read_to_string(session.path("inner/file")).unwrap(), "before");
    assert!(!session.path("inner").is_symlink());
}

#[test]
fn a_tracked_path_that_became_a_link_is_not_followed() {
    let session = Session::new(|root| fs::write(root.join("file"), "before").unwrap());
    session.baseline();
    let moved = session.directory.path().join("moved");
    fs::rename(session.path(""), &moved).unwrap();
    fs::write(moved.join("new"), "theirs").unwrap();
    symlink(&moved, session.directory.path().join("tracked")).unwrap();
    session.restore();
    assert!(moved.join("new").exists());
    assert_eq!(fs::read_to_string(session.path("file")).unwrap(), "before");
    assert!(!session.directory.path().join("tracked").is_symlink());
}

#[test]
fn a_tracked_path_may_be_a_link_a_file_or_not_there_yet() {
    let session = Session::new(|root| fs::write(root.join("file"), "before").unwrap());
    let base = session.directory.path();
    symlink(session.path(""), base.join("link")).unwrap();
    let tracked = [base.join("link"), base.join("alone"), base.join("later")];
    fs::write(&tracked[1], "alone").unwrap();
    let directory = base.join("another");
    let manager = || {
        let limits = Limits::default();
        SnapshotManager::new(&directory, &tracked, ExclusionConfig::default(), limits).unwrap()
    };
    let manifest = manager().create_baseline(&keep_going).unwrap();
    let files: Vec<_> = manifest.files().map(|(path, _)| path.to_owned()).collect();
    assert_eq!(files, [tracked[1].clone(), tracked[0].join("file")]);
    assert_eq!(manifest.skipped.len(), 1);
    assert_eq!(manifest.skipped[0].reason, SkipReason::Missing);
    fs::create_dir(&tracked[2]).unwrap();
    fs::write(tracked[2].join("new"), "").unwrap();
    fs::remove_file(&tracked[1]).unwrap();
    fs::write(tracked[0].join("file"), "after").unwrap();
    manager().restore_to(0, &keep_going).unwrap();
    assert!(!tracked[2].exists());
    assert_eq!(fs::read_to_string(&tracked[1]).unwrap(), "alone");
    assert_eq!(fs::read_to_string(session.path("file")).unwrap(), "before");
}

#[test]
fn sockets_stay_if_they_were_there_and_go_if_not() {
    let session = Session::new(|_| {});
    let _old = UnixListener::bind(session.path("old")).unwrap();
    let manifest = session.manager.create_baseline(&keep_going).unwrap();
    assert_eq!(manifest.skipped[0].reason, SkipReason::Special);
    let _new = UnixListener::bind(session.path("new")).unwrap();
    assert_eq!(session.restore(), [("new".to_owned(), "deleted")]);
    assert!(session.path("old").exists());
    assert!(!session.path("new").exists());
}

#[test]
fn what_is_none_any_more_where_a_pipe_was_is_told_and_goes() {
    let session = Session::new(|root| {
        for name in ["directory", "file", "pipe"] {
            mknodat(CWD, root.join(name), FileType::Fifo, Mode::RUSR, 0).unwrap();
        }
    });
    session.baseline();
    for name in ["directory", "file"] {
        fs::remove_file(session.path(name)).unwrap();
    }
    fs::create_dir(session.path("directory")).unwrap();
    fs::write(session.path("directory/since"), "").unwrap();
    fs::write(session.path("file"), "").unwrap();
    let gone = ["directory/since", "file"].map(|name| (name.to_owned(), "deleted"));
    assert_eq!(session.restore(), gone);
    let names = fs::read_dir(session.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["pipe"]);
    assert_eq!(session.restore(), []);
}

#[test]
fn a_later_baseline_does_not_take_the_place_of_the_first() {
    let session = Session::new(|root| fs::write(root.join("file"), "first").unwrap());
    session.baseline();
    fs::write(session.path("file"), "second").unwrap();
    let second = session.manager.create_baseline(&keep_going).unwrap();
    assert_eq!((second.number, second.parent), (1, None));
    session.restore();
    assert_eq!(fs::read_to_string(session.path("file")).unwrap(), "first");
}

#[test]
fn a_change_that_keeps_size_and_time_is_seen() {
    let session = Session::new(|root| fs::write(root.join("file"), "one").unwrap());
    session.baseline();
    let time = fs::metadata(session.path("file")).unwrap().modified().unwrap();
    fs::write(session.path("file"), "two").unwrap();
    let file = fs::File::options().write(true).open(session.path("file")).unwrap();
    file.set_modified(time).unwrap();
    assert_eq!(session.incremental(), [("file".to_owned(), "modified")]);
}

#[test]
fn a_session_is_taken_up_again_by_another_manager() {
    let session = Session::new(|root| fs::write(root.join("file"), "first").unwrap());
    session.baseline();
    fs::write(session.path("file"), "second").unwrap();
    let again = SnapshotManager::new(
        &session.session(""),
        &[session.path("")],
        ExclusionConfig::default(),
        Limits::default(),
    )
    .unwrap();
    let (manifest, changes) = again.create_incremental(&keep_going).unwrap();
    assert_eq!((manifest.number, manifest.parent, changes.len()), (1, Some(0), 1));
    assert_eq!(session.manager.snapshot_count().unwrap(), 2);
}

#[test]
fn the_session_itself_is_not_tracked() {
    let session = Session::new(|root| fs::write(root.join("file"), "x").unwrap());
    let inner = session.path("session");
    let manager = SnapshotManager::new(
        &inner,
        &[session.path("")],
        ExclusionConfig::default(),
        Limits::default(),
    )
    .unwrap();
    manager.create_baseline(&keep_going).unwrap();
    assert_eq!(manager.restore_to(0, &keep_going).unwrap(), []);
    assert!(inner.join("snapshots/000.json").exists());
}

#[test]
fn too_much_is_refused_by_number_and_by_size() {
    let session = Session::new(|root| {
        (0..5).for_each(|n| fs::write(root.join(n.to_string()), [0; 100]).unwrap());
    });
    for (max_entries, max_bytes, what) in [(4, 0, "entries"), (0, 499, "bytes")] {
        let limits = Limits { max_entries, max_bytes };
        let directory = session.directory.path().join(what);
        let exclusion = ExclusionConfig::default();
        let manager =
            SnapshotManager::new(&directory, &[session.path("")], exclusion, limits).unwrap();
        let error = manager.create_baseline(&keep_going).unwrap_err();
        assert!(matches!(error, SnapshotError::Budget { what: w, .. } if w == what), "{error}");
        assert_eq!(manager.snapshot_count().unwrap(), 0);
    }
}

#[test]
fn a_callback_sees_the_phases_and_can_stop_them() {
    let session = Session::new(|root| {
        (0..600).for_each(|n| fs::write(root.join(n.to_string()), "x").unwrap());
    });
    session.baseline();
    (0..600).for_each(|n| fs::write(session.path(&n.to_string()), "changed").unwrap());
    let seen = AtomicBool::new(false);
    let stop = |progress: nono_sandbox::snapshot::Progress| {
        seen.fetch_or(progress.total == Some(600), Ordering::Relaxed);
        progress.phase != Phase::Restore
    };
    let error = session.manager.restore_to(0, &stop).unwrap_err();
    assert!(matches!(error, SnapshotError::Cancelled), "{error}");
    assert!(seen.into_inner());
    session.restore();
    let is_back = |n: i32| fs::read_to_string(session.path(&n.to_string())).unwrap() == "x";
    assert!((0..600).all(is_back));
}

#[test]
fn a_large_file_comes_back_whole() {
    let content: Vec<u8> = (0..300_007_u32).flat_map(u32::to_le_bytes).collect();
    let session = Session::new(|root| fs::write(root.join("large"), &content).unwrap());
    session.baseline();
    fs::write(session.path("large"), "small").unwrap();
    session.restore();
    assert_eq!(fs::read(session.path("large")).unwrap(), content);
}

#[test]
fn paths_are_named_as_the_tracked_path_was_given() {
    let session = Session::new(|root| fs::write(root.join("file"), "x").unwrap());
    let given = PathBuf::from(format!("{}/./", session.path("").display()));
    let directory = session.directory.path().join("other");
    let exclusion = ExclusionConfig::default();
    let manager = SnapshotManager::new(&directory, &[given], exclusion, Limits::default()).unwrap();
    let manifest = manager.create_baseline(&keep_going).unwrap();
    let names: Vec<_> = manifest.files().map(|(path, _)| path.to_owned()).collect();
    assert_eq!(names, [session.path("file")]);
}
