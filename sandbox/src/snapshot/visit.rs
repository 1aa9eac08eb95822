//! Visiting one entry after the other; each directory is a task of its own.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::Scope;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat, fstat, readlinkat, statat};
use rustix::io::Errno;

use super::error::SnapshotError;
use super::exclusion::{Candidate, Verdict};
use super::ignored::{GITIGNORE, Ignored};
use super::key::Key;
use super::known::Known;
use super::roots::{Root, open_beneath};
use super::store::{Content, digest_in};
use super::tree::{Attributes, Entry, Kind, Node};
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
    /// Which nodes of the previous tree are still the same.
    is_kept: Vec<AtomicBool>,
    collected: Mutex<Collected>,
}

/// What the threads have found, in no order.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) skipped: Vec<Skipped>,
    pub(super) leftovers: Vec<Key>,
    /// The size of files that is not counted yet.
    pub(super) bytes: u64,
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
    /// What was beneath it when it was last looked at, and itself.
    known: Known<'a>,
    /// What is ignored in it.
    ignored: Ignored,
    is_excluded: bool,
}

/// A directory that is open.
struct Opened<'a> {
    at: Below<'a>,
    handle: OwnedFd,
}

/// What is called `name` in a directory.
struct Named<'e> {
    parent: &'e OwnedFd,
    name: &'e OsStr,
    path: &'e Path,
}

impl Below<'_> {
    /// The part of the key beneath the root.
    fn relative(&self) -> &Path {
        self.root.key.beneath(self.key.as_path()).unwrap_or_else(|| Path::new(""))
    }
}

impl<'a> Visit<'a> {
    pub(super) fn new(walk: &'a Walk<'a>, settled_before: i64) -> Self {
        Self {
            walk,
            settled_before,
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            is_kept: walk
                .previous
                .map(|tree| tree.nodes().iter().map(|_| AtomicBool::new(false)).collect())
                .unwrap_or_default(),
            collected: Mutex::default(),
        }
    }

    /// What was found, and which nodes of the previous tree are still the same.
    pub(super) fn into_parts(self) -> (Collected, Vec<AtomicBool>) {
        let collected = self.collected.into_inner().unwrap_or_else(PoisonError::into_inner);
        (collected, self.is_kept)
    }

