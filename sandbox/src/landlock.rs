//! Turns a `CapabilitySet` into a Landlock ruleset. The only file that names the `landlock` crate.
//!
//! The kernel's ABI version is asked for once per ruleset and every right is taken from what that
//! version knows; the crate's own best-effort mode, which drops rights in silence, is not used.

use std::os::fd::{BorrowedFd, OwnedFd};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort,
    PathBeneath, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError,
    Scope, make_bitflags,
};
use rustix::fs::{FileType, fstat};

use crate::around::{Piece, pieces};
use crate::capability::{Access, CapabilitySet, FsCapability};
use crate::deny::Exceptions;
use crate::error::{Error, Feature};
use crate::network::{Judge, Network, Seal};
use crate::own_proc::OwnPath;
use crate::privilege::writes_files;
use crate::sys;

/// The first ABI that judges TCP ports.
const NETWORK: u32 = 4;
/// The first ABI that keeps signals within a domain.
const SCOPES: u32 = 6;
/// The first ABI that can restrict all threads of a process at once.
const THREADS: u32 = 8;
/// The first ABI that judges connections to unix sockets that have a path, but for those at which
/// the sandboxed process itself listens.
const UNIX_SOCKETS: u32 = 9;
/// The newest ABI this file knows the rights of.
const NEWEST: u32 = 9;

/// In words for people, of [`UNIX_SOCKETS`].
pub(crate) const UNIX_BY_PATH: &str = "unix sockets by path";

/// What each ABI from the second on added, in words for people.
const ADDED: [(u32, &str); 6] = [
    (2, "renames between directories"),
    (3, "truncation"),
    (NETWORK, "TCP ports"),
    (5, "device control"),
    (SCOPES, "signals and abstract unix sockets"),
    (UNIX_SOCKETS, UNIX_BY_PATH),
];

/// The Landlock of the running kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Landlock {
    abi: u32,
}

