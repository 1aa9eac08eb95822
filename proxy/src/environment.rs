//! The environment that leads a client to the proxy: proxy variables for the many HTTP clients,
//! and base URLs and keys for the SDKs of the routes.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nono_credentials::Credential;

use crate::config::{ConfigError, RouteConfig, Settings};
use crate::intercept::{self, Interception};
use crate::route::Route;
use crate::stack::Shared;
use crate::token::Token;

/// Names and values, in the order in which they are best read.
type Variables = Vec<(String, String)>;

/// Variables that steer a process itself; a key in one would break or subvert the client.
const RESERVED: [&str; 26] = [
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
    "NODE_USE_ENV_PROXY",
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
    "SSL_CERT_DIR",
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
    if intercept::is_of_trust(name) {
        return Err("this variable says whom clients trust and cannot carry a key");
    }
    Ok(())
}

/// A variable that leads clients to a route.
#[derive(Debug)]
pub(crate) struct Variable {
    name: String,
    carries: Carries,
    /// The field of the configuration that it comes from.
    field: &'static str,
}

/// What a variable carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carries {
    BaseUrl,
    /// The session token, as the client's API key.
    Token,
}

/// The variables of a route, its base URL's first, then those of its key.
pub(crate) fn route_names(
    id: &str,
    config: &RouteConfig,
    credential: Option<&Credential>,
) -> Result<Vec<Variable>, ConfigError> {
    let prefix = variable(id);
    let mut found = Vec::new();
    let mut add = |name: String, carries, field| {
        if !found.iter().any(|v: &Variable| v.name == name && v.carries == carries) {
            found.push(Variable { name, carries, field });
        }
    };
    add(format!("{prefix}_BASE_URL"), Carries::BaseUrl, "prefix");
    for name in &config.base_url_vars {
        add(checked("base_url_vars", name)?, Carries::BaseUrl, "base_url_vars");
    }
    let given = config.env_var.iter().map(|name| ("env_var", name));
    let given: Vec<_> =
        given.chain(config.key_vars.iter().map(|name| ("key_vars", name))).collect();
    let Some(credential) = credential else {
        return match given.first() {
            None => Ok(found),
            Some((field, name)) => {
                Err(ConfigError::new(*field, *name, "it has no effect without `credential_key`"))
            }
        };
    };
    add(format!("{prefix}_API_KEY"), Carries::Token, "prefix");
    if let (None, Some(name)) = (&config.env_var, credential.locator().plain_name()) {
        // Not under a name that steers the process; the variable above does as well.
        let name = variable(name);
        if check_variable(&name).is_ok() {
            add(name, Carries::Token, "credential_key");
        }
    }
    for (field, name) in given {
        add(checked(field, name)?, Carries::Token, field);
    }
    Ok(found)
}

fn checked(field: &str, name: &str) -> Result<String, ConfigError> {
    check_variable(name).map_err(|reason| ConfigError::new(field, name, reason))?;
    Ok(name.to_owned())
}

/// Refuses routes that would give one variable two values. The token is the same for all.
pub(crate) fn check_names(routes: &[Route]) -> Result<(), ConfigError> {
    let mut seen = HashMap::new();
    let all = routes.iter().flat_map(|route| route.variables.iter().map(move |v| (&route.id, v)));
    for (id, Variable { name, carries, field }) in all {
        let other = seen.insert(name, *carries);
        if other.is_some_and(|other| (other, *carries) != (Carries::Token, Carries::Token)) {
            let value = if *field == "prefix" { id } else { &**name };
            let reason = format!("another variable of the routes is called {name} too");
            return Err(ConfigError::new(*field, value, reason));
        }
    }
    Ok(())
}

/// The proxy variables.
pub(crate) fn proxy_variables(shared: &Shared) -> Variables {
    let Shared { settings, token, interception, .. } = shared;
    let addr = reachable(shared.addr);
    let url = format!("http://nono:{}@{addr}", token.expose());
    let hosts = direct_hosts(settings, addr.ip());
    let direct = no_proxy(&hosts, addr);
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
    let mut java = java_options(addr, &hosts);
    if let Some(interception) = interception {
        java = format!("{java} {}", interception.java_options());
    }
    set("JAVA_TOOL_OPTIONS", &java);
    out.extend(interception.iter().flat_map(Interception::variables));
    out
}

