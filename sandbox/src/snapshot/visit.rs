//! Visiting one entry after the other; each directory is a task of its own.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::Scope;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat, fstat, readlinkat, statat};
use rustix::io::Errno;

use super::error::SnapshotError;
use super::exclusion::{Candidate, Verdict};
use super::ignored::{GITIGNORE, Ignored};
use super::key::Key;
use super::roots::{Root, open_beneath};
use super::store::{Content, digest_in};
use super::tree::{Attributes, Entry, Kind};
use super::walk::{Contents, IgnoreFiles, SkipReason, Skipped, Walk};
use super::{attributes, place};

/// How many entries of a directory are looked at together.
const BATCH: usize = 128;

/// How often a file is read that changes meanwhile.
const ATTEMPTS: usize = 3;

/// What all threads of a walk share.
pub(super) struct Visit<'a> {
    walk: &'a Walk<'a>,
    /// What was changed since, in seconds since the epoch, may change again unseen.
    settled_before: i64,
    entries: AtomicU64,
    bytes: AtomicU64,
    /// Whether an error has ended the walk.
    is_over: AtomicBool,
    collected: Mutex<Collected>,
}

/// What the threads have found, in no order.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) entries: Vec<(Key, Entry)>,
    pub(super) skipped: Vec<Skipped>,
    pub(super) leftovers: Vec<Key>,
    /// The first error is the walk's.
    pub(super) error: Option<SnapshotError>,
}

/// Why an entry is not looked at any further.
enum Stop {
    Skip(SkipReason),
    Fail(SnapshotError),
}

impl From<SnapshotError> for Stop {
    fn from(error: SnapshotError) -> Self {
        Self::Fail(error)
    }
}

/// A directory on the way down.
struct Below<'a> {
    root: &'a Root,
    key: Key,
    /// The part of the key beneath the root.
    relative: PathBuf,
    /// What is ignored in it.
    ignored: Ignored,
    is_excluded: bool,
}

/// A directory that is open.
struct Opened<'a> {
    at: Below<'a>,
    handle: OwnedFd,
}

impl<'a> Visit<'a> {
    pub(super) fn new(walk: &'a Walk<'a>, settled_before: i64) -> Self {
        Self {
            walk,
            settled_before,
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            collected: Mutex::default(),
        }
    }

