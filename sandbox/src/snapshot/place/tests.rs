use std::path::Path;
use std::sync::Barrier;
use std::{fs, thread};

use super::*;

fn place(directory: &Path) -> Place {
    let parent = File::open(directory).unwrap().into();
    Place { parent, name: "made".into() }
}

#[test]
fn what_somebody_else_has_taken_away_or_made_is_no_fault() {
    let directory = tempfile::tempdir().unwrap();
    let (place, path) = (place(directory.path()), directory.path().join("made"));
    assert_eq!(place.make_room(), Ok(true), "it has gone");
    fs::write(&path, "").unwrap();
    assert_eq!(place.make_room(), Ok(true));
    assert!(!path.exists());
    fs::create_dir(&path).unwrap();
    assert_eq!(place.make_room(), Ok(false));
    assert_eq!(place.make_directory(Mode::RWXU), Ok(()));
    assert!(path.is_dir());
}

#[test]
fn what_is_in_the_place_of_a_file_is_neither_waited_for_nor_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let (place, path) = (place(directory.path()), directory.path().join("made"));
    fs::write(&path, "").unwrap();
    let (kind, none) = (Kind::Unread, crate::snapshot::tree::Attributes::new());
    let entry = Entry::from_stat(&place.stat().unwrap(), kind, none, 0);
    assert!(place.open_to_write(&entry).unwrap().is_some());
    // The first keeps its number.
    fs::rename(&path, directory.path().join("moved")).unwrap();
    assert!(place.open_to_write(&entry).unwrap().is_none());
    fs::write(&path, "").unwrap();
    assert!(place.open_to_write(&entry).unwrap().is_none());
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("moved", &path).unwrap();
    assert!(place.open_to_write(&entry).unwrap().is_none());
    fs::remove_file(&path).unwrap();
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(&place.parent, &place.name, kind, Mode::RWXU, 0).unwrap();
    assert!(place.open_to_write(&entry).unwrap().is_none());
}

#[test]
fn only_names_as_this_makes_them_are_its_own() {
    assert!(is_temporary(&temporary()));
    for name in ["", "x", "1", "1-", "-1", "01-1", "1-+1", "1-1-1", "1-1x", "-1-1", "4294967296-1"]
    {
        assert!(!is_temporary(format!("{TEMPORARY}{name}").as_ref()), "{name}");
    }
    assert!(!is_temporary("x.nono-restore-1-1".as_ref()));
}

/// As the files are written whose directory is in no snapshot itself, and was replaced by a file.
#[test]
fn who_makes_a_directory_in_the_place_of_a_file_together_with_others_has_it_then() {
    // More than there are processors, so that some are held up between two steps.
    const THREADS: usize = 16;
    const ROUNDS: usize = 2000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made");
    let barrier = Barrier::new(THREADS);
    let make = || {
        let place = place(directory.path());
        let round = || {
            if barrier.wait().is_leader() {
                let _is_none_at_first = fs::remove_dir(&path);
                fs::write(&path, "").unwrap();
            }
            barrier.wait();
            place.make_directory(Mode::RWXU)
        };
        (0..ROUNDS).filter_map(|_| round().err()).collect::<Vec<_>>()
    };
    let failed: Vec<_> = thread::scope(|scope| {
        let threads = [(); THREADS].map(|()| scope.spawn(make));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(failed, []);
    assert!(path.is_dir());
}
