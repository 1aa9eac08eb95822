//! Nodes that several trees hold.

use std::ops::Deref;
use std::sync::Arc;

use super::tree::Node;

/// A node in one of many trees. Those that were found or read together lie together in memory:
/// that is had from the system once for all of them, and kept until the last is in no tree.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    batch: Arc<Box<[Node]>>,
    /// Of a node that is in the batch.
    index: usize,
}

impl Shared {
    /// All of `nodes`, in their order. Room that they do not fill is given back.
    pub(super) fn all(nodes: Vec<Node>) -> impl ExactSizeIterator<Item = Self> {
        let batch = Arc::new(nodes.into_boxed_slice());
        (0..batch.len()).map(move |index| Self { batch: Arc::clone(&batch), index })
    }

    /// Whether both are the same node, and not only alike.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.batch, &other.batch) && self.index == other.index
    }
}

impl From<Node> for Shared {
    fn from(node: Node) -> Self {
        Self { batch: Arc::new(Box::new([node])), index: 0 }
    }
}

impl Deref for Shared {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.batch[self.index]
    }
}