    pub(super) fn root<'s>(&'s self, root: &'a Root, scope: &Scope<'s>) {
        let key = &root.key;
        let mut found = Collected::default();
        let mut visit = || {
            let missing = |error| match error {
                Errno::NOENT => Stop::Skip(SkipReason::Missing),
                error => cannot("open", key.as_path())(error),
            };
            let place = root.place(Path::new("")).map_err(missing)?;
            let stat = place.stat().map_err(missing)?;
            let known = Known::all(self.walk.previous).at(key.as_path());
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                let (parent, name, path) = (&place.parent, &*place.name, key.as_path());
                let at = Named { parent, name, path };
                return self.leaf(&at, known.own(), &stat, &mut found);
            }
            let ignored = Ignored::default();
            let known = known.narrowed(key);
            let at = Below { root, key: key.clone(), known, ignored, is_excluded: false };
            self.directory(at, scope)
        };
        let outcome = visit();
        self.note(key.as_path(), outcome, found);
    }

    fn directory<'s>(&'s self, mut at: Below<'a>, scope: &Scope<'s>) -> Result<(), Stop> {
        let failed = |error| cannot("read the directory", at.key.as_path())(error);
        let handle = at.root.open_directory(at.relative()).map_err(failed)?;
        let stat = fstat(&handle).map_err(failed)?;
        if (stat.st_dev, stat.st_ino) == self.walk.own {
            return Ok(());
        }
        if !at.is_excluded {
            let mut found = Collected::default();
            if !self.is_unchanged(at.known.own(), &stat, &mut found) {
                let (kind, attributes) =
                    (Kind::Directory, attributes::read(&handle).map_err(failed)?);
                let entry = Entry::from_stat(&stat, kind, attributes, self.settled_before);
                found.nodes.push(Arc::new(Node { key: at.key.clone(), entry }));
            }
            self.collect(|all| all.append(found));
        }
        let names = names(&handle).map_err(failed)?;
        at.ignored = self.ignored(&at, &handle, &names)?;
        let opened = Arc::new(Opened { at, handle });
        if names.len() <= BATCH {
            self.batch(&opened, &names, scope);
            return Ok(());
        }
        for batch in names.chunks(BATCH) {
            let (opened, batch) = (Arc::clone(&opened), batch.to_vec());
            scope.spawn(move |scope| self.batch(&opened, &batch, scope));
        }
        Ok(())
    }

    /// Looks at what is called `names`. What is wrong with one alone is noted with it; what ends
    /// the walk is noted for all.
    fn batch<'s>(&'s self, within: &Opened<'a>, names: &[OsString], scope: &Scope<'s>) {
        let mut found = Collected::default();
        let mut path = within.at.key.as_bytes().to_vec();
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        let directory = path.len();
        let outcome = names.iter().try_for_each(|name| {
            if self.is_over.load(Ordering::Relaxed) {
                return Ok(());
            }
            path.truncate(directory);
            path.extend_from_slice(name.as_bytes());
            let path = Path::new(OsStr::from_bytes(&path));
            let outcome = if name.as_bytes().starts_with(place::TEMPORARY.as_bytes()) {
                found.leftovers.push(Key::new(path));
                Ok(())
            } else {
                let at = Named { parent: &within.handle, name, path };
                self.look(within, &at, &mut found, scope)
            };
            if let Err(Stop::Skip(reason)) = outcome {
                found.skipped.push(Skipped { path: path.to_owned(), reason });
                return Ok(());
            }
            outcome
        });
        self.note(within.at.key.as_path(), outcome, found);
    }

    fn look<'s>(
        &'s self,
        within: &Opened<'a>,
        at: &Named<'_>,
        found: &mut Collected,
        scope: &Scope<'s>,
    ) -> Result<(), Stop> {
        let path = at.path;
        let stat = statat(at.parent, at.name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|error| cannot("look at", path)(error))?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let relative = within.at.root.key.beneath(path).unwrap_or(path);
        let verdict = self.walk.exclusion.verdict(Candidate {
            path,
            relative,
            is_directory,
            is_ignored: within.at.ignored.covers(relative, is_directory),
            is_beneath_excluded: within.at.is_excluded,
        });
        if verdict == Verdict::Skip {
            return Ok(());
        }
        let entries = self.entries.fetch_add(1, Ordering::Relaxed) + 1;
        check_limit("entries", entries, self.walk.max_entries)?;
        self.walk.meter.step()?;
        let known = within.at.known.at(path);
        if !is_directory {
            return self.leaf(at, known.own(), &stat, found);
        }
        let key = Key::new(path);
        let at = Below {
            root: within.at.root,
            known: known.narrowed(&key),
            key,
            ignored: within.at.ignored.clone(),
            is_excluded: verdict == Verdict::Pass,
        };
        scope.spawn(move |scope| {
            let path = at.key.as_path().to_owned();
            let outcome = self.directory(at, scope);
            self.note(&path, outcome, Collected::default());
        });
        Ok(())
    }

    /// A file or link, or something that is neither.
    fn leaf(
        &self,
        at: &Named<'_>,
        known: Option<(usize, &Arc<Node>)>,
        stat: &Stat,
        found: &mut Collected,
    ) -> Result<(), Stop> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if self.is_unchanged(known, stat, found) {
            if kind == FileType::RegularFile {
                found.bytes += stat.st_size.cast_unsigned();
            }
            return Ok(());
        }
        match kind {
            FileType::RegularFile => self.file(at, found),
            FileType::Symlink => {
                let target = readlinkat(at.parent, at.name, Vec::new());
                let target = target.map_err(|error| cannot("read", at.path)(error))?;
                let target = Some(OsStr::from_bytes(target.as_bytes()).to_owned());
                let (kind, none) = (Kind::Symlink { target }, Attributes::new());
                let entry = Entry::from_stat(stat, kind, none, self.settled_before);
                let key = Key::new(at.path);
                Ok(self.add(found, Arc::new(Node { key, entry }), 0)?)
            }
            _ => Err(Stop::Skip(SkipReason::Special)),
        }
    }

    /// Reads a file, again if it changes meanwhile.
    fn file(&self, at: &Named<'_>, found: &mut Collected) -> Result<(), Stop> {
        for attempt in 1..=ATTEMPTS {
            let failed = |error| cannot("read", at.path)(error);
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
            let handle = open_beneath(at.parent, at.name, flags).map_err(failed)?;
            let before = fstat(&handle).map_err(failed)?;
            if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
                return Err(Stop::Skip(SkipReason::ChangedWhileRead));
            }
            let attributes = attributes::read(&handle).map_err(failed)?;
            let mut file = File::from(handle);
            let content = self.read(&mut file).map_err(SnapshotError::io("read", at.path))?;
            let after = fstat(&file).map_err(failed)?;
            let is_still = (before.st_ctime, before.st_ctime_nsec, before.st_size)
                == (after.st_ctime, after.st_ctime_nsec, after.st_size);
            if !is_still && attempt < ATTEMPTS {
                continue;
            }
            if !is_still {
                let (path, reason) = (at.path.to_owned(), SkipReason::ChangedWhileRead);
                found.skipped.push(Skipped { path, reason });
            }
            let kind = Kind::File { hash: content.hash, size: content.size, group: None };
            let entry = Entry::from_stat(&before, kind, attributes, self.settled_before);
            let key = Key::new(at.path);
            return Ok(self.add(found, Arc::new(Node { key, entry }), content.size)?);
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

    /// Whether nothing can have changed in what was `known`, which then is kept.
    fn is_unchanged(
        &self,
        known: Option<(usize, &Arc<Node>)>,
        stat: &Stat,
        found: &mut Collected,
    ) -> bool {
        let Some((index, node)) = known else { return false };
        if node.entry.is_as(stat) && stat.st_ctime < self.settled_before {
            if let Some(kept) = self.is_kept.get(index) {
                kept.store(true, Ordering::Relaxed);
            }
            return true;
        }
        if !node.entry.proves_same_content(stat) {
            return false;
        }
        let (kind, attributes) = (node.entry.kind.clone(), node.entry.attributes.clone());
        let entry = Entry::from_stat(stat, kind, attributes, self.settled_before);
        found.nodes.push(Arc::new(Node { key: node.key.clone(), entry }));
        true
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
            Some(text) => above.within(at.relative(), &text),
            None => above,
        })
    }

    fn add(&self, found: &mut Collected, node: Arc<Node>, size: u64) -> Result<(), SnapshotError> {
        found.bytes += size;
        found.nodes.push(node);
        self.count(found)
    }

    /// Adds the bytes of what was found to those of the walk.
    fn count(&self, found: &mut Collected) -> Result<(), SnapshotError> {
        let new = mem::take(&mut found.bytes);
        let bytes = self.bytes.fetch_add(new, Ordering::Relaxed) + new;
        check_limit("bytes", bytes, self.walk.max_bytes)
    }

    /// Puts what was found to the rest, and what ended the search.
    fn note(&self, path: &Path, outcome: Result<(), Stop>, mut found: Collected) {
        match outcome.and_then(|()| Ok(self.count(&mut found)?)) {
            Ok(()) => {}
            Err(Stop::Skip(reason)) => {
                found.skipped.push(Skipped { path: path.to_owned(), reason });
            }
            Err(Stop::Fail(error)) => {
                self.is_over.store(true, Ordering::Relaxed);
                found.error = Some(error);
            }
        }
        self.collect(|all| all.append(found));
    }

    fn collect(&self, change: impl FnOnce(&mut Collected)) {
        change(&mut self.collected.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Collected {
    fn append(&mut self, other: Self) {
        self.nodes.extend(other.nodes);
        self.skipped.extend(other.skipped);
        self.leftovers.extend(other.leftovers);
        self.error = self.error.take().or(other.error);
    }
}

/// What an error of the kernel means for an entry that was there a moment ago.
fn cannot(step: &'static str, path: &Path) -> impl FnOnce(Errno) -> Stop {
    move |error| match error {
        Errno::NOENT => Stop::Skip(SkipReason::Vanished),
        Errno::ACCESS | Errno::PERM => Stop::Skip(SkipReason::Unreadable),
        Errno::NAMETOOLONG => Stop::Skip(SkipReason::TooDeep),
        // It was something else when its directory was read.
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO => Stop::Skip(SkipReason::ChangedWhileRead),
        error => Stop::Fail(SnapshotError::io(step, path)(error)),
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