impl Landlock {
    /// Asks the kernel.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if it has no Landlock or has it switched off.
    pub(crate) fn detect() -> Result<Self, Error> {
        match sys::landlock_abi() {
            Ok(abi) => Ok(Self { abi: abi.min(NEWEST) }),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                Err(Error::Unsupported { feature: Feature::LandlockDisabled })
            }
            Err(_) => Err(Error::Unsupported { feature: Feature::Landlock }),
        }
    }

    /// The ABI version in use.
    pub(crate) fn abi(self) -> u32 {
        self.abi
    }

    /// Whether all threads can be restricted at once.
    pub(crate) fn restricts_threads(self) -> bool {
        self.abi >= THREADS
    }

    /// Whether signals can be kept within a domain.
    pub(crate) fn scopes_signals(self) -> bool {
        self.abi >= SCOPES
    }

    /// Who is to judge the addresses of connections, if there is nothing around.
    pub(crate) fn judge(self, caps: &CapabilitySet) -> Judge {
        match caps.seal() {
            Seal::Open => Judge::Landlock,
            Seal::Local if self.judges_locally(caps) => Judge::Landlock,
            Seal::Local | Seal::Tcp | Seal::Ports => Judge::Supervisor,
        }
    }

    /// Whether nothing is left for a supervisor to judge where there is no network: changes of
    /// owners and modes, which matter where files are written, and sockets that are denied within
    /// a granted directory.
    fn judges_locally(self, caps: &CapabilitySet) -> bool {
        self.abi >= UNIX_SOCKETS && !writes_files(caps) && !caps.has_denied_sockets()
    }

    /// What newer kernels judge and this one lets pass.
    pub(crate) fn missing(self) -> impl Iterator<Item = &'static str> {
        ADDED.into_iter().filter(move |(abi, _)| *abi > self.abi).map(|(_, what)| what)
    }

    /// What this kernel judges beyond the first version's rights.
    pub(crate) fn features(self) -> impl Iterator<Item = &'static str> {
        ADDED.into_iter().filter(move |(abi, _)| *abi <= self.abi).map(|(_, what)| what)
    }

    /// Builds the ruleset that grants `caps` and nothing else to the calling process.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if the network is to be limited and the kernel cannot,
    /// [`Error::BuildRuleset`] or [`Error::AddRule`].
    pub(crate) fn ruleset(
        self,
        caps: &CapabilitySet,
        exceptions: &Exceptions,
        judge: Judge,
    ) -> Result<RulesetCreated, Error> {
        self.build(caps, exceptions, caps.fs_capabilities(), judge)
    }

    /// The same for a child: rules of what is its own under `/proc` are left for it to add.
    ///
    /// # Errors
    ///
    /// Those of [`ruleset`](Self::ruleset).
    pub(crate) fn child_ruleset(
        self,
        caps: &CapabilitySet,
        exceptions: &Exceptions,
        judge: Judge,
    ) -> Result<ChildRuleset, Error> {
        let grants = caps.fs_capabilities();
        let others = grants.iter().filter(|grant| grant.own().is_none());
        let ruleset = self.build(caps, exceptions, others, judge)?;
        let mut own = Vec::new();
        for grant in grants {
            if let Some(path) = grant.own() {
                exceptions.inside(grant)?;
                own.push((path.clone(), self.rights(grant)?.bits()));
            }
        }
        Ok(ChildRuleset { ruleset: ruleset.into(), own })
    }

    fn build<'a>(
        self,
        caps: &CapabilitySet,
        exceptions: &Exceptions,
        grants: impl IntoIterator<Item = &'a FsCapability>,
        judge: Judge,
    ) -> Result<RulesetCreated, Error> {
        if caps.seal() != Seal::Open && self.abi < NETWORK {
            let feature = Feature::LandlockNetwork { abi: self.abi };
            return Err(Error::Unsupported { feature });
        }
        let mut ruleset = self.create(caps).map_err(build_error)?;
        for grant in grants {
            let failed = |error: RulesetError| Error::AddRule {
                path: grant.resolved().to_owned(),
                source: Box::new(error),
            };
            let rights = self.rights(grant)?;
            let Some(pieces) = pieces(grant, exceptions)? else {
                let rule = PathBeneath::new(grant.handle(), rights);
                ruleset = ruleset.add_rule(rule).map_err(failed)?;
                continue;
            };
            for piece in pieces {
                let rule = PathBeneath::new(&piece.object, self.rights_to(&piece, rights));
                ruleset = ruleset.add_rule(rule).map_err(failed)?;
            }
        }
        for (port, right) in ports(caps, judge) {
            ruleset = ruleset.add_rule(NetPort::new(port, right)).map_err(build_error)?;
        }
        if self.handled(caps).contains(AccessFs::ResolveUnix) {
            for socket in caps.unix_sockets() {
                let rule = PathBeneath::new(socket.handle(), AccessFs::ResolveUnix);
                ruleset = ruleset.add_rule(rule).map_err(build_error)?;
            }
        }
        Ok(ruleset)
    }

    fn create(self, caps: &CapabilitySet) -> Result<RulesetCreated, RulesetError> {
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(self.handled(caps))?;
        let scopes = Scope::from_all(self.version());
        if !scopes.is_empty() {
            ruleset = ruleset.scope(scopes)?;
        }
        if caps.seal() != Seal::Open {
            ruleset = ruleset.handle_access(AccessNet::from_all(self.version()))?;
        }
        ruleset.create()
    }

    /// What is refused where it is not granted. Where the network is open, unix sockets are.
    fn handled(self, caps: &CapabilitySet) -> BitFlags<AccessFs> {
        let all = AccessFs::from_all(self.version());
        if caps.is_network_blocked() { all } else { all & !AccessFs::ResolveUnix }
    }

    fn version(self) -> ABI {
        // `detect` caps the number at `NEWEST`, so it always fits.
        ABI::from(i32::try_from(self.abi).unwrap_or(i32::MAX))
    }

    /// Those of a grant's rights that go to a piece of it.
    fn rights_to(self, piece: &Piece, rights: BitFlags<AccessFs>) -> BitFlags<AccessFs> {
        if piece.is_list_only {
            rights & AccessFs::ReadDir
        } else if piece.is_directory {
            rights
        } else {
            rights & AccessFs::from_file(self.version())
        }
    }

    /// The rights of one grant, as far as the kernel knows them and the object can have them.
    fn rights(self, capability: &FsCapability) -> Result<BitFlags<AccessFs>, Error> {
        let mut rights = BitFlags::EMPTY;
        if capability.access().is_read() {
            rights |= make_bitflags!(AccessFs::{ReadFile | ReadDir});
        }
        if capability.is_executable() {
            rights |= AccessFs::Execute;
        }
        if capability.access().is_write() {
            // Device nodes (`MakeChar`, `MakeBlock`) are left out: whoever can make one has the
            // device, whatever paths were granted.
            rights |= make_bitflags!(AccessFs::{
                WriteFile | Truncate | Refer | RemoveDir | RemoveFile
                | MakeDir | MakeReg | MakeSock | MakeFifo | MakeSym
            });
        }
        if capability.is_file() {
            if capability.access() != Access::Read && is_device(capability)? {
                rights |= AccessFs::IoctlDev;
            }
            rights &= AccessFs::from_file(self.version());
        }
        Ok(rights & AccessFs::from_all(self.version()))
    }
}

