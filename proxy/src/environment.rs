//! The environment that leads a client to the proxy: proxy variables for the many HTTP clients,
//! and base URLs and keys for the SDKs of the routes.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::{ConfigError, Settings};
use crate::route::Route;
use crate::token::Token;

/// Names and values, in the order in which they are best read.
type Variables = Vec<(String, String)>;

/// Variables that steer a process itself; a key in one would break or subvert the client.
const RESERVED: [&str; 24] = [
    "ALL_PROXY",
    "BASH_ENV",
    "ENV",
    "GCONV_PATH",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "LOGNAME",
    "NODE_OPTIONS",
    "NONO_NO_PROXY",
    "NONO_PROXY_TOKEN",
    "NO_PROXY",
    "PATH",
    "PERL5LIB",
    "PERL5OPT",
    "PWD",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RUBYOPT",
    "SHELL",
    "TMPDIR",
];

/// Turns any text into the name of an environment variable: `my-api` into `MY_API`.
pub(crate) fn variable(text: &str) -> String {
    let word = |c: char| {
        if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }
    };
    let name: String = text.chars().map(word).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// Judges the name of a variable that the configuration gives.
pub(crate) fn check_variable(name: &str) -> Result<(), &'static str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err("it is not the name of an environment variable");
    }
    let upper = name.to_ascii_uppercase();
    if upper.starts_with("LD_") || upper.starts_with("DYLD_") || RESERVED.contains(&&*upper) {
        return Err("this variable steers the process itself and cannot carry a key");
    }
    Ok(())
}

/// Refuses routes whose variables have the same name.
pub(crate) fn check_names(routes: &[Route]) -> Result<(), ConfigError> {
    let mut seen = HashSet::new();
    for route in routes {
        for name in variables_of(route) {
            if !seen.insert(name.clone()) {
                let reason = format!("another route's variable is called {name} too");
                return Err(ConfigError::new("prefix", &*route.id, reason));
            }
        }
    }
    Ok(())
}

/// The names of a route's variables: its base URL's first, then those of its key.
fn variables_of(route: &Route) -> Vec<String> {
    let prefix = variable(&route.id);
    let mut names = vec![format!("{prefix}_BASE_URL")];
    if route.credential.is_some() {
        names.push(format!("{prefix}_API_KEY"));
        let extra = route.key_variables.iter().filter(|name| **name != names[1]);
        names.extend(extra.cloned().collect::<Vec<_>>());
    }
    names
}

/// The proxy variables.
pub(crate) fn proxy_variables(settings: &Settings, addr: SocketAddr, token: &Token) -> Variables {
    let addr = reachable(addr);
    let url = format!("http://nono:{}@{addr}", token.expose());
    let direct = no_proxy(settings, addr.ip());
    let mut out = Variables::new();
    let mut set = |name: &str, value: &str| out.push((name.into(), value.into()));
    // Clients differ in which case they read; plain http honours only the lower one in some.
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
    {
        set(name, &url);
    }
    for name in ["NO_PROXY", "no_proxy", "NONO_NO_PROXY"] {
        set(name, &direct);
    }
    set("NONO_PROXY_TOKEN", token.expose());
    set("NODE_USE_ENV_PROXY", "1");
    out
}

/// The base URL of every route, and the session token under the names that SDKs read keys from.
pub(crate) fn route_variables(settings: &Settings, addr: SocketAddr, token: &Token) -> Variables {
    let addr = reachable(addr);
    let mut routes: Vec<_> = settings.routes.iter().collect();
    routes.sort_by_key(|route| &route.id);
    let mut out = Variables::new();
    for route in routes {
        let mut names = variables_of(route).into_iter();
        out.extend(names.next().map(|name| (name, format!("http://{addr}/{}", route.id))));
        out.extend(names.map(|name| (name, token.expose().to_owned())));
    }
    out
}

/// Where a client on this machine reaches a listener bound to `addr`.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// What clients reach without the proxy: this machine, so that the base URLs are asked for
/// directly; nothing when loopback hosts are to be reached through the proxy. Names and literal
/// addresses without spaces, the one form that all clients read alike.
fn no_proxy(settings: &Settings, own: IpAddr) -> String {
    if settings.serves_loopback() {
        return String::new();
    }
    let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".into(), "::1".into()];
    let own = own.to_string();
    if !hosts.contains(&own) {
        hosts.push(own);
    }
    hosts.join(",")
}
