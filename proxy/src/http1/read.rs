//! Reads from a socket through buffers of the thread, so that a connection that waits holds
//! none.
//!
//! Most of what is read is short and lives as long as an exchange: heads. It is copied into memory
//! that some of them share, so that neither it nor the parts that are made of it are allocated one
//! by one; and not into more than [`SHELF`], since one that lives long keeps the others' memory.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// How much is read at once.
const READ: usize = 64 * 1024;

/// From this size on what was read keeps its place in the buffer, and is not copied out of it.
const WORTH_KEEPING: usize = 4 * 1024;

/// How much memory is shared by what is short.
const SHELF: usize = 8 * 1024;

thread_local! {
    /// One for each layer that reads at a time: TLS reads through one of its own.
    static BUFFERS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    static SHORT: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Reads what there is and appends it to `to`; 0 at the end.
pub(crate) fn poll_some<T>(
    io: &mut T,
    cx: &mut Context<'_>,
    to: &mut BytesMut,
) -> Poll<io::Result<usize>>
where
    T: AsyncRead + Unpin,
{
    let mut buffer = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.capacity() < READ / 2 {
        buffer.reserve(READ);
    }
    let came = poll_read_buf(Pin::new(io), cx, &mut buffer);
    if let Poll::Ready(Ok(came)) = came {
        if !to.is_empty() {
            to.extend_from_slice(&buffer);
            buffer.clear();
        } else if came < WORTH_KEEPING {
            *to = shelve(&buffer);
            buffer.clear();
        } else {
            *to = buffer.split();
        }
    }
    BUFFERS.with_borrow_mut(|buffers| buffers.push(buffer));
    came
}

/// A copy of `text`, which should be short, in memory that it shares with others.
pub(crate) fn shelve(text: &[u8]) -> BytesMut {
    SHORT.with_borrow_mut(|shelf| {
        if shelf.capacity() < text.len() {
            *shelf = BytesMut::with_capacity(SHELF.max(text.len()));
        }
        shelf.extend_from_slice(text);
        shelf.split()
    })
}
