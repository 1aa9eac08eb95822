//! What a walk knows beforehand: where in an earlier tree it stands.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::key::{Key, compare};
use super::shared::Shared;
use super::tree::Tree;

/// A place in an earlier tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    own: Option<(usize, &'a Shared)>,
    /// Begins with what is beneath the place, and where that is in the tree.
    rest: &'a [Shared],
    begin: usize,
    /// How many bytes all keys of the rest have in common.
    common: usize,
}

impl<'a> Known<'a> {
    pub(super) fn all(tree: Option<&'a Tree>) -> Self {
        let rest = tree.map(Tree::nodes).unwrap_or_default();
        Self { own: None, rest, begin: 0, common: 0 }
    }

    /// What stood at the place itself, and where that is in the tree.
    pub(super) fn own(&self) -> Option<(usize, &'a Shared)> {
        self.own
    }

    /// The place of `path`, beneath this one, and forgets all before it: the next is asked for in
    /// order.
    pub(super) fn pass(&mut self, path: &Path) -> Self {
        let found = self.at(path);
        (self.rest, self.begin) = (found.rest, found.begin);
        found
    }

    /// The place of `path`, beneath this one.
    pub(super) fn at(&self, path: &Path) -> Self {
        let path = self.tail(path.as_os_str().as_bytes());
        let is_first = self.rest.first().is_some_and(|node| self.tail(node.key.as_bytes()) == path);
        let found = if is_first {
            Ok(0)
        } else {
            self.rest.binary_search_by(|node| compare(self.tail(node.key.as_bytes()), path))
        };
        let (own, skipped) = match found {
            Ok(index) => (self.rest.get(index).map(|node| (self.begin + index, node)), index + 1),
            Err(index) => (None, index),
        };
        let rest = self.rest.get(skipped..).unwrap_or_default();
        Self { own, rest, begin: self.begin + skipped, ..*self }
    }

    fn tail<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        bytes.get(self.common..).unwrap_or_default()
    }

    /// The place, which is the directory `key`, with what is beneath it and nothing after, so
    /// that there is less to search.
    pub(super) fn narrowed(self, key: &Key) -> Self {
        let end = self.rest.partition_point(|node| key.is_above(&node.key));
        let rest = self.rest.get(..end).unwrap_or_default();
        Self { rest, common: key.as_bytes().len(), ..self }
    }
}
