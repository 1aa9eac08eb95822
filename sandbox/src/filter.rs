//! The system call filter: what Landlock cannot say of the network, and the few other calls by
//! which a sandboxed process could act on its surroundings. A filter sees the registers of a call
//! and no memory, so each rule here is one that needs no more.

mod closed;
mod layout;
mod rule;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use seccompiler::{BpfProgram, TargetArch};

use crate::capability::CapabilitySet;
use crate::error::{Error, Feature};
use crate::network::Seal;
use crate::privilege::writes_files;
use crate::supervisor::observed_calls;
pub(crate) use closed::FCHMODAT2;
use layout::{NUMBER, Verdict, give, jump_if, lay_out, load};
use rule::{Condition, Rule, differs, has_any, is, is_not};

/// Why calls are refused, by their numbers: always, if there is no rule.
type Rules = BTreeMap<i64, Vec<Rule>>;

/// Bits of a socket type that are the type itself and not a flag.
const TYPE: libc::c_int = 0xF;
/// `linux/tcp.h`; `libc` has it for some targets only.
const TCP_FASTOPEN_CONNECT: libc::c_int = 30;
/// `x32` calls are numbered from here on. They are answered "no such call": rules know calls by
/// their ordinary numbers only.
const X32_BIT: u32 = 0x4000_0000;

/// Compiles the filter for a sandbox with this network.
///
/// # Errors
///
/// [`Error::Unsupported`] on a processor that `seccompiler` does not know.
pub(crate) fn filter(caps: &CapabilitySet) -> Result<BpfProgram, Error> {
    /// One for each seal, with and without files to be written.
    static COMPILED: [OnceLock<BpfProgram>; 8] = [const { OnceLock::new() }; 8];
    let (seal, writes_files) = (caps.seal(), writes_files(caps));
    let place = COMPILED.get(seal as usize * 2 + usize::from(writes_files));
    if let Some(compiled) = place.and_then(OnceLock::get) {
        return Ok(compiled.clone());
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| Error::Unsupported { feature: Feature::FilterArchitecture })?;
    let compiled = compile(seal, writes_files, arch);
    if let Some(place) = place {
        // Another thread has made the same meanwhile.
        let _ = place.set(compiled.clone());
    }
    Ok(compiled)
}

/// Compiles the filter that lets calls wait for the supervisor. It is installed beside the other,
/// whose refusals win over it, and which has left only the ordinary interface of the processor.
pub(crate) fn notifying(caps: &CapabilitySet) -> BpfProgram {
    let mut calls = vec![libc::SYS_listen];
    if caps.is_network_blocked() {
        calls.push(libc::SYS_connect);
    }
    if caps.is_network_blocked() && !caps.localhost_ports().is_empty() {
        calls.push(libc::SYS_bind);
    }
    if caps.is_network_blocked() && writes_files(caps) {
        calls.extend(closed::METADATA.iter().copied());
    }
    waiting(calls)
}

/// Compiles the filter that lets all calls wait to be looked at of which something can be learned.
pub(crate) fn observing() -> BpfProgram {
    waiting(observed_calls())
}

/// Lets these calls wait, and all others pass.
fn waiting(calls: impl IntoIterator<Item = i64>) -> BpfProgram {
    let mut program = vec![load(NUMBER)];
    for call in calls {
        program.push(jump_if(libc::BPF_JEQ, small(call), 0, 1));
        program.push(give(libc::SECCOMP_RET_USER_NOTIF));
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program
}

fn compile(seal: Seal, writes_files: bool, arch: TargetArch) -> BpfProgram {
    let judged = rules(seal, writes_files).into_iter().map(|(call, rules)| match *rules {
        [] => (small(call), Verdict::Refuse(libc::EPERM)),
        _ => (small(call), Verdict::Judge(rules)),
    });
    // Those that it could not judge.
    let unknown = closed::UNKNOWN.map(|call| (small(call), Verdict::Refuse(libc::ENOSYS)));
    lay_out(&judged.chain(unknown).collect::<Vec<_>>(), arch)
}

fn rules(seal: Seal, writes_files: bool) -> Rules {
    let mut rules = Rules::new();
    closed::add(&mut rules);
    if !writes_files {
        closed::add_metadata(&mut rules);
    }
    if seal != Seal::Open {
        sockets(&mut rules, seal);
        fast_open(&mut rules);
    }
    rules
}

/// Which sockets can be made. With the network blocked none of the internet families can: besides
/// being of no use, such a socket could `listen` without `bind`, which Landlock does not judge.
fn sockets(rules: &mut Rules, seal: Seal) {
    let mut allowed = vec![libc::AF_UNIX, libc::AF_NETLINK];
    if seal != Seal::Local {
        allowed.extend([libc::AF_INET, libc::AF_INET6]);
    }
    let mut denied = vec![none_of(&allowed)];
    for family in [libc::AF_INET, libc::AF_INET6] {
        denied.extend(other_internet_sockets(seal, is(0, family)));
    }
    if seal != Seal::Ports {
        denied.push(vec![is(0, libc::AF_NETLINK), is_not(2, libc::NETLINK_ROUTE)]);
        let is_other = differs(1, TYPE, libc::SOCK_STREAM);
        // Netlink sockets are raw or datagram ones by nature; all others must be streams.
        denied.push(vec![is_not(0, libc::AF_NETLINK), is_other]);
        // A datagram pair can send to any path.
        rules.insert(libc::SYS_socketpair, vec![none_of(&[libc::AF_UNIX]), vec![is_other]]);
    }
    rules.insert(libc::SYS_socket, denied);
}

/// What an internet family has besides plain TCP. Where only TCP is held to ports, datagrams of
/// UDP pass; what carries streams past those ports (MPTCP, SCTP, raw packets) does not.
fn other_internet_sockets(seal: Seal, is_family: Condition) -> Vec<Rule> {
    let mut other_protocol = vec![is_family, is_not(2, 0), is_not(2, libc::IPPROTO_TCP)];
    if seal != Seal::Ports {
        return vec![other_protocol];
    }
    other_protocol.push(is_not(2, libc::IPPROTO_UDP));
    let [is_no_stream, is_no_datagram] =
        [libc::SOCK_STREAM, libc::SOCK_DGRAM].map(|kind| differs(1, TYPE, kind));
    vec![other_protocol, vec![is_family, is_no_stream, is_no_datagram]]
}

/// TCP fast open sends its first bytes without `connect`, so Landlock never sees them.
fn fast_open(rules: &mut Rules) {
    let calls = [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)];
    for (call, flags) in calls {
        rules.insert(call, vec![vec![has_any(flags, libc::MSG_FASTOPEN)]]);
    }
    let option = vec![is(1, libc::IPPROTO_TCP), is(2, TCP_FASTOPEN_CONNECT)];
    rules.insert(libc::SYS_setsockopt, vec![option]);
}

fn none_of(families: &[libc::c_int]) -> Rule {
    families.iter().map(|family| is_not(0, *family)).collect()
}

/// The number of a call as filters see it; all are small.
fn small(call: i64) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
