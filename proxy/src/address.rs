//! Which IP addresses may be dialled. Judged after resolution, since a name can resolve to
//! anything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::Host;

/// What reaching an address would mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Out on the public network.
    Public,
    /// This machine or its private network: only for hosts that a rule or route names exactly.
    Private,
    /// Never: cloud metadata, link-local, unspecified, multicast, broadcast, reserved.
    Forbidden,
}

/// Which classes an exchange may reach. Decided by the rule that let it through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reach {
    /// Public addresses: the host was let through by a wildcard or by `allow_all_hosts`.
    Public,
    /// Public and private ones: a rule or route names the host itself.
    Named,
    /// Private ones alone: a route with a plain `http` upstream.
    PrivateOnly,
}

/// Why an address may not be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutOfReach {
    /// Nothing makes it reachable.
    Always,
    /// It is on this machine or its private network, and no rule or route names the host itself.
    Unnamed,
    /// It is public, and plain http would send a credential there unprotected.
    Unprotected,
}

impl Reach {
    /// Judges an address of `class`.
    ///
    /// # Errors
    /// Why it may not be dialled.
    pub(crate) fn check(self, class: Class) -> Result<(), OutOfReach> {
        match (class, self) {
            (Class::Forbidden, _) => Err(OutOfReach::Always),
            (Class::Private, Self::Public) => Err(OutOfReach::Unnamed),
            (Class::Public, Self::PrivateOnly) => Err(OutOfReach::Unprotected),
            (Class::Public | Class::Private, _) => Ok(()),
        }
    }
}

/// Metadata services outside the link-local range: Alibaba Cloud, Azure, Oracle Cloud.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];

/// Metadata services among the private addresses of IPv6: Akamai, Alibaba Cloud, Google Cloud, Oracle
/// Cloud, Scaleway. AWS has a network of its own for them.
const METADATA_V6: [Ipv6Addr; 5] = [
    Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// Names that metadata services answer to.
const METADATA_NAMES: [&str; 6] = [
    "metadata",
    "metadata.goog",
    "metadata.google.internal",
    "metadata.azure.internal",
    "instance-data",
    "instance-data.ec2.internal",
];

/// Classifies `host` (canonical) before it is looked up; `None` for a name that may be of any class.
pub(crate) fn class_by_name(host: &Host<String>) -> Option<Class> {
    match host {
        Host::Domain(name) => METADATA_NAMES.contains(&name.as_str()).then_some(Class::Forbidden),
        Host::Ipv4(ip) => Some(classify((*ip).into())),
        Host::Ipv6(ip) => Some(classify((*ip).into())),
    }
}

/// Classifies `ip`. An IPv6 address that carries an IPv4 one is as bad as the worse of the two.
pub(crate) fn classify(ip: IpAddr) -> Class {
    match ip {
        IpAddr::V4(ip) => classify_v4(ip),
        IpAddr::V6(ip) => embedded(ip).map(classify_v4).fold(classify_v6(ip), Ord::max),
    }
}

fn classify_v4(ip: Ipv4Addr) -> Class {
    let [a, b, c, _] = ip.octets();
    match (a, b, c) {
        _ if METADATA_V4.contains(&ip) => Class::Forbidden,
        // "This network", link-local, multicast, reserved and broadcast.
        (0 | 224..=255, ..) | (169, 254, _) => Class::Forbidden,
        (10 | 127, ..) | (172, 16..=31, _) | (192, 168, _) => Class::Private,
        // Shared (CGNAT), protocol assignments, benchmarking, documentation.
        (100, 64..=127, _)
        | (192, 0, 0 | 2)
        | (198, 18..=19, _)
        | (198, 51, 100)
        | (203, 0, 113) => Class::Private,
        _ => Class::Public,
    }
}

fn classify_v6(ip: Ipv6Addr) -> Class {
    match ip.segments() {
        _ if METADATA_V6.contains(&ip) || ip.is_unspecified() || ip.is_multicast() => {
            Class::Forbidden
        }
        // Link-local, and what AWS keeps for services of the machine it runs on.
        [0xfe80..=0xfebf, ..] | [0xfd00, 0xec2, ..] => Class::Forbidden,
        // Loopback, unique local, site-local, documentation, discard-only.
        _ if ip.is_loopback() => Class::Private,
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] | [0x2001, 0xdb8, ..] | [0x100, 0, 0, 0, ..] => {
            Class::Private
        }
        // Of a network's own NAT64 (RFC 8215): only the network knows how long its prefix is, and so
        // where the IPv4 address stands; unless nothing stands before the last four bytes.
        [0x64, 0xff9b, 1, a, b, c, ..] if (a, b, c) != (0, 0, 0) => Class::Private,
        _ => Class::Public,
    }
}

