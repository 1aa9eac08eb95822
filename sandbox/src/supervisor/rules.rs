//! Which addresses a sandboxed process may connect to and serve at. Decides on values and touches
//! nothing.

use std::net::SocketAddr;

use crate::capability::CapabilitySet;
use crate::network::{Network, Seal};

/// What is granted of the network, by address.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    proxy: Option<SocketAddr>,
    connect: Vec<u16>,
    bind: Vec<u16>,
    localhost: Vec<u16>,
    is_local: bool,
}

impl Rules {
    pub(crate) fn new(caps: &CapabilitySet) -> Self {
        let proxy = match caps.network() {
            Network::ProxyOnly(proxy) => Some(canonical(proxy)),
            _ => None,
        };
        Self {
            proxy,
            connect: caps.tcp_connect_ports().to_vec(),
            bind: caps.bind_ports().to_vec(),
            localhost: caps.localhost_ports().to_vec(),
            is_local: caps.seal() == Seal::Local,
        }
    }

    /// Whether there are no sockets but unix ones.
    pub(crate) fn is_local(&self) -> bool {
        self.is_local
    }

    /// Whether TCP may connect to this address.
    pub(crate) fn may_connect(&self, address: SocketAddr) -> bool {
        let address = canonical(address);
        self.proxy == Some(address)
            || self.connect.contains(&address.port())
            || self.is_granted_loopback(address)
    }

    /// Whether TCP may be served at this address.
    pub(crate) fn may_bind(&self, address: SocketAddr) -> bool {
        let address = canonical(address);
        self.bind.contains(&address.port()) || self.is_granted_loopback(address)
    }

    fn is_granted_loopback(&self, address: SocketAddr) -> bool {
        address.ip().is_loopback() && self.localhost.contains(&address.port())
    }
}

/// An address without what makes equal ones look different: an IPv4 address in the form of
/// IPv6, a flow label.
fn canonical(address: SocketAddr) -> SocketAddr {
    let plain = SocketAddr::new(address.ip().to_canonical(), address.port());
    match (address, plain) {
        // The scope is part of where a link-local address leads.
        (SocketAddr::V6(given), SocketAddr::V6(mut plain)) => {
            plain.set_scope_id(given.scope_id());
            plain.into()
        }
        _ => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn the_proxy_is_one_address_and_one_port() {
        let mut caps = CapabilitySet::new();
        caps.proxy_only(at("127.0.0.1:4180"));
        let rules = Rules::new(&caps);
        assert!(rules.may_connect(at("127.0.0.1:4180")));
        assert!(rules.may_connect(at("[::ffff:127.0.0.1]:4180")));
        for other in ["127.0.0.1:4181", "127.0.0.2:4180", "0.0.0.0:4180", "[::1]:4180"] {
            assert!(!rules.may_connect(at(other)), "{other}");
        }
        assert!(!rules.may_bind(at("127.0.0.1:4180")));
    }

    #[test]
    fn ports_are_of_any_host_or_of_loopback() {
        let mut caps = CapabilitySet::new();
        caps.block_network();
        caps.allow_tcp_connect_port(443).unwrap();
        caps.allow_bind_port(80).unwrap();
        caps.allow_localhost_port(5432).unwrap();
        let rules = Rules::new(&caps);
        // Address, to connect to, to serve at.
        let table = [
            ("10.0.0.1:443", true, false),
            ("[2001:db8::1]:443", true, false),
            ("0.0.0.0:80", false, true),
            ("127.0.0.1:5432", true, true),
            ("127.9.9.9:5432", true, true),
            ("[::1]:5432", true, true),
            ("[::ffff:127.0.0.1]:5432", true, true),
            ("0.0.0.0:5432", false, false),
            ("[::]:5432", false, false),
            ("10.0.0.1:5432", false, false),
            ("127.0.0.1:0", false, false),
        ];
        for (address, connect, bind) in table {
            assert_eq!(rules.may_connect(at(address)), connect, "connect {address}");
            assert_eq!(rules.may_bind(at(address)), bind, "bind {address}");
        }
    }
}
