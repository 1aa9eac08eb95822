//! The network part of a set: plain data. `landlock.rs`, `filter.rs` and the supervisor hold a
//! process to it.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
#[cfg(target_os = "linux")]
use std::sync::Arc;

use crate::capability::{FileId, Target};
use crate::error::Error;

/// What the sandboxed process may say to whom, but for ports granted one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// No limit of ours.
    #[default]
    Open,
    /// No network at all.
    Blocked,
    /// Nothing but TCP connections to the proxy at this address.
    ProxyOnly(SocketAddr),
}

#[cfg(target_os = "linux")]
impl Network {
    /// What this limit and another leave together.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Open, limit) | (limit, Self::Open) => limit,
            (one, other) if one == other => one,
            _ => Self::Blocked,
        }
    }
}

impl Display for Network {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("allowed"),
            Self::Blocked => f.write_str("blocked"),
            Self::ProxyOnly(proxy) if proxy.ip().is_loopback() => {
                write!(f, "proxy-only (localhost:{})", proxy.port())
            }
            Self::ProxyOnly(proxy) => write!(f, "proxy-only ({proxy})"),
        }
    }
}

/// TCP ports granted one by one, in the order in which they were granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    /// To connect to, on any host.
    pub connect: Vec<u16>,
    /// To bind to, at any address.
    pub bind: Vec<u16>,
    /// To connect and to bind to, at loopback addresses.
    pub localhost: Vec<u16>,
}

/// How tightly sockets are held, by what is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seal {
    /// Not at all.
    Open,
    /// TCP goes to granted ports only; the network is open otherwise.
    Ports,
    /// No socket but unix ones.
    Local,
    /// Nothing but unix sockets and plain TCP.
    Tcp,
}

/// Who judges the addresses that a limited network may reach.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judge {
    /// Landlock, which knows ports and, from ABI 9 on, unix sockets by path.
    Landlock,
    /// A supervisor, which sees addresses whole: a thread of the parent, or a process beside the
    /// one that is held.
    Supervisor,
    /// The supervisor of the sandbox around, which lets nothing pass that is not granted here too.
    Surrounding,
}

/// A granted unix socket that has a path, or a directory of them.
///
/// As with files, the grant is of what the path named when it was granted.
#[derive(Clone, Debug)]
pub struct UnixSocket {
    original: PathBuf,
    resolved: PathBuf,
    is_directory: bool,
    id: FileId,
    #[cfg(target_os = "linux")]
    handle: Arc<OwnedFd>,
}

impl UnixSocket {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let target = Target::open(path)?;
        if !target.is_dir && !target.is_socket {
            return Err(Error::ExpectedSocket { path: path.to_owned() });
        }
        Ok(Self {
            original: path.to_owned(),
            is_directory: target.is_dir,
            id: target.id,
            #[cfg(target_os = "linux")]
            handle: Arc::new(target.handle),
            resolved: target.resolved,
        })
    }

    /// The path as it was given.
    pub fn original(&self) -> &Path {
        &self.original
    }

    /// The path without symbolic links, as it was at the time of the grant.
    pub fn resolved(&self) -> &Path {
        &self.resolved
    }

    /// Whether all sockets beneath a directory are granted, and not a single one.
    pub fn is_directory(&self) -> bool {
        self.is_directory
    }

    /// What it is a grant of.
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// The open object.
    #[cfg(target_os = "linux")]
    pub(crate) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl PartialEq for UnixSocket {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.original == other.original && self.resolved == other.resolved
    }
}

impl Eq for UnixSocket {}
