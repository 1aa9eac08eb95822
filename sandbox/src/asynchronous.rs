//! Commands on a tokio runtime, without a thread for each: what has to be known of a program
//! becomes readable, and the runtime's reactor watches it. Its timer is for an end that is overdue.

use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::capability::CapabilitySet;
use crate::error::Error;
use crate::exec::{Command, Output};
use crate::{Child, sys};

impl Command {
    /// As [`run`](Self::run), but waits without blocking its thread. Dropped before it is done,
    /// it kills the program and all that it has started.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O enabled, and time if there is a timeout.
    pub async fn run_async(&self, caps: &CapabilitySet) -> Result<Output, Error> {
        let mut run = self.start(caps)?;
        let mut watched = Vec::new();
        for fd in run.fds() {
            watched.push(watch(fd)?);
        }
        loop {
            // There may always be something to read, and others are to have their turn.
            tokio::task::consume_budget().await;
            if let Some(output) = run.advance(Some(Duration::ZERO))? {
                return Ok(output);
            }
            let open: Vec<_> = run.fds().map(|fd| fd.as_raw_fd()).collect();
            watched.retain(|fd| open.contains(&fd.number));
            within(run.patience(), any_readable(&watched)).await?;
        }
    }

    /// As [`spawn`](Self::spawn), and waits until the program has begun.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O enabled, and time if there is a timeout.
    pub async fn spawn_async(&self, caps: &CapabilitySet) -> Result<Process, Error> {
        let mut child = self.spawn(caps)?;
        while !child.try_begun()? {
            let Some(fd) = child.begun_fd() else { break };
            within(child.patience(), readable(&watch(fd)?)).await?;
        }
        let reader = |fd: Option<OwnedFd>| fd.map(pipe::Receiver::from_owned_fd_unchecked);
        let stdin = child.stdin.take().map(pipe::Sender::from_owned_fd_unchecked);
        Ok(Process {
            stdin: stdin.transpose().map_err(watch_error)?,
            stdout: reader(child.stdout.take()).transpose().map_err(watch_error)?,
            stderr: reader(child.stderr.take()).transpose().map_err(watch_error)?,
            child,
        })
    }
}

/// A program that runs in a sandbox. Dropped, it is killed with all that it has started.
#[derive(Debug)]
pub struct Process {
    /// Writes to the program's standard input, if that is a pipe or a terminal.
    pub stdin: Option<pipe::Sender>,
    /// Reads the program's standard output, if that is a pipe or a terminal.
    pub stdout: Option<pipe::Receiver>,
    /// Reads the program's standard error, if that is a pipe of its own.
    pub stderr: Option<pipe::Receiver>,
    child: Child,
}

impl Process {
    /// The program's process number.
    pub fn number(&self) -> i32 {
        self.child.number()
    }

    /// Waits for the program and all that it started. Can be dropped and called again.
    ///
    /// # Errors
    ///
    /// [`Error::Watch`] if it is not known any more what became of it, as after its end or when that
    /// is overdue.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O enabled, and time if there is a timeout or it was killed.
    pub async fn wait(&mut self) -> Result<Output, Error> {
        if let Some(fd) = self.child.ended_fd() {
            within(self.child.patience(), readable(&watch(fd)?)).await?;
        }
        self.child.wait()
    }

    /// Has the program and all that it started killed, without waiting for it.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Has a signal sent to the program alone. Does nothing when it has ended, or if the signal is
    /// zero, which is none.
    pub fn signal(&self, signal: u8) {
        self.child.signal(signal);
    }
}

/// A duplicate of a descriptor that the reactor watches, and the number of the original.
#[derive(Debug)]
struct Watched {
    number: RawFd,
    fd: AsyncFd<OwnedFd>,
}

fn watch(fd: BorrowedFd<'_>) -> Result<Watched, Error> {
    let number = fd.as_raw_fd();
    let duplicate = fd.try_clone_to_owned().map_err(watch_error)?;
    Ok(Watched { number, fd: sys::watch(duplicate).map_err(watch_error)? })
}

/// Waits until there is something to be read, also if it has been there all along: the reactor tells
/// of what comes, and not of what was left when less than all was read.
async fn readable(watched: &Watched) -> Result<(), Error> {
    loop {
        let mut ready = watched.fd.readable().await.map_err(watch_error)?;
        let mut now = [PollFd::new(watched.fd.get_ref(), PollFlags::IN)];
        match poll(&mut now, Some(&Timespec::default())) {
            Ok(0) => ready.clear_ready(),
            Ok(_) | Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(watch_error(error.into())),
        }
    }
}

/// Waits for what is to be ready, for no longer than the end may be waited for.
async fn within(
    patience: Option<Duration>,
    ready: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    match patience {
        None => ready.await,
        Some(patience) => timeout(patience, ready).await.unwrap_or(Ok(())),
    }
}

async fn any_readable(fds: &[Watched]) -> Result<(), Error> {
    let waits = fds.iter().map(|fd| Box::pin(readable(fd)));
    futures_util::future::select_all(waits).await.0
}

fn watch_error(source: io::Error) -> Error {
    Error::Watch { syscall: "epoll_ctl", source }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::io::{Write as _, pipe};
    use std::os::fd::AsFd as _;
    use std::pin::pin;

    use futures_util::future::{Either, select};

    use super::*;

    #[tokio::test]
    async fn what_was_left_is_still_readable() {
        let (reader, mut writer) = pipe().unwrap();
        let watched = watch(reader.as_fd()).unwrap();
        writer.write_all(b"two").unwrap();
        for _ in 0..3 {
            readable(&watched).await.unwrap();
            assert_eq!(rustix::io::read(&reader, &mut [0; 1]).unwrap(), 1);
        }
        let waits = pin!(readable(&watched));
        assert!(matches!(select(waits, ready(())).await, Either::Right(_)));
    }
}
