//! Moves bytes from one socket to another within the kernel (splice(2)), by way of a pipe: bulk
//! costs no copies here then.
//!
//! Pipes cost two descriptors each, so a worker has few of them, and a direction holds one only
//! while bytes are in it.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// How many pipes a worker has at most; a direction that gets none copies.
const MOST: usize = 8;

/// How many wait for their next use: a user has few large ones, of which some are for his other
/// programs.
const SPARE: usize = 2;

/// How often is copied instead once there was none, before one is asked for again.
const PAUSE: u32 = 1024;

/// How much a pipe holds, and so the most that is moved at once.
const LENGTH: usize = 1024 * 1024;

thread_local! {
    static PIPES: RefCell<Pipes> = const { RefCell::new(Pipes::NONE) };
}

/// The pipes of a worker, which is one thread.
struct Pipes {
    spare: Vec<Ends>,
    lent: usize,
    /// How often none is asked for.
    pause: u32,
}

impl Pipes {
    const NONE: Self = Self { spare: Vec::new(), lent: 0, pause: 0 };

    /// One more; `None` when the system gives none.
    fn make(&mut self) -> Option<Ends> {
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        let made = make();
        if made.is_none() {
            self.pause = PAUSE;
        }
        made
    }
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

fn make() -> Option<Ends> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
    // A user who is not privileged has few large ones; a small one is slower than copying.
    fcntl_setpipe_size(&write, LENGTH).ok()?;
    Some(Ends { read, write })
}

/// A pipe with bytes on their way through it, if any.
pub(super) struct Pipe {
    /// Empty only while it is dropped.
    ends: Option<Ends>,
    filled: usize,
}

impl Pipe {
    /// A pipe that is empty; `None` when the worker has no more, or the system.
    pub(super) fn take() -> Option<Self> {
        PIPES.with_borrow_mut(|pipes| {
            let ends = match pipes.spare.pop() {
                Some(ends) => ends,
                None if pipes.lent < MOST => pipes.make()?,
                None => return None,
            };
            pipes.lent += 1;
            Some(Self { ends: Some(ends), filled: 0 })
        })
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Takes from `socket` what is there into the pipe, which must be empty; 0 at the end.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        socket: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        let Some(Ends { write, .. }) = &self.ends else { return Poll::Ready(Ok(0)) };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        loop {
            ready!(socket.poll_read_ready(cx))?;
            // The pipe has room, so it is the socket that would block.
            let taken = socket.try_io(Interest::READABLE, || {
                Ok(splice(socket, None, write, None, LENGTH, flags)?)
            });
            match taken {
                Err(error) if is_passing(&error) => {}
                taken => {
                    self.filled += *taken.as_ref().unwrap_or(&0);
                    return Poll::Ready(taken);
                }
            }
        }
    }

    /// Gives `socket` what it takes of the pipe, which must not be empty.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        socket: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        let Some(Ends { read, .. }) = &self.ends else { return Poll::Ready(Ok(0)) };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        loop {
            ready!(socket.poll_write_ready(cx))?;
            let given = socket.try_io(Interest::WRITABLE, || {
                Ok(splice(read, None, socket, None, self.filled, flags)?)
            });
            match given {
                Err(error) if is_passing(&error) => {}
                given => {
                    self.filled -= *given.as_ref().unwrap_or(&0);
                    return Poll::Ready(given);
                }
            }
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // One with bytes in it is closed: they are nobody else's.
        let ends = self.ends.take().filter(|_| self.filled == 0);
        // At the end of the thread there is nothing left to give back to.
        let _ = PIPES.try_with(|pipes| {
            let mut pipes = pipes.borrow_mut();
            pipes.lent -= 1;
            if pipes.spare.len() < SPARE {
                pipes.spare.extend(ends);
            }
        });
    }
}
