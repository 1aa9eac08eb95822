//! Reads from a socket through one buffer for each thread, so that a connection that waits holds
//! none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// How much is read at once.
const READ: usize = 64 * 1024;

/// From this size on what was read keeps its place in the buffer, and is not copied out of it.
const WORTH_KEEPING: usize = 4 * 1024;

thread_local! {
    static BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new());
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
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.capacity() < READ / 2 {
            buffer.reserve(READ);
        }
        let came = ready!(poll_read_buf(Pin::new(io), cx, buffer))?;
        if came < WORTH_KEEPING || !to.is_empty() {
            to.extend_from_slice(buffer);
            buffer.clear();
        } else {
            *to = buffer.split();
        }
        Poll::Ready(Ok(came))
    })
}
