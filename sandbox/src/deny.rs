//! Which denied paths are within a grant, and whether they can be kept out of it: one answer for
//! those who enforce a set and for those who are asked about it.

use std::path::{Path, PathBuf};

use crate::capability::{CapabilitySet, FileId, FsCapability};
use crate::denied::DeniedPath;
use crate::error::{DenyFault, Error};
use crate::mounts::Mounts;

/// What a set denies, and what that leads to and through at the moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exceptions {
    each: Vec<Exception>,
}

/// One denied path.
#[derive(Clone, Debug)]
pub(crate) struct Exception {
    denied: DeniedPath,
    /// The same, and parts of it, by other names: where it is mounted again.
    others: Vec<PathBuf>,
    /// What is at the path, if there is anything.
    id: Option<FileId>,
    /// What the path leads through, and to, as far as it exists: what is granted by another name of
    /// one of these reaches it.
    on_the_way: Vec<FileId>,
}

impl Exceptions {
    /// Looks at what a set denies.
    ///
    /// # Errors
    ///
    /// [`Error::Resolve`] if it cannot be found out what is mounted where.
    pub(crate) fn of(caps: &CapabilitySet) -> Result<Self, Error> {
        if caps.denied_paths().is_empty() {
            return Ok(Self::default());
        }
        Ok(Self::among(caps, &Mounts::read()?))
    }

    /// The same by their own names alone.
    pub(crate) fn by_own_name(caps: &CapabilitySet) -> Self {
        Self::among(caps, &Mounts::default())
    }

    fn among(caps: &CapabilitySet, mounts: &Mounts) -> Self {
        let each = caps.denied_paths().iter();
        Self { each: each.map(|denied| Exception::of(denied.clone(), mounts)).collect() }
    }

    /// All of them.
    pub(crate) fn each(&self) -> &[Exception] {
        &self.each
    }

    /// All names of what is denied: the paths of the set, and others of the same.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Path> {
        self.each.iter().flat_map(Exception::names)
    }

    /// What all of them lead through, and to.
    #[cfg(target_os = "linux")]
    pub(crate) fn on_the_way(&self) -> impl Iterator<Item = FileId> {
        self.each.iter().flat_map(|exception| exception.on_the_way.iter().copied())
    }

    /// Whether a sandbox can keep out of a grant what is denied in it.
    ///
    /// # Errors
    ///
    /// Those of a sandbox.
    pub(crate) fn check(&self, grant: &FsCapability) -> Result<(), Error> {
        #[cfg(target_os = "linux")]
        return crate::around::pieces(grant, self).map(drop);
        #[cfg(not(target_os = "linux"))]
        return self.inside(grant).map(drop);
    }

    /// What is denied within `grant`, all of which can be left out of it: each with where it is
    /// from the granted directory on.
    ///
    /// # Errors
    ///
    /// [`Error::Deny`] for one that cannot.
    pub(crate) fn inside<'a>(
        &'a self,
        grant: &FsCapability,
    ) -> Result<Vec<(&'a Exception, &'a Path)>, Error> {
        let mut inside = Vec::new();
        if self.each.is_empty() {
            return Ok(inside);
        }
        let above = ids(grant.resolved());
        for exception in &self.each {
            exception.check(grant, &above)?;
            if !grant.is_file() {
                let rests = exception.names().filter_map(|name| rest(name, grant));
                inside.extend(rests.map(|rest| (exception, rest)));
            }
        }
        Ok(inside)
    }
}

impl Exception {
    /// Looks at a path.
    pub(crate) fn of(denied: DeniedPath, mounts: &Mounts) -> Self {
        let path = denied.resolved();
        let (id, others) = (FileId::of(path).ok(), mounts.other_names(path));
        // A file where a directory would be leads nowhere.
        let way = path.ancestors().skip(1).filter(|place| place.is_dir());
        let on_the_way = id.into_iter().chain(way.filter_map(|place| FileId::of(place).ok()));
        Self { on_the_way: on_the_way.collect(), denied, others, id }
    }

    /// The path.
    pub(crate) fn path(&self) -> &DeniedPath {
        &self.denied
    }

    /// The path and its other names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.denied.resolved()).chain(self.others.iter().map(PathBuf::as_path))
    }

    /// Whether the path leads to or through an object.
    pub(crate) fn leads_to(&self, id: FileId) -> bool {
        self.on_the_way.contains(&id)
    }

    /// Whether a grant of an object, whose path is `resolved`, is one of the denied path, of what is
    /// beneath, or of a directory above it, by whatever name.
    pub(crate) fn is_reached_by(&self, id: FileId, resolved: &Path, is_directory: bool) -> bool {
        let is_above = || {
            self.on_the_way.contains(&id)
                || self.others.iter().any(|name| ids(name).contains(&id))
                || self.names().any(|name| name.starts_with(resolved))
        };
        self.id == Some(id)
            || is_directory && is_above()
            || self.names().any(|name| resolved.starts_with(name))
            || self.id.is_some_and(|own| ids(resolved).contains(&own))
    }

    /// Whether a path without links is beneath, by whatever name.
    pub(crate) fn is_above(&self, path: &Path) -> bool {
        self.names().any(|name| path != name && path.starts_with(name))
            || path.parent().is_some_and(|above| self.id.is_some_and(|id| ids(above).contains(&id)))
    }

    /// Whether the path is beneath another one, by its own name.
    pub(crate) fn is_below(&self, path: &Path) -> bool {
        let own = self.denied.resolved();
        own != path && own.starts_with(path)
    }

    /// Whether it can be left out of `grant`, if it is in there. `above` is what the grant's path
    /// leads to and through.
    fn check(&self, grant: &FsCapability, above: &[FileId]) -> Result<(), Error> {
        let path = self.denied.resolved();
        if grant.resolved().starts_with(path) {
            return Err(self.fault(grant, DenyFault::Covered));
        }
        let is_within = self.others.iter().any(|name| grant.resolved().starts_with(name))
            || self.id.is_some_and(|id| id == grant.id() || above.contains(&id));
        let is_inside = rest(path, grant).is_some();
        if is_within || !is_inside && !grant.is_file() && self.on_the_way.contains(&grant.id()) {
            return Err(self.fault(grant, DenyFault::OtherName));
        }
        let has_others = self.others.iter().any(|name| rest(name, grant).is_some());
        if grant.is_file() || !is_inside && !has_others {
            return Ok(());
        }
        if grant.access().is_write() {
            let fault = if is_inside { DenyFault::Writable } else { DenyFault::OtherName };
            return Err(self.fault(grant, fault));
        }
        #[cfg(target_os = "linux")]
        if grant.own().is_some() {
            return Err(self.fault(grant, DenyFault::OwnProcess));
        }
        Ok(())
    }

    /// Why it cannot be kept from `grant`.
    pub(crate) fn fault(&self, grant: &FsCapability, fault: DenyFault) -> Error {
        let denied = self.denied.resolved().to_owned();
        Error::Deny { denied, grant: grant.resolved().to_owned(), fault }
    }
}

fn rest<'a>(name: &'a Path, grant: &FsCapability) -> Option<&'a Path> {
    name.strip_prefix(grant.resolved()).ok()
}

/// What a path leads to and through, as far as it exists now.
fn ids(path: &Path) -> Vec<FileId> {
    path.ancestors().filter_map(|place| FileId::of(place).ok()).collect()
}
