//! Looking at all that is tracked, on all processors.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rayon::Scope;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat, fstat, readlinkat, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::SnapshotError;
use super::exclusion::{Candidate, Exclusion, Verdict};
use super::ignored::{GITIGNORE, Ignored};
use super::key::Key;
use super::progress::Meter;
use super::roots::{Root, open_beneath};
use super::store::{Content, Store, digest_in};
use super::tree::{Attributes, Entry, Kind, Tree};
use super::{attributes, place};

/// How many files of a directory are looked at together.
const BATCH: usize = 128;

/// How often a file is read that changes meanwhile.
const ATTEMPTS: usize = 3;

/// What was not looked at, or not whole, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The path, beneath the tracked path as it was given.
    pub path: PathBuf,
    /// Why.
    pub reason: SkipReason,
}

/// Why something is not in a snapshot, or not for certain as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SkipReason {
    /// A tracked path that is not there. Restoring removes what comes to stand there.
    Missing,
    /// It may not be read.
    Unreadable,
    /// A socket, pipe or device.
    Special,
    /// It was gone before it could be read.
    Vanished,
    /// It changed each time that it was read; what was read last is in the snapshot.
    ChangedWhileRead,
    /// Its path is longer than the kernel takes.
    TooDeep,
}

impl Skipped {
    /// The path, if something stood there that is not in the snapshot.
    pub(super) fn stays(&self) -> Option<&Path> {
        let was_there = !matches!(self.reason, SkipReason::Missing | SkipReason::Vanished);
        was_there.then_some(&self.path)
    }
}

impl SkipReason {
    /// The reason as it stands in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::Special => "special",
            Self::Vanished => "vanished",
            Self::ChangedWhileRead => "changed_while_read",
            Self::TooDeep => "too_deep",
        }
    }
}

/// Where the texts of `.gitignore` files come from.
#[derive(Clone, Copy)]
pub(super) enum IgnoreFiles<'a> {
    /// From what is walked.
    Found,
    /// From a snapshot.
    Kept(&'a Tree, &'a Store),
}

/// What becomes of contents.
#[derive(Clone, Copy)]
pub(super) enum Contents<'a> {
    Keep(&'a Store),
    Hash,
}

/// A walk over all that is tracked.
pub(super) struct Walk<'a> {
    pub(super) roots: &'a [Root],
    pub(super) exclusion: &'a Exclusion,
    pub(super) ignore_files: IgnoreFiles<'a>,
    pub(super) contents: Contents<'a>,
    /// What was there when it was last looked at.
    pub(super) previous: Option<&'a Tree>,
    /// Device and inode of the session's own directory.
    pub(super) own: (u64, u64),
    pub(super) max_entries: u64,
    pub(super) max_bytes: u64,
    pub(super) meter: Meter<'a>,
}

/// What a walk has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) tree: Tree,
    pub(super) skipped: Vec<Skipped>,
    /// Files that an interrupted restore has left.
    pub(super) leftovers: Vec<Key>,
}

/// What all threads of a walk share.
struct Shared<'a> {
    walk: &'a Walk<'a>,
    settled_before: i64,
    entries: AtomicU64,
    bytes: AtomicU64,
    /// Whether an error has ended the walk.
    is_over: AtomicBool,
    result: Mutex<Collected>,
}

#[derive(Default)]
struct Collected {
    entries: Vec<(Key, Entry)>,
    skipped: Vec<Skipped>,
    leftovers: Vec<Key>,
    error: Option<SnapshotError>,
}

/// A directory that is being looked at.
struct Within<'a> {
    root: &'a Root,
    handle: OwnedFd,
    key: Key,
    relative: PathBuf,
    ignored: Ignored,
    is_excluded: bool,
}

impl Walk<'_> {
    pub(super) fn run(&self) -> Result<Found, SnapshotError> {
        let shared = Shared {
            walk: self,
            settled_before: now() - 1,
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            result: Mutex::default(),
        };
        rayon::scope(|scope| {
            for root in self.roots {
                let outcome = shared.root(root, scope);
                shared.note(outcome);
            }
        });
        self.meter.end()?;
        let collected = shared.result.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = collected.error {
            return Err(error);
        }
        let Collected { mut entries, mut skipped, leftovers, .. } = collected;
        group_links(&mut entries);
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        skipped.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(Found { tree: entries.into_iter().collect(), skipped, leftovers })
    }
}

