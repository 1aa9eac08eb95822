//! Snapshots of what has not changed: they take over the text of the one before, if that is right.

use std::fs;
use std::path::{Path, PathBuf};

use nono_sandbox::snapshot::{ExclusionConfig, Limits, SnapshotError, SnapshotManager};
use tempfile::{TempDir, tempdir};

use crate::{forget_tree, keep_going};

/// Sessions of what has rested since before this was compiled, so that nothing is read again.
struct Rested(TempDir);

impl Rested {
    fn new() -> Self {
        let rested = Self(tempdir().unwrap());
        rested.manager().create_baseline(&keep_going).unwrap();
        rested
    }

    fn manager(&self) -> SnapshotManager {
        let tracked = Path::new(env!("CARGO_MANIFEST_DIR")).join("support");
        let limits = Limits::default();
        SnapshotManager::new(self.0.path(), &[tracked], ExclusionConfig::default(), limits).unwrap()
    }

    fn file(&self, number: u32) -> PathBuf {
        self.0.path().join(format!("snapshots/{number:03}.json"))
    }

    /// All but number, time, parent and digest.
    fn body(&self, number: u32) -> String {
        let text = fs::read_to_string(self.file(number)).unwrap();
        let body = text.split_once("\"files\"").unwrap().1;
        body.rsplit_once("\"digest\"").unwrap().0.to_owned()
    }
}

#[test]
fn nothing_new_is_the_same_text_with_another_head() {
    let rested = Rested::new();
    let manager = rested.manager();
    for number in 1..4 {
        let again = if number == 3 { &rested.manager() } else { &manager };
        let (manifest, changes) = again.create_incremental(&keep_going).unwrap();
        assert_eq!((manifest.number, manifest.parent), (number, Some(number - 1)));
        assert_eq!(changes, []);
        assert_eq!(rested.body(number), rested.body(0));
        let read = manager.load_manifest(number).unwrap();
        assert_eq!((read.number, read.parent), (number, Some(number - 1)));
        assert_eq!(read.merkle_root, manifest.merkle_root);
        assert!(read.files().eq(manifest.files()));
        assert_eq!(manager.restore_to(number, &keep_going).unwrap(), []);
    }
}

#[test]
fn a_text_that_was_changed_is_not_taken_over() {
    let rested = Rested::new();
    let manager = rested.manager();
    manager.create_incremental(&keep_going).unwrap();
    let text = fs::read_to_string(rested.file(1)).unwrap();
    fs::write(rested.file(1), text.replacen("\"size\":", "\"size\":1", 1)).unwrap();
    for manager in [&manager, &rested.manager()] {
        let error = manager.create_incremental(&keep_going).unwrap_err();
        assert!(matches!(error, SnapshotError::ManifestChanged { what: "digest", .. }), "{error}");
    }
    assert_eq!(manager.snapshot_count().unwrap(), 2);
}

#[test]
fn a_text_in_another_form_is_written_anew() {
    let rested = Rested::new();
    forget_tree(&rested.file(0));
    let (manifest, _) = rested.manager().create_incremental(&keep_going).unwrap();
    assert_eq!(rested.manager().load_manifest(1).unwrap().merkle_root, manifest.merkle_root);
    assert!(rested.body(1).contains("\"directories\""));
}
