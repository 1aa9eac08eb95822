//! Which denied paths are within a grant, and whether they can be kept out of it: one answer for
//! those who enforce a set and for those who are asked about it.

use std::path::Path;

use crate::capability::{CapabilitySet, DeniedPath, FileId, FsCapability};
use crate::error::{DenyFault, Error};

/// A denied path within a grant.
#[derive(Debug)]
pub(crate) struct Inside<'a> {
    pub denied: &'a DeniedPath,
    /// From the granted directory on.
    pub rest: &'a Path,
}

/// The denied paths within `grant`, all of which can be left out of it.
///
/// # Errors
///
/// [`Error::Deny`] for one that cannot.
pub(crate) fn inside<'a>(
    grant: &FsCapability,
    caps: &'a CapabilitySet,
) -> Result<Vec<Inside<'a>>, Error> {
    let mut inside = Vec::new();
    for denied in caps.denied_paths() {
        if grant.resolved().starts_with(denied.resolved()) {
            return Err(fault(denied, grant, DenyFault::Covered));
        }
        if let Ok(rest) = denied.resolved().strip_prefix(grant.resolved()) {
            if grant.access().is_write() {
                return Err(fault(denied, grant, DenyFault::Writable));
            }
            if grant.own().is_some() {
                return Err(fault(denied, grant, DenyFault::OwnProcess));
            }
            inside.push(Inside { denied, rest });
        } else if on_the_way(denied).any(|place| place == grant.id()) {
            return Err(fault(denied, grant, DenyFault::OtherName));
        }
    }
    Ok(inside)
}

/// Why `denied` cannot be kept from `grant`.
pub(crate) fn fault(denied: &DeniedPath, grant: &FsCapability, fault: DenyFault) -> Error {
    Error::Deny { denied: denied.resolved().to_owned(), grant: grant.resolved().to_owned(), fault }
}

/// What a denied path leads to and through, as far as it exists now: what is granted by another
/// name of one of these reaches it.
pub(crate) fn on_the_way(denied: &DeniedPath) -> impl Iterator<Item = FileId> {
    denied.resolved().ancestors().filter_map(|place| FileId::of(place).ok())
}