/// A ruleset for a child, and what the child adds to it.
#[derive(Debug)]
pub(crate) struct ChildRuleset {
    /// The ruleset; none for a kernel without Landlock, which `detect` has refused.
    pub ruleset: Option<OwnedFd>,
    /// The child's own paths with the bits of the rights to them.
    pub own: Vec<(OwnPath, u64)>,
}

/// The granted ports with the rights to them. A supervisor makes the calls that it lets pass
/// itself, so that Landlock can refuse them all to the sandboxed process.
fn ports(caps: &CapabilitySet, judge: Judge) -> Vec<(u16, AccessNet)> {
    let connect = |port: &u16| (*port, AccessNet::ConnectTcp);
    let bind = |port: &u16| (*port, AccessNet::BindTcp);
    let mut ports: Vec<_> = caps.bind_ports().iter().map(bind).collect();
    if judge == Judge::Landlock || caps.seal() == Seal::Ports {
        ports.extend(caps.tcp_connect_ports().iter().map(connect));
    }
    if judge == Judge::Landlock && caps.is_network_blocked() {
        if let Network::ProxyOnly(proxy) = caps.network() {
            ports.push(connect(&proxy.port()));
        }
        ports.extend(caps.localhost_ports().iter().flat_map(|port| [connect(port), bind(port)]));
    }
    ports
}

fn is_device(capability: &FsCapability) -> Result<bool, Error> {
    let handle: BorrowedFd<'_> = capability.handle();
    let status = fstat(handle).map_err(|error| Error::Resolve {
        path: capability.resolved().to_owned(),
        source: error.into(),
    })?;
    let kind = FileType::from_raw_mode(status.st_mode);
    Ok(matches!(kind, FileType::CharacterDevice | FileType::BlockDevice))
}

fn build_error(error: RulesetError) -> Error {
    Error::BuildRuleset { source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_sockets_are_judged_where_the_network_is_limited() {
        let newest = Landlock { abi: NEWEST };
        let is_judged = |caps: &CapabilitySet| newest.handled(caps).contains(AccessFs::ResolveUnix);
        let mut caps = CapabilitySet::new();
        assert!(!is_judged(&caps));
        caps.allow_tcp_connect_port(443).unwrap();
        assert!(!is_judged(&caps));
        caps.block_network();
        assert!(is_judged(&caps));
    }

    #[test]
    fn denied_sockets_that_nobody_judges_are_missing() {
        let directory = tempfile::tempdir().unwrap();
        let mut caps = CapabilitySet::new();
        caps.block_network();
        caps.allow_unix_socket(directory.path()).unwrap();
        let missing = |abi, caps: &CapabilitySet, judge| {
            crate::apply::report(Landlock { abi }, caps, judge).missing
        };
        assert_eq!(missing(NEWEST, &caps, Judge::Landlock), [""; 0]);
        caps.deny_path(directory.path().join("socket")).unwrap();
        assert_eq!(missing(NEWEST, &caps, Judge::Landlock), ["denied unix sockets"]);
        assert_eq!(missing(NEWEST, &caps, Judge::Supervisor), [""; 0]);
        assert_eq!(missing(UNIX_SOCKETS - 1, &caps, Judge::Landlock), [UNIX_BY_PATH]);
        assert_eq!(missing(UNIX_SOCKETS - 1, &CapabilitySet::new(), Judge::Landlock), [""; 0]);
    }
}
