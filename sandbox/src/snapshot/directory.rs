//! Directories in a walk: each is a task of its own, and hands out what is called so in it.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rayon::Scope;
use rustix::fs::{AtFlags, FileType, fstat, statat};
use rustix::io::Errno;

use super::collected::{Collected, Stop, cannot, cannot_enter, check_limit};
use super::exclusion::Verdict;
use super::key::Key;
use super::names::Names;
use super::tree::{Attributes, Entry, Kind, Node};
use super::visit::{Below, Named, Visit};
use super::walk::Contents;
use super::{attributes, place};

/// How many entries of a directory are looked at together.
const BATCH: usize = 128;

/// How many directories stay open for other threads to look at a part of their names. A tree that
/// is wide at each of its levels has more, but a process may not.
const MOST_OPEN: usize = 32;

/// A directory that is open.
struct Opened<'a> {
    at: Below<'a>,
    handle: OwnedFd,
    names: Names,
    /// Held as long as that is.
    _open: Arc<()>,
}

impl<'a> Visit<'a> {
    pub(super) fn directory<'s>(
        &'s self,
        mut at: Below<'a>,
        scope: &Scope<'s>,
    ) -> Result<(), Stop> {
        let path = at.key.as_path();
        let failed = |error| self.cannot_enter("read the directory", path)(error);
        let open = || at.root.open_directory(at.relative());
        let handle = self.let_in(path, &at.key, open).map_err(failed)?;
        let stat = fstat(&handle).map_err(failed)?;
        if (stat.st_dev, stat.st_ino) == self.walk.own {
            return Ok(());
        }
        if !at.is_excluded {
            let mut found = Collected::default();
            if !self.is_unchanged(at.known.own(), &stat, &mut found) {
                let attributes = attributes::read(&handle).or_else(|error| self.untold(error));
                let (kind, attributes) = (Kind::Directory, attributes.map_err(failed)?);
                let entry = Entry::from_stat(&stat, kind, attributes, self.settled_before);
                found.nodes.push(Node { key: at.key.clone(), entry });
            }
            self.collect(|all| all.append(found));
        }
        let names = Names::read(&handle).map_err(failed)?;
        at.ignored = self.ignored(&at, &handle, &names)?;
        self.hand_out(Opened { at, handle, names, _open: Arc::clone(&self.open) }, scope);
        Ok(())
    }

    /// Has all names of a directory looked at: at once, or by whichever threads have time.
    fn hand_out<'s>(&'s self, opened: Opened<'a>, scope: &Scope<'s>) {
        let all = opened.names.len();
        let mut parts = (0..all).step_by(BATCH).map(|begin| begin..all.min(begin + BATCH));
        let is_one = all <= BATCH || Arc::strong_count(&self.open) > MOST_OPEN;
        if is_one {
            // What is beneath waits, so that this one is closed before.
            return parts.for_each(|part| self.batch(&opened, part, scope));
        }
        let opened = Arc::new(opened);
        parts.by_ref().for_each(|part| {
            let opened = Arc::clone(&opened);
            scope.spawn(move |scope| self.batch(&opened, part, scope));
        });
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
            let at = Named { parent: &within.handle, name, path, known: ahead.pass(path) };
            let outcome = self.look(within, &at, &mut found, scope);
            found.skip(outcome, path)
        });
        self.note(within.at.key.as_path(), outcome.map_err(Stop::Fail), found);
    }

    fn look<'s>(
        &'s self,
        within: &Opened<'a>,
        at: &Named<'a, '_>,
        found: &mut Collected,
        scope: &Scope<'s>,
    ) -> Result<(), Stop> {
        let (path, directory) = (at.path, &within.at.key);
        let look = || statat(at.parent, at.name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = self.let_in(path, directory, look).map_err(cannot("look at", path));
        found.close(&stat, path, directory);
        let stat = stat?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_directory = kind == FileType::Directory;
        let is_plain = matches!(kind, FileType::RegularFile | FileType::Symlink);
        if is_plain && place::is_temporary(at.name) {
            found.leftovers.push(Key::new(path));
            return Ok(());
        }
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
        self.descend(
            Below {
                root: within.at.root,
                known: at.known.narrowed(&key),
                key,
                ignored: within.at.ignored.clone(),
                is_excluded: verdict == Verdict::Pass,
            },
            scope,
        );
        Ok(())
    }

    /// Leaves a directory to whichever thread has time.
    fn descend<'s>(&'s self, at: Below<'a>, scope: &Scope<'s>) {
        scope.spawn(move |scope| {
            let (is_excluded, mut found) = (at.is_excluded, Collected::default());
            let key = at.key.clone();
            let outcome = self.directory(at, scope);
            found.close(&outcome, key.as_path(), &key);
            if is_excluded && matches!(outcome, Err(Stop::Skip(_) | Stop::Shut)) {
                found.passed.push(key.as_path().to_owned());
            }
            self.note(key.as_path(), outcome, found);
        });
    }

    /// Looks at what is at `path`, and once more if `directory` had to be made to let its owner in.
    fn let_in<T>(
        &self,
        path: &Path,
        directory: &Key,
        look: impl Fn() -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        match (look(), self.walk.doors) {
            (Err(Errno::ACCESS | Errno::PERM), Some(doors)) if !doors.keep(path) => {
                doors.open(directory)?;
                look()
            }
            (outcome, _) => outcome,
        }
    }

    fn cannot_enter(&self, step: &'static str, path: &Path) -> impl FnOnce(Errno) -> Stop {
        let is_restore = matches!(self.walk.contents, Contents::Hash);
        move |error| {
            if is_restore { cannot_enter(step, path)(error) } else { cannot(step, path)(error) }
        }
    }

    /// The attributes of a directory that has too many to be told: what is in it counts for more.
    /// A snapshot has none of them, and for a restore they are others than in any snapshot.
    fn untold(&self, error: Errno) -> rustix::io::Result<Attributes> {
        let is_restore = matches!(self.walk.contents, Contents::Hash);
        match error {
            Errno::TOOBIG if is_restore => Ok([Default::default()].into()),
            Errno::TOOBIG => Ok(Attributes::new()),
            error => Err(error),
        }
    }
}
