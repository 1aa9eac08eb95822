//! What is there now beside a snapshot, and making it that again.

use std::sync::Arc;

use rustix::io::Errno;

use super::doors::Doors;
use super::error::SnapshotError;
use super::exclusion::Exclusion;
use super::manager::SnapshotManager;
use super::manifest::SnapshotManifest;
use super::plan::Comparison;
use super::progress::Callback;
use super::restore::Restore;
use super::roots::Root;
use super::rules::IgnoreFiles;
use super::values::Change;
use super::walk::{Found, Walk};

/// A snapshot that can be restored, and what it is of.
struct Target {
    manifest: Arc<SnapshotManifest>,
    roots: Vec<Root>,
}

impl SnapshotManager {
    /// What restoring a snapshot would change, ordered by path.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::NoSuchSnapshot`], a manifest that was changed, one that is of what is not
    /// tracked ([`SnapshotError::Outside`], [`SnapshotError::Elsewhere`]), or an error of the
    /// kernel.
    pub fn compute_restore_diff(
        &self,
        number: u32,
        progress: Callback<'_>,
    ) -> Result<Vec<Change>, SnapshotError> {
        self.session.alone(progress, |progress| {
            let target = self.target(number)?;
            let found = self.look(&target, None, progress)?;
            Ok(Comparison::new(&target.manifest, &found).changes())
        })
    }

    /// Makes what is tracked what it was at a snapshot. Returns what was changed. What is tracked
    /// besides, and was not when the snapshot was made, is left alone.
    ///
    /// # Errors
    ///
    /// As for [`compute_restore_diff`](Self::compute_restore_diff), and
    /// [`SnapshotError::Objects`]: in these cases nothing was changed.
    /// [`SnapshotError::Incomplete`] names what could not be restored when all else was, and
    /// [`SnapshotError::Cancelled`] leaves a part undone; the next call does it.
    pub fn restore_to(
        &self,
        number: u32,
        progress: Callback<'_>,
    ) -> Result<Vec<Change>, SnapshotError> {
        self.session.alone(progress, |callback| {
            let target = self.target(number)?;
            let doors = &Doors::new(&target.roots, target.manifest.unread());
            let found = self.look_everywhere(&target, doors, callback)?;
            let comparison = &Comparison::new(&target.manifest, &found);
            let (roots, store) = (&target.roots, &self.store);
            let restore = Restore { comparison, roots, doors, store, callback };
            let plan = comparison.plan();
            restore.check(&plan)?;
            restore.run(&plan)?;
            Ok(comparison.changes())
        })
    }

    fn target(&self, number: u32) -> Result<Target, SnapshotError> {
        let manifest = self.session.proved(number)?;
        let roots = manifest.scope(&self.roots)?;
        Ok(Target { manifest, roots })
    }

    /// What is there now, by the rules of a snapshot.
    fn look(
        &self,
        target: &Target,
        doors: Option<&Doors<'_>>,
        progress: Callback<'_>,
    ) -> Result<Found, SnapshotError> {
        let Target { manifest, roots } = target;
        let kept = manifest.exclusion.clone().map(Exclusion::new).transpose()?;
        let exclusion = kept.as_ref().unwrap_or(&self.exclusion);
        let walk = Walk {
            ignore_files: IgnoreFiles::Kept(manifest, &self.store),
            doors,
            // More may be there now than a snapshot may hold.
            max_entries: 0,
            max_bytes: 0,
            ..self.walk(roots, Some(manifest), exclusion, progress)?
        };
        walk.run()
    }

    /// The same, and lets the owner into directories that do not.
    fn look_everywhere(
        &self,
        target: &Target,
        doors: &Doors<'_>,
        progress: Callback<'_>,
    ) -> Result<Found, SnapshotError> {
        let found = self.look(target, Some(doors), progress)?;
        match found.closed.iter().find(|closed| !doors.keep(&closed.path)) {
            // Something else than its mode shuts it.
            Some(closed) => {
                Err(SnapshotError::io("open", closed.directory.as_path())(Errno::ACCESS))
            }
            None => Ok(found),
        }
    }
}
