//! Where the file system has reflinks, a content and its copies share their blocks.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use nono_sandbox::snapshot::{ExclusionConfig, Limits, SnapshotManager};
use rustix::fs::statvfs;
use support::isolated;
use tempfile::tempdir;

use crate::keep_going;

const MIB: usize = 1 << 20;

/// The size of the file that is tracked.
const SIZE: usize = 64 * MIB;

#[test]
fn a_snapshot_and_a_restore_take_no_room_where_blocks_can_be_shared() {
    isolated("reflink::a_snapshot_and_a_restore_take_no_room_where_blocks_can_be_shared", || {
        let directory = tempdir().unwrap();
        let place = directory.path().join("mounted");
        fs::create_dir(&place).unwrap();
        // Unmounted with the namespace.
        if !mounted(&directory.path().join("image"), &place) {
            eprintln!("left out: no XFS can be made and mounted here");
            return;
        }
        let tracked = place.join("tracked");
        fs::create_dir(&tracked).unwrap();
        let path = tracked.join("large");
        let mut file = File::create(&path).unwrap();
        for number in 0..SIZE / MIB {
            file.write_all(&vec![u8::try_from(number).unwrap(); MIB]).unwrap();
        }
        file.sync_all().unwrap();
        let (exclusion, limits) = (ExclusionConfig::default(), Limits::default());
        let manager =
            SnapshotManager::new(&place.join("session"), &[tracked], exclusion, limits).unwrap();
        let taken = taken_by(&place, || _ = manager.create_baseline(&keep_going).unwrap());
        assert!(taken < SIZE as u64 / 8, "a snapshot has taken {taken} bytes");
        fs::remove_file(&path).unwrap();
        let taken = taken_by(&place, || _ = manager.restore_to(0, &keep_going).unwrap());
        assert!(taken < SIZE as u64 / 8, "a restore has taken {taken} bytes");
        let restored = fs::read(&path).unwrap();
        let mut parts = restored.chunks_exact(MIB).enumerate();
        assert_eq!(restored.len(), SIZE);
        assert!(parts.all(|(number, part)| part.iter().all(|byte| usize::from(*byte) == number)));
    });
}

/// Whether a file system that has reflinks is mounted at `place` now.
fn mounted(image: &Path, place: &Path) -> bool {
    File::create(image).unwrap().set_len(400 << 20).unwrap();
    let run = |command: &mut Command| command.output().is_ok_and(|done| done.status.success());
    run(Command::new("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(image))
        && run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(place))
}

/// By how many bytes there is less room when `work` is done.
fn taken_by(place: &Path, work: impl FnOnce()) -> u64 {
    let free = || {
        // What is reserved for blocks that are not written yet is given back.
        File::open(place).unwrap().sync_all().unwrap();
        let about = statvfs(place).unwrap();
        about.f_bfree * about.f_frsize
    };
    let before = free();
    work();
    before.saturating_sub(free())
}
