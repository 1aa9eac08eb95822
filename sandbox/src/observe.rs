//! What a command does, noted while nothing is refused: how a policy is learned. It is no sandbox,
//! and what is noted is what a program shows that does not hide: each call is looked at before the
//! kernel makes it, from memory that the program could change in between.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// One thing that a process did, or tried and could have done. Paths are absolute, without
/// symbolic links; what is a process's own beneath `/proc` is beneath `/proc/self`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Act {
    /// A file was opened to be read or executed, or a directory to be listed.
    Read(PathBuf),
    /// What is there was opened to be written, or changed by its name.
    Write(PathBuf),
    /// Something was made, removed or renamed, which is to write in the directory around it.
    Make(PathBuf),
    /// A connection of TCP was asked for.
    Connect(SocketAddr),
    /// Serving TCP at an address was asked for.
    Bind(SocketAddr),
    /// A datagram socket was connected, or another that a limited network does not have.
    Datagram(SocketAddr),
    /// A connection to a unix socket that has a path.
    UnixSocket(PathBuf),
}

impl Act {
    /// What it is, in one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Read(_) => "read",
            Self::Write(_) => "write",
            Self::Make(_) => "make",
            Self::Connect(_) => "connect",
            Self::Bind(_) => "bind",
            Self::Datagram(_) => "datagram",
            Self::UnixSocket(_) => "unix_socket",
        }
    }
}

/// What the processes of a command have done, each thing once, in the order of [`Act`].
#[derive(Debug, Default)]
pub struct Observed {
    acts: Mutex<BTreeSet<Act>>,
}

impl Observed {
    /// All that has been done so far.
    pub fn acts(&self) -> Vec<Act> {
        self.lock().iter().cloned().collect()
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn add(&self, act: Act) {
        self.lock().insert(act);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<Act>> {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
