//! The snapshots of one session.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rayon::ThreadPoolBuilder;
use rayon::prelude::*;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use super::diff::Change;
use super::error::SnapshotError;
use super::exclusion::{Exclusion, ExclusionConfig};
use super::hash::ContentHash;
use super::key::Key;
use super::manifest::SnapshotManifest;
use super::plan::Comparison;
use super::progress::{Callback, Meter, Phase};
use super::record;
use super::restore::Restore;
use super::roots::{Root, find, roots};
use super::store::{Store, write_whole};
use super::tree::Node;
use super::walk::{Contents, Found, IgnoreFiles, SkipReason, Walk, now};

/// How much a session may hold; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files, links and directories that are looked at.
    pub max_entries: u64,
    /// Bytes in all files together.
    pub max_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_entries: 300_000, max_bytes: 2 << 30 }
    }
}

/// Makes snapshots of what is tracked, and restores them. See the [module](super).
///
/// A session may be used by several managers and processes: they wait for each other.
#[derive(Debug)]
pub struct SnapshotManager {
    directory: PathBuf,
    roots: Vec<Root>,
    exclusion: Exclusion,
    limits: Limits,
    store: Store,
    /// The manifest that was made or read last, and its file.
    latest: Mutex<Option<(Arc<SnapshotManifest>, Mark)>>,
}

/// What a file is: device, inode, size, and when that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark(u64, u64, u64, i64, i64);

impl Mark {
    fn of(path: &Path) -> Result<Self, SnapshotError> {
        let data = fs::metadata(path).map_err(SnapshotError::io("look at", path))?;
        let (seconds, nanos) = (data.ctime(), data.ctime_nsec());
        Ok(Self(data.dev(), data.ino(), data.size(), seconds, nanos))
    }
}

/// A line of `changes/NNN.json`.
#[derive(Serialize)]
struct ChangeRecord {
    path: Key,
    change_type: &'static str,
    size_delta: Option<i64>,
    old_hash: Option<ContentHash>,
    new_hash: Option<ContentHash>,
}

impl SnapshotManager {
    /// Opens the session at `directory`, which is made if it is not there, for `tracked` paths,
    /// directories or files.
    ///
    /// # Errors
    ///
    /// If the directories cannot be made, a tracked path cannot be resolved, or a glob of
    /// `exclusion` cannot be parsed.
    pub fn new(
        directory: &Path,
        tracked: &[PathBuf],
        exclusion: ExclusionConfig,
        limits: Limits,
    ) -> Result<Self, SnapshotError> {
        let exclusion = Exclusion::new(exclusion)?;
        for part in ["objects", "snapshots", "changes"] {
            let path = directory.join(part);
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(SnapshotError::io("make", &path))?;
        }
        let found = fs::canonicalize(directory);
        let directory = found.map_err(SnapshotError::io("resolve", directory))?;
        Ok(Self {
            store: Store::new(directory.join("objects")),
            directory,
            roots: roots(tracked)?,
            exclusion,
            limits,
            latest: Mutex::default(),
        })
    }

    /// Where the session is, without links.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What its snapshots are of, as it was given.
    pub fn tracked_paths(&self) -> Vec<PathBuf> {
        self.roots.iter().map(|root| root.key.as_path().to_owned()).collect()
    }

    /// How many snapshots the session has.
    ///
    /// # Errors
    ///
    /// If its directory cannot be read.
    pub fn snapshot_count(&self) -> Result<u32, SnapshotError> {
        let path = self.directory.join("snapshots");
        let entries = fs::read_dir(&path).map_err(SnapshotError::io("read", &path))?;
        let number = |name: &str| name.strip_suffix(".json")?.parse::<u32>().ok();
        let numbers = entries.flatten().filter_map(|entry| number(entry.file_name().to_str()?));
        Ok(numbers.max().map_or(0, |highest| highest + 1))
    }

    /// Makes a snapshot that stands for itself. The first of a session has the number 0; a later
    /// one never takes its place.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Budget`], [`SnapshotError::Cancelled`], or an [`SnapshotError::Io`].
    pub fn create_baseline(
        &self,
        progress: Callback<'_>,
    ) -> Result<Arc<SnapshotManifest>, SnapshotError> {
        self.alone(|| {
            let number = self.snapshot_count()?;
            let previous = self.latest(number).unwrap_or_default();
            self.create(number, None, previous.as_deref(), progress).map(|(manifest, _)| manifest)
        })
    }

    /// Makes a snapshot of what has changed since the one before.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::NoBaseline`] if there is none, else as for a baseline.
    pub fn create_incremental(
        &self,
        progress: Callback<'_>,
    ) -> Result<(Arc<SnapshotManifest>, Vec<Change>), SnapshotError> {
        self.alone(|| {
            let number = self.snapshot_count()?;
            let previous = self.latest(number)?.ok_or(SnapshotError::NoBaseline)?;
            self.create(number, Some(&previous), Some(&previous), progress)
        })
    }

