//! A proxy between this one and the world: everything to a host that does not bypass it goes
//! through a tunnel that it opens (RFC 9110 §9.3.6). It looks the host's name up, so the host is
//! judged by its name alone.

use http::header::PROXY_AUTHORIZATION;
use nono_credentials::{Credential, Injection, Locator, Rendered, SecretBuf};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use crate::allowlist::HostSet;
use crate::config::{self, ConfigError, ExternalProxyConfig};
use crate::target::{Target, parse_host};

/// The longest head of its answer.
const HEAD_LIMIT: usize = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Outer {
    /// Where it listens.
    pub(super) target: Target,
    bypass: HostSet,
    /// What it is shown, as Basic credentials.
    pub(crate) credential: Option<Credential>,
}

/// Why it opened no tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum OuterError {
    /// Its credentials could not be had.
    #[error("its credentials are not there: {0}")]
    Credential(nono_credentials::Error),
    /// It refused.
    #[error("it answered {0}")]
    Refused(String),
    /// It does not speak HTTP.
    #[error("it did not answer properly: {0}")]
    NoAnswer(&'static str),
    /// The connection to it failed.
    #[error("its connection failed: {0}")]
    Lost(#[from] std::io::Error),
}

impl Outer {
    /// Parses `config`.
    pub(crate) fn parse(config: &ExternalProxyConfig) -> Result<Self, ConfigError> {
        let locator = |key: &String| {
            let wrong = |error: nono_credentials::ParseError| {
                ConfigError::new("external_proxy.credential_key", key, error.to_string())
            };
            Locator::parse(key).map_err(wrong)
        };
        let locator = config.credential_key.as_ref().map(locator).transpose()?;
        let injection = || Injection::BasicAuth { name: PROXY_AUTHORIZATION };
        Ok(Self {
            target: parse_address(&config.address)?,
            bypass: HostSet::new(config::patterns("bypass_hosts", &config.bypass_hosts)?),
            credential: locator.map(|locator| Credential::new(locator, injection())),
        })
    }

    /// Whether `target` is reached through this proxy.
    pub(super) fn covers(&self, target: &Target) -> bool {
        !self.bypass.contains(target)
    }

    /// Makes `stream`, a connection to this proxy, one to `target`. What comes behind the proxy's
    /// answer stays in the socket.
    pub(super) async fn open(
        &self,
        mut stream: TcpStream,
        target: &Target,
    ) -> Result<TcpStream, OuterError> {
        let line = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        let mut head = SecretBuf::from(line.as_bytes());
        if let Some(credential) = &self.credential {
            let loaded = credential.valid().await.map_err(OuterError::Credential)?;
            if let Rendered::Header(name, value) = loaded.rendered() {
                for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                    head.extend_from_slice(part);
                }
            }
        }
        head.extend_from_slice(b"\r\n");
        stream.write_all(&head).await?;
        // What is awaited next may take long.
        drop(head);
        judge(&read_head(&mut stream).await?)?;
        Ok(stream)
    }
}

/// Reads the head of an answer, and nothing of what follows it.
async fn read_head(stream: &mut TcpStream) -> Result<Vec<u8>, OuterError> {
    const END: &[u8] = b"\r\n\r\n";
    let mut head = Vec::new();
    let mut ahead = [0; 4096];
    loop {
        let seen = stream.peek(&mut ahead).await?;
        if seen == 0 {
            return Err(OuterError::NoAnswer("it closed the connection"));
        }
        let before = head.len();
        head.extend_from_slice(&ahead[..seen]);
        let from = before.saturating_sub(END.len() - 1);
        let end = memchr::memmem::find(&head[from..], END).map(|at| from + at + END.len());
        head.truncate(end.unwrap_or(head.len()));
        let taken = head.len() - before;
        stream.read_exact(&mut ahead[..taken]).await?;
        if end.is_some() {
            return Ok(head);
        }
        if head.len() > HEAD_LIMIT {
            return Err(OuterError::NoAnswer("the head of its answer is too long"));
        }
    }
}

fn judge(head: &[u8]) -> Result<(), OuterError> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut fields);
    let no_http = OuterError::NoAnswer("it does not speak HTTP");
    if answer.parse(head).is_err() {
        return Err(no_http);
    }
    match answer.code {
        Some(200..=299) => Ok(()),
        Some(407) => Err(OuterError::Refused("407: it wants other credentials".into())),
        Some(code) => Err(OuterError::Refused(code.to_string())),
        None => Err(no_http),
    }
}

/// `host:port`, or the same as an http URL.
fn parse_address(text: &str) -> Result<Target, ConfigError> {
    let wrong = |reason: &str| ConfigError::new("external_proxy.address", text, reason);
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&whole).map_err(|_| wrong("it is neither `host:port` nor a URL"))?;
    if !url.username().is_empty() || url.password().is_some() {
        // The value is not shown: it holds a password.
        let reason = "it holds user information; keep it in `credential_key`, as `user:password`";
        let host = url.host_str().unwrap_or_default();
        return Err(ConfigError::new("external_proxy.address", host, reason));
    }
    match url.scheme() {
        "http" => {}
        "https" => return Err(wrong("a proxy that is reached over TLS is not built").unsupported()),
        _ => return Err(wrong("it must be `host:port` or an http URL")),
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has more than a host and a port"));
    }
    // An http URL leaves out port 80, so it is there also where `url` has none.
    let names_port = whole.trim_end_matches('/').rsplit_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    let host = url.host_str().and_then(parse_host).ok_or_else(|| wrong("it has no host"))?;
    match url.port_or_known_default() {
        Some(port) if names_port && port != 0 => Ok(Target::new(host, port)),
        _ => Err(wrong("it has no port")),
    }
}
