//! Whether denied paths are kept out of what a set grants.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use super::error::PolicyError;
use crate::capability::CapabilitySet;
use crate::denied::DeniedPath;
use crate::deny::{Exception, Exceptions};
use crate::error::Error;
use crate::mounts::Mounts;
use crate::source::Source;

/// A path that is to be denied, and a grant that reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The path that is to be denied, as it was given.
    pub denied: PathBuf,
    /// The resolved path of the grant.
    pub granted: PathBuf,
    /// Whether the grant is of something beneath the path, by whatever name, and not of the path
    /// itself or a directory above it.
    pub is_beneath: bool,
    /// Whose grant it is; none if it is of unix sockets.
    pub source: Option<Source>,
}

impl Display for Overlap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { denied, granted, is_beneath, source } = self;
        let relation = if *is_beneath { "path beneath" } else { "parent" };
        let (denied, granted) = (denied.display(), granted.display());
        write!(f, "deny '{denied}' overlaps allowed {relation} '{granted}' (")?;
        match source {
            Some(source) => write!(f, "source: {source})"),
            None => f.write_str("unix sockets)"),
        }
    }
}

/// Finds the grants of a set that reach paths which are to be denied: from above, at the path
/// itself, or beneath it; through symbolic links and `..`, by another place where it is mounted,
/// whoever granted them. So do granted unix sockets.
///
/// A path that the set itself denies ([`CapabilitySet::deny_path`]) is kept out of grants to read
/// and of directories of sockets that are above it, and is no overlap there.
///
/// # Errors
///
/// [`PolicyError::Overlaps`], with all of them, and [`PolicyError::Unresolved`] for a path of which
/// nobody can say where it leads. Where the caller may not look, one leads to its own names.
pub fn check_overlaps(denied: &[PathBuf], caps: &CapabilitySet) -> Result<(), PolicyError> {
    if denied.is_empty() {
        return Ok(());
    }
    let unresolved = |source: Error| PolicyError::Unresolved { source: Box::new(source) };
    let mounts = Mounts::read().map_err(unresolved)?;
    let kept = Exceptions::of(caps).map_err(unresolved)?;
    let mut overlaps = Vec::new();
    for path in denied {
        let exception = DeniedPath::as_far_as_seen(path).map_err(unresolved)?;
        let exception = Exception::of(exception, &mounts);
        let overlap = |granted: &Path, source: Option<&Source>| Overlap {
            denied: path.clone(),
            is_beneath: exception.is_above(granted),
            granted: granted.to_owned(),
            source: source.cloned(),
        };
        let is_kept = kept.names().any(|known| exception.path().resolved().starts_with(known));
        for grant in caps.fs_capabilities() {
            let is_reached =
                exception.is_reached_by(grant.id(), grant.resolved(), !grant.is_file());
            if is_reached && !(is_kept && kept.check(grant).is_ok()) {
                overlaps.push(overlap(grant.resolved(), Some(grant.source())));
            }
        }
        for sockets in caps.unix_sockets() {
            let (id, place) = (sockets.id(), sockets.resolved());
            let is_reached = exception.is_reached_by(id, place, sockets.is_directory());
            if is_reached && !(is_kept && exception.is_below(place)) {
                overlaps.push(overlap(place, None));
            }
        }
    }
    if overlaps.is_empty() {
        return Ok(());
    }
    overlaps.sort_by_key(ToString::to_string);
    overlaps.dedup();
    Err(PolicyError::Overlaps { overlaps })
}
