//! Changing one entry of what is tracked, in a directory that is held open.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, chmodat, chownat,
    fstat, ftruncate, ioctl_ficlone, linkat, mkdirat, open, openat, renameat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;

use super::attributes;
use super::hash::ContentHash;
use super::roots::{Place, open_beneath};
use super::store::{Ask, Store};
use super::tree::{Entry, Kind};
use crate::removal::{remove_tree, reopened};

/// How the names begin of what a restore is writing.
const TEMPORARY: &str = ".nono-restore-";

/// How much is copied at once.
const PART: u64 = 8 << 20;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A name that nothing in the directory has.
fn temporary() -> OsString {
    named(std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)).into()
}

fn named(process: u32, number: u64) -> String {
    format!("{TEMPORARY}{process}-{number}")
}

/// Whether `name` is one of those, and not just begins as they do: what has one is no program's.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    let Some(rest) = name.as_bytes().strip_prefix(TEMPORARY.as_bytes()) else { return false };
    let numbers = || {
        let (process, number) = str::from_utf8(rest).ok()?.split_once('-')?;
        Some((process.parse().ok()?, number.parse().ok()?))
    };
    // There are other ways to write a number.
    numbers().is_some_and(|(process, number)| name == named(process, number).as_str())
}

impl Place {
    /// Puts a new file here with the content of `hash`, in one step.
    pub(super) fn write(
        &self,
        store: &Store,
        hash: &ContentHash,
        entry: &Entry,
        ask: Ask<'_>,
    ) -> io::Result<()> {
        let (name, object) = (temporary(), store.open(hash)?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.parent, &name, flags, Mode::RUSR | Mode::WUSR)?);
        let written = copy(store, &object, &mut file, ask)
            .and_then(|()| self.beside(name.clone())?.dress(entry).map_err(Into::into))
            .and_then(|()| Ok(self.put(&name)?));
        if written.is_err() {
            self.discard(&name);
        }
        written
    }

    /// Writes into the file that is here, so that names of it which are not tracked stay its own.
    /// That is for the very file that the snapshot saw: another one, which may be anybody's, is
    /// replaced.
    pub(super) fn overwrite(
        &self,
        store: &Store,
        hash: &ContentHash,
        entry: &Entry,
        ask: Ask<'_>,
    ) -> io::Result<()> {
        // First of all, so that without it the file keeps what it has.
        let object = store.open(hash)?;
        let Some(mut file) = self.open_to_write(entry)? else {
            return self.write(store, hash, entry, ask);
        };
        ftruncate(&file, 0)?;
        copy(store, &object, &mut file, ask)?;
        Ok(dress(&file, entry)?)
    }

    /// Opens the file that is here, if it is the one that `entry` is of.
    fn open_to_write(&self, entry: &Entry) -> rustix::io::Result<Option<File>> {
        let handle = match open_beneath(&self.parent, &self.name, OFlags::PATH) {
            Err(Errno::NOENT) => return Ok(None),
            handle => handle?,
        };
        let stat = fstat(&handle)?;
        if !entry.is_of_file(&stat) {
            return Ok(None);
        }
        let path = reopened(&handle);
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = match open(&path, flags, Mode::empty()) {
            Err(Errno::ACCESS) => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777) | Mode::WUSR;
                chmodat(CWD, &path, mode, AtFlags::empty())?;
                open(&path, flags, Mode::empty())
            }
            opened => opened,
        };
        opened.map(|file| Some(file.into()))
    }

    /// Makes what is here another name of the file at `leader`, in one step.
    pub(super) fn link(&self, leader: &Self) -> rustix::io::Result<()> {
        let name = temporary();
        linkat(&leader.parent, &leader.name, &self.parent, &name, AtFlags::empty())?;
        let moved = self.put(&name);
        // Moving a name onto another of the same file does nothing, and leaves it.
        self.discard(&name);
        moved
    }

    /// Puts a symbolic link here, in one step.
    pub(super) fn symlink(&self, target: &OsString, entry: &Entry) -> rustix::io::Result<()> {
        let name = temporary();
        symlinkat(target, &self.parent, &name)?;
        let moved = self
            .beside(name.clone())
            .and_then(|beside| beside.dress(entry))
            .and_then(|()| self.put(&name));
        if moved.is_err() {
            self.discard(&name);
        }
        moved
    }

    /// Moves what is called `name` beside here to its place. A directory that stands there goes with
    /// all that is in it, tracked or not: it came since, for none was here.
    fn put(&self, name: &OsString) -> rustix::io::Result<()> {
        let put = || renameat(&self.parent, name, &self.parent, &self.name);
        match put() {
            Err(Errno::ISDIR) => self.remove_tree().and_then(|()| put()),
            moved => moved,
        }
    }

    /// Makes a directory here, in the place of what is none. Other threads may do so at once.
    pub(super) fn make_directory(&self, mode: Mode) -> rustix::io::Result<()> {
        // They make room and then the directory, which the second turn finds. More are for what a
        // program puts here meanwhile, which is not to keep a restore for ever.
        const TURNS: usize = 8;
        for _ in 0..TURNS {
            match mkdirat(&self.parent, &self.name, mode) {
                Err(Errno::EXIST) if self.make_room()? => {}
                Err(Errno::EXIST) => return Ok(()),
                outcome => return outcome,
            }
        }
        Err(Errno::EXIST)
    }

    /// Takes away what is here, if it has not gone already. Says whether there is room, which a
    /// directory does not make.
    fn make_room(&self) -> rustix::io::Result<bool> {
        let removed = match self.is_directory() {
            Ok(true) => return Ok(false),
            Ok(false) => unlinkat(&self.parent, &self.name, AtFlags::empty()),
            Err(error) => Err(error),
        };
        match removed {
            // With those two, another thread was here meanwhile.
            Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Removes what is here. A directory that holds what is not tracked stays.
    pub(super) fn remove(&self) -> rustix::io::Result<()> {
        let is_directory = match self.is_directory() {
            Err(Errno::NOENT) => return Ok(()),
            is_directory => is_directory?,
        };
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match unlinkat(&self.parent, &self.name, flags) {
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            removed => removed,
        }
    }

    /// Removes what is here with all beneath it, tracked or not.
    pub(super) fn remove_tree(&self) -> rustix::io::Result<()> {
        remove_tree(&self.parent, &self.name)
    }

    /// Gives what is here the owner, attributes, mode and time of `entry`, as far as it tells.
    pub(super) fn dress(&self, entry: &Entry) -> rustix::io::Result<()> {
        dress(&open_beneath(&self.parent, &self.name, OFlags::PATH)?, entry)
    }

    /// Allows more of what is here, and returns what was allowed.
    pub(super) fn add_mode(&self, more: Mode, flags: OFlags) -> rustix::io::Result<Mode> {
        let handle = open_beneath(&self.parent, &self.name, OFlags::PATH | flags)?;
        let before = Mode::from_raw_mode(fstat(&handle)?.st_mode & 0o7777);
        chmodat(CWD, reopened(&handle), before | more, AtFlags::empty())?;
        Ok(before)
    }

    /// Sets the mode of the directory here.
    pub(super) fn set_mode(&self, mode: Mode) -> rustix::io::Result<()> {
        let handle = open_beneath(&self.parent, &self.name, OFlags::PATH | OFlags::DIRECTORY)?;
        chmodat(CWD, reopened(&handle), mode, AtFlags::empty())
    }

    fn is_directory(&self) -> rustix::io::Result<bool> {
        Ok(rustix::fs::FileType::from_raw_mode(self.stat()?.st_mode)
            == rustix::fs::FileType::Directory)
    }

    fn beside(&self, name: OsString) -> rustix::io::Result<Self> {
        let parent = rustix::io::fcntl_dupfd_cloexec(&self.parent, 0)?;
        Ok(Self { parent, name })
    }

    fn discard(&self, name: &OsString) {
        // The next restore removes what cannot be removed now.
        let _removed_later = unlinkat(&self.parent, name, AtFlags::empty());
    }
}

/// Gives what `handle` holds the owner, attributes, mode and time of `entry`, as far as it tells;
/// whatever has its name by then stays as it is.
fn dress(handle: &impl AsFd, entry: &Entry) -> rustix::io::Result<()> {
    let stat = fstat(handle)?;
    if let Some((user, group)) = entry.owner
        && (user, group) != (stat.st_uid, stat.st_gid)
    {
        let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        chownat(handle, c"", user, group, AtFlags::EMPTY_PATH)?;
    }
    if !matches!(entry.kind, Kind::Symlink { .. }) {
        if entry.owner.is_some() {
            attributes::write(handle, &entry.attributes)?;
        }
        // Changing the owner takes set-id bits away, so the mode comes after.
        let mode = Mode::from_raw_mode(entry.permissions());
        chmodat(CWD, reopened(handle), mode, AtFlags::empty())?;
    }
    let nanos = entry.mtime.nanos.unwrap_or_default();
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: entry.mtime.seconds, tv_nsec: nanos.into() },
    };
    utimensat(handle, c"", &times, AtFlags::EMPTY_PATH)
}

/// Fills a new file: with the object's own blocks where the file system can share them.
fn copy(store: &Store, mut object: &File, file: &mut File, ask: Ask<'_>) -> io::Result<()> {
    if store.can_clone() && ioctl_ficlone(&*file, object).is_ok() {
        return Ok(());
    }
    loop {
        let copied = io::copy(&mut object.by_ref().take(PART), file)?;
        if copied < PART {
            return Ok(());
        }
        ask(copied)?;
    }
}

#[cfg(test)]
mod tests;