impl<'a> Shared<'a> {
    fn root<'s>(&'s self, root: &'a Root, scope: &Scope<'s>) -> Result<(), SnapshotError> {
        let fault = |error| SnapshotError::io("open", root.key.as_path())(error);
        let place = match root.place(Path::new("")) {
            Err(Errno::NOENT) => return self.skip(&root.key, SkipReason::Missing),
            place => place.map_err(fault)?,
        };
        let stat = match place.stat() {
            Err(Errno::NOENT) => return self.skip(&root.key, SkipReason::Missing),
            stat => stat.map_err(fault)?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let ignored = Ignored::default();
                self.directory(root, root.key.clone(), PathBuf::new(), ignored, false, scope)
            }
            _ => self.leaf(&place.parent, &place.name, root.key.clone(), &stat),
        }
    }

    fn directory<'s>(
        &'s self,
        root: &'a Root,
        key: Key,
        relative: PathBuf,
        ignored: Ignored,
        is_excluded: bool,
        scope: &Scope<'s>,
    ) -> Result<(), SnapshotError> {
        let handle = match root.open_directory(&relative) {
            Ok(handle) => handle,
            Err(error) => return self.cannot_open(&key, error),
        };
        let fault = |error| SnapshotError::io("read the directory", key.as_path())(error);
        let stat = fstat(&handle).map_err(fault)?;
        if (stat.st_dev, stat.st_ino) == self.walk.own {
            return Ok(());
        }
        if !is_excluded {
            let attributes = attributes::read(&handle).map_err(fault)?;
            let entry = Entry::from_stat(&stat, Kind::Directory, attributes, self.settled_before);
            self.add(key.clone(), entry, 0)?;
        }
        let names = names(&handle).map_err(fault)?;
        let ignored = self.ignored(ignored, &handle, &key, &relative, &names)?;
        let within = Arc::new(Within { root, handle, key, relative, ignored, is_excluded });
        for batch in names.chunks(BATCH) {
            let (within, batch) = (Arc::clone(&within), batch.to_vec());
            if names.len() <= BATCH {
                return self.batch(&within, &batch, scope);
            }
            scope.spawn(move |scope| {
                let outcome = self.batch(&within, &batch, scope);
                self.note(outcome);
            });
        }
        Ok(())
    }

    fn batch<'s>(
        &'s self,
        within: &Within<'a>,
        names: &[OsString],
        scope: &Scope<'s>,
    ) -> Result<(), SnapshotError> {
        names.iter().try_for_each(|name| self.entry(within, name, scope))
    }

    fn entry<'s>(
        &'s self,
        within: &Within<'a>,
        name: &OsStr,
        scope: &Scope<'s>,
    ) -> Result<(), SnapshotError> {
        if self.is_over.load(Ordering::Relaxed) {
            return Ok(());
        }
        let key = within.key.join(name);
        if name.as_bytes().starts_with(place::TEMPORARY.as_bytes()) {
            self.collect(|all| all.leftovers.push(key));
            return Ok(());
        }
        let stat = match statat(&within.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return self.skip(&key, SkipReason::Vanished),
            Err(Errno::ACCESS) => return self.skip(&key, SkipReason::Unreadable),
            stat => stat.map_err(|error| SnapshotError::io("look at", key.as_path())(error))?,
        };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let relative = within.relative.join(name);
        let verdict = self.walk.exclusion.verdict(Candidate {
            path: key.as_path(),
            relative: &relative,
            is_directory,
            is_ignored: within.ignored.covers(&relative, is_directory),
            is_beneath_excluded: within.is_excluded,
        });
        if verdict == Verdict::Skip {
            return Ok(());
        }
        self.count()?;
        if !is_directory {
            return self.leaf(&within.handle, name, key, &stat);
        }
        let (root, ignored) = (within.root, within.ignored.clone());
        scope.spawn(move |scope| {
            let is_excluded = verdict == Verdict::Pass;
            let outcome = self.directory(root, key, relative, ignored, is_excluded, scope);
            self.note(outcome);
        });
        Ok(())
    }

    /// A file or link, or something that is neither.
    fn leaf(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        key: Key,
        stat: &Stat,
    ) -> Result<(), SnapshotError> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file(parent, name, key, stat),
            FileType::Symlink => {
                let target = match readlinkat(parent, name, Vec::new()) {
                    Ok(target) => OsString::from(OsStr::from_bytes(target.as_bytes())),
                    Err(Errno::NOENT) => return self.skip(&key, SkipReason::Vanished),
                    Err(error) => return Err(SnapshotError::io("read", key.as_path())(error)),
                };
                let kind = Kind::Symlink { target: Some(target) };
                let entry = Entry::from_stat(stat, kind, Attributes::new(), self.settled_before);
                self.add(key, entry, 0)
            }
            _ => self.skip(&key, SkipReason::Special),
        }
    }

    fn file(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        key: Key,
        stat: &Stat,
    ) -> Result<(), SnapshotError> {
        if let Some(entry) = self.unchanged(&key, stat) {
            let size = stat.st_size.cast_unsigned();
            return self.add(key, entry, size);
        }
        for attempt in 1..=ATTEMPTS {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
            let handle = match open_beneath(parent, name, flags) {
                Ok(handle) => handle,
                Err(error) => return self.cannot_open(&key, error),
            };
            let fault = |error| SnapshotError::io("read", key.as_path())(error);
            let before = fstat(&handle).map_err(|error| fault(error.into()))?;
            if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
                return self.skip(&key, SkipReason::ChangedWhileRead);
            }
            let attributes = attributes::read(&handle).map_err(|error| fault(error.into()))?;
            let mut file = File::from(handle);
            let content = self.read(&mut file).map_err(fault)?;
            let after = fstat(&file).map_err(|error| fault(error.into()))?;
            let is_still = (before.st_ctime, before.st_ctime_nsec, before.st_size)
                == (after.st_ctime, after.st_ctime_nsec, after.st_size);
            if !is_still && attempt < ATTEMPTS {
                continue;
            }
            if !is_still {
                self.skip(&key, SkipReason::ChangedWhileRead)?;
            }
            let kind = Kind::File { hash: content.hash, size: content.size, group: None };
            let entry = Entry::from_stat(&before, kind, attributes, self.settled_before);
            return self.add(key, entry, content.size);
        }
        Ok(())
    }

    fn read(&self, file: &mut File) -> std::io::Result<Content> {
        thread_local! {
            static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
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
        above: Ignored,
        handle: &OwnedFd,
        key: &Key,
        relative: &Path,
        names: &[OsString],
    ) -> Result<Ignored, SnapshotError> {
        if !self.walk.exclusion.config.use_gitignore {
            return Ok(above);
        }
        let own = key.join(OsStr::new(GITIGNORE));
        let text = match self.walk.ignore_files {
            IgnoreFiles::Kept(tree, store) => match tree.get(&own).map(|entry| &entry.kind) {
                Some(&Kind::File { hash, size, .. }) => {
                    let fault = SnapshotError::io("read the kept", own.as_path());
                    Some(store.read(Content { hash, size }).map_err(fault)?)
                }
                _ => None,
            },
            IgnoreFiles::Found if names.iter().any(|name| name == GITIGNORE) => {
                open_beneath(handle, OsStr::new(GITIGNORE), OFlags::RDONLY | OFlags::NONBLOCK)
                    .ok()
                    .and_then(|handle| {
                        let mut text = Vec::new();
                        File::from(handle).read_to_end(&mut text).ok().map(|_| text)
                    })
            }
            IgnoreFiles::Found => None,
        };
        Ok(text.map_or_else(|| above.clone(), |text| above.within(relative, &text)))
    }

    fn cannot_open(&self, key: &Key, error: Errno) -> Result<(), SnapshotError> {
        match error {
            Errno::NOENT => self.skip(key, SkipReason::Vanished),
            Errno::ACCESS | Errno::PERM => self.skip(key, SkipReason::Unreadable),
            Errno::NAMETOOLONG => self.skip(key, SkipReason::TooDeep),
            // It was something else when its directory was read.
            Errno::LOOP | Errno::NOTDIR | Errno::NXIO => {
                self.skip(key, SkipReason::ChangedWhileRead)
            }
            error => Err(SnapshotError::io("open", key.as_path())(error)),
        }
    }

    fn skip(&self, key: &Key, reason: SkipReason) -> Result<(), SnapshotError> {
        let path = key.as_path().to_owned();
        self.collect(|all| all.skipped.push(Skipped { path, reason }));
        Ok(())
    }

    fn count(&self) -> Result<(), SnapshotError> {
        let entries = self.entries.fetch_add(1, Ordering::Relaxed) + 1;
        within("entries", entries, self.walk.max_entries)?;
        self.walk.meter.step()
    }

    fn add(&self, key: Key, entry: Entry, size: u64) -> Result<(), SnapshotError> {
        let bytes = self.bytes.fetch_add(size, Ordering::Relaxed) + size;
        within("bytes", bytes, self.walk.max_bytes)?;
        self.collect(|all| all.entries.push((key, entry)));
        Ok(())
    }

    fn collect(&self, change: impl FnOnce(&mut Collected)) {
        change(&mut self.result.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The first error is the walk's.
    fn note(&self, outcome: Result<(), SnapshotError>) {
        if let Err(error) = outcome {
            self.is_over.store(true, Ordering::Relaxed);
            self.collect(|all| _ = all.error.get_or_insert(error));
        }
    }
}

/// The names in a directory.
fn names(handle: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let entries = Dir::read_from(handle)?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

/// Numbers the files that have several of the names found.
fn group_links(entries: &mut [(Key, Entry)]) {
    let mut places: HashMap<(u64, u64), Vec<usize>> = HashMap::new();
    for (index, (_, entry)) in entries.iter().enumerate() {
        let identity = entry.identity.filter(|identity| identity.links > 1);
        if let (Kind::File { .. }, Some(identity)) = (&entry.kind, identity) {
            places.entry(identity.place()).or_default().push(index);
        }
    }
    let mut groups: Vec<_> = places.into_values().filter(|members| members.len() > 1).collect();
    let first = |members: &Vec<usize>| {
        members.iter().filter_map(|&index| entries.get(index)).map(|(key, _)| key.clone()).min()
    };
    groups.sort_by_cached_key(first);
    for (number, member) in (0..).zip(groups).flat_map(|(n, all)| all.into_iter().map(move |m| (n, m)))
    {
        if let Some((_, Entry { kind: Kind::File { group, .. }, .. })) = entries.get_mut(member) {
            *group = Some(number);
        }
    }
}

fn within(what: &'static str, found: u64, limit: u64) -> Result<(), SnapshotError> {
    match limit {
        0 => Ok(()),
        limit if found <= limit => Ok(()),
        limit => Err(SnapshotError::Budget { what, found, limit }),
    }
}

/// Seconds since the epoch.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
