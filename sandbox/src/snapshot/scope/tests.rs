use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::snapshot::{
    ExclusionConfig, Limits, Progress, SkipReason, Skipped, SnapshotManager, record,
};

fn go_on(_: Progress) -> bool {
    true
}

fn manager(home: &Path, tracked: &[PathBuf]) -> SnapshotManager {
    let (exclusion, limits) = (ExclusionConfig::default(), Limits::default());
    SnapshotManager::new(&home.join("session"), tracked, exclusion, limits).unwrap()
}

/// A snapshot as older versions and the `nono` tools have made it.
fn forget_what_is_new(home: &Path, manifest: &SnapshotManifest, is_complete: bool) {
    let path = home.join("session/snapshots/000.json");
    let older = SnapshotManifest { roots: None, rules: None, ..manifest.clone() };
    record::write(&older, None, &path).unwrap();
    if !is_complete {
        let text = fs::read_to_string(&path).unwrap();
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value.as_object_mut().unwrap().remove("tree");
        fs::write(&path, value.to_string()).unwrap();
    }
}

#[test]
fn a_snapshot_that_does_not_tell_its_roots_is_of_those_that_it_shows() {
    for is_complete in [true, false] {
        let home = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| home.path().join(name));
        for directory in [&a, &b] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("file"), "before").unwrap();
        }
        let manifest =
            manager(home.path(), std::slice::from_ref(&a)).create_baseline(&go_on).unwrap();
        forget_what_is_new(home.path(), &manifest, is_complete);
        fs::write(a.join("since"), "").unwrap();
        for tracked in [vec![a.clone(), b.clone()], vec![a.clone()]] {
            manager(home.path(), &tracked).restore_to(0, &go_on).unwrap();
            assert!(
                b.join("file").exists() && a.join("file").exists() && !a.join("since").exists()
            );
        }
    }
}

/// What was read last is in it, so it stood there for certain.
#[test]
fn what_changed_while_it_was_read_is_replaced_whatever_stands_there() {
    let home = tempfile::tempdir().unwrap();
    let tracked = home.path().join("tracked");
    let (busy, gone) = (tracked.join("busy"), tracked.join("gone"));
    fs::create_dir(&tracked).unwrap();
    fs::write(&busy, "before").unwrap();
    let manager = manager(home.path(), std::slice::from_ref(&tracked));
    let mut manifest = SnapshotManifest::clone(&manager.create_baseline(&go_on).unwrap());
    for path in [&busy, &gone] {
        let (path, reason) = (path.clone(), SkipReason::ChangedWhileRead);
        manifest.skipped.push(Skipped { path, reason });
    }
    record::write(&manifest, None, &home.path().join("session/snapshots/000.json")).unwrap();
    fs::remove_file(&busy).unwrap();
    for directory in [&busy, &gone] {
        fs::create_dir(directory).unwrap();
        fs::write(directory.join("file"), "").unwrap();
    }
    manager.restore_to(0, &go_on).unwrap();
    assert_eq!(fs::read_to_string(&busy).unwrap(), "before");
    assert!(gone.join("file").exists(), "it is not known what stood there");
}
