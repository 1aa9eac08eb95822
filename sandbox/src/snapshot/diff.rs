//! What is different between two trees.

use std::path::PathBuf;

use super::hash::ContentHash;
use super::tree::{Entry, Kind, Node, Pair};

/// One path that is not the same in two snapshots, or in a snapshot and now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path, beneath the tracked path as it was given.
    pub path: PathBuf,
    /// How it differs.
    pub change_type: ChangeType,
    /// By how many bytes its content grew; `None` in what a restore tells.
    pub size_delta: Option<i64>,
    /// Its content before, if it was a file.
    pub old_hash: Option<ContentHash>,
    /// Its content after, if it is a file.
    pub new_hash: Option<ContentHash>,
}

/// How a path differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeType {
    /// It was not there before.
    Created,
    /// Its content, the target of its link, or what it is.
    Modified,
    /// It is not there any more.
    Deleted,
    /// Its mode, owner or extended attributes.
    PermissionsChanged,
}

impl ChangeType {
    /// The name in programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::PermissionsChanged => "permissions_changed",
        }
    }

    /// The one with that name in programs.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Created, Self::Modified, Self::Deleted, Self::PermissionsChanged];
        all.into_iter().find(|known| known.as_str() == name)
    }

    /// The name in the files of a session.
    pub(super) fn as_recorded(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::Modified => "Modified",
            Self::Deleted => "Deleted",
            Self::PermissionsChanged => "PermissionsChanged",
        }
    }
}

/// What has to happen to the old for it to be the new, ordered by path. Of directories that come
/// or go only the empty ones are named: the others show in what is beneath them. None is, if one
/// side does not tell of them: then the comparison is not `is_complete`.
pub(super) fn changes<'t>(pairs: impl Iterator<Item = Pair<'t>>, is_complete: bool) -> Vec<Change> {
    let tells_of = |node: &&Node| is_complete || !node.entry.is_directory();
    let pairs =
        pairs.map(|pair| Pair { old: pair.old.filter(tells_of), new: pair.new.filter(tells_of) });
    let mut all = pairs.filter_map(|pair| Some((pair, change(pair)?))).peekable();
    let mut named = Vec::new();
    while let Some((pair, change)) = all.next() {
        let comes_or_goes = pair.old.is_none() || pair.new.is_none();
        let is_directory = pair.old.or(pair.new).is_some_and(|node| node.entry.is_directory());
        let shows_beneath = comes_or_goes
            && is_directory
            && all.peek().is_some_and(|(_, next)| next.path.starts_with(&change.path));
        if !shows_beneath {
            named.push(change);
        }
    }
    named
}

fn change(Pair { old, new }: Pair<'_>) -> Option<Change> {
    let path = old.or(new)?.key.as_path();
    let (old, new) = (old.map(|node| &node.entry), new.map(|node| &node.entry));
    let change_type = match (old, new) {
        (None, None) => return None,
        (None, Some(_)) => ChangeType::Created,
        (Some(_), None) => ChangeType::Deleted,
        (Some(old), Some(new)) if !is_same_content(old, new) => ChangeType::Modified,
        (Some(old), Some(new)) if !are_same_permissions(old, new) => ChangeType::PermissionsChanged,
        (Some(_), Some(_)) => return None,
    };
    let content = |entry: Option<&Entry>| match entry?.kind {
        Kind::File { hash, size, .. } => Some((hash, size)),
        Kind::Directory | Kind::Symlink { .. } => None,
    };
    let size = |entry| content(entry).map_or(0, |(_, size)| size.cast_signed());
    Some(Change {
        path: path.to_owned(),
        change_type,
        size_delta: Some(size(new) - size(old)),
        old_hash: content(old).map(|(hash, _)| hash),
        new_hash: content(new).map(|(hash, _)| hash),
    })
}

/// Whether both hold the same; a link whose target is not known is taken to.
pub(super) fn is_same_content(a: &Entry, b: &Entry) -> bool {
    match (&a.kind, &b.kind) {
        (Kind::File { hash: a, .. }, Kind::File { hash: b, .. }) => a == b,
        (Kind::Symlink { target: a }, Kind::Symlink { target: b }) => {
            a.as_ref().zip(b.as_ref()).is_none_or(|(a, b)| a == b)
        }
        (Kind::Directory, Kind::Directory) => true,
        _ => false,
    }
}

/// Whether mode, owner and extended attributes are the same, as far as both tell.
pub(super) fn are_same_permissions(a: &Entry, b: &Entry) -> bool {
    if matches!(a.kind, Kind::Symlink { .. }) {
        return a.owner.zip(b.owner).is_none_or(|(a, b)| a == b);
    }
    let more = || a.owner.zip(b.owner).is_none_or(|(x, y)| x == y && a.attributes == b.attributes);
    a.permissions() == b.permissions() && more()
}
