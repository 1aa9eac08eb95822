//! "Would this be allowed?", answered without trying it.
//!
//! A path is followed as the kernel would follow it now, and then judged as Landlock does: by the
//! objects on the way from it to the root, not by its name. So a link, `..`, or a directory that
//! was moved since the grant change the answer here exactly where they change it there.

mod place;

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::capability::{Access, CapabilitySet, FileId, FsCapability};
use crate::denied::DeniedPath;
use crate::deny::{Exception, Exceptions};
use crate::network::UnixSocket;
use crate::quoted::quoted;
use crate::rules::{By, Rules};
use place::Place;

/// What a set says of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathAnswer {
    /// It is allowed, by one grant, or by one to read and one to write.
    Allowed(Vec<FsCapability>),
    /// Something is granted there, but not this.
    Insufficient {
        /// What is granted.
        granted: Access,
    },
    /// A denied path keeps it from every grant, or one that is beneath it from the grant above.
    Denied(DeniedPath),
    /// Nothing is granted there.
    NotGranted,
    /// The kernel follows the path to nothing: there is no such file, and none can be made there.
    Unreachable,
    /// It would be granted, but a sandbox of this set is refused, for this reason.
    Refused(String),
}

/// What a set says of a connection, a port to serve at, or a unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkAnswer {
    /// The network is not limited.
    Open,
    /// It is the proxy.
    Proxy,
    /// The port is granted.
    PortGranted,
    /// The socket is granted.
    SocketGranted,
    /// The network is blocked, or open to a proxy only, and nothing grants this.
    Blocked,
    /// Only granted ports can be used, and this is none.
    PortNotGranted,
    /// The socket is not granted.
    SocketNotGranted,
    /// A sandbox of this set is [refused](Query::refusal).
    Refused,
}

impl NetworkAnswer {
    /// Whether it is allowed.
    pub fn is_allowed(self) -> bool {
        matches!(self, Self::Open | Self::Proxy | Self::PortGranted | Self::SocketGranted)
    }

    /// Whether a grant would allow it.
    fn is_missing(self) -> bool {
        matches!(self, Self::Blocked | Self::PortNotGranted | Self::SocketNotGranted)
    }
}

/// The smallest grant that would allow something. Its text is the call that makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suggestion {
    /// [`CapabilitySet::allow_file`].
    File(PathBuf, Access),
    /// [`CapabilitySet::allow_path`].
    Directory(PathBuf, Access),
    /// [`CapabilitySet::allow_unix_socket`].
    UnixSocket(PathBuf),
    /// [`CapabilitySet::allow_tcp_connect_port`].
    ConnectPort(u16),
    /// [`CapabilitySet::allow_localhost_port`].
    LocalhostPort(u16),
    /// [`CapabilitySet::allow_bind_port`].
    BindPort(u16),
}

impl Display for Suggestion {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mode = |access: &Access| match access {
            Access::Read => "AccessMode.READ",
            Access::Write => "AccessMode.WRITE",
            Access::ReadWrite => "AccessMode.READ_WRITE",
        };
        match self {
            Self::File(path, access) => {
                write!(f, "allow_file({}, {})", quoted(path), mode(access))
            }
            Self::Directory(path, access) => {
                write!(f, "allow_path({}, {})", quoted(path), mode(access))
            }
            Self::UnixSocket(path) => write!(f, "allow_unix_socket({})", quoted(path)),
            Self::ConnectPort(port) => write!(f, "allow_tcp_connect_port({port})"),
            Self::LocalhostPort(port) => write!(f, "allow_localhost_port({port})"),
            Self::BindPort(port) => write!(f, "allow_bind_port({port})"),
        }
    }
}

/// Answers questions about a set as it was when this was made.
#[derive(Clone, Debug)]
pub struct Query {
    caps: CapabilitySet,
    known: OnceLock<Known>,
    refusal: OnceLock<Option<String>>,
}

/// What is found out about a set when it is first asked about a path.
#[derive(Clone, Debug)]
struct Known {
    exceptions: Exceptions,
    /// Why nobody can say where else the denied paths are mounted, if so.
    fault: Option<String>,
}

impl Query {
    /// Keeps a set to be asked about.
    pub fn new(caps: CapabilitySet) -> Self {
        Self { caps, known: OnceLock::new(), refusal: OnceLock::new() }
    }

    /// The set.
    pub fn caps(&self) -> &CapabilitySet {
        &self.caps
    }

