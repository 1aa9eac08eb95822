//! Visiting one entry after the other; each directory is a task of its own.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::Scope;
use rustix::fs::{AtFlags, FileType, fstat, statat};
use rustix::io::Errno;

use super::collected::{Collected, Stop, cannot, check_limit};
use super::exclusion::{Candidate, Verdict};
use super::ignored::Ignored;
use super::key::Key;
use super::known::Known;
use super::names::Names;
use super::roots::Root;
use super::tree::{Entry, Kind, Node};
use super::values::{SkipReason, Skipped};
use super::walk::Walk;
use super::{attributes, place};

/// How many entries of a directory are looked at together.
const BATCH: usize = 128;

/// What all threads of a walk share.
pub(super) struct Visit<'a> {
    pub(super) walk: &'a Walk<'a>,
    /// What was changed since, in seconds since the epoch, may change again unseen.
    pub(super) settled_before: i64,
    entries: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Of the `.gitignore` files.
    pub(super) rules: AtomicU64,
    /// Of those of which the snapshot does not tell whether they held.
    pub(super) guessed: AtomicU64,
    /// Whether an error has ended the walk.
    is_over: AtomicBool,
    /// Which nodes of the previous tree are still the same.
    pub(super) is_kept: Vec<AtomicBool>,
    collected: Mutex<Collected>,
}

/// A directory on the way down.
pub(super) struct Below<'a> {
    root: &'a Root,
    pub(super) key: Key,
    /// What was beneath it when it was last looked at, and itself.
    known: Known<'a>,
    /// What is ignored in it.
    pub(super) ignored: Ignored,
    is_excluded: bool,
}

/// A directory that is open.
struct Opened<'a> {
    at: Below<'a>,
    handle: OwnedFd,
    names: Names,
}

/// What is called `name` in a directory.
pub(super) struct Named<'a, 'e> {
    pub(super) parent: &'e OwnedFd,
    pub(super) name: &'e OsStr,
    pub(super) path: &'e Path,
    /// What was called so before.
    pub(super) known: Known<'a>,
}

impl Below<'_> {
    /// The part of the key beneath the root.
    pub(super) fn relative(&self) -> &Path {
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
            rules: AtomicU64::new(0),
            guessed: AtomicU64::new(0),
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
                let at = Named { parent, name, path, known };
                return self.leaf(&at, &stat, &mut found);
            }
            let ignored = Ignored::default();
            let known = known.narrowed(key);
            let at = Below { root, key: key.clone(), known, ignored, is_excluded: false };
            let outcome = self.directory(at, scope);
            found.close(&outcome, key.as_path(), key);
            outcome
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
                found.nodes.push(Node { key: at.key.clone(), entry });
            }
            self.collect(|all| all.append(found));
        }
        let names = Names::read(&handle).map_err(failed)?;
        at.ignored = self.ignored(&at, &handle, &names)?;
        let opened = Arc::new(Opened { at, handle, names });
        let all = opened.names.len();
        if all <= BATCH {
            self.batch(&opened, 0..all, scope);
            return Ok(());
        }
        for begin in (0..all).step_by(BATCH) {
            let opened = Arc::clone(&opened);
            scope.spawn(move |scope| self.batch(&opened, begin..all.min(begin + BATCH), scope));
        }
        Ok(())
    }

    /// Looks at names by their `numbers`. What is wrong with one alone is noted with it; what
    /// ends the walk is noted for all.
    fn batch<'s>(&'s self, within: &Opened<'a>, numbers: Range<usize>, scope: &Scope<'s>) {
        let mut ahead = within.at.known;
        let mut found = Collected::default();
        let mut path = within.at.key.as_bytes().to_vec();
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        let directory = path.len();
        let outcome = within.names.some(numbers).try_for_each(|name| {
            if self.is_over() {
                return Ok(());
            }
            path.truncate(directory);
            path.extend_from_slice(name.as_bytes());
            let path = Path::new(OsStr::from_bytes(&path));
            let outcome = if name.as_bytes().starts_with(place::TEMPORARY.as_bytes()) {
                found.leftovers.push(Key::new(path));
                Ok(())
            } else {
                let known = ahead.pass(path);
                let at = Named { parent: &within.handle, name, path, known };
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
        at: &Named<'a, '_>,
        found: &mut Collected,
        scope: &Scope<'s>,
    ) -> Result<(), Stop> {
        let path = at.path;
        let stat = statat(at.parent, at.name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(cannot("look at", path));
        found.close(&stat, path, &within.at.key);
        let stat = stat?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let verdict = self.verdict(&within.at, path, is_directory, &within.at.ignored);
        if verdict == Verdict::Skip {
            return Ok(());
        }
        let entries = self.entries.fetch_add(1, Ordering::Relaxed) + 1;
        check_limit("entries", entries, self.walk.max_entries)?;
        self.walk.meter.step()?;
        if !is_directory {
            return self.leaf(at, &stat, found);
        }
        let key = Key::new(path);
        let at = Below {
            root: within.at.root,
            known: at.known.narrowed(&key),
            key,
            ignored: within.at.ignored.clone(),
            is_excluded: verdict == Verdict::Pass,
        };
        scope.spawn(move |scope| {
            let path = at.key.as_path().to_owned();
            let (is_excluded, mut found) = (at.is_excluded, Collected::default());
            let key = at.key.clone();
            let outcome = self.directory(at, scope);
            found.close(&outcome, &path, &key);
            if is_excluded && matches!(outcome, Err(Stop::Skip(_))) {
                found.passed.push(path.clone());
            }
            self.note(&path, outcome, found);
        });
        Ok(())
    }

    /// What becomes of what is at `path` in a directory, where the rules are `ignored`.
    pub(super) fn verdict(
        &self,
        within: &Below<'a>,
        path: &Path,
        is_directory: bool,
        ignored: &Ignored,
    ) -> Verdict {
        let relative = within.root.key.beneath(path).unwrap_or(path);
        self.walk.exclusion.verdict(Candidate {
            path,
            relative,
            is_directory,
            is_ignored: ignored.covers(relative, is_directory),
            is_beneath_excluded: within.is_excluded,
        })
    }

    /// Puts what was found to the rest, and what ended the search.
    fn note(&self, path: &Path, outcome: Result<(), Stop>, mut found: Collected) {
        match outcome.and_then(|()| Ok(self.count(&mut found)?)) {
            Ok(()) => {}
            Err(Stop::Skip(reason)) => {
                found.skipped.push(Skipped { path: path.to_owned(), reason });
            }
            Err(Stop::Fail(error)) => found.error = Some(error),
        }
        let is_over = found.error.is_some();
        self.collect(|all| all.append(found));
        // Only now: others end with an error of their own, and the first that is noted counts.
        if is_over {
            self.is_over.store(true, Ordering::Release);
        }
    }

    /// Whether an error has ended the walk.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    pub(super) fn collect(&self, change: impl FnOnce(&mut Collected)) {
        change(&mut self.collected.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
