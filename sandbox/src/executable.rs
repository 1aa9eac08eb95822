//! Which file a command executes: its place, and the SHA-256 of what is in it.
//!
//! The file is read before it is executed, and looked at again when it has been. Only if it is the
//! same file then, and shows no change, is it told what was executed.
//!
//! That is as good as the file system's account of changes. Who may write the file and has it mapped
//! can store to a page that is marked as changed already, and the kernel notes nothing. And a script is
//! opened again by its interpreter, which may be later than both looks. To know for certain, execute
//! what only the caller may write.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use crate::exec::Executable;
use crate::interpreter::open;
use crate::snapshot::ContentHash;

/// What is read at once.
const CHUNK: usize = 128 << 10;
/// Bytes of the largest file that is read before it is executed.
const MOST: u64 = 4 << 30;

/// A file that is about to be executed.
#[derive(Debug)]
pub(crate) struct Candidate {
    name: PathBuf,
    file: File,
    seen: Stamp,
    sha256: ContentHash,
}

/// What tells one state of a file from others: nobody can set `ctime`.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Candidate {
    /// Reads the file at `name`, which may be a link. None if it cannot be read, as one that may
    /// only be executed, is no plain file or too large to be read, or that was not done in time.
    pub(crate) fn read(name: PathBuf, deadline: Option<Instant>) -> Option<Self> {
        let mut file = open(&name).ok()?;
        let before = file.metadata().ok()?;
        if !before.is_file() || before.len() > MOST {
            return None;
        }
        let sha256 = digest(&mut file, before.len(), deadline).ok()?;
        Some(Self { name, file, seen: Stamp::of(&before), sha256 })
    }

    /// What was executed, if it shows no change. Called when the program has begun.
    pub(crate) fn confirm(&self) -> Option<Executable> {
        let path = fs::canonicalize(&self.name).ok()?;
        let is_same = |now: io::Result<Metadata>| now.is_ok_and(|now| Stamp::of(&now) == self.seen);
        (is_same(self.file.metadata()) && is_same(fs::symlink_metadata(&path)))
            .then_some(Executable { path, sha256: self.sha256 })
    }
}

impl Stamp {
    fn of(status: &Metadata) -> Self {
        Self {
            device: status.dev(),
            inode: status.ino(),
            size: status.len(),
            changed: (status.ctime(), status.ctime_nsec()),
        }
    }
}

/// The sum of so many bytes: a file that grows meanwhile is no longer the same.
fn digest(file: &mut File, length: u64, deadline: Option<Instant>) -> io::Result<ContentHash> {
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
    let mut file = file.take(length);
    loop {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match file.read(&mut buffer) {
            Ok(0) => return Ok(ContentHash::finish(hasher)),
            Ok(length) => hasher.update(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Candidate, Instant, MOST};

    #[test]
    fn what_is_the_same_before_and_after_is_known() {
        let place = tempfile::tempdir().unwrap();
        let (program, link) = (place.path().join("program"), place.path().join("link"));
        fs::write(&program, "hello").unwrap();
        std::os::unix::fs::symlink(&program, &link).unwrap();
        let known = Candidate::read(link, None).unwrap().confirm().unwrap();
        assert_eq!(known.path, fs::canonicalize(&program).unwrap());
        let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(known.sha256.to_string(), hello);
    }

    #[test]
    fn what_was_replaced_changed_or_removed_meanwhile_is_not() {
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("program");
        let read = || {
            fs::write(&program, "hello").unwrap();
            Candidate::read(program.clone(), None).unwrap()
        };
        let replaced = read();
        let other = place.path().join("other");
        fs::write(&other, "hello").unwrap();
        fs::rename(&other, &program).unwrap();
        assert_eq!(replaced.confirm(), None);
        let changed = read();
        fs::write(&program, "hello!").unwrap();
        assert_eq!(changed.confirm(), None);
        let removed = read();
        fs::remove_file(&program).unwrap();
        assert_eq!(removed.confirm(), None);
    }

    #[test]
    fn what_is_no_plain_file_is_not_read() {
        let place = tempfile::tempdir().unwrap();
        assert!(Candidate::read(place.path().to_owned(), None).is_none());
        let pipe = place.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        assert!(Candidate::read(pipe, None).is_none());
        assert!(Candidate::read(place.path().join("missing"), None).is_none());
    }

    #[test]
    fn what_is_too_large_or_takes_too_long_is_not_read_to_its_end() {
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("program");
        let file = fs::File::create(&program).unwrap();
        file.set_len(1 << 40).unwrap();
        assert!(Candidate::read(program.clone(), None).is_none());
        file.set_len(MOST).unwrap();
        assert!(Candidate::read(program, Some(Instant::now())).is_none());
    }
}
