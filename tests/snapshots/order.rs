//! In which order a restore does what it does, as the kernel tells whoever watches the directories.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::Session;
use crate::tree::describe;

/// Tells what is done in some directories from now on.
struct Watcher {
    events: OwnedFd,
    directories: HashMap<i32, PathBuf>,
}

impl Watcher {
    /// Watches `directories`, by their paths beneath the tracked one; the first is that itself.
    fn new(session: &Session, directories: &[&str]) -> Self {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let what = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR;
        let watch = |name: &&str| {
            let watched = inotify::add_watch(&events, session.path(name), what).unwrap();
            (watched, PathBuf::from(*name))
        };
        let directories = directories.iter().map(watch).collect();
        Self { events, directories }
    }

    /// What was done, in order, but for files that are not at their place yet. What is done to
    /// one path twice in a row is told once.
    fn told(&self) -> Vec<(&'static str, String)> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.events, &mut buffer);
        let mut told = Vec::new();
        loop {
            let event = match reader.next() {
                Err(Errno::WOULDBLOCK) => break,
                event => event.unwrap(),
            };
            let Some(directory) = self.directories.get(&event.wd()) else { continue };
            let name = event.file_name().map(|name| name.to_str().unwrap());
            let path = directory.join(name.unwrap_or_default()).to_str().unwrap().to_owned();
            let path = path.trim_end_matches('/').to_owned();
            let kinds = [
                (ReadFlags::DELETE, "remove"),
                (ReadFlags::CREATE, "make"),
                (ReadFlags::MOVED_TO, "put"),
                (ReadFlags::ATTRIB, "dress"),
            ];
            let kind = kinds.iter().find(|(flag, _)| event.events().contains(*flag));
            if let Some((_, kind)) = kind.filter(|_| !path.contains(".nono-restore-")) {
                told.push((*kind, path));
            }
        }
        // A directory tells of itself, and the one that it is in tells of it too.
        told.dedup();
        told
    }
}

fn fill(root: &Path) {
    fs::create_dir(root.join("kept")).unwrap();
    fs::create_dir_all(root.join("lost/inner")).unwrap();
    for name in ["kept/content", "kept/mode", "lost/inner/file", "name"] {
        fs::write(root.join(name), "before").unwrap();
    }
    fs::hard_link(root.join("name"), root.join("other name")).unwrap();
    symlink("kept", root.join("link")).unwrap();
    fs::write(root.join(".gitignore"), "*.o").unwrap();
}

/// Something for each step of a restore to do.
fn spoil(root: &Path) {
    fs::create_dir_all(root.join("new/inner")).unwrap();
    fs::write(root.join("new/inner/file"), "").unwrap();
    fs::write(root.join("kept/content"), "after").unwrap();
    fs::set_permissions(root.join("kept/mode"), Permissions::from_mode(0o600)).unwrap();
    fs::remove_dir_all(root.join("lost")).unwrap();
    fs::remove_file(root.join("link")).unwrap();
    fs::remove_file(root.join("other name")).unwrap();
    fs::write(root.join("name"), "after").unwrap();
}

#[test]
fn a_restore_removes_then_makes_then_writes_then_links_and_dresses_directories_last() {
    let session = Session::new(fill);
    session.baseline();
    let before = describe(&session.path(""));
    spoil(&session.path(""));
    let watcher = Watcher::new(&session, &["", "kept", "new", "new/inner"]);
    session.restore();
    let told = watcher.told();
    let told: Vec<_> = told.iter().map(|(kind, path)| (*kind, path.as_str())).collect();
    let (begin, rest) = told.split_at(4);
    // What is deepest goes first, since a directory has to be empty to go.
    let removed = [("remove", "new/inner/file"), ("remove", "new/inner"), ("remove", "new")];
    assert_eq!(begin, [&removed[..], &[("make", "lost")]].concat(), "{told:?}");
    // Files are written on all processors, in any order.
    let (written, rest) = rest.split_at(2);
    assert!(written.contains(&("put", "kept/content")), "{told:?}");
    assert!(written.contains(&("put", "name")), "{told:?}");
    let end = [
        ("put", "link"),
        ("put", "other name"),
        ("dress", "kept/mode"),
        // What is done in a directory changes its time, so inner ones come before outer ones.
        ("dress", "lost"),
        ("dress", "kept"),
        ("dress", ""),
    ];
    assert_eq!(rest, end, "{told:?}");
    assert_eq!(describe(&session.path("")), before);
}

#[test]
fn a_restore_of_what_is_as_it_was_does_nothing() {
    let session = Session::new(fill);
    session.baseline();
    let watcher = Watcher::new(&session, &["", "kept", "lost", "lost/inner"]);
    assert_eq!(session.restore(), []);
    assert_eq!(watcher.told(), []);
}
