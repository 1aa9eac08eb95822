//! Removing what a program has left, whatever it has made of it: by descriptors, so that no link is
//! followed and no path is too long, and with as many of them open however deep it goes.

use std::ffi::{CStr, CString, OsStr};
use std::mem;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, chmodat, fstat, openat, openat2,
    unlinkat,
};
use rustix::io::Errno;

use crate::capability::FileId;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Neither a link, nor what is mounted there: that is not the program's.
const STRAIGHT: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_XDEV);

/// Removes what is called `name` in a directory, with all beneath it. Directories that do not let
/// their owner in are made to. One that is not there is fine.
///
/// # Errors
///
/// The first of the kernel's; what can be removed is gone then too.
pub(crate) fn remove_tree(parent: impl AsFd, name: &OsStr) -> rustix::io::Result<()> {
    let mut removal = Removal { levels: Vec::new(), outcome: Ok(()) };
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
    let ended = removal.run(parent.as_fd(), name);
    removal.outcome.and(ended)
}

/// A directory on the way down.
struct Level {
    id: FileId,
    /// What it is called in the one above.
    name: CString,
    /// What is left in it.
    directories: Vec<CString>,
}

struct Removal {
    levels: Vec<Level>,
    /// The first error.
    outcome: rustix::io::Result<()>,
}

impl Removal {
    fn run(&mut self, parent: BorrowedFd<'_>, name: CString) -> rustix::io::Result<()> {
        match unlinkat(parent, &name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            removed => return gone(removed),
        }
        let mut here = match self.enter(parent, name) {
            Ok(top) => top,
            Err(error) => return gone(Err(error)),
        };
        while let Some(level) = self.levels.last_mut() {
            if let Some(name) = level.directories.pop() {
                match self.enter(here.as_fd(), name) {
                    Ok(below) => here = below,
                    Err(error) => self.note(Err(error)),
                }
                continue;
            }
            let done = mem::take(&mut level.name);
            self.levels.pop();
            let Some(above) = self.levels.last() else {
                self.note(unlinkat(parent, &done, AtFlags::REMOVEDIR));
                break;
            };
            here = up(&here, above.id)?;
            self.note(unlinkat(&here, &done, AtFlags::REMOVEDIR));
        }
        Ok(())
    }

    /// Opens a directory, and removes what is none from it.
    fn enter(&mut self, parent: BorrowedFd<'_>, name: CString) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat2(parent, &name, flags, Mode::empty(), STRAIGHT)?;
        let status = fstat(&handle)?;
        let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
        if !mode.contains(Mode::RWXU) {
            // If it is not ours to change, opening it tells whether that matters.
            let _ = chmodat(CWD, reopened(&handle), mode | Mode::RWXU, AtFlags::empty());
        }
        let handle = openat(&handle, c".", DIRECTORY, Mode::empty())?;
        let id = FileId { device: status.st_dev, inode: status.st_ino };
        let directories = self.clear(&handle)?;
        self.levels.push(Level { id, name, directories });
        Ok(handle)
    }

    /// Removes all that is no directory. What is one is returned.
    fn clear(&mut self, directory: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
        let mut directories = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name: &CStr = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if entry.file_type() != FileType::Directory {
                match unlinkat(directory, name, AtFlags::empty()) {
                    Err(Errno::ISDIR) => {}
                    removed => {
                        self.note(removed);
                        continue;
                    }
                }
            }
            directories.push(name.to_owned());
        }
        Ok(directories)
    }

    fn note(&mut self, outcome: rustix::io::Result<()>) {
        if self.outcome.is_ok() {
            self.outcome = gone(outcome);
        }
    }
}

/// Goes to where a directory is, if that is still where it was.
fn up(here: &OwnedFd, above: FileId) -> rustix::io::Result<OwnedFd> {
    let handle = openat(here, c"..", DIRECTORY, Mode::empty())?;
    let status = fstat(&handle)?;
    let is_same = FileId { device: status.st_dev, inode: status.st_ino } == above;
    // Somebody has moved it, maybe to where it would take other things with it.
    if is_same { Ok(handle) } else { Err(Errno::STALE) }
}

/// Whether something is not there any more.
fn gone(removed: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

/// A path that leads to what a descriptor holds, and cannot be made to lead elsewhere.
pub(crate) fn reopened(file: impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}