/// The base URL of every route, and the session token under the names that SDKs read keys from.
pub(crate) fn route_variables(settings: &Settings, addr: SocketAddr, token: &Token) -> Variables {
    let addr = reachable(addr);
    let mut routes: Vec<_> = settings.routes.iter().collect();
    routes.sort_by_key(|route| &route.id);
    let mut out = Variables::new();
    // Routes may share a variable for their keys.
    let mut given = HashSet::new();
    for route in routes {
        for Variable { name, carries, .. } in &route.variables {
            let value = match carries {
                Carries::BaseUrl => format!("http://{addr}/{}", route.id),
                Carries::Token if given.insert(name) => token.expose().to_owned(),
                Carries::Token => continue,
            };
            out.push((name.clone(), value));
        }
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

/// The hosts that clients reach without the proxy: this machine, so that the base URLs are asked
/// for directly; none when loopback hosts are to be reached through the proxy.
fn direct_hosts(settings: &Settings, own: IpAddr) -> Vec<String> {
    if settings.serves_loopback() {
        return Vec::new();
    }
    let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".into(), "::1".into()];
    let own = own.to_string();
    if !hosts.contains(&own) {
        hosts.push(own);
    }
    hosts
}

/// What clients read these hosts from: names and literal addresses without spaces, the one form that
/// all read alike. Without such hosts, the proxy itself: Node would have it open a tunnel to itself.
/// Node, Go, Ruby, urllib and httpx know an address with a port, and of that only; all others take it
/// for a host that is never asked for, and send what is for the proxy as if to send on, which is
/// understood. Of IPv6 httpx cannot read one, and would ask for nothing at all.
fn no_proxy(hosts: &[String], proxy: SocketAddr) -> String {
    match (hosts, proxy) {
        ([], SocketAddr::V4(proxy)) => proxy.to_string(),
        _ => hosts.join(","),
    }
}

/// The properties that Java reads instead of variables. Without the token: every JVM prints them
/// on its standard error; an `Authenticator` takes it from `NONO_PROXY_TOKEN`.
fn java_options(addr: SocketAddr, direct: &[String]) -> String {
    let (host, port) = (addr.ip(), addr.port());
    let bracketed = |host: &String| {
        if host.contains(':') { format!("[{host}]") } else { host.clone() }
    };
    let direct = direct.iter().map(bracketed).collect::<Vec<_>>().join("|");
    let mut options = String::new();
    for scheme in ["http", "https"] {
        let _ = write!(options, "-D{scheme}.proxyHost={host} -D{scheme}.proxyPort={port} ");
    }
    // Both schemes read this one; and Basic, all there is here, is off for tunnels by default.
    let _ =
        write!(options, "-Dhttp.nonProxyHosts={direct} -Djdk.http.auth.tunneling.disabledSchemes=");
    options
}

#[cfg(test)]
mod tests {
    use super::{check_variable, java_options, no_proxy};

    #[test]
    fn no_key_stands_where_clients_look_for_whom_to_trust() {
        for name in [
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
            "GIT_SSL_CAINFO",
            "PIP_CERT",
            "CARGO_HTTP_CAINFO",
            "AWS_CA_BUNDLE",
            "npm_config_cafile",
            "NPM_CONFIG_CAFILE",
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
            "NODE_EXTRA_CA_CERTS",
            "DENO_CERT",
        ] {
            assert!(check_variable(name).is_err(), "{name}");
        }
        assert_eq!(check_variable("SSL_CERT_FILE_KEY"), Ok(()));
    }

    #[test]
    fn java_is_told_of_addresses_as_it_writes_them() {
        let hosts = ["localhost".to_owned(), "::1".into()];
        let options = java_options("[::1]:80".parse().unwrap(), &hosts);
        assert!(options.starts_with("-Dhttp.proxyHost=::1 -Dhttp.proxyPort=80 "), "{options}");
        assert!(options.contains("-Dhttp.nonProxyHosts=localhost|[::1] "), "{options}");
        let options = java_options("127.0.0.1:80".parse().unwrap(), &[]);
        assert!(options.contains("-Dhttps.proxyHost=127.0.0.1 "), "{options}");
        assert!(options.contains("-Dhttp.nonProxyHosts= "), "{options}");
    }
    #[test]
    fn the_proxy_itself_is_reached_directly_where_all_else_is_reached_through_it() {
        assert_eq!(no_proxy(&[], "127.0.0.1:80".parse().unwrap()), "127.0.0.1:80");
        assert_eq!(no_proxy(&[], "[::1]:80".parse().unwrap()), "");
        let hosts = ["localhost".to_owned(), "::1".into()];
        assert_eq!(no_proxy(&hosts, "127.0.0.1:80".parse().unwrap()), "localhost,::1");
    }
}
