//! Which hosts may be reached: rules, and sets of them. Pure matching; nothing is resolved.

use std::collections::HashMap;

use url::Host;

use crate::address::Reach;
use crate::target::{Target, parse_host, parse_port};

/// One rule: a host, `*.domain`, or an IP address, each with or without `:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPattern {
    host: HostForm,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostForm {
    Exact(Host<String>),
    /// `*.domain`: one or more labels before `domain`, never `domain` itself.
    Below(String),
}

impl HostPattern {
    /// Parses a rule.
    ///
    /// # Errors
    /// Why the text is not a rule, in words that say what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("it is empty");
        }
        if text.contains("://") {
            return Err(
                "it is a URL; give the host alone, like `api.example.com` or `api.example.com:443`",
            );
        }
        if text.contains(['/', '?', '#', '@']) || text.contains(char::is_whitespace) {
            return Err(
                "it holds a character that no host has; give the host alone, like `api.example.com`",
            );
        }
        if text == "*" {
            return Err("it would allow every host; set `allow_all_hosts=True` if that is meant");
        }
        let (host, port) = split_port(text)?;
        let host = match host.strip_prefix("*.") {
            Some(domain) => HostForm::Below(parse_domain(domain)?),
            None if host.contains('*') => {
                return Err(
                    "`*` may only stand for whole labels at the start, like `*.example.com`",
                );
            }
            None => HostForm::Exact(parse_host(host).ok_or("it is not a host name or IP address")?),
        };
        Ok(Self { host, port })
    }
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    // An IPv6 address without brackets is all colons; it cannot carry a port.
    let Some((host, port)) = text
        .rsplit_once(':')
        .filter(|_| text.parse::<std::net::Ipv6Addr>().is_err() && !text.ends_with(']'))
    else {
        return Ok((text, None));
    };
    match parse_port(port) {
        Some(port) => Ok((host, Some(port))),
        None => Err("its port is not a number from 1 to 65535"),
    }
}

fn parse_domain(text: &str) -> Result<String, &'static str> {
    match parse_host(text) {
        Some(Host::Domain(name)) if !text.contains('*') => Ok(name),
        _ => Err("what follows `*.` is not a domain name"),
    }
}

/// A set of rules. The cost of a lookup grows with the labels of the host asked for, not with
/// the number of rules.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostSet {
    exact: HashMap<Host<String>, Ports>,
    below: HashMap<String, Ports>,
}

/// The ports for which a host is in the set.
#[derive(Debug, Clone, Default)]
struct Ports {
    any: bool,
    some: Vec<u16>,
}

impl Ports {
    fn contains(&self, port: u16) -> bool {
        self.any || self.some.contains(&port)
    }
}

impl HostSet {
    /// The set of `rules`.
    pub(crate) fn new(rules: impl IntoIterator<Item = HostPattern>) -> Self {
        let mut set = Self::default();
        for HostPattern { host, port } in rules {
            let ports = match host {
                HostForm::Exact(host) => set.exact.entry(host).or_default(),
                HostForm::Below(domain) => set.below.entry(domain).or_default(),
            };
            match port {
                Some(port) => ports.some.push(port),
                None => ports.any = true,
            }
        }
        set
    }

    /// Whether `target` matches a rule, and by which kind of rule: one that names it
    /// ([`Reach::Named`]) or a wildcard ([`Reach::Public`]).
    pub(crate) fn matches(&self, target: &Target) -> Option<Reach> {
        let port = target.port();
        if self.exact.get(target.host()).is_some_and(|ports| ports.contains(port)) {
            return Some(Reach::Named);
        }
        let Host::Domain(name) = target.host() else {
            return None;
        };
        let mut parents = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
        parents
            .any(|parent| self.below.get(parent).is_some_and(|ports| ports.contains(port)))
            .then_some(Reach::Public)
    }

    /// Whether a rule names a loopback host.
    pub(crate) fn names_loopback(&self) -> bool {
        self.exact.keys().any(|host| match host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
        })
    }
}

/// Which hosts clients may reach by `CONNECT` or by forwarding.
#[derive(Debug, Clone)]
pub(crate) enum Allowlist {
    /// Those in the set; an empty set allows none.
    Listed(HostSet),
    /// Every host with a public address.
    All,
}

impl Allowlist {
    /// Whether `target` is allowed, and which addresses it may then have.
    pub(crate) fn matches(&self, target: &Target) -> Option<Reach> {
        match self {
            Self::Listed(set) => set.matches(target),
            Self::All => Some(Reach::Public),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HostPattern, HostSet, Reach};
    use crate::target::Target;

    fn matches(rule: &str, host: &str) -> Option<Reach> {
        let set = HostSet::new([HostPattern::parse(rule).unwrap()]);
        set.matches(&Target::from_authority(&host.parse().unwrap(), Some(443)).unwrap())
    }

    #[test]
    fn an_exact_rule_matches_every_spelling_of_its_host_and_no_other() {
        for host in
            ["api.example.com", "API.example.COM", "api.example.com.", "api.example.com:8443"]
        {
            assert_eq!(matches("Api.Example.com.", host), Some(Reach::Named), "{host}");
        }
        for host in ["example.com", "xapi.example.com", "api.example.com.evil.org"] {
            assert_eq!(matches("api.example.com", host), None, "{host}");
        }
    }

    #[test]
    fn a_wildcard_matches_below_its_domain_and_not_the_domain() {
        for host in ["a.example.com", "a.b.example.com"] {
            assert_eq!(matches("*.example.com", host), Some(Reach::Public), "{host}");
        }
        for host in ["example.com", "xexample.com", "a.example.org"] {
            assert_eq!(matches("*.example.com", host), None, "{host}");
        }
    }

    #[test]
    fn a_port_narrows_a_rule() {
        assert!(matches("a.example:8080", "a.example:8080").is_some());
        assert!(matches("a.example:8080", "a.example:443").is_none());
        assert!(matches("[::1]:80", "[::1]:80").is_some());
        assert!(matches("::1", "[::1]:80").is_some());
        assert!(matches("127.0.0.1", "2130706433:80").is_some());
    }

    #[test]
    fn what_is_not_a_rule_is_refused() {
        for text in [
            "",
            "*",
            "*.",
            "a*.example.com",
            "a.*.com",
            "https://a.example",
            "a.example/x",
            "a b",
            "a..b",
            "a.example:0",
            "a.example:x",
            "a.example:+80",
            "[::1].",
            "a.example..",
            "user@a.example",
            "*.1.2.3.4",
            "[::1",
            "*.*.com",
        ] {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
    }
}
