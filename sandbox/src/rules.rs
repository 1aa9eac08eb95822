//! Which addresses a sandboxed process may connect to and serve at: what the supervisor judges by
//! and questions are answered from. Decides on values and touches nothing.

use std::net::SocketAddr;

use crate::capability::CapabilitySet;
use crate::network::{Network, Seal};

/// What is granted of the network, by address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    proxy: Option<SocketAddr>,
    connect: &'a [u16],
    bind: &'a [u16],
    localhost: &'a [u16],
    seal: Seal,
}

/// By what something is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Nothing is limited.
    Open,
    /// It is the proxy.
    Proxy,
    /// Its port is granted.
    Port,
}

impl<'a> Rules<'a> {
    pub(crate) fn new(caps: &'a CapabilitySet) -> Self {
        let proxy = match caps.network() {
            Network::ProxyOnly(proxy) => Some(canonical(proxy)),
            _ => None,
        };
        Self {
            proxy,
            connect: caps.tcp_connect_ports(),
            bind: caps.bind_ports(),
            localhost: caps.localhost_ports(),
            seal: caps.seal(),
        }
    }

    /// The granted ports: to connect to, to serve at, and both of loopback addresses.
    #[cfg(target_os = "linux")]
    pub(crate) fn ports(&self) -> [&'a [u16]; 3] {
        [self.connect, self.bind, self.localhost]
    }

    /// The same rules with ports that are kept elsewhere.
    #[cfg(target_os = "linux")]
    pub(crate) fn with_ports(self, [connect, bind, localhost]: [&[u16]; 3]) -> Rules<'_> {
        Rules { connect, bind, localhost, ..self }
    }

    /// Whether there are no sockets but unix ones.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_local(&self) -> bool {
        self.seal == Seal::Local
    }

    /// By what TCP may connect to this address, if it may.
    pub(crate) fn connects(&self, address: SocketAddr) -> Option<By> {
        let address = canonical(address);
        if self.proxy == Some(address) {
            return Some(By::Proxy);
        }
        let is_granted = || self.is_granted_loopback(address).then_some(By::Port);
        self.connects_anywhere(address.port()).or_else(is_granted)
    }

    /// By what TCP may connect to this port of any host, if it may.
    pub(crate) fn connects_anywhere(&self, port: u16) -> Option<By> {
        self.allows(self.connect, port)
    }

    /// By what TCP may be served at this address, if it may.
    pub(crate) fn binds(&self, address: SocketAddr) -> Option<By> {
        let address = canonical(address);
        let is_granted = || self.is_granted_loopback(address).then_some(By::Port);
        self.binds_anywhere(address.port()).or_else(is_granted)
    }

    /// By what TCP may be served at this port of every address, if it may.
    pub(crate) fn binds_anywhere(&self, port: u16) -> Option<By> {
        self.allows(self.bind, port)
    }

    fn allows(&self, granted: &[u16], port: u16) -> Option<By> {
        match self.seal {
            Seal::Open => Some(By::Open),
            _ => granted.contains(&port).then_some(By::Port),
        }
    }

    /// Where only ports are limited, those of loopback addresses are like others.
    fn is_granted_loopback(&self, address: SocketAddr) -> bool {
        self.seal == Seal::Tcp
            && address.ip().is_loopback()
            && self.localhost.contains(&address.port())
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
        assert!(rules.connects(at("127.0.0.1:4180")).is_some());
        assert!(rules.connects(at("[::ffff:127.0.0.1]:4180")).is_some());
        for other in ["127.0.0.1:4181", "127.0.0.2:4180", "0.0.0.0:4180", "[::1]:4180"] {
            assert!(rules.connects(at(other)).is_none(), "{other}");
        }
        assert!(rules.binds(at("127.0.0.1:4180")).is_none());
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
            assert_eq!(rules.connects(at(address)).is_some(), connect, "connect {address}");
            assert_eq!(rules.binds(at(address)).is_some(), bind, "bind {address}");
        }
    }
}
