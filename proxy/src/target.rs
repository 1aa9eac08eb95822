//! Where a request wants to go: scheme, host and port, parsed once and in one spelling.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use http::uri::{Authority, Uri};
use url::Host;

/// The only two schemes there are; a tunnel's target has [`Scheme::Http`]'s absence of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The port that a URL of this scheme means when it names none.
    pub(crate) fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// Its spelling in a URL.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A host and port in canonical spelling: lower case, IDNA as ASCII, no trailing dot, and every
/// spelling of an IP address (decimal, hex, octal, short) as that address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    host: Host<String>,
    port: u16,
}

impl Target {
    /// A target from its parts.
    pub(crate) fn new(host: Host<String>, port: u16) -> Self {
        Self { host, port }
    }

    /// Parses the authority of a request. `None` if it names no single, unambiguous place.
    pub(crate) fn from_authority(authority: &Authority, default_port: Option<u16>) -> Option<Self> {
        let text = authority.as_str();
        if text.contains('@') {
            return None;
        }
        // Not `Authority::port`, which has none for a port that is too large.
        let port = match text.strip_prefix(authority.host())? {
            // `host:` with an empty port has the default one (RFC 3986 §3.2.3).
            "" | ":" => default_port?,
            rest => parse_port(rest.strip_prefix(':')?)?,
        };
        Some(Self::new(parse_host(authority.host())?, port)).filter(|target| target.port != 0)
    }

    /// The host.
    pub(crate) fn host(&self) -> &Host<String> {
        &self.host
    }

    /// The host, when it is an address and not a name.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(ip) => Some(ip.into()),
            Host::Ipv6(ip) => Some(ip.into()),
        }
    }

    /// The port, never 0.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether this names the proxy's own listener at `own`. Other names may lead there too; that
    /// is seen when they are resolved.
    pub(crate) fn is_listener(&self, own: SocketAddr) -> bool {
        match &self.host {
            Host::Domain(name) => self.port == own.port() && is_localhost(name),
            Host::Ipv4(ip) => arrives_at((*ip, self.port).into(), own),
            Host::Ipv6(ip) => arrives_at((*ip, self.port).into(), own),
        }
    }

    /// Whether the host, by its name or as an address, means whichever machine asks for it.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// The value of a `Host` field for this target under `scheme`.
    pub(crate) fn host_field(&self, scheme: Scheme) -> String {
        if self.port == scheme.default_port() { self.host.to_string() } else { self.to_string() }
    }

    /// As the absolute URI that connectors take.
    pub(crate) fn to_uri(&self, scheme: Scheme) -> Option<Uri> {
        Uri::builder()
            .scheme(scheme.as_str())
            .authority(self.to_string())
            .path_and_query("/")
            .build()
            .ok()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Whether `host`, by its name or as an address, means whichever machine asks for it.
pub(crate) fn is_loopback(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => is_localhost(name),
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.to_canonical().is_loopback(),
    }
}

/// Whether `name` is one that leads to the machine that looks it up (RFC 6761 §6.3).
fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// Whether a connection to `address` arrives at a listener bound to `own`.
pub(crate) fn arrives_at(address: SocketAddr, own: SocketAddr) -> bool {
    address.port() == own.port() && reaches(address.ip().to_canonical(), own.ip().to_canonical())
}

fn reaches(ip: IpAddr, bound: IpAddr) -> bool {
    ip == bound || ip.is_unspecified() || (bound.is_unspecified() && is_of_this_machine(ip))
}

/// Whether `ip` is one of this machine's own: the system binds to no others.
fn is_of_this_machine(ip: IpAddr) -> bool {
    let bound = UdpSocket::bind((ip, 0));
    !bound.is_err_and(|error| error.kind() == ErrorKind::AddrNotAvailable)
}

/// Parses a port from 1 to 65535: digits alone, since `+80` is a number to the standard parser.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port != 0)
}

/// Parses a host into its canonical spelling; `[::1]` and `::1` alike.
pub(crate) fn parse_host(text: &str) -> Option<Host<String>> {
    // `%` could be an escape or an IPv6 zone; both have readings that another parser may not share.
    if text.contains('%') {
        return None;
    }
    if let Ok(ip) = text.parse::<Ipv6Addr>() {
        return Some(from_ipv6(ip));
    }
    // One dot at the end; the parser below would take off another one. None behind brackets.
    let text = match text.strip_suffix('.') {
        Some(rest) if rest.ends_with(['.', ']']) => return None,
        Some(rest) => rest,
        None => text,
    };
    let host = Host::parse(text).ok()?;
    match &host {
        Host::Domain(name)
            if name.len() > 253
                || name.split('.').any(|label| label.is_empty() || label.len() > 63) =>
        {
            None
        }
        Host::Ipv6(ip) => Some(from_ipv6(*ip)),
        _ => Some(host),
    }
}

/// An IPv4 address in the clothes of IPv6 reaches what the IPv4 address reaches.
fn from_ipv6(ip: Ipv6Addr) -> Host<String> {
    ip.to_ipv4_mapped().map_or(Host::Ipv6(ip), Host::Ipv4)
}

#[cfg(test)]
mod tests {
    use super::{Target, parse_host};

    fn target(text: &str) -> Option<String> {
        Target::from_authority(&text.parse().ok()?, Some(443)).map(|target| target.to_string())
    }

    #[test]
    fn every_spelling_of_a_host_becomes_one() {
        for (given, canonical) in [
            ("API.OpenAI.com", "api.openai.com:443"),
            ("api.openai.com.:8443", "api.openai.com:8443"),
            ("2130706433", "127.0.0.1:443"),
            ("0x7f.1:80", "127.0.0.1:80"),
            ("0251.0376.0251.0376", "169.254.169.254:443"),
            ("[::1]:80", "[::1]:80"),
            ("[::ffff:8.8.8.8]:80", "8.8.8.8:80"),
        ] {
            assert_eq!(target(given).as_deref(), Some(canonical), "{given}");
        }
        assert_eq!(parse_host("bücher.example").unwrap().to_string(), "xn--bcher-kva.example");
        assert_eq!(parse_host("::1"), parse_host("[::1]"));
    }

    #[test]
    fn what_names_no_single_place_is_refused() {
        for bad in [
            "user@host",
            "a..b",
            "host:0",
            "host:99999",
            "host:+80",
            "[::1].:80",
            "[::1].",
            "0x7f..",
            "fe80::1%25eth0",
            "",
            "a b",
            ".",
        ] {
            assert_eq!(target(bad), None, "{bad}");
        }
    }
}
