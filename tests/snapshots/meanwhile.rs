//! What changes or goes while it is looked at, and what cannot be looked at: said with its reason.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{iter, thread};

use nono_sandbox::snapshot::{ExclusionConfig, Progress, SkipReason, SnapshotManifest};
use rustix::fs::{CWD, Mode, OFlags, fstat, mkdirat, openat, symlinkat};

use crate::tree::describe;
use crate::{Session, keep_going};

fn reasons(manifest: &SnapshotManifest) -> Vec<SkipReason> {
    manifest.skipped.iter().map(|skipped| skipped.reason).collect()
}

#[test]
fn a_file_that_changes_each_time_it_is_read_is_named_and_kept_as_it_was_read_last() {
    // On a busy machine the file may stay as it is for as long as it is read.
    let (session, manifest) = iter::repeat_with(baseline_of_a_busy_file)
        .take(20)
        .find(|(_, manifest)| !reasons(manifest).is_empty())
        .expect("one that has changed");
    assert_eq!(reasons(&manifest), [SkipReason::ChangedWhileRead]);
    assert_eq!(manifest.files().next().unwrap().1.size, BUSY_SIZE as u64);
    // What was read stands under its own hash, so it can be had back.
    fs::write(session.path("busy"), "other").unwrap();
    session.restore();
    assert_eq!(fs::metadata(session.path("busy")).unwrap().len(), BUSY_SIZE as u64);
    assert!(session.restore().is_empty());
}

const BUSY_SIZE: usize = 32 << 20;

/// Of a file that somebody writes into all the time.
fn baseline_of_a_busy_file() -> (Session, Arc<SnapshotManifest>) {
    let session = Session::new(|root| fs::write(root.join("busy"), vec![0; BUSY_SIZE]).unwrap());
    let file = File::options().write(true).open(session.path("busy")).unwrap();
    let (is_over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let write = || {
        for byte in (0..=u8::MAX).cycle() {
            file.write_all_at(&[byte], 0).unwrap();
            file.write_all_at(&[byte], BUSY_SIZE as u64 - 1).unwrap();
            rounds.fetch_add(1, Ordering::Relaxed);
            if is_over.load(Ordering::Relaxed) {
                return;
            }
        }
    };
    let manifest = thread::scope(|scope| {
        scope.spawn(write);
        while rounds.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        let manifest = session.manager.create_baseline(&keep_going);
        is_over.store(true, Ordering::Relaxed);
        manifest.unwrap()
    });
    (session, manifest)
}

#[test]
fn what_goes_before_it_is_read_is_named_and_the_rest_is_kept() {
    const COUNT: usize = 4000;
    let session = Session::new(|root| {
        (0..COUNT).for_each(|number| fs::write(root.join(number.to_string()), "x").unwrap());
    });
    let remove = |progress: Progress| {
        if progress.done < COUNT as u64 {
            // Some may be gone already: the callback is called by every thread of the walk.
            (0..COUNT).for_each(|number| _ = fs::remove_file(session.path(&number.to_string())));
        }
        true
    };
    let manifest = session.manager.create_baseline(&remove).unwrap();
    let gone = reasons(&manifest);
    assert!(!gone.is_empty());
    assert!(gone.iter().all(|reason| *reason == SkipReason::Vanished));
    let kept = manifest.files().count();
    assert_eq!(kept + gone.len(), COUNT);
    session.restore();
    assert_eq!(fs::read_dir(session.path("")).unwrap().count(), kept);
}

#[test]
fn what_is_too_deep_for_a_path_is_named_and_left_alone() {
    let session = Session::new(|root| fs::write(root.join("file"), "before").unwrap());
    let name = "d".repeat(250);
    let directory = descend(&session.path(""), iter::repeat_n(name.as_str(), 20));
    let manifest = session.manager.create_baseline(&keep_going).unwrap();
    assert_eq!(reasons(&manifest), [SkipReason::TooDeep]);
    fs::write(session.path("file"), "after").unwrap();
    session.restore();
    assert_eq!(fs::read_to_string(session.path("file")).unwrap(), "before");
    openat(&directory, ".", OFlags::RDONLY, Mode::empty()).unwrap();
    assert!(session.path(&name).join(&name).exists());
}

/// Makes one directory in the other, and gives the innermost.
fn descend<'n>(from: &Path, names: impl Iterator<Item = &'n str>) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut directory = openat(CWD, from, flags, Mode::empty()).unwrap();
    for name in names {
        mkdirat(&directory, name, Mode::RWXU).unwrap();
        directory = openat(&directory, name, flags, Mode::empty()).unwrap();
    }
    directory
}

#[test]
fn what_came_since_goes_however_deep_it_is() {
    const LEVELS: usize = 5000;
    let session = Session::new(|root| fs::create_dir(root.join("kept")).unwrap());
    let outside = session.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "theirs").unwrap();
    session.baseline();
    let before = describe(&session.path(""));
    let deepest = descend(&session.path("kept"), iter::repeat_n("d", LEVELS));
    for name in ["planted", "another"] {
        openat(&deepest, name, OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
        symlinkat(&outside, &deepest, format!("link to {name}")).unwrap();
        mkdirat(&deepest, format!("beside {name}"), Mode::empty()).unwrap();
    }
    let told = session.named(&session.manager.compute_restore_diff(0, &keep_going).unwrap());
    assert!(told.iter().all(|(path, change)| path.starts_with("kept/d") && *change == "deleted"));
    assert!(session.restore() == told && !told.is_empty());
    assert_eq!(describe(&session.path("")), before);
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "theirs");
    assert!(session.restore().is_empty());
}

#[test]
fn what_is_excluded_stays_however_deep_it_is() {
    let session = Session::with(
        ExclusionConfig {
            exclude_patterns: vec!["cache".to_owned()],
            force_include: vec!["wanted".to_owned()],
            ..ExclusionConfig::default()
        },
        |_| {},
    );
    session.baseline();
    let names = iter::once("cache").chain(iter::repeat_n("d", 3000));
    let deepest = descend(&session.path(""), names);
    assert!(session.restore().is_empty());
    assert_eq!(fstat(&deepest).unwrap().st_nlink, 2);
}
