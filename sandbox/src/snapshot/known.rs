//! What a walk knows beforehand: where in an earlier tree it stands.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use super::key::{Key, compare};
use super::tree::{Node, Tree};

/// A place in an earlier tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    own: Option<&'a Arc<Node>>,
    /// Begins with what is beneath the place.
    rest: &'a [Arc<Node>],
}

impl<'a> Known<'a> {
    pub(super) fn all(tree: Option<&'a Tree>) -> Self {
        Self { own: None, rest: tree.map(Tree::nodes).unwrap_or_default() }
    }

    /// What stood at the place itself.
    pub(super) fn own(&self) -> Option<&'a Arc<Node>> {
        self.own
    }

    /// The place of `path`, beneath this one.
    pub(super) fn at(&self, path: &Path) -> Self {
        let path = path.as_os_str().as_bytes();
        let (own, begin) =
            match self.rest.binary_search_by(|node| compare(node.key.as_bytes(), path)) {
                Ok(index) => (self.rest.get(index), index + 1),
                Err(index) => (None, index),
            };
        Self { own, rest: self.rest.get(begin..).unwrap_or_default() }
    }

    /// The place, which is the directory `key`, with what is beneath it and nothing after, so
    /// that there is less to search.
    pub(super) fn narrowed(self, key: &Key) -> Self {
        let end = self.rest.partition_point(|node| key.is_above(&node.key));
        Self { rest: self.rest.get(..end).unwrap_or_default(), ..self }
    }
}