/// The IPv4 addresses that an IPv6 address stands for: mapped and compatible (RFC 4291), NAT64
/// (RFC 6052, RFC 8215), 6to4 (RFC 3056), Teredo's server and client (RFC 4380).
pub(crate) fn embedded(ip: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    let found = match ip.segments() {
        // `::` and `::1` are addresses of their own, not IPv4-compatible ones.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => [None, None],
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0 | 1, _, _, _, high, low] => [v4(high, low), None],
        [0x2002, high, low, ..] => [v4(high, low), None],
        [0x2001, 0, server_high, server_low, _, _, high, low] => {
            [v4(server_high, server_low), v4(!high, !low)]
        }
        _ => [None, None],
    };
    found.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::{Class, classify};

    #[test]
    fn every_address_has_its_class() {
        for (ip, class) in [
            ("8.8.8.8", Class::Public),
            ("2606:4700::1", Class::Public),
            ("127.0.0.1", Class::Private),
            ("10.1.2.3", Class::Private),
            ("172.31.0.1", Class::Private),
            ("100.64.0.1", Class::Private),
            ("::1", Class::Private),
            ("fd12::1", Class::Private),
            ("0.0.0.0", Class::Forbidden),
            ("169.254.169.254", Class::Forbidden),
            ("100.100.100.200", Class::Forbidden),
            ("168.63.129.16", Class::Forbidden),
            ("192.0.0.192", Class::Forbidden),
            ("224.0.0.1", Class::Forbidden),
            ("255.255.255.255", Class::Forbidden),
            ("::", Class::Forbidden),
            ("fd00:ec2::254", Class::Forbidden),
            ("fd00:ec2::23", Class::Forbidden),
            ("fd00:ec2:1::1", Class::Forbidden),
            ("fd20:ce::254", Class::Forbidden),
            ("fd00:c1::a9fe:a9fe", Class::Forbidden),
            ("fd00:42::42", Class::Forbidden),
            ("fd00:a9fe:a9fe::1", Class::Forbidden),
            ("fd00:100::100:200", Class::Forbidden),
            ("fd00:42::43", Class::Private),
            ("fe80::1", Class::Forbidden),
            ("ff02::1", Class::Forbidden),
        ] {
            assert_eq!(classify(ip.parse().unwrap()), class, "{ip}");
        }
    }

    #[test]
    fn an_embedded_ipv4_address_is_seen() {
        for ip in [
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2001:0:a9fe:a9fe::1",
            "2001:0:808:808::5601:5601",
        ] {
            assert_eq!(classify(ip.parse().unwrap()), Class::Forbidden, "{ip}");
        }
        assert_eq!(classify("::ffff:127.0.0.1".parse().unwrap()), Class::Private);
        assert_eq!(classify("64:ff9b:1::8.8.8.8".parse().unwrap()), Class::Public);
        assert_eq!(classify("::ffff:8.8.8.8".parse().unwrap()), Class::Public);
    }

    #[test]
    fn what_stands_behind_a_prefix_of_unknown_length_is_at_best_private() {
        // 8.8.8.8 and 169.254.169.254 behind prefixes of 48, 56 and 64 bits (RFC 6052 §2.2), the
        // last with more behind it, which translators ignore.
        for ip in [
            "64:ff9b:1:808:8:800::",
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:1a9:fe:a9fe::",
            "64:ff9b:1:1:a9:fea9:fe00:0",
            "64:ff9b:1:a9fe:a9:fe00:808:808",
        ] {
            assert!(classify(ip.parse().unwrap()) >= Class::Private, "{ip}");
        }
    }
}
