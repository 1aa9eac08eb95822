//! A denied path: followed when it is denied, as far as it leads.

use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A path that no grant reaches, whatever else is granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeniedPath {
    original: PathBuf,
    resolved: PathBuf,
}

impl DeniedPath {
    /// The path as it was given.
    pub fn original(&self) -> &Path {
        &self.original
    }

    /// The path without symbolic links, as far as it existed at the time.
    pub fn resolved(&self) -> &Path {
        &self.resolved
    }

    /// Follows a path as far as it leads.
    ///
    /// # Errors
    ///
    /// [`Error::Resolve`] if nobody could say where it would lead.
    pub(crate) fn new(path: &Path) -> Result<Self, Error> {
        Self::follow(path, |kind| matches!(kind, NotFound | NotADirectory))
    }

    /// The same where it need not be seen all the way: in a directory that the caller may not
    /// search, names are taken for what they say.
    ///
    /// # Errors
    ///
    /// [`Error::Resolve`] if nobody could say where it would lead.
    pub(crate) fn as_far_as_seen(path: &Path) -> Result<Self, Error> {
        Self::follow(path, |kind| matches!(kind, NotFound | NotADirectory | PermissionDenied))
    }

    fn follow(path: &Path, is_an_end: fn(ErrorKind) -> bool) -> Result<Self, Error> {
        let fail = |source| Error::Resolve { path: path.to_owned(), source };
        let whole = std::path::absolute(path).map_err(fail)?;
        let resolved = resolve_existing(&whole, MOST_LINKS, is_an_end).map_err(fail)?;
        Ok(Self { original: path.to_owned(), resolved })
    }
}

/// Resolves as much of an absolute path as exists, and follows links that lead on from there. What
/// follows must be plain names: `..` beyond what exists says nothing. Beneath a file there can be
/// nothing, but something else may take its place.
fn resolve_existing(
    path: &Path,
    links: usize,
    is_an_end: fn(ErrorKind) -> bool,
) -> io::Result<PathBuf> {
    // A slash at the end would make the kernel look for what a link leads to, and not at the link.
    let path: PathBuf = path.components().collect();
    let missing = match path.canonicalize() {
        Err(error) if is_an_end(error.kind()) => error,
        resolved => return resolved,
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(missing);
    };
    if let Ok(target) = path.read_link() {
        let links = links.checked_sub(1).ok_or(missing)?;
        return resolve_existing(&parent.join(target), links, is_an_end);
    }
    Ok(resolve_existing(parent, links, is_an_end)?.join(name))
}

/// Links that are followed one after the other before it is taken for a loop, as in the kernel.
pub(crate) const MOST_LINKS: usize = 40;
