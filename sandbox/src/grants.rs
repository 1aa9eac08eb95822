//! Grants in bulk: what every program needs, and many grants of one object made one.

use std::env;
use std::path::{Path, PathBuf};

use crate::capability::{Access, CapabilitySet, Grant};
use crate::error::Error;
use crate::source::Source;

/// Programs and libraries, with what they read about the machine's configuration. Nothing of
/// `/run`, `/sys`, `/home`, and of `/etc` only what libraries read in every program.
const SYSTEM_READ: [&str; 36] = [
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    // Not the private keys beside them.
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/openssl.cnf",
    "/etc/pki/tls/openssl.d",
    "/etc/pki/ca-trust",
    "/etc/terminfo",
    "/etc/localtime",
    "/etc/locale.alias",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/gai.conf",
    "/etc/resolv.conf",
    "/etc/protocols",
    "/etc/services",
    "/etc/os-release",
    "/etc/alpine-release",
    "/etc/debian_version",
    "/etc/lsb-release",
    "/etc/redhat-release",
];

/// The same of macOS, besides: what libraries and frameworks are in there.
const SYSTEM_READ_MACOS: [&str; 8] = [
    "/System/Library",
    "/System/Cryptexes",
    "/Library/Apple",
    "/Library/Frameworks",
    "/Library/Developer/CommandLineTools",
    "/private/var/db/dyld",
    "/private/var/db/timezone",
    "/dev/dtracehelper",
];

/// Devices without memory of who used them.
const DEVICES_READ: [&str; 2] = ["/dev/random", "/dev/urandom"];
const DEVICES: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/full"];

/// Where the C library keeps named semaphores and shared memory.
const SHARED_MEMORY: &str = "/dev/shm";

/// What a process finds out about the machine and, beneath `/proc/self`, about itself.
const PROC: [&str; 8] = [
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/loadavg",
    "/proc/version",
    "/proc/filesystems",
    "/proc/sys/vm/overcommit_memory",
];

impl CapabilitySet {
    /// Grants what programs of the system need to start and to find the network: programs,
    /// libraries, certificates, devices such as `/dev/null`, and a process's own part of `/proc`.
    /// Reading and executing only; no home, no `/run`, no `/sys`, no `/tmp`.
    ///
    /// What this machine does not have is left out.
    ///
    /// # Errors
    ///
    /// [`Error::Resolve`] if one of them exists and cannot be looked at.
    pub fn allow_system(&mut self) -> Result<(), Error> {
        let of_macos = SYSTEM_READ_MACOS.into_iter().filter(|_| cfg!(target_os = "macos"));
        for path in SYSTEM_READ.into_iter().chain(of_macos).chain(DEVICES_READ).chain(PROC) {
            self.grant_existing(Path::new(path), Access::Read)?;
        }
        for path in DEVICES {
            self.grant_existing(Path::new(path), Access::ReadWrite)?;
        }
        Ok(())
    }

    /// Grants the directory for temporary files (`TMPDIR`, or `/tmp`), to read and to write, and
    /// gives its path; with it the one for shared memory, in which programs keep the locks that
    /// several processes have in common. Where they are shared, that includes what others leave
    /// there.
    ///
    /// # Errors
    ///
    /// Those of [`allow_path`](Self::allow_path).
    pub fn allow_temp(&mut self) -> Result<PathBuf, Error> {
        self.grant_existing(Path::new(SHARED_MEMORY), Access::ReadWrite)?;
        let path = env::temp_dir();
        self.grant(Grant {
            source: Source::System,
            ..Grant::new(&path, false, Access::ReadWrite)
        })?;
        Ok(path)
    }

    /// Grants a path that may be missing, in the name of the system.
    ///
    /// # Errors
    ///
    /// [`Error::Resolve`] if it exists and cannot be looked at.
    pub fn grant_existing(&mut self, path: &Path, access: Access) -> Result<(), Error> {
        let is_file = !path.is_dir();
        match self.grant(Grant { source: Source::System, ..Grant::new(path, is_file, access) }) {
            Err(Error::PathMissing { .. }) => Ok(()),
            result => result,
        }
    }

    /// Makes one grant of all that are of the same object, and lists each port once.
    pub fn deduplicate(&mut self) {
        let mut kept = Vec::with_capacity(self.fs.len());
        for grant in self.fs.drain(..) {
            match kept.iter_mut().find(|known: &&mut crate::FsCapability| known.id() == grant.id())
            {
                Some(known) => known.merge(&grant),
                None => kept.push(grant),
            }
        }
        self.fs = kept;
        let ports = &mut self.ports;
        for list in [&mut ports.connect, &mut ports.bind, &mut ports.localhost] {
            let mut seen = Vec::new();
            list.retain(|port| {
                !seen.contains(port) && {
                    seen.push(*port);
                    true
                }
            });
        }
    }
}
