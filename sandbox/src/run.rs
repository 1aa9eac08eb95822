//! Stays with a running child: reads its pipes and waits for its end, in one `poll`. The child's
//! time is kept by its shim, so that nothing here has to be in time for it.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread, read};
use rustix::termios::isatty;

use crate::child::Child;
use crate::error::Error;
use crate::exec::Output;

/// Bytes that there is room for at least whenever a pipe is read.
const LEAST: usize = 4 << 10;
/// Bytes that are dropped at a time.
const DROPPED: usize = 16 << 10;
/// Bytes that are read at most of what a terminal holds at its end: far more than the kernel keeps
/// for one.
const MOST_OF_TERMINAL: usize = 1 << 20;
/// The longest single wait; what comes later is waited for in turns.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// A running program whose output is collected. Dropped, it is killed with all that it has started.
#[derive(Debug)]
pub struct Run {
    child: Child,
    streams: [Stream; 2],
    cancel: Option<Arc<OwnedFd>>,
    is_cancelled: bool,
}

impl Run {
    pub(crate) fn new(mut child: Child, room: u64, cancel: Option<Arc<OwnedFd>>) -> Self {
        let streams = [child.stdout.take(), child.stderr.take()].map(|fd| Stream::new(fd, room));
        // A terminal's input has the output's other end; nobody writes to it here.
        child.stdin = None;
        Self { child, streams, cancel, is_cancelled: false }
    }

    /// The descriptors of which one becomes readable when [`advance`](Self::advance) has something
    /// to do, unless that is for want of [`patience`](Self::patience). Their number shrinks as
    /// streams end; each stays open as long as this lives.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let of_child = [self.child.ended_fd(), self.child.called_fd()];
        let streams = self.streams.iter().filter_map(Stream::fd);
        of_child.into_iter().flatten().chain(streams).chain(self.cancel_fd())
    }

    /// Becomes readable when the caller ends the run from elsewhere, which it does once.
    fn cancel_fd(&self) -> Option<BorrowedFd<'_>> {
        self.cancel.as_ref().filter(|_| !self.is_cancelled).map(|fd| fd.as_fd())
    }

    /// How much longer the end may be waited for, for ever if none: a while more than the program
    /// has, and anew from [`cancel`](Self::cancel) on. After that [`advance`](Self::advance) has
    /// something to do though nothing becomes readable.
    pub fn patience(&self) -> Option<Duration> {
        self.child.patience()
    }

    /// Kills the program and all that it has started; [`advance`](Self::advance) then ends with
    /// [`Error::Cancelled`].
    pub fn cancel(&mut self) {
        if !self.is_cancelled {
            self.is_cancelled = true;
            self.child.kill();
        }
    }

    /// Waits for something to do, at most `wait`, and does it: takes output, finds the end, or
    /// gives up on one that is overdue. Also returns when a signal handler has run.
    ///
    /// # Errors
    ///
    /// [`Error::Spawn`] if the program could not begin, [`Error::Cancelled`], [`Error::Watch`] or
    /// [`Error::LeftRunning`].
    pub fn advance(&mut self, wait: Option<Duration>) -> Result<Option<Output>, Error> {
        let patience = self.patience();
        let wait = [wait, patience].into_iter().flatten().min();
        let ready = self.wait_ready(wait.map(|wait| wait.min(LONGEST_WAIT)))?;
        if ready.ended {
            return self.finish().map(Some);
        }
        // Only now: whoever comes late may find that it has ended long ago.
        if patience == Some(Duration::ZERO) {
            return Err(self.child.abandon());
        }
        if ready.cancel {
            self.cancel();
        }
        if ready.called {
            let failed = |source| Error::Watch { syscall: "clone", source };
            self.child.serve().map_err(failed)?;
        }
        for (stream, is_ready) in self.streams.iter_mut().zip(ready.streams) {
            if is_ready {
                stream.take().map_err(read_error)?;
            }
        }
        Ok(None)
    }

    fn wait_ready(&self, wait: Option<Duration>) -> Result<Ready, Error> {
        let timeout = wait.and_then(|wait| Timespec::try_from(wait).ok());
        let [stdout, stderr] = self.streams.each_ref().map(Stream::fd);
        let (ended, called) = (self.child.ended_fd(), self.child.called_fd());
        let watched = [ended, called, self.cancel_fd(), stdout, stderr];
        let mut fds: Vec<_> = watched
            .iter()
            .flatten()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        match poll(&mut fds, timeout.as_ref()) {
            // Interrupted: the caller computes the time left anew.
            Ok(0) | Err(Errno::INTR) => return Ok(Ready::default()),
            Ok(_) => {}
            Err(error) => return Err(Error::Watch { syscall: "poll", source: error.into() }),
        }
        let mut events = fds.iter().map(|fd| !fd.revents().is_empty());
        let [ended, called, cancel, stdout, stderr] =
            watched.map(|fd| fd.is_some() && events.next().unwrap_or(false));
        Ok(Ready { ended, called, cancel, streams: [stdout, stderr] })
    }

    fn finish(&mut self) -> Result<Output, Error> {
        for stream in &mut self.streams {
            stream.take_available().map_err(read_error)?;
        }
        let mut output = self.child.wait()?;
        if self.is_cancelled {
            return Err(Error::Cancelled);
        }
        let [stdout, stderr] = &mut self.streams;
        output.truncated = stdout.is_truncated || stderr.is_truncated;
        output.stdout = std::mem::take(&mut stdout.bytes);
        output.stderr = std::mem::take(&mut stderr.bytes);
        Ok(output)
    }
}

