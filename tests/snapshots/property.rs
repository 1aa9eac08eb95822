//! Whatever is done to a tree, a restore gives the exact tree back.

use std::ffi::OsString;
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use crate::tree::describe;
use crate::{Session, keep_going};

/// Something that a program may do; what is impossible is not done.
#[derive(Clone, Debug)]
enum Action {
    Write(PathBuf, Vec<u8>),
    Grow(PathBuf, u8),
    Mkdir(PathBuf),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
    Symlink(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Chmod(PathBuf, u32),
    Attribute(PathBuf, u8),
    Touch(PathBuf, u64),
    Fifo(PathBuf),
}

/// Few names, so that actions meet, and one that is no text.
fn path() -> impl Strategy<Value = PathBuf> {
    let name = prop_oneof![
        Just(OsString::from("a")),
        Just(OsString::from("b")),
        Just(OsString::from("a-b")),
        Just(OsString::from("c d")),
        Just(OsString::from_vec(b"\xff\xfe".to_vec())),
    ];
    prop::collection::vec(name, 1..4).prop_map(|names| names.into_iter().collect())
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (path(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(p, c)| Action::Write(p, c)),
        1 => (path(), any::<u8>()).prop_map(|(p, c)| Action::Grow(p, c)),
        3 => path().prop_map(Action::Mkdir),
        3 => path().prop_map(Action::Remove),
        2 => (path(), path()).prop_map(|(a, b)| Action::Rename(a, b)),
        1 => (path(), path()).prop_map(|(a, b)| Action::Symlink(a, b)),
        2 => (path(), path()).prop_map(|(a, b)| Action::Link(a, b)),
        1 => (path(), 0_u32..0o10_000).prop_map(|(p, m)| Action::Chmod(p, m | 0o700)),
        1 => (path(), any::<u8>()).prop_map(|(p, v)| Action::Attribute(p, v)),
        1 => (path(), 1_u64..2_000_000_000_000).prop_map(|(p, t)| Action::Touch(p, t)),
        1 => path().prop_map(Action::Fifo),
    ]
}

impl Action {
    fn run(&self, root: &Path) -> std::io::Result<()> {
        let at = |path: &PathBuf| root.join(path);
        // What a link leads to may be out of the tree.
        let is_link = |path: &PathBuf| at(path).is_symlink();
        match self {
            Self::Write(path, content) if !is_link(path) && !is_fifo(&at(path)) => {
                fs::write(at(path), content)
            }
            // More than is read at once.
            Self::Grow(path, byte) if !is_link(path) && !is_fifo(&at(path)) => {
                fs::write(at(path), vec![*byte; 300_000])
            }
            Self::Mkdir(path) => fs::create_dir(at(path)),
            Self::Remove(path) if at(path).is_dir() && !is_link(path) => {
                fs::remove_dir_all(at(path))
            }
            Self::Remove(path) => fs::remove_file(at(path)),
            Self::Rename(from, to) => fs::rename(at(from), at(to)),
            Self::Symlink(target, path) => symlink(target, at(path)),
            Self::Link(from, to) if at(from).is_file() => fs::hard_link(at(from), at(to)),
            Self::Chmod(path, mode) if !is_link(path) => {
                fs::set_permissions(at(path), Permissions::from_mode(*mode))
            }
            Self::Attribute(path, value) if !is_link(path) && !is_fifo(&at(path)) => {
                setxattr(at(path), "user.nono", &[*value], XattrFlags::empty()).map_err(Into::into)
            }
            Self::Touch(path, micros) if !is_link(path) && !is_fifo(&at(path)) => {
                let time = UNIX_EPOCH + Duration::from_micros(*micros);
                File::open(at(path))?.set_times(FileTimes::new().set_modified(time))
            }
            Self::Fifo(path) => {
                mknodat(CWD, at(path), FileType::Fifo, Mode::RUSR, 0).map_err(Into::into)
            }
            _ => Ok(()),
        }
    }
}

fn is_fifo(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_fifo())
}

fn run(actions: &[Action], root: &Path) {
    for action in actions {
        let _impossible_is_not_done = action.run(root);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_restore_gives_back_the_exact_tree(
        before in prop::collection::vec(action(), 0..40),
        between in prop::collection::vec(action(), 0..20),
        after in prop::collection::vec(action(), 0..40),
    ) {
        let session = Session::new(|root| {
            run(&before, root);
            remove_fifos(root);
        });
        let root = session.path("");
        session.baseline();
        let first = describe(&root);
        run(&between, &root);
        remove_fifos(&root);
        session.manager.create_incremental(&keep_going).unwrap();
        let second = describe(&root);
        run(&after, &root);
        session.manager.restore_to(1, &keep_going).unwrap();
        prop_assert_eq!(describe(&root), second);
        session.manager.restore_to(0, &keep_going).unwrap();
        prop_assert_eq!(describe(&root), first);
        prop_assert_eq!(session.manager.restore_to(0, &keep_going).unwrap(), []);
    }
}

/// Pipes are no part of a snapshot; those that come after it go with a restore.
fn remove_fifos(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if is_fifo(&path) {
            fs::remove_file(path).unwrap();
        } else if path.is_dir() && !path.is_symlink() {
            remove_fifos(&path);
        }
    }
}
