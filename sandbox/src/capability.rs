//! The description of a sandbox: which paths, which network. Opens what it grants, at the time of
//! the grant, and restricts nothing; `landlock.rs` and `network.rs` turn it into rules.

use std::fmt::{self, Display, Formatter, Write as _};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
#[cfg(target_os = "linux")]
use std::sync::Arc;

use crate::error::Error;
#[cfg(target_os = "linux")]
use crate::own_proc::OwnPath;

/// What may be done beneath a granted path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read and execute files, list directories.
    Read,
    /// Write, create, remove, rename and truncate; never device nodes.
    Write,
    /// Both.
    ReadWrite,
}

impl Access {
    /// Whether reading is included.
    pub const fn is_read(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// Whether writing is included.
    pub const fn is_write(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

impl Display for Access {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::ReadWrite => "read+write",
        })
    }
}

/// One granted directory (with all beneath it) or file.
///
/// The grant is of the directory or file that the path named when it was granted. It is held open
/// (a descriptor without any right to its content), so whoever moves or replaces the path
/// afterwards moves the grant nowhere else.
#[derive(Clone, Debug)]
pub struct FsCapability {
    original: PathBuf,
    resolved: PathBuf,
    access: Access,
    is_file: bool,
    #[cfg(target_os = "linux")]
    handle: Arc<OwnedFd>,
    #[cfg(target_os = "linux")]
    own: Option<OwnPath>,
}

impl FsCapability {
    /// The path as it was given.
    pub fn original(&self) -> &Path {
        &self.original
    }

    /// The path without symbolic links, as it was at the time of the grant.
    pub fn resolved(&self) -> &Path {
        &self.resolved
    }

    /// What is granted.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Whether one file is granted, and not a directory with what is beneath it.
    pub fn is_file(&self) -> bool {
        self.is_file
    }

    /// The open object that rules are made of.
    #[cfg(target_os = "linux")]
    pub(crate) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// The path beneath `/proc/self`, if it is there; a child then has one of its own.
    #[cfg(target_os = "linux")]
    pub(crate) fn own(&self) -> Option<&OwnPath> {
        self.own.as_ref()
    }

    fn open(path: &Path, access: Access) -> Result<Self, Error> {
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::PathMissing { path: path.to_owned(), source },
            _ => Error::Resolve { path: path.to_owned(), source },
        };
        let target = Target::open(path).map_err(fail)?;
        Ok(Self {
            original: path.to_owned(),
            access,
            is_file: !target.is_dir,
            #[cfg(target_os = "linux")]
            handle: Arc::new(target.handle),
            #[cfg(target_os = "linux")]
            own: OwnPath::new(&target.resolved),
            resolved: target.resolved,
        })
    }
}

impl Display for FsCapability {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.resolved.display(), self.access)
    }
}

/// What a path names now.
struct Target {
    resolved: PathBuf,
    is_dir: bool,
    #[cfg(target_os = "linux")]
    handle: OwnedFd,
}

impl Target {
    #[cfg(target_os = "linux")]
    fn open(path: &Path) -> io::Result<Self> {
        use rustix::fs::{FileType, Mode, OFlags, fstat, open, stat};

        let handle = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let resolved = path.canonicalize()?;
        let opened = fstat(&handle)?;
        let named = stat(&resolved)?;
        // The descriptor decides what is granted and the path is what people are shown: refuse
        // when a swap between the two calls made them differ.
        if (opened.st_dev, opened.st_ino) != (named.st_dev, named.st_ino) {
            return Err(io::Error::other("the path changed while it was being resolved"));
        }
        let is_dir = FileType::from_raw_mode(opened.st_mode).is_dir();
        Ok(Self { resolved, is_dir, handle })
    }

    #[cfg(not(target_os = "linux"))]
    fn open(path: &Path) -> io::Result<Self> {
        let resolved = path.canonicalize()?;
        let is_dir = resolved.metadata()?.is_dir();
        Ok(Self { resolved, is_dir })
    }
}

/// What the sandboxed process may say to whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// No limit of ours.
    #[default]
    Open,
    /// No network at all.
    Blocked,
    /// Nothing but TCP connections to the port of the proxy at this address.
    ProxyOnly(SocketAddr),
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

/// What a sandboxed process may touch. Empty, it grants no file and leaves the network open.
///
/// Each grant holds one descriptor of the calling process until the set and its clones are
/// dropped.
#[derive(Clone, Debug, Default)]
pub struct CapabilitySet {
    fs: Vec<FsCapability>,
    network: Network,
}

impl CapabilitySet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Grants a directory with everything beneath it. Symbolic links on the way to it are
    /// followed now; links found beneath it later are judged by what they point to.
    ///
    /// # Errors
    ///
    /// [`Error::PathMissing`], [`Error::ExpectedDirectory`] or [`Error::Resolve`].
    pub fn allow_path(&mut self, path: impl AsRef<Path>, access: Access) -> Result<(), Error> {
        let path = path.as_ref();
        let capability = FsCapability::open(path, access)?;
        if capability.is_file {
            return Err(Error::ExpectedDirectory { path: path.to_owned() });
        }
        self.fs.push(capability);
        Ok(())
    }

    /// Grants one file, device or socket; anything that is no directory. A granted file can be
    /// changed but not removed or replaced, since that is a right over its directory.
    ///
    /// # Errors
    ///
    /// [`Error::PathMissing`], [`Error::ExpectedFile`] or [`Error::Resolve`].
    pub fn allow_file(&mut self, path: impl AsRef<Path>, access: Access) -> Result<(), Error> {
        let path = path.as_ref();
        let capability = FsCapability::open(path, access)?;
        if !capability.is_file {
            return Err(Error::ExpectedFile { path: path.to_owned() });
        }
        self.fs.push(capability);
        Ok(())
    }

    /// Denies the network: no socket can be made but unix stream sockets (and pairs of them) and
    /// the netlink socket that lists the machine's own interfaces.
    ///
    /// A unix socket that has a path can still be connected to before Landlock ABI 9, whether
    /// its path is granted or not: keep the sandboxed user away from such sockets by their mode.
    pub fn block_network(&mut self) {
        self.network = Network::Blocked;
    }

    /// Denies the network but for TCP connections to the port of `proxy`.
    ///
    /// The kernel's rule knows the port and not the address: the same port of any other host can
    /// be reached too. A process can also listen, unasked for a port, on one the kernel picks;
    /// it cannot choose one. What is said of unix sockets at
    /// [`block_network`](Self::block_network) holds here too.
    pub fn proxy_only(&mut self, proxy: SocketAddr) {
        self.network = Network::ProxyOnly(proxy);
    }

    /// The granted paths, in the order in which they were granted.
    pub fn fs_capabilities(&self) -> &[FsCapability] {
        &self.fs
    }

    /// What is granted of the network.
    pub fn network(&self) -> Network {
        self.network
    }

    /// Whether the network is limited: blocked, or open to a proxy only.
    pub fn is_network_blocked(&self) -> bool {
        self.network != Network::Open
    }

    /// All grants, one a line, for people. No newline at the end.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        if self.fs.is_empty() {
            text.push_str("(no capabilities granted)\n");
        } else {
            text.push_str("Filesystem:\n");
        }
        for capability in &self.fs {
            let kind = if capability.is_file { "file" } else { "dir" };
            let path = capability.resolved.display();
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "  {path} [{}] ({kind})", capability.access);
        }
        let _ = write!(text, "Network:\n  outbound: {}", self.network);
        text
    }
}

impl Display for CapabilitySet {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "CapabilitySet(fs={}, network={})", self.fs.len(), self.network)
    }
}
