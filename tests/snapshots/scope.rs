//! A restore changes only what the snapshot was of, whatever else is tracked by then.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nono_sandbox::snapshot::{ExclusionConfig, Limits, SnapshotError, SnapshotManager};
use tempfile::{TempDir, tempdir};

use crate::keep_going;
use crate::tree::describe;

/// Directories `a` and `b` with a file each, and a session beside them.
struct Places(TempDir);

impl Places {
    fn new() -> Self {
        let places = Self(tempdir().unwrap());
        for name in ["a", "b"] {
            fs::create_dir(places.at(name)).unwrap();
            fs::write(places.at(name).join("file"), name).unwrap();
        }
        places
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn manager(&self, tracked: &[&str]) -> SnapshotManager {
        let tracked: Vec<_> = tracked.iter().map(|name| self.at(name)).collect();
        let (exclusion, limits) = (ExclusionConfig::default(), Limits::default());
        SnapshotManager::new(&self.at("session"), &tracked, exclusion, limits).unwrap()
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path.join("file")).unwrap()
}

#[test]
fn what_is_tracked_besides_is_left_alone() {
    let places = Places::new();
    places.manager(&["a"]).create_baseline(&keep_going).unwrap();
    let before = describe(&places.at("b"));
    fs::write(places.at("a/since"), "").unwrap();
    for tracked in [&["a", "b"][..], &["b", "a", "later"], &[""]] {
        fs::write(places.at("a/file"), "changed").unwrap();
        let manager = places.manager(tracked);
        let told = manager.compute_restore_diff(0, &keep_going).unwrap();
        assert!(told.iter().all(|change| change.path.starts_with(places.at("a"))));
        assert_eq!(manager.restore_to(0, &keep_going).unwrap().len(), told.len());
        assert_eq!(describe(&places.at("b")), before);
        assert_eq!(read(&places.at("a")), "a");
        assert!(!places.at("a/since").exists());
    }
}

#[test]
fn a_path_that_led_elsewhere_then_is_refused_before_anything_is_changed() {
    let places = Places::new();
    symlink(places.at("a"), places.at("work")).unwrap();
    places.manager(&["work"]).create_baseline(&keep_going).unwrap();
    fs::remove_file(places.at("work")).unwrap();
    symlink(places.at("b"), places.at("work")).unwrap();
    let before = describe(&places.at("b"));
    let manager = places.manager(&["work"]);
    for outcome in
        [manager.compute_restore_diff(0, &keep_going), manager.restore_to(0, &keep_going)]
    {
        let error = outcome.unwrap_err();
        let SnapshotError::Elsewhere { was, is, .. } = &error else { panic!("{error}") };
        assert_eq!((was, is), (&places.at("a"), &places.at("b")));
    }
    assert_eq!(describe(&places.at("b")), before);
    // A snapshot of it is one more, and can be restored.
    manager.create_incremental(&keep_going).unwrap();
    fs::write(places.at("b/file"), "changed").unwrap();
    manager.restore_to(1, &keep_going).unwrap();
    assert_eq!(read(&places.at("b")), "b");
}

#[test]
fn less_than_the_snapshot_is_of_is_refused_though_nothing_was_there() {
    let places = Places::new();
    places.manager(&["a", "later"]).create_baseline(&keep_going).unwrap();
    let error = places.manager(&["a"]).restore_to(0, &keep_going).unwrap_err();
    assert!(matches!(error, SnapshotError::Outside { .. }), "{error}");
}

#[test]
fn a_path_beneath_a_link_that_is_not_there_yet_is_the_same_when_it_is() {
    let places = Places::new();
    symlink(places.at("a"), places.at("link")).unwrap();
    places.manager(&["link/deep/later"]).create_baseline(&keep_going).unwrap();
    fs::create_dir_all(places.at("a/deep/later/since")).unwrap();
    places.manager(&["link/deep/later"]).restore_to(0, &keep_going).unwrap();
    assert!(!places.at("a/deep/later").exists());
}

#[test]
fn a_link_out_of_one_tracked_path_is_not_another() {
    let places = Places::new();
    symlink(places.at("b"), places.at("a/link")).unwrap();
    for tracked in [["a", "a/link"], ["a/link", "a"]] {
        let tracked = tracked.map(|name| places.at(name));
        let (exclusion, limits) = (ExclusionConfig::default(), Limits::default());
        let made = SnapshotManager::new(&places.at("session"), &tracked, exclusion, limits);
        let error = made.unwrap_err();
        let SnapshotError::Root { path, .. } = &error else { panic!("{error}") };
        assert_eq!(*path, places.at("a/link"));
    }
    // What it leads to is.
    places.manager(&["a", "b", "a/../b", "a/link"]).create_baseline(&keep_going).unwrap();
    fs::write(places.at("b/file"), "changed").unwrap();
    places.manager(&["a", "b"]).restore_to(0, &keep_going).unwrap();
    assert_eq!(read(&places.at("b")), "b");
}
