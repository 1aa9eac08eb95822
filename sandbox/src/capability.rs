//! The description of a sandbox: which paths, which network. Opens what it grants, at the time of
//! the grant, and restricts nothing; `landlock.rs` and `network.rs` turn it into rules.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
#[cfg(target_os = "linux")]
use std::sync::Arc;

use crate::denied::DeniedPath;
use crate::error::Error;
use crate::network::{Network, Ports, Seal, UnixSocket};
#[cfg(target_os = "linux")]
use crate::own_proc::OwnPath;
use crate::source::Source;

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

/// A file system's object: what a rule is about, whatever its path is today. The number stays the
/// object's as long as it is held open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub device: u64,
    pub inode: u64,
}

impl FileId {
    /// What a path names, which may be a link.
    #[cfg(unix)]
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;

        let status = path.symlink_metadata()?;
        Ok(Self { device: status.dev(), inode: status.ino() })
    }

    /// Nothing is granted where nothing can be enforced.
    #[cfg(not(unix))]
    pub(crate) fn of(_: &Path) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What is to be granted of the file system: the argument of
/// [`grant`](CapabilitySet::grant), which all the `allow_` methods lead to.
#[derive(Clone, Debug)]
pub struct Grant<'a> {
    /// A path to what is granted; symbolic links are followed now.
    pub path: &'a Path,
    /// Whether it must be a single file, or else a directory.
    pub is_file: bool,
    /// What may be done.
    pub access: Access,
    /// Whether what can be read can be executed too.
    pub is_executable: bool,
    /// Who grants it.
    pub source: Source,
}

impl<'a> Grant<'a> {
    /// A grant by the user, of execution too if it is one of reading.
    pub fn new(path: &'a Path, is_file: bool, access: Access) -> Self {
        Self { path, is_file, access, is_executable: access.is_read(), source: Source::User }
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
    is_executable: bool,
    is_file: bool,
    source: Source,
    id: FileId,
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

    /// Whether what can be read can be executed too.
    pub fn is_executable(&self) -> bool {
        self.is_executable
    }

    /// Whether one file is granted, and not a directory with what is beneath it.
    pub fn is_file(&self) -> bool {
        self.is_file
    }

    /// Who granted it.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What it is a grant of.
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Takes over what another grant of the same object grants.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.access != other.access {
            self.access = Access::ReadWrite;
        }
        self.is_executable |= other.is_executable;
        if !self.source.is_personal() && other.source.is_personal() {
            self.source = other.source.clone();
        }
        // A link is what somebody has written; what it leads to is in `resolved` anyway.
        // But it must lead to where this grant is, or nobody could tell that it is the same.
        if self.original == self.resolved && other.resolved == self.resolved {
            self.original.clone_from(&other.original);
        }
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

    fn open(grant: Grant<'_>) -> Result<Self, Error> {
        let Grant { path, is_file, access, is_executable, source } = grant;
        let target = Target::open(path)?;
        if is_file == target.is_dir {
            let path = path.to_owned();
            return Err(if is_file {
                Error::ExpectedFile { path }
            } else {
                Error::ExpectedDirectory { path }
            });
        }
        Ok(Self {
            original: path.to_owned(),
            access,
            is_executable: is_executable && access.is_read(),
            is_file,
            source,
            id: target.id,
            #[cfg(target_os = "linux")]
            handle: Arc::new(target.handle),
            #[cfg(target_os = "linux")]
            own: OwnPath::new(&target.resolved),
            resolved: target.resolved,
        })
    }
}

impl PartialEq for FsCapability {
    /// Whether both grant the same of the same object, in the same words.
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
            && self.original == other.original
            && self.resolved == other.resolved
            && (self.access, self.is_executable) == (other.access, other.is_executable)
            && self.source == other.source
    }
}

impl Eq for FsCapability {}

impl Display for FsCapability {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.resolved.display(), self.access)
    }
}

/// What a path names now.
pub(crate) struct Target {
    pub resolved: PathBuf,
    pub is_dir: bool,
    pub is_socket: bool,
    pub id: FileId,
    #[cfg(target_os = "linux")]
    pub handle: OwnedFd,
}

impl Target {
    /// Takes hold of it.
    ///
    /// # Errors
    ///
    /// [`Error::PathMissing`], [`Error::Resolve`], and [`Error::Unsupported`] on platforms that
    /// have no sandbox.
    #[cfg(unix)]
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        Self::find(path).map_err(|source| Error::resolve(path, source))
    }

    #[cfg(not(unix))]
    pub(crate) fn open(_: &Path) -> Result<Self, Error> {
        Err(Error::Unsupported { feature: crate::error::Feature::Platform })
    }

    #[cfg(target_os = "linux")]
    fn find(path: &Path) -> io::Result<Self> {
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
        let kind = FileType::from_raw_mode(opened.st_mode);
        let id = FileId { device: opened.st_dev, inode: opened.st_ino };
        Ok(Self { resolved, is_dir: kind.is_dir(), is_socket: kind.is_socket(), id, handle })
    }

    #[cfg(all(unix, not(target_os = "linux")))]
    fn find(path: &Path) -> io::Result<Self> {
        let resolved = path.canonicalize()?;
        let status = resolved.metadata()?;
        let kind = status.file_type();
        let is_socket = std::os::unix::fs::FileTypeExt::is_socket(&kind);
        let id = FileId::of(&resolved)?;
        Ok(Self { resolved, is_dir: kind.is_dir(), is_socket, id })
    }
}

