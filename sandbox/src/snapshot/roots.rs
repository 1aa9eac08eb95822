//! The tracked paths, and the only way to what is beneath them.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat, openat2, statat};

use super::error::SnapshotError;
use super::key::Key;

/// No link is followed on the way, whoever puts one there meanwhile.
const STRAIGHT: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);

/// A tracked path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    /// As it was given; keys begin with it.
    pub(super) key: Key,
    /// Where it led when it was given: absolute and without links.
    pub(super) real: PathBuf,
}

/// A place in a directory that is held open.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) parent: OwnedFd,
    pub(super) name: OsString,
}

impl Place {
    pub(super) fn stat(&self) -> rustix::io::Result<Stat> {
        statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW)
    }
}

impl Root {
    /// What `given` leads to now. It need not be there, but the directory that it is in does.
    pub(super) fn new(given: &Path) -> Result<Self, SnapshotError> {
        if given.as_os_str().is_empty() {
            let path = given.to_owned();
            return Err(SnapshotError::Root { path, reason: "the path is empty" });
        }
        let real = match fs::canonicalize(given) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing(given)?,
            found => found.map_err(SnapshotError::io("resolve", given))?,
        };
        // One spelling only: no `.`, no doubled or trailing separator.
        let key = given.components().collect::<PathBuf>();
        Ok(Self { key: Key::new(&key), real })
    }

    /// The real path of what is at `relative`.
    pub(super) fn at(&self, relative: &Path) -> PathBuf {
        self.real.join(relative).components().collect()
    }

    /// Whether `other` is this one or beneath it.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.real.starts_with(&self.real)
    }

    /// The part of `key` beneath this root, empty for the root itself.
    pub(super) fn relative<'k>(&self, key: &'k Key) -> Option<&'k Path> {
        let rest = self.key.beneath(key.as_path())?;
        let mut parts = rest.as_os_str().as_bytes().split(|&byte| byte == b'/');
        let is_plain =
            rest.as_os_str().is_empty() || parts.all(|part| !matches!(part, b"" | b"." | b".."));
        is_plain.then_some(rest)
    }

    /// Opens the directory at `relative`.
    pub(super) fn open_directory(&self, relative: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(CWD, self.real.join(relative).as_path(), flags, Mode::empty(), STRAIGHT)
    }

    /// Opens the directory that `relative` is in; the root's own is outside of what is tracked.
    pub(super) fn place(&self, relative: &Path) -> rustix::io::Result<Place> {
        let path = self.real.join(relative);
        let here = (Path::new("/"), OsStr::new("."));
        let (parent, name) = path.parent().zip(path.file_name()).unwrap_or(here);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = openat2(CWD, parent, flags, Mode::empty(), STRAIGHT)?;
        Ok(Place { parent, name: name.to_owned() })
    }
}

/// The real path of what is not there yet.
fn missing(given: &Path) -> Result<PathBuf, SnapshotError> {
    let absolute = std::path::absolute(given).map_err(SnapshotError::io("resolve", given))?;
    if absolute.file_name().is_none() {
        let path = given.to_owned();
        return Err(SnapshotError::Root { path, reason: "it does not exist and has no name" });
    }
    for above in absolute.ancestors().skip(1) {
        match fs::canonicalize(above) {
            Ok(real) => return Ok(real.join(absolute.strip_prefix(above).unwrap_or(&absolute))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(SnapshotError::io("resolve", above)(error)),
        }
    }
    Ok(absolute)
}

/// All tracked paths, without those that are beneath another.
pub(super) fn roots(given: &[PathBuf]) -> Result<Vec<Root>, SnapshotError> {
    let all = given.iter().map(|path| Root::new(path)).collect::<Result<Vec<_>, _>>()?;
    let is_first = |index: usize, root: &Root| {
        !all.iter()
            .enumerate()
            .any(|(other, outer)| outer.covers(root) && (other < index || !root.covers(outer)))
    };
    let kept = all.iter().enumerate().filter(|(index, root)| is_first(*index, root));
    let kept: Vec<_> = kept.map(|(_, root)| root.clone()).collect();
    // What is beneath it would have the names of what is beneath the other.
    let is_within =
        |root: &Root, outer: &Root| root != outer && outer.relative(&root.key).is_some();
    let leads_out = |root: &&Root| kept.iter().any(|outer| is_within(root, outer));
    match kept.iter().find(leads_out) {
        Some(root) => {
            let path = root.key.as_path().to_owned();
            let reason =
                "it leads out of another tracked path; track what it leads to, by its name";
            Err(SnapshotError::Root { path, reason })
        }
        None => Ok(kept),
    }
}

/// The root that `key` is beneath, and the path from there.
pub(super) fn find<'r, 'k>(roots: &'r [Root], key: &'k Key) -> Option<(&'r Root, &'k Path)> {
    roots.iter().find_map(|root| Some((root, root.relative(key)?)))
}

/// Opens a directory for reading that is in `parent`, and not a link.
pub(super) fn open_beneath(
    parent: impl AsFd,
    name: &OsStr,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    openat2(parent, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), STRAIGHT)
}
