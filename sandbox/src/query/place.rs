//! Where a path that somebody asks about leads, followed as the kernel would now.

use std::fs::read_dir;
use std::io::{self, ErrorKind::PermissionDenied};
use std::path::{Path, PathBuf};

use crate::capability::FileId;
use crate::denied::MOST_LINKS;
use crate::deny::Exceptions;

/// Where a path leads.
#[derive(Debug)]
pub(super) struct Place {
    /// As much of it as exists, without links.
    pub(super) existing: PathBuf,
    /// Whether something follows that does not exist.
    pub(super) is_missing: bool,
    /// The path without links, what does not exist included.
    whole: PathBuf,
    /// What is on the way from there to the root.
    pub(super) objects: Vec<FileId>,
}

impl Place {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Self::follow(path, MOST_LINKS)
    }

    fn follow(path: &Path, links: usize) -> io::Result<Self> {
        let missing = match path.canonicalize() {
            Ok(existing) => return Self::existing(existing),
            Err(error) => error,
        };
        // What does not exist can be made if it is the end of a path whose rest leads somewhere.
        // `..` behind something that does not exist leads nowhere.
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(missing);
        };
        if missing.kind() != io::ErrorKind::NotFound {
            return Err(missing);
        }
        if let Ok(target) = path.read_link() {
            let links = links.checked_sub(1).ok_or(missing)?;
            return Self::follow(&parent.join(target), links);
        }
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let place = Self::follow(parent, links)?;
        Ok(Self { is_missing: true, whole: place.whole.join(name), ..place })
    }

    fn existing(existing: PathBuf) -> io::Result<Self> {
        let objects = existing.ancestors().map(FileId::of).collect::<io::Result<_>>()?;
        Ok(Self { whole: existing.clone(), existing, is_missing: false, objects })
    }

    pub(super) fn is_beneath(&self, path: &Path) -> bool {
        self.whole.starts_with(path)
    }

    /// Whether a denied path keeps this one from a grant that covers both: being below it, or beside
    /// it in a directory that cannot be listed. A directory with a denied path in it is granted by
    /// what else is in it: what comes into it later is not, and neither is its list if what is denied
    /// is a directory, or in one that cannot be listed.
    pub(super) fn is_kept_by(&self, denied: &Path, grant: FileId) -> bool {
        let is_split = |path: &Path| denied != path && denied.starts_with(path);
        let hides_list = || {
            let mut way = denied.ancestors().skip(1).take_while(|path| *path != self.existing);
            self.is_missing || denied.is_dir() || way.any(is_unlisted)
        };
        let way = self.existing.ancestors().zip(&self.objects);
        let mut beneath = way.take_while(|(_, id)| **id != grant).map(|(path, _)| path);
        is_split(&self.existing) && hides_list()
            || beneath.any(|path| is_split(path) && is_unlisted(path))
    }

    /// What leads here from a directory that has a denied path in it, and is none that has one: it is
    /// granted by itself, but for other names of what is denied.
    pub(super) fn beside(&self, exceptions: &Exceptions) -> Option<FileId> {
        let has_one = |path: &Path| exceptions.names().any(|name| name.starts_with(path));
        let way = self.existing.ancestors().zip(&self.objects);
        way.take_while(|(path, _)| !has_one(path)).last().map(|(_, id)| *id)
    }
}

fn is_unlisted(path: &Path) -> bool {
    read_dir(path).is_err_and(|error| error.kind() == PermissionDenied)
}
