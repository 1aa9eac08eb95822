//! Snapshots of directories: what was there comes back, whole, and nothing else is touched.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]
#![expect(clippy::print_stderr, reason = "says what is left out")]

#[path = "snapshots/burdens.rs"]
mod burdens;
#[path = "snapshots/damage.rs"]
mod damage;
#[path = "snapshots/exclusion.rs"]
mod exclusion;
#[path = "snapshots/large.rs"]
mod large;
#[path = "snapshots/meanwhile.rs"]
mod meanwhile;
#[path = "snapshots/obstacles.rs"]
mod obstacles;
#[path = "snapshots/order.rs"]
mod order;
#[path = "snapshots/property.rs"]
mod property;
#[path = "snapshots/reflink.rs"]
mod reflink;
#[path = "snapshots/restore.rs"]
mod restore;
#[path = "snapshots/scope.rs"]
mod scope;
#[path = "snapshots/tree.rs"]
mod tree;
#[path = "snapshots/turns.rs"]
mod turns;
#[path = "snapshots/unchanged.rs"]
mod unchanged;

use std::path::{Path, PathBuf};

use nono_sandbox::snapshot::{Change, ExclusionConfig, Limits, Progress, SnapshotManager};
use tempfile::{TempDir, tempdir};

/// A directory that is tracked, and a session beside it.
struct Session {
    directory: TempDir,
    manager: SnapshotManager,
}

fn keep_going(_: Progress) -> bool {
    true
}

/// Leaves of the manifest at `path` what another program may have written: nothing that is only ours.
fn forget_tree(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value.as_object_mut().unwrap().remove("tree");
    std::fs::write(path, value.to_string()).unwrap();
}

impl Session {
    fn new(fill: impl FnOnce(&Path)) -> Self {
        Self::with(ExclusionConfig::default(), fill)
    }

    fn with(exclusion: ExclusionConfig, fill: impl FnOnce(&Path)) -> Self {
        let directory = tempdir().unwrap();
        let tracked = directory.path().join("tracked");
        std::fs::create_dir(&tracked).unwrap();
        fill(&tracked);
        let session = directory.path().join("session");
        let manager =
            SnapshotManager::new(&session, &[tracked], exclusion, Limits::default()).unwrap();
        Self { directory, manager }
    }

    /// The tracked directory, or what is beneath it.
    fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join("tracked").join(relative)
    }

    fn session(&self, relative: &str) -> PathBuf {
        self.directory.path().join("session").join(relative)
    }

    fn baseline(&self) {
        self.manager.create_baseline(&keep_going).unwrap();
    }

    fn restore(&self) -> Vec<(String, &'static str)> {
        self.named(&self.manager.restore_to(0, &keep_going).unwrap())
    }

    fn incremental(&self) -> Vec<(String, &'static str)> {
        self.named(&self.manager.create_incremental(&keep_going).unwrap().1)
    }

    /// Changes by their paths beneath the tracked directory.
    fn named(&self, changes: &[Change]) -> Vec<(String, &'static str)> {
        let base = self.path("");
        let name = |change: &Change| {
            change.path.strip_prefix(&base).unwrap().to_string_lossy().into_owned()
        };
        changes.iter().map(|change| (name(change), change.change_type.as_str())).collect()
    }
}
