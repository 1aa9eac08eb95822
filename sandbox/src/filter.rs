//! The system call filter: what Landlock cannot say of the network, and the few other calls by
//! which a sandboxed process could act on its surroundings. A filter sees the registers of a call
//! and no memory, so each rule here is one that needs no more.

mod closed;
mod layout;
mod rule;
mod search;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use seccompiler::{BpfProgram, TargetArch};

use crate::capability::CapabilitySet;
use crate::error::{Error, Feature};
use crate::network::Seal;
use crate::privilege::writes_files;
use crate::supervisor::observed_calls;
pub(crate) use closed::FCHMODAT2;
use layout::{Answer, Verdict, lay_out};
use rule::{Condition, Rule, differs, has_any, is, is_not};

/// Why calls are refused, by their numbers: always, if there is no rule.
type Rules = BTreeMap<i64, Vec<Rule>>;

/// Bits of a socket type that are the type itself and not a flag.
const TYPE: libc::c_int = 0xF;
/// `linux/tcp.h`; `libc` has it for some targets only.
const TCP_FASTOPEN_CONNECT: libc::c_int = 30;
const TCP_ULP: libc::c_int = 31;
/// `x32` calls are numbered from here on. They are answered "no such call": rules know calls by
/// their ordinary numbers only.
const X32_BIT: u32 = 0x4000_0000;

/// Who is asked what becomes of calls that the rules let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// Nobody.
    Nobody,
    /// The supervisor, of those whose address it is to judge.
    Supervisor,
    /// An observer, of all of which something can be learned.
    Observer,
}

/// Compiles the filter for a sandbox of `caps`. If it asks somebody, it is to be installed with a
/// listening side.
///
/// # Errors
///
/// [`Error::Unsupported`] on a processor that `seccompiler` does not know.
pub(crate) fn filter(caps: &CapabilitySet, asks: Asks) -> Result<BpfProgram, Error> {
    /// One for each outline.
    static COMPILED: [OnceLock<BpfProgram>; 48] = [const { OnceLock::new() }; 48];
    let outline = Outline::new(caps, asks);
    let place = COMPILED.get(outline.number());
    if let Some(compiled) = place.and_then(OnceLock::get) {
        return Ok(compiled.clone());
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| Error::Unsupported { feature: Feature::FilterArchitecture })?;
    let compiled = compile(outline, arch);
    if let Some(place) = place {
        // Another thread has made the same meanwhile.
        let _ = place.set(compiled.clone());
    }
    Ok(compiled)
}

/// What there is to a set from a filter's point of view.
#[derive(Clone, Copy, Debug)]
struct Outline {
    seal: Seal,
    writes_files: bool,
    has_localhost_ports: bool,
    asks: Asks,
}

impl Outline {
    fn new(caps: &CapabilitySet, asks: Asks) -> Self {
        Self {
            seal: caps.seal(),
            writes_files: writes_files(caps),
            has_localhost_ports: !caps.localhost_ports().is_empty(),
            asks,
        }
    }

    /// A number that no other outline has.
    fn number(self) -> usize {
        let bits = [self.writes_files, self.has_localhost_ports];
        let number = self.seal as usize * 3 + self.asks as usize;
        bits.into_iter().fold(number, |number, bit| number * 2 + usize::from(bit))
    }

    /// The calls of which somebody is asked, if the rules let them pass.
    fn asked(self) -> Vec<i64> {
        match self.asks {
            Asks::Nobody => Vec::new(),
            Asks::Supervisor => self.judged(),
            Asks::Observer => observed_calls().collect(),
        }
    }

    fn judged(self) -> Vec<i64> {
        let mut calls = vec![libc::SYS_listen];
        if matches!(self.seal, Seal::Local | Seal::Tcp) {
            calls.push(libc::SYS_connect);
            if self.has_localhost_ports {
                calls.push(libc::SYS_bind);
            }
            if self.writes_files {
                calls.extend(closed::METADATA);
            }
        }
        calls
    }
}

fn compile(outline: Outline, arch: TargetArch) -> BpfProgram {
    let mut verdicts: BTreeMap<_, _> =
        outline.asked().into_iter().map(|call| (call, Verdict::Give(Answer::Ask))).collect();
    for (call, rules) in rules(outline.seal, outline.writes_files) {
        let verdict = match verdicts.get(&call) {
            _ if rules.is_empty() => Verdict::Give(Answer::Refuse(libc::EPERM)),
            Some(Verdict::Give(answer)) => Verdict::Judge(rules, *answer),
            _ => Verdict::Judge(rules, Answer::Allow),
        };
        verdicts.insert(call, verdict);
    }
    // Those that it could not judge.
    let unknown = Verdict::Give(Answer::Refuse(libc::ENOSYS));
    verdicts.extend(closed::UNKNOWN.iter().map(|call| (*call, unknown.clone())));
    let verdicts = verdicts.into_iter().map(|(call, verdict)| (small(call), verdict));
    lay_out(&verdicts.collect::<Vec<_>>(), arch)
}

fn rules(seal: Seal, writes_files: bool) -> Rules {
    let mut rules = Rules::new();
    closed::add(&mut rules);
    if !writes_files {
        closed::add_metadata(&mut rules);
    }
    if seal != Seal::Open {
        sockets(&mut rules, seal);
        unseen_connections(&mut rules);
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
        if allowed.contains(&family) {
            denied.extend(other_internet_sockets(seal, is(0, family)));
        }
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

/// TCP fast open sends its first bytes without `connect`, so Landlock never sees them; and SMC
/// (`TCP_ULP`) makes another protocol of a socket, to which Landlock's ports do not apply. Kernel TLS
/// is switched on the same way: programs go on without it.
fn unseen_connections(rules: &mut Rules) {
    let calls = [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)];
    for (call, flags) in calls {
        rules.insert(call, vec![vec![has_any(flags, libc::MSG_FASTOPEN)]]);
    }
    let option = |number| vec![is(1, libc::IPPROTO_TCP), is(2, number)];
    let options = [TCP_FASTOPEN_CONNECT, TCP_ULP].map(option);
    rules.insert(libc::SYS_setsockopt, options.to_vec());
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
