//! What a program puts into a tree for one entry of it to keep the rest from being kept or restored.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, iter};

use nono_sandbox::snapshot::{
    ExclusionConfig, Limits, Phase, Progress, SkipReason, SnapshotManager,
};
use rustix::fs::{Mode, OFlags, XattrFlags, mkdirat, openat, setxattr};
use rustix::process::{Resource, Rlimit, setrlimit};
use support::apart;
use support::sandboxed::{User, command_as};

use crate::obstacles::{failures, named};
use crate::tree::describe;
use crate::{Session, keep_going};

/// As file systems in memory let any program do: more names than the kernel tells of.
#[test]
fn what_has_more_attributes_than_can_be_told_goes_and_keeps_nothing_else_from_being_restored() {
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("left out: there is no file system in memory");
        return;
    };
    let tracked = directory.path().join("tracked");
    let path = |name: &str| tracked.join(name);
    fs::create_dir_all(path("inner")).unwrap();
    for name in ["file", "inner/file", "wanted"] {
        fs::write(path(name), "before").unwrap();
    }
    let (exclusion, limits) = (ExclusionConfig::default(), Limits::default());
    let session = directory.path().join("session");
    let manager =
        SnapshotManager::new(&session, std::slice::from_ref(&tracked), exclusion, limits).unwrap();
    manager.create_baseline(&keep_going).unwrap();
    let before = describe(&tracked);
    fs::create_dir(path("since")).unwrap();
    for name in ["file", "inner/file", "inner/since", "since/file", "alone"] {
        fs::write(path(name), "after").unwrap();
    }
    if !["wanted", "since", "alone"].iter().all(|name| has_countless_attributes(&path(name))) {
        eprintln!("left out: there may be no more attributes than can be told");
        return;
    }
    manager.restore_to(0, &keep_going).unwrap();
    assert_eq!(describe(&tracked), before);

    has_countless_attributes(&path("wanted"));
    has_countless_attributes(&path("inner"));
    fs::write(path("inner/since"), "").unwrap();
    let (manifest, changes) = manager.create_incremental(&keep_going).unwrap();
    assert!(changes.iter().any(|change| change.path == path("inner/since")));
    let skipped: Vec<_> = manifest.skipped.iter().map(|one| (&*one.path, one.reason)).collect();
    assert_eq!(skipped, [(&*path("wanted"), SkipReason::Unreadable)]);
    // What is in a directory comes back, and of the directory itself what can.
    let failed = failures(&manager, || {});
    assert_eq!(named(&failed), [("change", &*path("inner"))]);
    assert!(!path("inner/since").exists());
}

/// Whether a file or directory has them now.
fn has_countless_attributes(path: &Path) -> bool {
    (0..400).all(|number| {
        setxattr(path, format!("user.{number:0240}"), b"", XattrFlags::empty()).is_ok()
    })
}

#[test]
fn a_file_that_cannot_be_read_keeps_nothing_else_from_being_kept() {
    let session = Session::new(|root| fs::write(root.join("file"), "before").unwrap());
    // It can be opened, but nothing is at its beginning.
    let tracked = [session.path(""), "/proc/self/mem".into()];
    let directory = session.directory.path().join("another");
    let (exclusion, limits) = (ExclusionConfig::default(), Limits::default());
    let manager = SnapshotManager::new(&directory, &tracked, exclusion, limits).unwrap();
    let manifest = manager.create_baseline(&keep_going).unwrap();
    assert_eq!(manifest.skipped.len(), 1);
    assert_eq!(manifest.skipped[0].reason, SkipReason::Unreadable);
    assert_eq!(manifest.files().count(), 1);
    fs::write(session.path("file"), "after").unwrap();
    manager.restore_to(0, &keep_going).unwrap();
    assert_eq!(fs::read_to_string(session.path("file")).unwrap(), "before");
}

/// More levels than a process may have files, each with more names than are looked at at once.
#[test]
fn a_tree_that_is_deep_and_wide_is_walked_with_few_open_files() {
    const LEVELS: usize = 300;
    const FILES: u64 = 256;
    let name = "burdens::a_tree_that_is_deep_and_wide_is_walked_with_few_open_files";
    apart(name, &[], async {
        let session = Session::new(|root| fs::write(root.join("file"), "before").unwrap());
        session.baseline();
        fs::write(session.path("file"), "after").unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut directory = File::open(session.path("")).unwrap().into();
        for _ in 0..LEVELS {
            for number in 0..129 {
                let flags = OFlags::CREATE | OFlags::WRONLY;
                openat(&directory, number.to_string(), flags, Mode::RUSR).unwrap();
            }
            mkdirat(&directory, "z", Mode::RWXU).unwrap();
            directory = openat(&directory, "z", flags, Mode::empty()).unwrap();
        }
        let few = Rlimit { current: Some(FILES), maximum: Some(FILES) };
        setrlimit(Resource::Nofile, few).unwrap();
        session.incremental();
        session.restore();
        assert_eq!(fs::read_to_string(session.path("file")).unwrap(), "before");
        assert_eq!(fs::read_dir(session.path("")).unwrap().count(), 1);
    });
}

/// As long as many of them are in each other, walking anew for each would take for ever.
#[test]
fn directories_that_shut_out_their_owner_are_opened_within_one_walk() {
    const LEVELS: usize = 60;
    const MARK: &str = "NONO_TEST_AS_NOBODY";
    // Nothing is shut for root.
    if rustix::process::geteuid().is_root() {
        if env::var_os(MARK).is_some() {
            eprintln!("left out: there is no user but root here");
            return;
        }
        let name = "burdens::directories_that_shut_out_their_owner_are_opened_within_one_walk";
        let mut command = command_as(User::Nobody);
        command.arg(env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]);
        let output = command.env(MARK, "1").output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && told.contains("1 passed"), "{told}");
        return;
    }
    let session = Session::new(|root| fs::write(root.join("file"), "before").unwrap());
    session.baseline();
    let before = describe(&session.path(""));
    let deeper = iter::successors(Some(session.path("d")), |path| Some(path.join("d")));
    let all: Vec<_> = deeper.take(LEVELS).collect();
    for path in &all {
        fs::create_dir(path).unwrap();
    }
    fs::write(all[LEVELS - 1].join("since"), "").unwrap();
    for path in all.iter().rev() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    }
    let walks = AtomicUsize::new(0);
    let count = |progress: Progress| {
        // The end of a walk of so few.
        walks.fetch_add(usize::from(progress.phase == Phase::Scan), Ordering::Relaxed);
        true
    };
    session.manager.restore_to(0, &count).unwrap();
    assert_eq!(walks.into_inner(), 1);
    assert_eq!(describe(&session.path("")), before);
}
