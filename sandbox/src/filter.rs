//! The system call filter: what Landlock cannot say of the network, and the few other calls by
//! which a sandboxed process could act on its surroundings. A filter sees the registers of a call
//! and no memory, so each rule here is one that needs no more.

mod closed;
mod layout;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use seccompiler::{
    BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule, TargetArch,
};

use crate::capability::CapabilitySet;
use crate::error::{Error, Feature};
use crate::network::Seal;
use crate::privilege::writes_files;
use layout::{NUMBER, Verdict, give, jump_if, lay_out, load};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Result<T> = std::result::Result<T, seccompiler::Error>;

/// Bits of a socket type that are the type itself and not a flag.
const SOCK_STREAM: u64 = libc::SOCK_STREAM as u64;
const SOCK_DGRAM: u64 = libc::SOCK_DGRAM as u64;
/// `linux/tcp.h`; `libc` has it for some targets only.
const TCP_FASTOPEN_CONNECT: u64 = 30;
/// `x32` calls are numbered from here on. They are answered "no such call": rules know calls by
/// their ordinary numbers only.
const X32_BIT: u32 = 0x4000_0000;

/// Compiles the filter for a sandbox with this network.
///
/// # Errors
///
/// [`Error::Unsupported`] on a processor that `seccompiler` does not know, else
/// [`Error::BuildFilter`].
pub(crate) fn filter(caps: &CapabilitySet) -> std::result::Result<BpfProgram, Error> {
    /// One for each seal, with and without files to be written.
    static COMPILED: [OnceLock<BpfProgram>; 8] = [const { OnceLock::new() }; 8];
    let (seal, writes_files) = (caps.seal(), writes_files(caps));
    let place = COMPILED.get(seal as usize * 2 + usize::from(writes_files));
    if let Some(compiled) = place.and_then(OnceLock::get) {
        return Ok(compiled.clone());
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| Error::Unsupported { feature: Feature::FilterArchitecture })?;
    let compiled = compile(seal, writes_files, arch)
        .map_err(|error| Error::BuildFilter { source: Box::new(error) })?;
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
    let mut program = vec![load(NUMBER)];
    for call in calls {
        program.push(jump_if(libc::BPF_JEQ, small(call), 0, 1));
        program.push(give(libc::SECCOMP_RET_USER_NOTIF));
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program
}

fn compile(seal: Seal, writes_files: bool, arch: TargetArch) -> Result<BpfProgram> {
    let mut rules = Rules::new();
    closed::add(&mut rules)?;
    if !writes_files {
        closed::add_metadata(&mut rules);
    }
    if seal != Seal::Open {
        sockets(&mut rules, seal)?;
        fast_open(&mut rules)?;
    }
    let judged = rules.into_iter().map(|(call, rules)| match rules.as_slice() {
        [] => (small(call), Verdict::Refuse(libc::EPERM)),
        _ => (small(call), Verdict::Judge(rules)),
    });
    // Those that it could not judge.
    let unknown = closed::UNKNOWN.map(|call| (small(call), Verdict::Refuse(libc::ENOSYS)));
    lay_out(&judged.chain(unknown).collect::<Vec<_>>(), arch)
}

/// Which sockets can be made. With the network blocked none of the internet families can: besides
/// being of no use, such a socket could `listen` without `bind`, which Landlock does not judge.
fn sockets(rules: &mut Rules, seal: Seal) -> Result<()> {
    let mut allowed = vec![libc::AF_UNIX, libc::AF_NETLINK];
    if seal != Seal::Local {
        allowed.extend([libc::AF_INET, libc::AF_INET6]);
    }
    let mut denied = vec![none_of(0, &allowed)?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        denied.extend(other_internet_sockets(seal, &low(0, eq(), number(family))?)?);
    }
    if seal != Seal::Ports {
        let netlink = low(0, eq(), number(libc::AF_NETLINK))?;
        let not_route = low(2, ne(), number(libc::NETLINK_ROUTE))?;
        denied.push(SeccompRule::new(vec![netlink, not_route])?);
        // Netlink sockets are raw or datagram ones by nature; all others must be streams.
        denied.extend(not_type(SOCK_STREAM, &[low(0, ne(), number(libc::AF_NETLINK))?])?);
        // A datagram pair can send to any path.
        let mut pairs = vec![none_of(0, &[libc::AF_UNIX])?];
        pairs.extend(not_type(SOCK_STREAM, &[])?);
        rules.insert(libc::SYS_socketpair, pairs);
    }
    rules.insert(libc::SYS_socket, denied);
    Ok(())
}

/// What an internet family has besides plain TCP. Where only TCP is held to ports, datagrams of
/// UDP pass; what carries streams past those ports (MPTCP, SCTP, raw packets) does not.
fn other_internet_sockets(seal: Seal, family: &SeccompCondition) -> Result<Vec<SeccompRule>> {
    let mut protocols = vec![0, libc::IPPROTO_TCP];
    let mut denied = Vec::new();
    if seal == Seal::Ports {
        protocols.push(libc::IPPROTO_UDP);
        // Stream is 1 and datagram is 2: any higher bit, or both, or none, is something else.
        for wrong in [4, 8] {
            let bit = low(1, SeccompCmpOp::MaskedEq(wrong), wrong)?;
            denied.push(SeccompRule::new(vec![family.clone(), bit])?);
        }
        for wrong in [0, SOCK_STREAM | SOCK_DGRAM] {
            let low_bits = low(1, SeccompCmpOp::MaskedEq(SOCK_STREAM | SOCK_DGRAM), wrong)?;
            denied.push(SeccompRule::new(vec![family.clone(), low_bits])?);
        }
    }
    let mut other_protocol = vec![family.clone()];
    other_protocol.extend(differs(2, &protocols)?);
    denied.push(SeccompRule::new(other_protocol)?);
    Ok(denied)
}

/// TCP fast open sends its first bytes without `connect`, so Landlock never sees them.
fn fast_open(rules: &mut Rules) -> Result<()> {
    let flag = number(libc::MSG_FASTOPEN);
    let calls = [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)];
    for (call, argument) in calls {
        let rule = vec![low(argument, SeccompCmpOp::MaskedEq(flag), flag)?];
        rules.insert(call, vec![SeccompRule::new(rule)?]);
    }
    let option =
        vec![low(1, eq(), number(libc::IPPROTO_TCP))?, low(2, eq(), TCP_FASTOPEN_CONNECT)?];
    rules.insert(libc::SYS_setsockopt, vec![SeccompRule::new(option)?]);
    Ok(())
}

