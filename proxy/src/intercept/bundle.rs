//! The files that tell clients whom to trust. They hold certificates and no key.
//!
//! Each is locked for as long as its proxy runs, and has its name only once it is. So those that are
//! not locked are of proxies that were killed, and whoever starts next in the directory removes them.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

use crate::config::ConfigError;
use crate::own_directory;
use crate::route::show;

/// How their names begin and end; between these is a mark of the proxy's own, in hexadecimal.
const PREFIX: &str = "nono-";
const ALONE: &str = "-ca.pem";
const WHOLE: &str = "-bundle.pem";
const STORE: &str = "-store.p12";

/// What is added to their names until they are written and locked.
const UNFINISHED: &str = "new";

/// For how long an unfinished one must have been left alone to be taken for abandoned: one that was
/// begun just now may not be locked yet.
const STALE: Duration = Duration::from_hours(1);

/// The files, for as long as the proxy runs.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The authority, its certificate alone: for variables that add to what a client trusts.
    pub(super) alone: Written,
    /// All that the client would trust without the proxy, and the authority: for variables that
    /// replace it.
    pub(super) whole: Written,
    /// The same as a key store, for Java.
    pub(super) store: Written,
}

/// A file that this process wrote.
#[derive(Debug)]
pub(super) struct Written {
    path: PathBuf,
    /// Holds the lock; and the file's number, since another file may have taken its name.
    file: File,
    process: u32,
}

impl Bundle {
    /// Writes the files into `dir`, under names that hold `mark`, and removes those that proxies
    /// have left there which were killed.
    ///
    /// # Errors
    /// The directory cannot be trusted or written to.
    pub(super) fn write(
        dir: &Path,
        mark: u64,
        [alone, whole, store]: [&[u8]; 3],
    ) -> Result<Self, ConfigError> {
        let wrong = |reason: String| ConfigError::new("intercept_ca_dir", show(dir), reason);
        let dir = own_directory::check(dir).map_err(wrong)?;
        if dir.to_str().is_none() {
            let reason =
                "its path is not UTF-8, as the values of variables that name its files are";
            return Err(wrong(reason.into()));
        }
        remove_abandoned(&dir, SystemTime::now());
        let write = |suffix: &str, content: &[u8]| {
            let path = dir.join(format!("{PREFIX}{mark:016x}{suffix}"));
            Written::new(path, content).map_err(|error| wrong(format!("cannot write: {error}")))
        };
        Ok(Self {
            alone: write(ALONE, alone)?,
            whole: write(WHOLE, whole)?,
            store: write(STORE, store)?,
        })
    }

    /// Removes the files, if they are still this proxy's own.
    pub(crate) fn remove(&self) {
        for file in self.files() {
            file.remove();
        }
    }

    /// The paths of the files.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files().into_iter().map(Written::path)
    }

    fn files(&self) -> [&Written; 3] {
        [&self.alone, &self.whole, &self.store]
    }
}

impl Written {
    fn new(path: PathBuf, content: &[u8]) -> io::Result<Self> {
        let unfinished = path.with_added_extension(UNFINISHED);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&unfinished)?;
        let mut written = Self { path: unfinished, file, process: std::process::id() };
        match written.file.try_lock() {
            // Where there are no locks, nobody takes it for abandoned either.
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(held @ TryLockError::WouldBlock) => return Err(held.into()),
        }
        written.file.write_all(content)?;
        // Whatever the process's mask is; and only now that there is something to read.
        written.file.set_permissions(fs::Permissions::from_mode(0o444))?;
        fs::rename(&written.path, &path)?;
        written.path = path;
        Ok(written)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn remove(&self) {
        // A forked child has a copy of this, but the files are its parent's.
        if self.process == std::process::id() {
            remove_if_same(&self.path, &self.file);
        }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes the files in `dir` whose proxies are gone at `now`. What cannot be told or removed stays.
fn remove_abandoned(dir: &Path, now: SystemTime) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_unfinished = path.extension().is_some_and(|it| it == UNFINISHED);
        let name = if is_unfinished { path.file_stem() } else { path.file_name() };
        if name.and_then(OsStr::to_str).is_some_and(is_name)
            && let Some(abandoned) = abandoned(&path, is_unfinished.then_some(now))
        {
            remove_if_same(&path, &abandoned);
        }
    }
}

/// Whether a file of a bundle is called so.
fn is_name(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let mark = [ALONE, WHOLE, STORE].iter().find_map(|suffix| rest.strip_suffix(suffix));
    mark.is_some_and(|mark| mark.len() == 16 && mark.bytes().all(|it| it.is_ascii_hexdigit()))
}

/// The file at `path`, if this user wrote it and no process holds it; then this one does. An
/// unfinished one must have been left alone for long at the time that is given with it.
fn abandoned(path: &Path, unfinished: Option<SystemTime>) -> Option<File> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let found = file.metadata().ok()?;
    let is_own = found.is_file() && found.uid() == geteuid().as_raw();
    let is_stale = |now: SystemTime| {
        let age = found.modified().ok().and_then(|written| now.duration_since(written).ok());
        age.is_some_and(|age| age >= STALE)
    };
    (is_own && unfinished.is_none_or(is_stale) && file.try_lock().is_ok()).then_some(file)
}

/// Removes what is at `path` if it is `file`, which is open, so that no other has its number.
fn remove_if_same(path: &Path, file: &File) {
    let found = fs::symlink_metadata(path).map(|found| identity(&found));
    if let (Ok(found), Ok(own)) = (found, file.metadata())
        && found == identity(&own)
    {
        // Nothing else can be done about it.
        let _ = fs::remove_file(path);
    }
}

/// Device and inode.
fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