    pub(super) fn into_collected(self) -> Collected {
        self.collected.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn root<'s>(&'s self, root: &'a Root, scope: &Scope<'s>) {
        let key = root.key.clone();
        let visit = || {
            let missing = |error| match error {
                Errno::NOENT => Stop::Skip(SkipReason::Missing),
                error => cannot("open", &key)(error),
            };
            let place = root.place(Path::new("")).map_err(missing)?;
            let stat = place.stat().map_err(missing)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return self.leaf(&place.parent, &place.name, key.clone(), &stat);
            }
            let (relative, ignored) = (PathBuf::new(), Ignored::default());
            let at = Below { root, key: key.clone(), relative, ignored, is_excluded: false };
            self.directory(at, scope)
        };
        self.note(&key, visit());
    }

    fn directory<'s>(&'s self, mut at: Below<'a>, scope: &Scope<'s>) -> Result<(), Stop> {
        let failed = |error| cannot("read the directory", &at.key)(error);
        let handle = at.root.open_directory(&at.relative).map_err(failed)?;
        let stat = fstat(&handle).map_err(failed)?;
        if (stat.st_dev, stat.st_ino) == self.walk.own {
            return Ok(());
        }
        if !at.is_excluded {
            let attributes = attributes::read(&handle).map_err(failed)?;
            let entry = Entry::from_stat(&stat, Kind::Directory, attributes, self.settled_before);
            self.add(at.key.clone(), entry, 0)?;
        }
        let names = names(&handle).map_err(failed)?;
        at.ignored = self.ignored(&at, &handle, &names)?;
        let opened = Arc::new(Opened { at, handle });
        if names.len() <= BATCH {
            return names.iter().try_for_each(|name| self.entry(&opened, name, scope));
        }
        for batch in names.chunks(BATCH) {
            let (opened, batch) = (Arc::clone(&opened), batch.to_vec());
            scope.spawn(move |scope| {
                let mut names = batch.iter();
                let outcome = names.try_for_each(|name| self.entry(&opened, name, scope));
                self.note(&opened.at.key, outcome);
            });
        }
        Ok(())
    }

    /// Looks at what is called `name`. What is wrong with it alone is noted; what ends the walk
    /// is returned.
    fn entry<'s>(
        &'s self,
        within: &Opened<'a>,
        name: &OsStr,
        scope: &Scope<'s>,
    ) -> Result<(), Stop> {
        if self.is_over.load(Ordering::Relaxed) {
            return Ok(());
        }
        let key = within.at.key.join(name);
        if name.as_bytes().starts_with(place::TEMPORARY.as_bytes()) {
            self.collect(|all| all.leftovers.push(key));
            return Ok(());
        }
        match self.look(within, name, key.clone(), scope) {
            Err(Stop::Skip(reason)) => self.skip(&key, reason),
            outcome => return outcome,
        }
        Ok(())
    }

    fn look<'s>(
        &'s self,
        within: &Opened<'a>,
        name: &OsStr,
        key: Key,
        scope: &Scope<'s>,
    ) -> Result<(), Stop> {
        let stat = statat(&within.handle, name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|error| cannot("look at", &key)(error))?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let relative = within.at.relative.join(name);
        let verdict = self.walk.exclusion.verdict(Candidate {
            path: key.as_path(),
            relative: &relative,
            is_directory,
            is_ignored: within.at.ignored.covers(&relative, is_directory),
            is_beneath_excluded: within.at.is_excluded,
        });
        if verdict == Verdict::Skip {
            return Ok(());
        }
        let entries = self.entries.fetch_add(1, Ordering::Relaxed) + 1;
        check_limit("entries", entries, self.walk.max_entries)?;
        self.walk.meter.step()?;
        if !is_directory {
            return self.leaf(&within.handle, name, key, &stat);
        }
        let at = Below {
            root: within.at.root,
            key: key.clone(),
            relative,
            ignored: within.at.ignored.clone(),
            is_excluded: verdict == Verdict::Pass,
        };
        scope.spawn(move |scope| self.note(&key, self.directory(at, scope)));
        Ok(())
    }

    /// A file or link, or something that is neither.
    fn leaf(&self, parent: &OwnedFd, name: &OsStr, key: Key, stat: &Stat) -> Result<(), Stop> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => match self.unchanged(&key, stat) {
                Some(entry) => Ok(self.add(key, entry, stat.st_size.cast_unsigned())?),
                None => self.file(parent, name, key),
            },
            FileType::Symlink => {
                let target = readlinkat(parent, name, Vec::new());
                let target = target.map_err(|error| cannot("read", &key)(error))?;
                let target = Some(OsStr::from_bytes(target.as_bytes()).to_owned());
                let (kind, none) = (Kind::Symlink { target }, Attributes::new());
                let entry = Entry::from_stat(stat, kind, none, self.settled_before);
                Ok(self.add(key, entry, 0)?)
            }
            _ => Err(Stop::Skip(SkipReason::Special)),
        }
    }

    /// Reads a file, again if it changes meanwhile.
    fn file(&self, parent: &OwnedFd, name: &OsStr, key: Key) -> Result<(), Stop> {
        for attempt in 1..=ATTEMPTS {
            let failed = |error| cannot("read", &key)(error);
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
            let handle = open_beneath(parent, name, flags).map_err(failed)?;
            let before = fstat(&handle).map_err(failed)?;
            if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
                return Err(Stop::Skip(SkipReason::ChangedWhileRead));
            }
            let attributes = attributes::read(&handle).map_err(failed)?;
            let mut file = File::from(handle);
            let content = self.read(&mut file).map_err(SnapshotError::io("read", key.as_path()))?;
            let after = fstat(&file).map_err(failed)?;
            let is_still = (before.st_ctime, before.st_ctime_nsec, before.st_size)
                == (after.st_ctime, after.st_ctime_nsec, after.st_size);
            if !is_still && attempt < ATTEMPTS {
                continue;
            }
            if !is_still {
                self.skip(&key, SkipReason::ChangedWhileRead);
            }
            let kind = Kind::File { hash: content.hash, size: content.size, group: None };
            let entry = Entry::from_stat(&before, kind, attributes, self.settled_before);
            return Ok(self.add(key, entry, content.size)?);
        }
        Ok(())
    }

    fn read(&self, file: &mut File) -> io::Result<Content> {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        BUFFER.with_borrow_mut(|buffer| match self.walk.contents {
            Contents::Keep(store) => store.keep(file, buffer),
            Contents::Hash => digest_in(file, buffer),
        })
    }

    /// The entry as it was, if nothing can have changed since.
    fn unchanged(&self, key: &Key, stat: &Stat) -> Option<Entry> {
        let previous = self.walk.previous?.get(key)?;
        let Kind::File { hash, size, .. } = previous.kind else { return None };
        let kind = Kind::File { hash, size, group: None };
        let attributes = previous.attributes.clone();
        let now = Entry::from_stat(stat, kind, attributes, self.settled_before);
        let is_same = previous.identity?.proves_equal(&now.identity?);
        is_same.then_some(now)
    }

    /// The rules within a directory, with those of its own `.gitignore`.
    fn ignored(
        &self,
        at: &Below<'a>,
        handle: &OwnedFd,
        names: &[OsString],
    ) -> Result<Ignored, SnapshotError> {
        let above = at.ignored.clone();
        let text = match self.walk.ignore_files {
            _ if !self.walk.exclusion.config.use_gitignore => None,
            IgnoreFiles::Kept(tree, store) => {
                let own = at.key.join(OsStr::new(GITIGNORE));
                match tree.get(&own).map(|entry| &entry.kind) {
                    Some(&Kind::File { hash, size, .. }) => {
                        let failed = SnapshotError::io("read the kept", own.as_path());
                        Some(store.read(Content { hash, size }).map_err(failed)?)
                    }
                    _ => None,
                }
            }
            IgnoreFiles::Found if names.iter().any(|name| name == GITIGNORE) => read_rules(handle),
            IgnoreFiles::Found => None,
        };
        Ok(match text {
            Some(text) => above.within(&at.relative, &text),
            None => above,
        })
    }

    fn add(&self, key: Key, entry: Entry, size: u64) -> Result<(), SnapshotError> {
        let bytes = self.bytes.fetch_add(size, Ordering::Relaxed) + size;
        check_limit("bytes", bytes, self.walk.max_bytes)?;
        self.collect(|all| all.entries.push((key, entry)));
        Ok(())
    }

    fn skip(&self, key: &Key, reason: SkipReason) {
        let path = key.as_path().to_owned();
        self.collect(|all| all.skipped.push(Skipped { path, reason }));
    }

    fn note(&self, key: &Key, outcome: Result<(), Stop>) {
        match outcome {
            Ok(()) => {}
            Err(Stop::Skip(reason)) => self.skip(key, reason),
            Err(Stop::Fail(error)) => {
                self.is_over.store(true, Ordering::Relaxed);
                self.collect(|all| _ = all.error.get_or_insert(error));
            }
        }
    }

    fn collect(&self, change: impl FnOnce(&mut Collected)) {
        change(&mut self.collected.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What an error of the kernel means for an entry that was there a moment ago.
fn cannot(step: &'static str, key: &Key) -> impl FnOnce(Errno) -> Stop {
    move |error| match error {
        Errno::NOENT => Stop::Skip(SkipReason::Vanished),
        Errno::ACCESS | Errno::PERM => Stop::Skip(SkipReason::Unreadable),
        Errno::NAMETOOLONG => Stop::Skip(SkipReason::TooDeep),
        // It was something else when its directory was read.
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO => Stop::Skip(SkipReason::ChangedWhileRead),
        error => Stop::Fail(SnapshotError::io(step, key.as_path())(error)),
    }
}

/// The names in a directory.
fn names(handle: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(handle)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

/// The text of a directory's `.gitignore`; none if it cannot be read, as for git.
fn read_rules(directory: &OwnedFd) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let handle = open_beneath(directory, OsStr::new(GITIGNORE), flags).ok()?;
    let mut text = Vec::new();
    File::from(handle).read_to_end(&mut text).ok()?;
    Some(text)
}

fn check_limit(what: &'static str, found: u64, limit: u64) -> Result<(), SnapshotError> {
    if limit == 0 || found <= limit {
        return Ok(());
    }
    Err(SnapshotError::Budget { what, found, limit })
}
