//! What is different between two trees.

use super::tree::{Entry, Kind, Node, Pair};
use super::values::{Change, ChangeType};

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
        _ => None,
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
