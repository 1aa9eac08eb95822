//! Which of root's capabilities a sandboxed process keeps: those that its grants need. One that is
//! no root has none anyway.
//!
//! Landlock judges files, and most of what root may do beyond them goes around it: loading a
//! kernel module from memory is enough to leave any sandbox.

use rustix::fs::{FileType, fstat};

use crate::capability::{CapabilitySet, FsCapability};
use crate::network::Network;

/// The first port that everybody may serve at.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// The bits of the capabilities that grants need: to reach files of other owners, where files are
/// granted; to give them away and to change their modes, where they can be written; to serve at
/// a low port, where one is granted. None of these reads or writes a file that Landlock refuses.
pub(crate) fn kept(caps: &CapabilitySet) -> u64 {
    let mut kept = 0;
    if !caps.fs_capabilities().is_empty() {
        kept |= DAC_OVERRIDE;
    }
    if writes_files(caps) {
        kept |= CHOWN | FOWNER | FSETID;
    }
    let mut ports = caps.bind_ports().iter().chain(caps.localhost_ports());
    let serves_low = ports.any(|port| *port < FIRST_UNPRIVILEGED);
    if serves_low || (caps.network() == Network::Open && caps.bind_ports().is_empty()) {
        kept |= NET_BIND_SERVICE;
    }
    kept
}

/// Whether files can be written, and not only devices.
pub(crate) fn writes_files(caps: &CapabilitySet) -> bool {
    caps.fs_capabilities().iter().any(is_writable_file)
}

/// What the supervisor of a sandbox keeps besides, to look into the processes of root's that it
/// serves.
pub(crate) fn supervising(caps: &CapabilitySet) -> u64 {
    kept(caps) | SYS_PTRACE
}

/// Whether a grant is of files that can have their owner and mode changed: not of a device.
fn is_writable_file(capability: &FsCapability) -> bool {
    let is_device = || {
        let kind = fstat(capability.handle()).map(|status| FileType::from_raw_mode(status.st_mode));
        matches!(kind, Ok(FileType::CharacterDevice | FileType::BlockDevice))
    };
    capability.access().is_write() && !is_device()
}

// By their numbers in `linux/capability.h`.
const CHOWN: u64 = 1;
const DAC_OVERRIDE: u64 = 1 << 1;
const FOWNER: u64 = 1 << 3;
const FSETID: u64 = 1 << 4;
pub(crate) const KILL: u64 = 1 << 5;
const NET_BIND_SERVICE: u64 = 1 << 10;
pub(crate) const SYS_PTRACE: u64 = 1 << 19;
