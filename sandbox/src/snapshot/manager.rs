//! The snapshots of one session.

use std::mem;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::SnapshotError;
use super::exclusion::{Exclusion, ExclusionConfig};
use super::lock::is_calling;
use super::manifest::SnapshotManifest;
use super::progress::{Callback, Meter, Phase};
use super::roots::{Root, roots};
use super::rules::{self, IgnoreFiles};
use super::session::{Kept, Session};
use super::store::Store;
use super::values::{Change, Limits};
use super::walk::{Contents, Walk, now};

/// Makes snapshots of what is tracked, and restores them. See the [module](super).
///
/// A session may be used by several managers and processes: they wait for each other.
#[derive(Debug)]
pub struct SnapshotManager {
    pub(super) session: Session,
    pub(super) roots: Vec<Root>,
    pub(super) exclusion: Exclusion,
    limits: Limits,
    pub(super) store: Store,
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

    /// Whether this thread is in a progress callback of a call of the session. Another call would
    /// wait for that, and is [`SnapshotError::Nested`].
    pub fn is_calling_back(&self) -> bool {
        is_calling(self.directory())
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
        self.session.alone(progress, |progress| {
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
        self.session.alone(progress, |progress| {
            let number = self.session.count()?;
            let previous = self.session.latest(number)?.ok_or(SnapshotError::NoBaseline)?;
            self.create(number, Some(&previous.manifest), Some(&previous), progress)
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
    /// If the file cannot be written, or [`SnapshotError::Cancelled`].
    pub fn save_session_metadata(
        &self,
        json: &str,
        progress: Callback<'_>,
    ) -> Result<(), SnapshotError> {
        self.session.save_metadata(json, progress)
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
            ..self.walk(&self.roots, known, &self.exclusion, progress)?
        };
        let mut found = walk.run()?;
        let texts = mem::take(&mut found.rules);
        let rules = Some(rules::keep_untold(texts, &found.tree, &self.store)?);
        let config = self.exclusion.config.clone();
        let manifest = SnapshotManifest {
            parent: parent.map(|parent| parent.number),
            roots: Some(self.roots.clone()),
            rules,
            ..SnapshotManifest::new(number, seconds, config, found, known)
        };
        let changes = parent.map(|parent| manifest.changes_since(parent));
        let changes = changes.unwrap_or_default();
        let manifest = self.session.add(manifest, &changes, previous)?;
        Ok((manifest, changes))
    }

    /// How to look at `roots`, so that what is there is compared with an earlier snapshot.
    pub(super) fn walk<'a>(
        &'a self,
        roots: &'a [Root],
        previous: Option<&'a SnapshotManifest>,
        exclusion: &'a Exclusion,
        progress: Callback<'a>,
    ) -> Result<Walk<'a>, SnapshotError> {
        let directory = self.session.directory();
        let own = directory.metadata().map_err(SnapshotError::io("open", directory))?;
        Ok(Walk {
            roots,
            exclusion,
            ignore_files: IgnoreFiles::Found,
            contents: Contents::Hash,
            previous: previous.map(|manifest| &manifest.tree),
            doors: None,
            own: (own.dev(), own.ino()),
            max_entries: self.limits.max_entries,
            max_bytes: self.limits.max_bytes,
            meter: Meter::new(progress, Phase::Scan, None),
        })
    }
}