    fn rules(&self) -> Rules<'_> {
        Rules::new(&self.caps)
    }

    /// Whether a path may be used this way. One that does not exist is judged as if it were made.
    pub fn path(&self, path: &Path, access: Access) -> PathAnswer {
        let Ok(place) = Place::of(path) else { return PathAnswer::Unreachable };
        // Whether something is granted there or not: no grant would help.
        if let Some(denied) = self.denied(&place) {
            return PathAnswer::Denied(denied.clone());
        }
        let grants = self.grants_on(&place);
        let enough = |grant: &&&FsCapability| grant.access().includes(access);
        let by = match grants.iter().find(enough) {
            Some(grant) => vec![(*grant).clone()],
            None => match [Access::Read, Access::Write]
                .map(|part| grants.iter().find(|grant| grant.access().includes(part)).copied())
            {
                [Some(read), Some(write)] => vec![read.clone(), write.clone()],
                [Some(part), None] | [None, Some(part)] => {
                    return PathAnswer::Insufficient { granted: part.access() };
                }
                [None, None] => return PathAnswer::NotGranted,
            },
        };
        if let Some(reason) = self.refusal() {
            return PathAnswer::Refused(reason.to_owned());
        }
        // Of two it is the one to read: around what is denied nothing is granted to write.
        match by.first().and_then(|grant| self.kept_by(&place, grant)) {
            Some(denied) => PathAnswer::Denied(denied.clone()),
            None => PathAnswer::Allowed(by),
        }
    }

    /// Why there can be no sandbox of this set, if that is so: a denied path that cannot be kept
    /// out of a grant. Found out as it is when a sandbox is made, by the first question that needs
    /// it: directories may have to be read for it.
    pub fn refusal(&self) -> Option<&str> {
        let found = self.refusal.get_or_init(|| {
            let Known { exceptions, fault } = self.known();
            let check = |grant| exceptions.check(grant).err().map(|error| error.to_string());
            fault.clone().or_else(|| self.caps.fs_capabilities().iter().find_map(check))
        });
        found.as_deref()
    }

    fn known(&self) -> &Known {
        self.known.get_or_init(|| match Exceptions::of(&self.caps) {
            Ok(exceptions) => Known { exceptions, fault: None },
            // No sandbox begins, and what is denied is denied all the same.
            Err(error) => Known {
                exceptions: Exceptions::by_own_name(&self.caps),
                fault: Some(error.to_string()),
            },
        })
    }

    /// The denied path that a place is at, or beneath.
    fn denied(&self, place: &Place) -> Option<&DeniedPath> {
        let mut each = self.known().exceptions.each().iter();
        let found = each.find(|exception| exception.names().any(|name| place.is_beneath(name)));
        found.map(Exception::path)
    }

    /// The denied path that keeps a place from a grant that covers both.
    fn kept_by(&self, place: &Place, grant: &FsCapability) -> Option<&DeniedPath> {
        let exceptions = &self.known().exceptions;
        let beside = place.beside(exceptions);
        let mut each = exceptions.each().iter();
        let found = each.find(|exception| {
            exception.names().any(|name| place.is_kept_by(name, grant.id()))
                || beside.is_some_and(|id| exception.leads_to(id))
        });
        found.map(Exception::path)
    }

    /// The smallest grant that would allow what [`path`](Self::path) does not: none if it is
    /// allowed, denied by a rule of its own, or leads nowhere.
    pub fn suggest_path(&self, path: &Path, access: Access) -> Option<Suggestion> {
        if !matches!(
            self.path(path, access),
            PathAnswer::NotGranted | PathAnswer::Insufficient { .. }
        ) {
            return None;
        }
        let place = Place::of(path).ok()?;
        let is_file = !place.is_missing && !place.existing.is_dir();
        let path = place.existing;
        Some(if is_file {
            Suggestion::File(path, access)
        } else {
            Suggestion::Directory(path, access)
        })
    }

    /// The grant without which a program cannot be executed: of the program, or of what the kernel
    /// opens for it, the interpreter of a script and the loader. None if the set grants them all, or
    /// denies the first that is missing.
    #[cfg(unix)]
    pub fn suggest_execution(&self, program: &Path) -> Option<Suggestion> {
        let program = program.canonicalize().ok()?;
        let missing = crate::interpreter::programs(&program)
            .into_iter()
            .find(|program| !self.is_executable(program))?;
        let is_denied = matches!(self.path(&missing, Access::Read), PathAnswer::Denied(_));
        (!is_denied).then_some(Suggestion::File(missing, Access::Read))
    }

    #[cfg(unix)]
    fn is_executable(&self, program: &Path) -> bool {
        let is_granted = |place: Place| {
            let mut grants = self.grants_on(&place).into_iter();
            grants.any(|grant| grant.access().is_read() && grant.is_executable())
        };
        matches!(self.path(program, Access::Read), PathAnswer::Allowed(_))
            && Place::of(program).is_ok_and(is_granted)
    }

    /// Whether a directory grant covers the path, whatever it is a grant of.
    pub fn is_covered(&self, path: &Path) -> bool {
        let Ok(place) = Place::of(path) else { return false };
        self.grants_on(&place).iter().any(|grant| !grant.is_file()) && self.denied(&place).is_none()
    }

    /// The grants that hold at a place, the nearest first.
    fn grants_on(&self, place: &Place) -> Vec<&FsCapability> {
        let grants = self.caps.fs_capabilities();
        let on =
            |id: &FileId| grants.iter().filter(move |grant| grant.id() == *id).collect::<Vec<_>>();
        place.objects.iter().flat_map(on).collect()
    }

    /// Whether a TCP connection to this address may be made.
    pub fn connect(&self, address: SocketAddr) -> NetworkAnswer {
        self.answer(self.rules().connects(address))
    }

    /// Whether a TCP connection to this port may be made, to a host whose address is not known.
    pub fn connect_port(&self, port: u16) -> NetworkAnswer {
        self.answer(self.rules().connects_anywhere(port))
    }

    /// Whether a TCP port may be served at.
    pub fn bind(&self, address: Option<IpAddr>, port: u16) -> NetworkAnswer {
        self.answer(match address {
            Some(ip) => self.rules().binds(SocketAddr::new(ip, port)),
            None => self.rules().binds_anywhere(port),
        })
    }

    fn answer(&self, by: Option<By>) -> NetworkAnswer {
        self.unless_refused(match by {
            Some(By::Open) => NetworkAnswer::Open,
            Some(By::Proxy) => NetworkAnswer::Proxy,
            Some(By::Port) => NetworkAnswer::PortGranted,
            None if self.caps.is_network_blocked() => NetworkAnswer::Blocked,
            None => NetworkAnswer::PortNotGranted,
        })
    }

    fn unless_refused(&self, answer: NetworkAnswer) -> NetworkAnswer {
        let is_refused = answer.is_allowed() && self.refusal().is_some();
        if is_refused { NetworkAnswer::Refused } else { answer }
    }

    /// The grant that would allow a connection.
    pub fn suggest_connect(&self, address: Option<IpAddr>, port: u16) -> Option<Suggestion> {
        let answer = address
            .map_or_else(|| self.connect_port(port), |ip| self.connect(SocketAddr::new(ip, port)));
        let is_enough = self.is_enough_locally(address);
        let grant = if is_enough { Suggestion::LocalhostPort } else { Suggestion::ConnectPort };
        (answer.is_missing() && port != 0).then(|| grant(port))
    }

    /// Whether a grant of a loopback port would do. Where only ports are limited, one says nothing.
    fn is_enough_locally(&self, address: Option<IpAddr>) -> bool {
        self.caps.is_network_blocked() && address.is_some_and(|ip| ip.to_canonical().is_loopback())
    }

    /// The grant that would allow serving at a port.
    pub fn suggest_bind(&self, address: Option<IpAddr>, port: u16) -> Option<Suggestion> {
        let is_enough = self.is_enough_locally(address);
        let grant = if is_enough { Suggestion::LocalhostPort } else { Suggestion::BindPort };
        (self.bind(address, port).is_missing() && port != 0).then(|| grant(port))
    }

    /// Whether a unix socket with a path may be connected to.
    pub fn unix_socket(&self, path: &Path) -> NetworkAnswer {
        if !self.caps.is_network_blocked() {
            return self.unless_refused(NetworkAnswer::Open);
        }
        let granted = |place: Place| {
            let holds = |socket: &UnixSocket| place.objects.contains(&socket.id());
            self.caps.unix_sockets().iter().any(holds) && self.denied(&place).is_none()
        };
        if Place::of(path).is_ok_and(granted) {
            self.unless_refused(NetworkAnswer::SocketGranted)
        } else {
            NetworkAnswer::SocketNotGranted
        }
    }

    /// The grant that would allow connecting to a unix socket: none if it is allowed, denied, or
    /// no socket.
    pub fn suggest_unix_socket(&self, path: &Path) -> Option<Suggestion> {
        if !self.unix_socket(path).is_missing() {
            return None;
        }
        let place = Place::of(path).ok()?;
        let socket = UnixSocket::open(&place.existing);
        let is_socket = !place.is_missing && socket.is_ok_and(|socket| !socket.is_directory());
        (is_socket && self.denied(&place).is_none())
            .then_some(Suggestion::UnixSocket(place.existing))
    }
}

impl CapabilitySet {
    /// Whether a directory that is granted covers the path, to whatever end. The path is followed
    /// as the kernel would.
    pub fn path_covered(&self, path: impl AsRef<Path>) -> bool {
        Query::new(self.clone()).is_covered(path.as_ref())
    }
}

impl Access {
    /// Whether all of `other` is part of this.
    pub const fn includes(self, other: Self) -> bool {
        (self.is_read() || !other.is_read()) && (self.is_write() || !other.is_write())
    }
}