/// What `poll` found.
#[derive(Default)]
struct Ready {
    ended: bool,
    called: bool,
    cancel: bool,
    streams: [bool; 2],
}

/// One of the child's outputs and what has been read of it.
#[derive(Debug)]
struct Stream {
    fd: Option<OwnedFd>,
    /// The descriptor stays open beyond the end: somebody may still have it in a set to watch.
    is_ended: bool,
    bytes: Vec<u8>,
    /// How many of them are kept.
    room: usize,
    is_truncated: bool,
}

impl Stream {
    fn new(fd: Option<OwnedFd>, room: u64) -> Self {
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        Self { fd, is_ended: false, bytes: Vec::new(), room, is_truncated: false }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().filter(|_| !self.is_ended).map(OwnedFd::as_fd)
    }

    /// Reads once, and gives the number of bytes read.
    fn take(&mut self) -> io::Result<usize> {
        let Some(fd) = &self.fd else { return Ok(0) };
        let is_full = self.bytes.len() >= self.room;
        let length = if is_full {
            read(fd, &mut [0; DROPPED])
        } else {
            self.bytes.reserve(LEAST);
            read(fd, spare_capacity(&mut self.bytes))
        };
        let length = match length {
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(0),
            // What a terminal says when nobody has it open any more.
            Err(Errno::IO) => 0,
            Err(error) => return Err(error.into()),
        };
        self.is_ended |= length == 0;
        self.is_truncated |= (is_full && length > 0) || self.bytes.len() > self.room;
        self.bytes.truncate(self.room);
        Ok(length)
    }

    /// Reads what is there at this moment and no more: another holder could go on writing for
    /// ever. A terminal tells of a part of that only, and is read until it has nothing.
    fn take_available(&mut self) -> io::Result<()> {
        let Some(fd) = self.fd() else { return Ok(()) };
        let mut left = if isatty(fd) {
            MOST_OF_TERMINAL
        } else {
            usize::try_from(ioctl_fionread(fd)?).unwrap_or(usize::MAX)
        };
        while left > 0 {
            match self.take()? {
                0 => return Ok(()),
                length => left = left.saturating_sub(length),
            }
        }
        Ok(())
    }
}

fn read_error(source: io::Error) -> Error {
    Error::Watch { syscall: "read", source }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::stdio::{Stdio, WindowSize, connect};

    /// What is kept of `written` bytes where there is room for `room`, and whether that is told.
    fn kept(written: usize, room: u64) -> (usize, bool) {
        let (ours, mut theirs) = io::pipe().unwrap();
        let mut stream = Stream::new(Some(ours.into()), room);
        theirs.write_all(&vec![b'x'; written]).unwrap();
        stream.take_available().unwrap();
        drop(theirs);
        while stream.take().unwrap() > 0 {}
        assert!(stream.is_ended);
        (stream.bytes.len(), stream.is_truncated)
    }

    #[test]
    fn all_that_a_terminal_holds_is_taken() {
        let streams = [&Stdio::Null, &Stdio::Null, &Stdio::Null];
        let mut ends = connect(streams, None, Some(WindowSize::default())).unwrap();
        let [_, terminal, _] = ends.child().unwrap().map(|fd| fd.try_clone_to_owned().unwrap());
        ends.close_childs();
        // More than its line discipline has room for, and so more than it says that there is.
        rustix::io::ioctl_fionbio(&terminal, true).unwrap();
        let mut written = 0;
        while let Ok(length) = rustix::io::write(&terminal, &[b'x'; 1000]) {
            written += length;
        }
        assert!(written > 8 << 10, "{written}");
        drop(terminal);
        let mut stream = Stream::new(ends.stdout, 1 << 20);
        stream.take_available().unwrap();
        assert_eq!((stream.bytes.len(), stream.is_truncated), (written, false));
    }

    #[test]
    fn as_much_is_kept_as_there_is_room_for() {
        for (written, room) in [(0, 0), (5, 5), (60_000, 60_000), (4096, 4096), (5, u64::MAX)] {
            assert_eq!(kept(written, room), (written, false), "{written} into {room}");
        }
        for (written, room) in [(1, 0), (6, 5), (60_001, 60_000), (60_000, 1)] {
            assert_eq!(kept(written, room), (usize::try_from(room).unwrap(), true));
        }
    }
}
