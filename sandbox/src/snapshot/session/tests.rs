use std::fs;

use super::*;
use crate::snapshot::{ExclusionConfig, Limits, Progress, SnapshotManager};

/// A manifest with a right digest and a wrong root, as only a program can make that knows how.
#[test]
fn a_root_that_is_not_that_of_the_files_is_never_restored_nor_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let tracked = directory.path().join("tracked");
    fs::create_dir(&tracked).unwrap();
    fs::write(tracked.join("file"), "content").unwrap();
    let home = directory.path().join("session");
    let manager = || {
        let (exclusion, limits) = (ExclusionConfig::default(), Limits::default());
        SnapshotManager::new(&home, std::slice::from_ref(&tracked), exclusion, limits).unwrap()
    };
    let go_on = |_: Progress| true;
    let baseline = manager().create_baseline(&go_on).unwrap();
    let wrong = ContentHash::of(&[b"another"]);
    let forged = SnapshotManifest { merkle_root: wrong, ..SnapshotManifest::clone(&baseline) };
    record::write(&forged, None, &home.join("snapshots/000.json")).unwrap();

    let first = manager();
    // The same files have the same root.
    let (next, _) = first.create_incremental(&go_on).unwrap();
    assert_eq!(next.merkle_root, wrong);
    for manager in [&first, &manager()] {
        for number in [0, 1] {
            let outcomes = [
                manager.load_manifest(number).map(drop),
                manager.restore_to(number, &go_on).map(drop),
                manager.compute_restore_diff(number, &go_on).map(drop),
            ];
            for error in outcomes.map(Result::unwrap_err) {
                let SnapshotError::ManifestChanged { what: "Merkle root", .. } = error else {
                    panic!("{error}");
                };
            }
        }
    }
    // Others have one of their own.
    fs::write(tracked.join("file"), "changed").unwrap();
    let (changed, _) = first.create_incremental(&go_on).unwrap();
    assert_ne!(changed.merkle_root, wrong);
    assert_eq!(first.restore_to(2, &go_on).unwrap(), []);
}