    /// What restoring a snapshot would change, ordered by path.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::NoSuchSnapshot`], a manifest that was changed, or an error of the kernel.
    pub fn compute_restore_diff(
        &self,
        number: u32,
        progress: Callback<'_>,
    ) -> Result<Vec<Change>, SnapshotError> {
        self.alone(|| {
            let target = self.target(number)?;
            let found = self.look(&target, progress)?;
            Ok(Comparison::new(&target, &found).changes())
        })
    }

    /// Makes what is tracked what it was at a snapshot. Returns what was changed.
    ///
    /// # Errors
    ///
    /// As for [`compute_restore_diff`](Self::compute_restore_diff), and
    /// [`SnapshotError::Objects`]: in these cases nothing was changed. An [`SnapshotError::Io`]
    /// on the way leaves a part undone, which the next call does.
    pub fn restore_to(
        &self,
        number: u32,
        progress: Callback<'_>,
    ) -> Result<Vec<Change>, SnapshotError> {
        self.alone(|| {
            let target = self.target(number)?;
            let found = self.look_everywhere(&target, progress)?;
            let comparison = Comparison::new(&target, &found);
            let restore = self.restore(&comparison, progress);
            let plan = comparison.plan();
            restore.check(&plan)?;
            restore.run(&plan)?;
            Ok(comparison.changes())
        })
    }

    /// Reads a manifest and compares its sums.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::NoSuchSnapshot`], [`SnapshotError::ManifestFormat`] or
    /// [`SnapshotError::ManifestChanged`].
    pub fn load_manifest(&self, number: u32) -> Result<Arc<SnapshotManifest>, SnapshotError> {
        let count = self.snapshot_count()?;
        let path = self.file("snapshots", number);
        if number >= count || !path.exists() {
            return Err(SnapshotError::NoSuchSnapshot { number, count });
        }
        record::read(&path).map(Arc::new)
    }

