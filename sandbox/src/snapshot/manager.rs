//! The snapshots of one session.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rayon::prelude::*;

use super::error::SnapshotError;
use super::exclusion::{Exclusion, ExclusionConfig};
use super::key::Key;
use super::manifest::SnapshotManifest;
use super::plan::Comparison;
use super::progress::{Callback, Meter, Phase};
use super::restore::Restore;
use super::roots::{Root, find, roots};
use super::session::{Kept, Session};
use super::shared::Shared;
use super::store::Store;
use super::values::{Change, Limits, SkipReason};
use super::walk::{Contents, Found, IgnoreFiles, Walk, now};

/// Makes snapshots of what is tracked, and restores them. See the [module](super).
///
/// A session may be used by several managers and processes: they wait for each other.
#[derive(Debug)]
pub struct SnapshotManager {
    session: Session,
    roots: Vec<Root>,
    exclusion: Exclusion,
    limits: Limits,
    store: Store,
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
        let session = Session::open(directory)?;
        let store = Store::new(session.directory().join("objects"));
        Ok(Self { session, roots: roots(tracked)?, exclusion, limits, store })
    }

    /// Where the session is, without links.
    pub fn directory(&self) -> &Path {
        self.session.directory()
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
        self.session.count()
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
        self.session.alone(|| {
            let number = self.session.count()?;
            let previous = self.session.latest(number).unwrap_or_default();
            self.create(number, None, previous.as_ref(), progress).map(|(manifest, _)| manifest)
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
        self.session.alone(|| {
            let number = self.session.count()?;
            let previous = self.session.latest(number)?.ok_or(SnapshotError::NoBaseline)?;
            self.create(number, Some(&previous.manifest), Some(&previous), progress)
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
        self.session.alone(|| {
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
        self.session.alone(|| {
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
        self.session.reread(number).map(Arc::new)
    }

    /// Keeps the text of the session's metadata.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn save_session_metadata(&self, json: &str) -> Result<(), SnapshotError> {
        self.session.save_metadata(json)
    }

    /// The text of a session's metadata.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::SessionNotFound`].
    pub fn load_session_metadata(directory: &Path) -> Result<String, SnapshotError> {
        Session::load_metadata(directory)
    }

    fn create(
        &self,
        number: u32,
        parent: Option<&SnapshotManifest>,
        previous: Option<&Kept>,
        progress: Callback<'_>,
    ) -> Result<(Arc<SnapshotManifest>, Vec<Change>), SnapshotError> {
        self.store.sweep()?;
        let seconds = now();
        let known = previous.map(|previous| &*previous.manifest);
        let walk = Walk {
            contents: Contents::Keep(&self.store),
            ignore_files: IgnoreFiles::Found,
            ..self.walk(known, &self.exclusion, progress)?
        };
        let found = walk.run()?;
        let config = self.exclusion.config.clone();
        let manifest = SnapshotManifest {
            parent: parent.map(|parent| parent.number),
            ..SnapshotManifest::new(number, seconds, config, found, known)
        };
        let changes = parent.map(|parent| manifest.changes_since(parent));
        let changes = changes.unwrap_or_default();
        let manifest = self.session.add(manifest, &changes, previous)?;
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
        let directory = self.session.directory();
        let own = directory.metadata().map_err(SnapshotError::io("open", directory))?;
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

    /// A snapshot that can be restored: it reaches nowhere out of what is tracked.
    fn target(&self, number: u32) -> Result<Arc<SnapshotManifest>, SnapshotError> {
        let target = self.session.proved(number)?;
        let strays = |node: &&Shared| find(&self.roots, &node.key).is_none();
        match target.tree.nodes().par_iter().find_any(strays) {
            Some(node) => Err(SnapshotError::Outside { path: node.key.as_path().to_owned() }),
            None => Ok(target),
        }
    }
}
