//! Which denied paths are within a grant, and whether they can be kept out of it: one answer for
//! those who enforce a set and for those who are asked about it.

use std::path::Path;

use crate::capability::{CapabilitySet, DeniedPath, FileId, FsCapability};
use crate::error::{DenyFault, Error};

/// Whether a sandbox of `caps` can keep out of a grant what they deny in it.
///
/// # Errors
///
/// Those of a sandbox.
pub(crate) fn check(grant: &FsCapability, caps: &CapabilitySet) -> Result<(), Error> {
    #[cfg(target_os = "linux")]
    return crate::around::pieces(grant, caps).map(drop);
    #[cfg(not(target_os = "linux"))]
    return inside(grant, caps).map(drop);
}

/// The denied paths within `grant`, all of which can be left out of it: each with where it is from
/// the granted directory on.
///
/// # Errors
///
/// [`Error::Deny`] for one that cannot.
pub(crate) fn inside<'a>(
    grant: &FsCapability,
    caps: &'a CapabilitySet,
) -> Result<Vec<(&'a DeniedPath, &'a Path)>, Error> {
    let mut inside = Vec::new();
    for denied in caps.denied_paths() {
        if grant.resolved().starts_with(denied.resolved()) {
            return Err(fault(denied, grant, DenyFault::Covered));
        }
        if let Ok(rest) = denied.resolved().strip_prefix(grant.resolved()) {
            if grant.access().is_write() {
                return Err(fault(denied, grant, DenyFault::Writable));
            }
            #[cfg(target_os = "linux")]
            if grant.own().is_some() {
                return Err(fault(denied, grant, DenyFault::OwnProcess));
            }
            inside.push((denied, rest));
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