    /// Keeps the text of the session's metadata.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn save_session_metadata(&self, json: &str) -> Result<(), SnapshotError> {
        let path = self.directory.join("session.json");
        write_whole(&path, 0o600, |file| std::io::Write::write_all(file, json.as_bytes()))
            .map_err(SnapshotError::io("write", &path))
    }

    /// The text of a session's metadata.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::SessionNotFound`].
    pub fn load_session_metadata(directory: &Path) -> Result<String, SnapshotError> {
        let path = directory.join("session.json");
        fs::read_to_string(&path).map_err(|source| SnapshotError::SessionNotFound { path, source })
    }

    fn create(
        &self,
        number: u32,
        parent: Option<&SnapshotManifest>,
        previous: Option<&SnapshotManifest>,
        progress: Callback<'_>,
    ) -> Result<(Arc<SnapshotManifest>, Vec<Change>), SnapshotError> {
        self.store.sweep()?;
        let seconds = now();
        let walk = Walk {
            contents: Contents::Keep(&self.store),
            ignore_files: IgnoreFiles::Found,
            ..self.walk(previous, &self.exclusion, progress)?
        };
        let found = walk.run()?;
        let config = self.exclusion.config.clone();
        let manifest = SnapshotManifest {
            parent: parent.map(|parent| parent.number),
            ..SnapshotManifest::new(number, seconds, config, found, previous)
        };
        let changes = parent.map(|parent| manifest.changes_since(parent));
        let changes = changes.unwrap_or_default();
        self.write_changes(number, &changes)?;
        let path = self.file("snapshots", number);
        record::write(&manifest, &path)?;
        let manifest = Arc::new(manifest);
        self.keep(&manifest, Mark::of(&path)?);
        Ok((manifest, changes))
    }

    /// What is tracked now, by the rules of a snapshot.
    fn look(
        &self,
        target: &SnapshotManifest,
        progress: Callback<'_>,
    ) -> Result<Found, SnapshotError> {
        let kept = target.exclusion.clone().map(Exclusion::new).transpose()?;
        let exclusion = kept.as_ref().unwrap_or(&self.exclusion);
        let walk = Walk {
            ignore_files: IgnoreFiles::Kept(&target.tree, &self.store),
            // More may be there now than a snapshot may hold.
            max_entries: 0,
            max_bytes: 0,
            ..self.walk(Some(target), exclusion, progress)?
        };
        walk.run()
    }

    /// The same, and lets the owner into directories that do not.
    fn look_everywhere(
        &self,
        target: &SnapshotManifest,
        progress: Callback<'_>,
    ) -> Result<Found, SnapshotError> {
        loop {
            let found = self.look(target, progress)?;
            let was_open = |path: &PathBuf| !target.skipped.iter().any(|known| known.path == *path);
            let shut: Vec<_> = found
                .skipped
                .iter()
                .filter(|one| one.reason == SkipReason::Unreadable && was_open(&one.path))
                .filter(|one| one.path.is_dir())
                .collect();
            if shut.is_empty() {
                return Ok(found);
            }
            let comparison = Comparison::new(target, &found);
            let restore = self.restore(&comparison, progress);
            shut.iter().try_for_each(|one| restore.let_in(&Key::new(&one.path)))?;
        }
    }

    fn restore<'a>(
        &'a self,
        comparison: &'a Comparison<'a>,
        callback: Callback<'a>,
    ) -> Restore<'a> {
        let (roots, store) = (&self.roots[..], &self.store);
        Restore { comparison, roots, store, callback, stirred: Mutex::default() }
    }

    fn walk<'a>(
        &'a self,
        previous: Option<&'a SnapshotManifest>,
        exclusion: &'a Exclusion,
        progress: Callback<'a>,
    ) -> Result<Walk<'a>, SnapshotError> {
        let own =
            fs::metadata(&self.directory).map_err(SnapshotError::io("open", &self.directory))?;
        Ok(Walk {
            roots: &self.roots,
            exclusion,
            ignore_files: IgnoreFiles::Found,
            contents: Contents::Hash,
            previous: previous.map(|manifest| &manifest.tree),
            own: (own.dev(), own.ino()),
            max_entries: self.limits.max_entries,
            max_bytes: self.limits.max_bytes,
            meter: Meter::new(progress, Phase::Scan, None),
        })
    }

    /// The manifest of the latest of `count` snapshots.
    fn latest(&self, count: u32) -> Result<Option<Arc<SnapshotManifest>>, SnapshotError> {
        count.checked_sub(1).map(|number| self.load(number)).transpose()
    }

    /// A snapshot that can be restored: it reaches nowhere out of what is tracked.
    fn target(&self, number: u32) -> Result<Arc<SnapshotManifest>, SnapshotError> {
        let target = self.load(number)?;
        let strays = |node: &&Arc<Node>| find(&self.roots, &node.key).is_none();
        match target.tree.nodes().par_iter().find_any(strays) {
            Some(node) => Err(SnapshotError::Outside { path: node.key.as_path().to_owned() }),
            None => Ok(target),
        }
    }

    /// A manifest: the one that was made or read last, if its file is still the same, or else
    /// from its file.
    fn load(&self, number: u32) -> Result<Arc<SnapshotManifest>, SnapshotError> {
        let mark = Mark::of(&self.file("snapshots", number));
        let kept = self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Some((kept, then)), Ok(now)) = (kept, &mark)
            && (kept.number, &then) == (number, now)
        {
            return Ok(kept);
        }
        let manifest = self.load_manifest(number)?;
        self.keep(&manifest, mark?);
        Ok(manifest)
    }

    fn keep(&self, manifest: &Arc<SnapshotManifest>, mark: Mark) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = Some((Arc::clone(manifest), mark));
    }

    fn write_changes(&self, number: u32, changes: &[Change]) -> Result<(), SnapshotError> {
        if changes.is_empty() {
            return Ok(());
        }
        let records: Vec<_> = changes.iter().map(ChangeRecord::new).collect();
        let path = self.file("changes", number);
        write_whole(&path, 0o600, |file| {
            serde_json::to_writer_pretty(file, &records).map_err(Into::into)
        })
        .map_err(SnapshotError::io("write", &path))
    }

    fn file(&self, part: &str, number: u32) -> PathBuf {
        self.directory.join(part).join(format!("{number:03}.json"))
    }

    /// Runs `work` on threads of its own while no other manager of the session works.
    fn alone<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, SnapshotError> + Send,
    ) -> Result<T, SnapshotError> {
        let fault = SnapshotError::io("lock", &self.directory);
        let directory = File::open(&self.directory).map_err(fault)?;
        flock(&directory, FlockOperation::LockExclusive)
            .map_err(SnapshotError::io("lock", &self.directory))?;
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|number| format!("nono-snapshot-{number}"))
            .build()
            .map_err(|error| SnapshotError::Io {
                step: "start threads for",
                path: self.directory.clone(),
                source: std::io::Error::other(error),
            })?;
        pool.install(work)
    }
}

impl ChangeRecord {
    fn new(change: &Change) -> Self {
        Self {
            path: Key::new(&change.path),
            change_type: change.change_type.as_recorded(),
            size_delta: change.size_delta,
            old_hash: change.old_hash,
            new_hash: change.new_hash,
        }
    }
}
