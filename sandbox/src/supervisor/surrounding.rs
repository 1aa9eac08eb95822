//! The sandboxes that a process has entered already: what they leave of the network, and who is to
//! judge. The kernel lets a process be under one supervisor, whichever began first.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use crate::capability::CapabilitySet;
use crate::error::{Error, Feature};
use crate::landlock::Landlock;
use crate::network::{Judge, Network, Seal};
use crate::privilege::SYS_PTRACE;
use crate::rules::Rules;
use crate::sys::{Turn, can_listen, has_capabilities_beside};

/// What is granted of the network by the sandbox that this process has entered by itself, if that
/// has a supervisor.
static ENTERED: OnceLock<Entered> = OnceLock::new();

/// What all sandboxes that this process has entered by itself leave of the network.
static LEFT: Mutex<Network> = Mutex::new(Network::Open);

#[derive(Debug)]
struct Entered {
    network: Network,
    seal: Seal,
    connect: Vec<u16>,
    bind: Vec<u16>,
    localhost: Vec<u16>,
}

/// Remembers that this process is limited to `network` now, for ever.
pub(crate) fn limit(network: Network) {
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    *left = left.and(network);
}

/// What is left of the network in a sandbox with this limit, whoever has set the narrowest.
pub(crate) fn left(network: Network) -> Network {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner).and(network)
}

/// Remembers that this process has a supervisor now, for ever.
pub(crate) fn surround(caps: &CapabilitySet) {
    // There is no second one.
    let _ = ENTERED.set(Entered {
        network: caps.network(),
        seal: caps.seal(),
        connect: caps.tcp_connect_ports().to_vec(),
        bind: caps.bind_ports().to_vec(),
        localhost: caps.localhost_ports().to_vec(),
    });
}

/// Who is to judge the addresses of a process that is to be limited to `caps`.
///
/// # Errors
///
/// [`Error::Unsupported`] if it must be a supervisor and cannot be: a surrounding sandbox has one,
/// which lets more pass, or is not known to let no more pass.
pub(crate) fn judge(landlock: Landlock, caps: &CapabilitySet) -> Result<Judge, Error> {
    let judge = landlock.judge(caps);
    if judge == Judge::Landlock {
        return Ok(judge);
    }
    match ENTERED.get() {
        Some(entered) if entered.judges(caps) => return Ok(Judge::Surrounding),
        None if can_supervise() => return Ok(judge),
        _ => {}
    }
    if caps.seal() != Seal::Local && !caps.is_accepting_less() {
        return Err(Error::Unsupported { feature: Feature::Supervisor });
    }
    Ok(Judge::Landlock)
}

/// Whether calls of a child can wait for a thread of ours: not if a surrounding sandbox has a
/// supervisor. A process does not get out of a sandbox, and gets into one only when it is started,
/// or by itself.
pub(crate) fn can_supervise() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    ENTERED.get().is_none()
        && *ANSWER.get_or_init(|| {
            // A thread with a filter of its own would keep another from reaching all threads.
            let Ok(_turn) = Turn::take() else { return false };
            ask()
        })
}

/// Asks the kernel, on a thread that ends afterwards.
fn ask() -> bool {
    let trial = thread::Builder::new().name("sandbox-trial".to_owned()).spawn(can_listen);
    trial.is_ok_and(|trial| trial.join().unwrap_or(false))
}

/// Whether a supervisor's process can look into all that the process that it is made for starts.
/// Yama lets only ancestors do that, and those whom a process names itself.
pub(crate) fn reaches_descendants() -> bool {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    scope.map_or(true, |scope| scope.trim() == "0") || has_capabilities_beside(!SYS_PTRACE)
}

impl Entered {
    /// Whether all that the supervisor lets pass is granted by `caps` too.
    fn judges(&self, caps: &CapabilitySet) -> bool {
        let rules = Rules::new(caps);
        let has_bind = self.bind.iter().all(|port| rules.binds_anywhere(*port).is_some());
        if self.seal == Seal::Ports {
            // Only `listen` waits for it; all else is Landlock's.
            return caps.seal() == Seal::Ports && has_bind;
        }
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let has_proxy = match self.network {
            Network::ProxyOnly(proxy) => rules.connects(proxy).is_some(),
            Network::Open | Network::Blocked => true,
        };
        has_proxy
            && self.connect.iter().all(|port| rules.connects_anywhere(*port).is_some())
            && has_bind
            && self
                .localhost
                .iter()
                .all(|port| rules.connects(at(*port)).is_some() && rules.binds(at(*port)).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(network: impl FnOnce(&mut CapabilitySet)) -> CapabilitySet {
        let mut caps = CapabilitySet::new();
        network(&mut caps);
        caps
    }

    fn entered(caps: &CapabilitySet) -> Entered {
        Entered {
            network: caps.network(),
            seal: caps.seal(),
            connect: caps.tcp_connect_ports().to_vec(),
            bind: caps.bind_ports().to_vec(),
            localhost: caps.localhost_ports().to_vec(),
        }
    }

    #[test]
    fn limits_of_the_network_only_grow() {
        let proxy = |port| Network::ProxyOnly(([127, 0, 0, 1], port).into());
        let (open, blocked) = (Network::Open, Network::Blocked);
        for (one, other, both) in [
            (open, open, open),
            (open, blocked, blocked),
            (open, proxy(1), proxy(1)),
            (proxy(1), proxy(1), proxy(1)),
            (proxy(1), proxy(2), blocked),
            (proxy(1), blocked, blocked),
        ] {
            assert_eq!((one.and(other), other.and(one)), (both, both));
        }
    }

    #[test]
    fn a_surrounding_sandbox_judges_for_those_that_grant_as_much_or_more() {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let proxy = |port| set(|caps| caps.proxy_only(address(port)));
        let blocked = set(CapabilitySet::block_network);
        let with_port = set(|caps| {
            caps.proxy_only(address(4180));
            caps.allow_localhost_port(5432).unwrap();
        });
        let ports = set(|caps| caps.allow_tcp_connect_port(4180).unwrap());

        let outer = entered(&proxy(4180));
        assert!(outer.judges(&proxy(4180)));
        assert!(outer.judges(&with_port));
        assert!(outer.judges(&ports));
        assert!(!outer.judges(&proxy(4181)));
        assert!(!outer.judges(&blocked));
        assert!(!entered(&with_port).judges(&proxy(4180)));
        assert!(entered(&blocked).judges(&proxy(4180)));
        assert!(entered(&ports).judges(&ports));
        assert!(!entered(&ports).judges(&proxy(4180)));
    }
}