/// What a sandboxed process may touch. Empty, it grants no file and leaves the network open.
///
/// Each grant holds one descriptor of the calling process until the set and its clones are
/// dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySet {
    pub(crate) fs: Vec<FsCapability>,
    denied: Vec<DeniedPath>,
    network: Network,
    pub(crate) ports: Ports,
    unix_sockets: Vec<UnixSocket>,
    pub(crate) platform_rules: Vec<String>,
    is_accepting_less: bool,
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
        self.grant(Grant::new(path.as_ref(), false, access))
    }

    /// As [`allow_path`](Self::allow_path), but nothing beneath can be executed. What can be read
    /// can still be interpreted, by a program that is granted with its execution, or be copied into
    /// memory and executed there (`memfd_create`): what this withholds is the file as a program, and
    /// no more.
    ///
    /// # Errors
    ///
    /// Those of [`allow_path`](Self::allow_path).
    pub fn allow_path_no_exec(
        &mut self,
        path: impl AsRef<Path>,
        access: Access,
    ) -> Result<(), Error> {
        let grant = Grant::new(path.as_ref(), false, access);
        self.grant(Grant { is_executable: false, ..grant })
    }

    /// Grants one file, device or socket; anything that is no directory. A granted file can be
    /// changed but not removed or replaced, since that is a right over its directory.
    ///
    /// # Errors
    ///
    /// [`Error::PathMissing`], [`Error::ExpectedFile`] or [`Error::Resolve`].
    pub fn allow_file(&mut self, path: impl AsRef<Path>, access: Access) -> Result<(), Error> {
        self.grant(Grant::new(path.as_ref(), true, access))
    }

    /// As [`allow_file`](Self::allow_file), but the file cannot be executed. It keeps nobody from
    /// running what can be read: see [`allow_path_no_exec`](Self::allow_path_no_exec).
    ///
    /// # Errors
    ///
    /// Those of [`allow_file`](Self::allow_file).
    pub fn allow_file_no_exec(
        &mut self,
        path: impl AsRef<Path>,
        access: Access,
    ) -> Result<(), Error> {
        let grant = Grant::new(path.as_ref(), true, access);
        self.grant(Grant { is_executable: false, ..grant })
    }

    /// Grants a directory or a file, in all the ways there are.
    ///
    /// # Errors
    ///
    /// [`Error::PathMissing`], [`Error::Resolve`], and [`Error::ExpectedFile`] or
    /// [`Error::ExpectedDirectory`] if the path names the other.
    pub fn grant(&mut self, grant: Grant<'_>) -> Result<(), Error> {
        self.fs.push(FsCapability::open(grant)?);
        Ok(())
    }

    /// Keeps every grant from a path and all beneath it, whether it exists yet or not. Links are
    /// followed now, also one that leads to what is not there: what is denied is what they lead to.
    ///
    /// A grant to read that reaches it is split into what else is there when a sandbox is made. What
    /// comes to be there later, the denied path included, is not granted: it cannot be opened. But
    /// where no denied directory was beneath, its names can be listed.
    ///
    /// # Errors
    ///
    /// [`Error::Resolve`] if the path cannot be made out: links in a circle, `..` behind what is not
    /// there, or a directory that may not be searched.
    pub fn deny_path(&mut self, path: impl AsRef<Path>) -> Result<(), Error> {
        self.denied.push(DeniedPath::new(path.as_ref())?);
        Ok(())
    }

    /// Denies the network: no socket can be made but unix stream sockets (and pairs of them) and
    /// the netlink socket that lists the machine's own interfaces.
    ///
    /// Of unix sockets that have a path, those can be connected to that are granted (see
    /// [`allow_unix_socket`](Self::allow_unix_socket)) or the process's own.
    pub fn block_network(&mut self) {
        self.network = Network::Blocked;
    }

    /// Lifts every limit of the network, granted ports and sockets included: for a process whose
    /// network somebody else limits.
    pub fn open_network(&mut self) {
        self.network = Network::Open;
        self.ports = Ports::default();
        self.unix_sockets.clear();
    }

    /// Denies the network but for TCP connections to `proxy`: to this address and this port.
    ///
    /// [`apply`](crate::apply()) can hold a process to the port only, and says so in its
    /// [`Enforcement`](crate::Enforcement). What is said of unix sockets at
    /// [`block_network`](Self::block_network) holds here too.
    pub fn proxy_only(&mut self, proxy: SocketAddr) {
        self.network = Network::ProxyOnly(proxy);
    }

    /// Grants TCP connections to a port of any host.
    ///
    /// Where the network is not limited otherwise, TCP is held to the granted ports from now on,
    /// to connect and to serve.
    ///
    /// # Errors
    ///
    /// [`Error::PortZero`].
    pub fn allow_tcp_connect_port(&mut self, port: u16) -> Result<(), Error> {
        self.ports.connect.push(checked(port)?);
        Ok(())
    }

    /// Grants serving TCP at a port, on all of the machine's addresses.
    ///
    /// Where the network is not limited otherwise, TCP is held to the granted ports from now on,
    /// to connect and to serve.
    ///
    /// # Errors
    ///
    /// [`Error::PortZero`].
    pub fn allow_bind_port(&mut self, port: u16) -> Result<(), Error> {
        self.ports.bind.push(checked(port)?);
        Ok(())
    }

    /// Takes back the ports to connect to on any host, and to serve at, that `other` does not grant.
    /// Only of a blocked network: one that is held to its ports would be open without any.
    pub fn keep_ports_of(&mut self, other: &Self) {
        if self.network != Network::Blocked {
            return;
        }
        self.ports.connect.retain(|port| other.ports.connect.contains(port));
        self.ports.bind.retain(|port| other.ports.bind.contains(port));
    }

    /// Grants a TCP port of this machine's loopback addresses, to connect to and to serve at.
    /// Where the network is not limited, it says nothing.
    ///
    /// # Errors
    ///
    /// [`Error::PortZero`].
    pub fn allow_localhost_port(&mut self, port: u16) -> Result<(), Error> {
        self.ports.localhost.push(checked(port)?);
        Ok(())
    }

    /// Grants connections to a unix socket that has a path, or to all that are beneath a
    /// directory. Where the network is not limited, it says nothing.
    ///
    /// # Errors
    ///
    /// [`Error::PathMissing`], [`Error::ExpectedSocket`] or [`Error::Resolve`].
    pub fn allow_unix_socket(&mut self, path: impl AsRef<Path>) -> Result<(), Error> {
        self.unix_sockets.push(UnixSocket::open(path.as_ref())?);
        Ok(())
    }

    /// Lets a sandbox begin that this machine cannot enforce in full: what is missing is then in
    /// the [`Enforcement`](crate::Enforcement) and not an error.
    pub fn accept_less(&mut self) {
        self.is_accepting_less = true;
    }

    /// The granted paths, in the order in which they were granted.
    pub fn fs_capabilities(&self) -> &[FsCapability] {
        &self.fs
    }

    /// The denied paths, in the order in which they were denied.
    pub fn denied_paths(&self) -> &[DeniedPath] {
        &self.denied
    }

    /// The granted unix sockets, in the order in which they were granted.
    pub fn unix_sockets(&self) -> &[UnixSocket] {
        &self.unix_sockets
    }

    /// The TCP ports that can be connected to on any host.
    pub fn tcp_connect_ports(&self) -> &[u16] {
        &self.ports.connect
    }

    /// The TCP ports that can be served at.
    pub fn bind_ports(&self) -> &[u16] {
        &self.ports.bind
    }

    /// The TCP ports of loopback addresses that can be connected to and served at.
    pub fn localhost_ports(&self) -> &[u16] {
        &self.ports.localhost
    }

    /// The rules in the language of macOS, as they were given.
    pub fn platform_rules(&self) -> &[String] {
        &self.platform_rules
    }

    /// Whether a sandbox may begin that cannot be enforced in full.
    pub fn is_accepting_less(&self) -> bool {
        self.is_accepting_less
    }

    /// What is granted of the network.
    pub fn network(&self) -> Network {
        self.network
    }

    /// Whether the network is limited: blocked, or open to a proxy only.
    pub fn is_network_blocked(&self) -> bool {
        self.network != Network::Open
    }

    /// Whether some of the granted unix sockets may be denied.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_denied_sockets(&self) -> bool {
        !self.unix_sockets.is_empty() && !self.denied.is_empty()
    }

    /// How tightly sockets are to be held.
    pub(crate) fn seal(&self) -> Seal {
        let Ports { connect, bind, localhost } = &self.ports;
        let has_ports = !connect.is_empty() || !bind.is_empty();
        match self.network {
            Network::Open if has_ports => Seal::Ports,
            Network::Open => Seal::Open,
            Network::Blocked if !has_ports && localhost.is_empty() => Seal::Local,
            Network::Blocked | Network::ProxyOnly(_) => Seal::Tcp,
        }
    }
}

/// Port zero stands for one of the kernel's choice, which cannot be granted.
fn checked(port: u16) -> Result<u16, Error> {
    if port == 0 { Err(Error::PortZero) } else { Ok(port) }
}