/// One rule per bit in which a socket type can differ from `kind`, each under `conditions`.
fn not_type(kind: u64, conditions: &[SeccompCondition]) -> Result<Vec<SeccompRule>> {
    let differences = [1, 2, 4, 8].map(|bit| (bit, bit & !kind));
    differences
        .into_iter()
        .map(|(bit, wrong)| {
            let mut rule = conditions.to_vec();
            rule.push(low(1, SeccompCmpOp::MaskedEq(bit), wrong)?);
            Ok(SeccompRule::new(rule)?)
        })
        .collect()
}

fn none_of(argument: u8, values: &[libc::c_int]) -> Result<SeccompRule> {
    Ok(SeccompRule::new(differs(argument, values)?)?)
}

fn differs(argument: u8, values: &[libc::c_int]) -> Result<Vec<SeccompCondition>> {
    values.iter().map(|value| low(argument, ne(), number(*value))).collect()
}

/// A condition on the low 32 bits of an argument: all the kernel looks at where it takes an `int`.
fn low(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?)
}

/// A condition on all 64 bits of an argument, for pointers.
fn all(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)?)
}

fn eq() -> SeccompCmpOp {
    SeccompCmpOp::Eq
}

fn ne() -> SeccompCmpOp {
    SeccompCmpOp::Ne
}

fn number(value: libc::c_int) -> u64 {
    u64::from(value.unsigned_abs())
}

/// The number of a call as filters see it; all are small.
fn small(call: i64) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
