//! Whether denied paths are kept out of what a set grants.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use super::error::PolicyError;
use crate::capability::CapabilitySet;
use crate::deny;
use crate::query::Query;
use crate::source::Source;

/// A path that is to be denied, and a grant that reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The path that is to be denied, as it was given.
    pub denied: PathBuf,
    /// The resolved path of the grant.
    pub granted: PathBuf,
    /// Whose grant it is.
    pub source: Source,
}

impl Display for Overlap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { denied, granted, source } = self;
        let relation = if granted.starts_with(denied) && granted != denied {
            "path beneath"
        } else {
            "parent"
        };
        let (denied, granted) = (denied.display(), granted.display());
        write!(f, "deny '{denied}' overlaps allowed {relation} '{granted}' (source: {source})")
    }
}

/// Finds the grants of a set that reach paths which are to be denied: from above, at the path
/// itself, or beneath it; through symbolic links and `..`, whoever granted them.
///
/// A path that the set itself denies ([`CapabilitySet::deny_path`]) is kept out of grants to read
/// that are above it, and is no overlap there.
///
/// # Errors
///
/// [`PolicyError::Overlaps`], with all of them.
pub fn check_overlaps(denied: &[PathBuf], caps: &CapabilitySet) -> Result<(), PolicyError> {
    let query = Query::new(caps.clone());
    let mut overlaps = Vec::new();
    for path in denied {
        let is_kept = query.is_denied(path);
        for grant in query.overlapping(path) {
            if !(is_kept && deny::check(grant, caps).is_ok()) {
                overlaps.push(Overlap {
                    denied: path.clone(),
                    granted: grant.resolved().to_owned(),
                    source: grant.source().clone(),
                });
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
