//! Grants around denied paths. Landlock knows no exceptions: a right to a directory is one to all
//! beneath it. So a directory with a denied path in it is granted by what else is in it, one by
//! one, as it is at the time.
//!
//! What comes into such a directory later is not granted. Its own list is, if no denied directory
//! is beneath: the right to it would reach in there too. It does reach into directories that come
//! later, in the place of a denied path or beside it: their names can be listed, and what is in them
//! not be opened. To withhold the list for that would hide the names beside everything that is denied
//! for the case that it comes to be there.
//!
//! Where the caller cannot list such a directory, nothing of it is granted, as if it were denied.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;

use crate::capability::{FileId, FsCapability};
use crate::deny::Exceptions;
use crate::error::{DenyFault, Error};

/// How many objects one grant may be turned into.
const MOST: usize = 4096;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const OBJECT: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Something to be granted in place of a directory.
#[derive(Debug)]
pub(crate) struct Piece {
    pub object: OwnedFd,
    /// Whether the list of a directory is granted, and neither its files nor what is beneath.
    pub is_list_only: bool,
    pub is_directory: bool,
}

/// What is to be granted in place of `grant`, around what is denied; none if the grant itself is.
///
/// # Errors
///
/// [`Error::Deny`] if a denied path cannot be left out, and [`Error::Resolve`] if what there is
/// besides cannot be found out.
pub(crate) fn pieces(
    grant: &FsCapability,
    exceptions: &Exceptions,
) -> Result<Option<Vec<Piece>>, Error> {
    let inside = exceptions.inside(grant)?;
    let Some((first, _)) = inside.first() else { return Ok(None) };
    let mut around = Around {
        denied: inside.iter().map(|(_, rest)| *rest).collect(),
        on_the_way: exceptions.on_the_way().collect(),
        pieces: Vec::new(),
    };
    match around.add(grant.handle(), Path::new("")) {
        Ok(_) => Ok(Some(around.pieces)),
        Err(Errno::TOOBIG) => Err(first.fault(grant, DenyFault::TooMany { most: MOST })),
        Err(error) => {
            Err(Error::Resolve { path: grant.resolved().to_owned(), source: error.into() })
        }
    }
}

struct Around<'a> {
    /// Paths from the granted directory on.
    denied: Vec<&'a Path>,
    /// What all denied paths lead through, and to.
    on_the_way: Vec<FileId>,
    pieces: Vec<Piece>,
}

impl Around<'_> {
    /// Adds what is in a directory that has a denied path in it, and tells whether a denied
    /// directory is.
    fn add(&mut self, directory: BorrowedFd<'_>, path: &Path) -> Result<bool, Errno> {
        let directory = match openat(directory, ".", DIRECTORY, Mode::empty()) {
            // Left out as a whole, and hidden. Of the granted directory nothing would be left.
            Err(Errno::ACCESS) if !path.as_os_str().is_empty() => return Ok(true),
            directory => directory?,
        };
        let mut hides_directory = false;
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if [&b"."[..], b".."].contains(&name.to_bytes()) {
                continue;
            }
            let object = match openat(&directory, name, OBJECT, Mode::empty()) {
                // Gone since, or out of our own reach.
                Err(Errno::NOENT | Errno::ACCESS) => continue,
                object => object?,
            };
            let status = fstat(&object)?;
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            hides_directory |= self.add_entry(object, &status, &path)?;
        }
        if !hides_directory {
            self.push(directory, true, true)?;
        }
        Ok(hides_directory)
    }

    /// The same for one entry of the directory.
    fn add_entry(&mut self, object: OwnedFd, status: &Stat, path: &Path) -> Result<bool, Errno> {
        let kind = FileType::from_raw_mode(status.st_mode);
        if self.denied.contains(&path) {
            return Ok(kind.is_dir());
        }
        if kind.is_dir() && self.denied.iter().any(|denied| denied.starts_with(path)) {
            return self.add(object.as_fd(), path);
        }
        // A rule on another name of a denied file, or of what one is beneath, reaches it.
        let id = FileId { device: status.st_dev, inode: status.st_ino };
        if self.on_the_way.contains(&id) {
            return Ok(kind.is_dir());
        }
        // A link is judged by what it leads to.
        if kind != FileType::Symlink {
            self.push(object, kind.is_dir(), false)?;
        }
        Ok(false)
    }

    fn push(
        &mut self,
        object: OwnedFd,
        is_directory: bool,
        is_list_only: bool,
    ) -> Result<(), Errno> {
        if self.pieces.len() >= MOST {
            return Err(Errno::TOOBIG);
        }
        self.pieces.push(Piece { object, is_list_only, is_directory });
        Ok(())
    }
}
