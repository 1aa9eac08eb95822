//! What a sandboxed program's standard streams are connected to.

use std::sync::Arc;

/// An open file, pipe or socket, by the name that the platform has for it.
#[cfg(unix)]
pub(crate) use std::os::fd::OwnedFd as Handle;
#[cfg(windows)]
pub(crate) use std::os::windows::io::OwnedHandle as Handle;

/// What one of a program's standard streams is connected to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Stdio {
    /// `/dev/null`: nothing to read, and what is written is gone.
    Null,
    /// A pipe to the caller. What comes out of it is collected by
    /// [`Command::run`](crate::Command::run) and handed over by
    /// [`Command::spawn`](crate::Command::spawn).
    Pipe,
    /// An open file, pipe or socket of the caller's.
    Descriptor(Arc<Handle>),
    /// For standard error: wherever standard output goes.
    Stdout,
}

#[cfg(target_os = "linux")]
impl Stdio {
    /// A duplicate of the descriptor with this number, for callers who have no more of it.
    ///
    /// # Errors
    ///
    /// `EBADF` if there is none, or `EMFILE`.
    pub fn duplicate(number: i32) -> std::io::Result<Self> {
        let fd = crate::sys::duplicate(number).map_err(std::io::Error::from_raw_os_error)?;
        Ok(Self::Descriptor(Arc::new(fd)))
    }
}

impl<T: Into<Handle>> From<T> for Stdio {
    fn from(fd: T) -> Self {
        Self::Descriptor(Arc::new(fd.into()))
    }
}

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

impl Default for WindowSize {
    fn default() -> Self {
        Self { rows: 24, columns: 80 }
    }
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{Ends, beyond_stdio, connect, resize};

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsStr;
    use std::io;
    use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
    use std::os::unix::ffi::OsStrExt as _;

    use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, SeekFrom};
    use rustix::pipe::{PipeFlags, pipe_with};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::Winsize;

    use super::{Stdio, WindowSize};

    /// Descriptors below this one are the standard streams.
    const FIRST_FREE: i32 = 3;

    /// Both sides of a program's standard streams.
    #[derive(Debug)]
    pub(crate) struct Ends {
        /// The child's, none numbered below 3. Standard error may be standard output.
        child: [Option<OwnedFd>; 3],
        /// The caller's, where it has one.
        pub stdin: Option<OwnedFd>,
        /// The caller's, non-blocking; for a terminal, all that is written to it.
        pub stdout: Option<OwnedFd>,
        /// The caller's, non-blocking.
        pub stderr: Option<OwnedFd>,
    }

    impl Ends {
        /// The child's side.
        pub(crate) fn child(&self) -> io::Result<[BorrowedFd<'_>; 3]> {
            let [stdin, stdout, stderr] = self.child.each_ref().map(Option::as_ref);
            let missing = || io::Error::from(io::ErrorKind::InvalidInput);
            let stdout = stdout.ok_or_else(missing)?;
            let stdin = stdin.unwrap_or(stdout);
            Ok([stdin.as_fd(), stdout.as_fd(), stderr.unwrap_or(stdout).as_fd()])
        }

        /// Closes the child's side, which it has by now.
        pub(crate) fn close_childs(&mut self) {
            self.child = [None, None, None];
        }
    }

    /// Makes the streams that are asked for: a terminal for all three, or each its own.
    pub(crate) fn connect(
        [stdin, stdout, stderr]: [&Stdio; 3],
        input: Option<&[u8]>,
        terminal: Option<WindowSize>,
    ) -> io::Result<Ends> {
        if let Some(size) = terminal {
            return open_terminal(size);
        }
        let (child_in, our_in) = match (input, stdin) {
            (Some(input), _) => (file_of(input)?, None),
            (None, Stdio::Pipe) => {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
                rustix::io::ioctl_fionbio(&write, true)?;
                (read, Some(write))
            }
            (None, Stdio::Descriptor(fd)) => (fd.try_clone()?, None),
            (None, Stdio::Null | Stdio::Stdout) => (no_input()?, None),
        };
        let (child_out, our_out) = output(stdout)?;
        let (child_err, our_err) = match stderr {
            Stdio::Stdout => (None, None),
            other => {
                let (child, ours) = output(other)?;
                (Some(beyond_stdio(child)?), ours)
            }
        };
        Ok(Ends {
            child: [Some(beyond_stdio(child_in)?), Some(beyond_stdio(child_out)?), child_err],
            stdin: our_in,
            stdout: our_out,
            stderr: our_err,
        })
    }

    fn output(stdio: &Stdio) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
        match stdio {
            Stdio::Pipe => {
                let (ours, child) = pipe_with(PipeFlags::CLOEXEC)?;
                // Only our end: a program does not expect its output not to block.
                rustix::io::ioctl_fionbio(&ours, true)?;
                Ok((child, Some(ours)))
            }
            Stdio::Descriptor(fd) => Ok((fd.try_clone()?, None)),
            Stdio::Null | Stdio::Stdout => {
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                Ok((rustix::fs::open("/dev/null", flags, Mode::empty())?, None))
            }
        }
    }

    /// A file that holds `input`, to be read from its start. Nobody has to feed it to the program
    /// while it runs, and no program is too slow or too soon gone to take it.
    fn file_of(input: &[u8]) -> io::Result<OwnedFd> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("input", flags)?;
        let mut left = input;
        while !left.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, left))?;
            left = left.get(written..).unwrap_or_default();
        }
        rustix::fs::seek(&file, SeekFrom::Start(0))?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(file)
    }

    /// Something to read that is at its end. In a parent that is itself sandboxed without
    /// `/dev/null`, a pipe that nobody writes to does as well.
    fn no_input() -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let pipe = |_| pipe_with(PipeFlags::CLOEXEC).map(|(reader, _)| reader);
        Ok(rustix::fs::open("/dev/null", flags, Mode::empty()).or_else(pipe)?)
    }

    fn open_terminal(size: WindowSize) -> io::Result<Ends> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        resize(ours.as_fd(), size)?;
        let name = ptsname(&ours, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let child = rustix::fs::open(OsStr::from_bytes(name.as_bytes()), flags, Mode::empty())?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        Ok(Ends {
            child: [None, Some(beyond_stdio(child)?), None],
            stdin: Some(ours.try_clone()?),
            stdout: Some(ours),
            stderr: None,
        })
    }

    /// Tells a terminal its size; whoever runs in it gets `SIGWINCH`.
    pub(crate) fn resize(terminal: BorrowedFd<'_>, size: WindowSize) -> io::Result<()> {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(terminal, size)?)
    }

    /// Moves a descriptor out of the way of the standard streams. A parent that has closed its own
    /// gets their numbers for what it opens next, and the child would then overwrite one by
    /// another.
    pub(crate) fn beyond_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
        if fd.as_raw_fd() >= FIRST_FREE {
            return Ok(fd);
        }
        Ok(rustix::io::fcntl_dupfd_cloexec(&fd, FIRST_FREE)?)
    }
}
