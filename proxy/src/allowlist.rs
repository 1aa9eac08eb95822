//! Which hosts may be reached: rules, and sets of them. Pure matching; nothing is resolved.

use std::net::IpAddr;

use foldhash::HashMap;
use smol_str::SmolStr;
use url::Host;

use crate::address::{Class, Reach, class_by_name, embedded};
use crate::target::{Target, is_loopback, parse_host, parse_port};

/// One rule: a host, `*.domain`, or an IP address, each with or without `:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPattern {
    host: HostForm,
    port: Option<u16>,
    /// As it was written.
    text: SmolStr,
}

/// A rule that a host matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Match<'rules> {
    /// The addresses that the host may then have.
    pub(crate) reach: Reach,
    /// The rule as it was written; `None` where every host matches.
    pub(crate) rule: Option<&'rules SmolStr>,
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
            return Err(
                "it would allow every host, which `ProxyConfig(allow_all_hosts=True)` alone does",
            );
        }
        let (host, port) = split_port(text)?;
        let host = match host.strip_prefix("*.") {
            Some(domain) => HostForm::Below(parse_domain(domain)?),
            None if host.contains('*') => {
                return Err(
                    "`*` may only stand for whole labels at the start, like `*.example.com`",
                );
            }
            None => {
                HostForm::Exact(parse_plain(host).ok_or("it is not a host name or IP address")?)
            }
        };
        Ok(Self { host, port, text: text.into() })
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it names a host that no rule makes reachable.
    pub(crate) fn is_never_reached(&self) -> bool {
        matches!(&self.host, HostForm::Exact(host) if class_by_name(host) == Some(Class::Forbidden))
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
    match parse_plain(text) {
        Some(Host::Domain(name)) if !text.contains('*') => Ok(name),
        _ => Err("what follows `*.` is not a domain name"),
    }
}

/// Parses a host of which a name holds nothing but what names in use do. A URL may have more in its
/// host; but a rule with a comma in it, say, is a list that was meant for several rules.
fn parse_plain(text: &str) -> Option<Host<String>> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    parse_host(text).filter(|host| match host {
        Host::Domain(name) => name.chars().all(is_plain),
        Host::Ipv4(_) | Host::Ipv6(_) => true,
    })
}

/// Says what is wrong with a rule about hosts, in words that say what to write instead; nothing, if
/// a configuration takes it.
pub fn fault_of_rule(rule: &str) -> Option<&'static str> {
    HostPattern::parse(rule).err()
}

/// A set of rules. The cost of a lookup grows with the labels of the host asked for, not with
/// the number of rules.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostSet {
    exact: HashMap<Host<String>, Ports>,
    below: HashMap<String, Ports>,
}

/// The ports for which a host is in the set, each with its rule.
#[derive(Debug, Clone, Default)]
struct Ports {
    any: Option<SmolStr>,
    some: Vec<(u16, SmolStr)>,
}

impl Ports {
    fn rule(&self, port: u16) -> Option<&SmolStr> {
        let some = || self.some.iter().find(|(known, _)| *known == port).map(|(_, rule)| rule);
        self.any.as_ref().or_else(some)
    }
}

impl HostSet {
    /// The set of `rules`.
    pub(crate) fn new(rules: impl IntoIterator<Item = HostPattern>) -> Self {
        let mut set = Self::default();
        for HostPattern { host, port, text } in rules {
            let ports = match host {
                HostForm::Exact(host) => set.exact.entry(host).or_default(),
                HostForm::Below(domain) => set.below.entry(domain).or_default(),
            };
            match port {
                Some(port) => ports.some.push((port, text)),
                None => ports.any = Some(text),
            }
        }
        set
    }

    /// The rule that `target` matches: one that names it ([`Reach::Named`]) or a wildcard
    /// ([`Reach::Public`]).
    pub(crate) fn matches(&self, target: &Target) -> Option<Match<'_>> {
        let port = target.port();
        let exact = self.exact.get(target.host()).and_then(|ports| ports.rule(port));
        if exact.is_some() {
            return Some(Match { reach: Reach::Named, rule: exact });
        }
        let Host::Domain(name) = target.host() else {
            return None;
        };
        let mut parents = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
        let rule = parents.find_map(|parent| self.below.get(parent)?.rule(port));
        rule.map(|rule| Match { reach: Reach::Public, rule: Some(rule) })
    }

    /// The rule that names `ip` at `port`, or an IPv4 address that it stands for.
    pub(crate) fn matches_address(&self, ip: IpAddr, port: u16) -> Option<Match<'_>> {
        let rule = |host: &Host<String>| self.exact.get(host)?.rule(port);
        let own = match ip.to_canonical() {
            IpAddr::V4(ip) => rule(&Host::Ipv4(ip)),
            IpAddr::V6(ip) => {
                rule(&Host::Ipv6(ip)).or_else(|| embedded(ip).find_map(|ip| rule(&Host::Ipv4(ip))))
            }
        };
        own.map(|rule| Match { reach: Reach::Named, rule: Some(rule) })
    }

    /// Whether `target` matches a rule.
    pub(crate) fn contains(&self, target: &Target) -> bool {
        self.matches(target).is_some()
    }

    /// The hosts of the rules; of a wildcard, the domain that it is below of.
    pub(crate) fn subtrees(&self) -> impl Iterator<Item = Host<String>> {
        self.exact.keys().cloned().chain(self.below.keys().cloned().map(Host::Domain))
    }

    /// A host for each rule; of a wildcard, one that it stands for.
    pub(crate) fn examples(&self) -> impl Iterator<Item = Host<String>> {
        let below = self.below.keys().map(|domain| Host::Domain(format!("any.{domain}")));
        self.exact.keys().cloned().chain(below)
    }

    /// Whether a rule names a loopback host.
    pub(crate) fn names_loopback(&self) -> bool {
        self.exact.keys().any(is_loopback)
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
    /// Whether `target` is allowed, and by what.
    pub(crate) fn matches(&self, target: &Target) -> Option<Match<'_>> {
        match self {
            Self::Listed(set) => set.matches(target),
            Self::All => Some(Match { reach: Reach::Public, rule: None }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HostPattern, HostSet, Reach};
    use crate::target::Target;

    fn matches(rule: &str, host: &str) -> Option<Reach> {
        let set = HostSet::new([HostPattern::parse(rule).unwrap()]);
        let found =
            set.matches(&Target::from_authority(&host.parse().unwrap(), Some(443)).unwrap())?;
        assert_eq!(found.rule.map(|rule| &**rule), Some(rule));
        Some(found.reach)
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
