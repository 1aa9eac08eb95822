//! A proxy between this one and the world: what goes to a host that does not bypass it goes
//! through a tunnel that it opens (RFC 9110 §9.3.6), and requests over plain http are given to it
//! to be sent on (RFC 9112 §3.2.2), since most such proxies open tunnels to port 443 alone. It
//! looks the host's name up, so the host is judged by its name alone.

use std::io;
use std::sync::Arc;

use http::header::PROXY_AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use nono_credentials::{Credential, Doubt, Injection, Rendered, SecretBuf};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::allowlist::HostSet;
use crate::config::{self, ConfigError, ExternalProxyConfig};
use crate::location::parse_url;
use crate::route::parse_reference;
use crate::target::{Scheme, Target, parse_host};
use crate::tls;

use super::Line;

/// The longest head of its answer.
const HEAD_LIMIT: usize = 16 * 1024;

/// Where it ends.
const END: &[u8] = b"\r\n\r\n";

/// See the module.
#[derive(Debug)]
pub(crate) struct Outer {
    /// Where it listens.
    pub(super) target: Target,
    /// How to speak TLS to it, if it is to be.
    pub(super) tls: Option<Arc<ClientConfig>>,
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
    Lost(#[from] io::Error),
}

impl Outer {
    /// Parses `config`.
    pub(crate) fn parse(config: &ExternalProxyConfig) -> Result<Self, ConfigError> {
        let locator = |key: &String| parse_reference("external_proxy.credential_key", key);
        let locator = config.credential_key.as_ref().map(locator).transpose()?;
        let (scheme, target) = parse_address(&config.address)?;
        let injection = || Injection::BasicAuth { name: PROXY_AUTHORIZATION };
        Ok(Self {
            target,
            tls: tls::to_proxy(config, scheme)?,
            bypass: HostSet::new(config::patterns("bypass_hosts", &config.bypass_hosts)?),
            credential: locator.map(|locator| Credential::new(locator, injection())),
        })
    }

    /// Whether `target` is reached through this proxy. What means this machine is not: there it
    /// would mean that one's.
    pub(crate) fn covers(&self, target: &Target) -> bool {
        !target.is_loopback() && !self.bypass.contains(target)
    }

    /// Makes `line`, which leads to this proxy, one to `target`. What comes behind the proxy's
    /// answer stays to be read.
    pub(super) async fn open(&self, mut line: Line, target: &Target) -> Result<Line, OuterError> {
        let first = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        let mut head = SecretBuf::from(first.as_bytes());
        if let Some(value) = self.login().await? {
            let name = PROXY_AUTHORIZATION;
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        head.extend_from_slice(b"\r\n");
        line.write_all(&head).await?;
        // What is awaited next may take long.
        drop(head);
        line.flush().await?;
        match final_status(&mut line).await? {
            status if status.is_success() => Ok(line),
            status => Err(self.refusal(status)),
        }
    }

    /// Shows the proxy its credentials, on a request that it is to send on.
    pub(super) async fn authorize(&self, headers: &mut HeaderMap) -> Result<(), OuterError> {
        if let Some(value) = self.login().await? {
            headers.insert(PROXY_AUTHORIZATION, value);
        }
        Ok(())
    }

    /// Whether an answer to a request that it was to send on is its refusal. Only one tells: all
    /// others may be those of the host.
    pub(super) fn judge(&self, status: StatusCode) -> Result<(), OuterError> {
        if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err(self.refusal(status));
        }
        Ok(())
    }

    /// That it answered with `status`. If it wants other credentials, they are fetched again for
    /// what goes through it next.
    fn refusal(&self, status: StatusCode) -> OuterError {
        if status != StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return OuterError::Refused(status.as_str().into());
        }
        if let Some(credential) = &self.credential
            && let Some(shown) = credential.current().as_deref()
        {
            credential.doubt(shown, Doubt::Rejected);
        }
        OuterError::Refused("407: it wants other credentials".into())
    }

    /// The value of `Proxy-Authorization`.
    async fn login(&self) -> Result<Option<HeaderValue>, OuterError> {
        let Some(credential) = &self.credential else { return Ok(None) };
        let loaded = credential.valid().await.map_err(OuterError::Credential)?;
        Ok(match loaded.rendered() {
            Rendered::Header(_, value) => Some(value.clone()),
            _ => None,
        })
    }
}

/// Reads heads until one is that of the answer itself: any number of interim ones may come before
/// it (RFC 9110 §15.2), which together are no longer than one may be. To switch protocols is none.
async fn final_status(line: &mut Line) -> Result<StatusCode, OuterError> {
    let mut interim = 0;
    loop {
        let head = match line {
            Line::Tcp(tcp, _) => read_head(tcp).await?,
            Line::Tls(tls) => read_head_bytewise(tls).await?,
        };
        let status = status_of(&head)?;
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(status);
        }
        interim += head.len();
        if interim > HEAD_LIMIT {
            return Err(OuterError::NoAnswer("its interim answers do not end"));
        }
    }
}

/// Reads the head of an answer, and nothing of what follows it.
async fn read_head(stream: &mut TcpStream) -> Result<Vec<u8>, OuterError> {
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

/// The same where nothing can be looked at before it is taken, and bytes cost no system call.
async fn read_head_bytewise(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, OuterError> {
    let mut head = Vec::new();
    while !head.ends_with(END) {
        if head.len() > HEAD_LIMIT {
            return Err(OuterError::NoAnswer("the head of its answer is too long"));
        }
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(OuterError::NoAnswer("it closed the connection"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(head)
}

fn status_of(head: &[u8]) -> Result<StatusCode, OuterError> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut fields);
    let is_http = answer.parse(head).is_ok();
    let status = answer.code.filter(|_| is_http).and_then(|code| StatusCode::from_u16(code).ok());
    status.ok_or(OuterError::NoAnswer("it does not speak HTTP"))
}

/// `host:port`, or the same as a URL.
fn parse_address(text: &str) -> Result<(Scheme, Target), ConfigError> {
    let field = "external_proxy.address";
    let wrong = |reason: &str| ConfigError::new(field, text, reason);
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let elsewhere = "`credential_key`, as `user:password`";
    let url = parse_url(field, &whole, elsewhere, "it is neither `host:port` nor a URL")?;
    let scheme = match url.scheme() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(wrong("it must be `host:port`, or an http or https URL")),
    };
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has more than a host and a port"));
    }
    // A URL leaves out the scheme's own port, so it is there also where `url` has none.
    let names_port = whole.trim_end_matches('/').rsplit_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    let host = url.host_str().and_then(parse_host).ok_or_else(|| wrong("it has no host"))?;
    match url.port_or_known_default() {
        Some(port) if names_port && port != 0 => Ok((scheme, Target::new(host, port))),
        _ => Err(wrong("it has no port")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;
    use nono_credentials::{Fault, Fetched, Locator, Provide, Provided, Secret, Store};
    use tokio::sync::mpsc::{Sender, channel};

    use super::*;

    /// Says each time that it is asked.
    struct Counted(Sender<()>);

    impl Provide for Counted {
        fn provide(&self) -> Result<Fetched, Fault> {
            let _ = self.0.try_send(());
            Ok(Secret::new(b"user:password".to_vec()).into())
        }
    }

    #[tokio::test]
    async fn its_challenge_has_its_credentials_fetched_again_and_nothing_else_does() {
        let config =
            ExternalProxyConfig { address: "proxy.example:3128".into(), ..Default::default() };
        let (asked, mut fetches) = channel(8);
        let locator = Locator::Provided(Provided::by("counted", Counted(asked)));
        let injection = Injection::BasicAuth { name: PROXY_AUTHORIZATION };
        let credential = Some(Credential::new(locator, injection));
        let outer = Outer { credential, ..Outer::parse(&config).unwrap() };
        let store = Store::new(Duration::from_secs(30));
        let test = async {
            outer.authorize(&mut HeaderMap::new()).await.unwrap();
            assert!(fetches.recv().await.is_some());
            assert!(outer.judge(StatusCode::FORBIDDEN).is_ok());
            assert!(fetches.is_empty());
            assert!(outer.judge(StatusCode::PROXY_AUTHENTICATION_REQUIRED).is_err());
            tokio::time::timeout(Duration::from_secs(30), fetches.recv()).await.unwrap()
        };
        tokio::select! {
            () = outer.credential.as_ref().unwrap().keep(&store) => {}
            again = test => assert!(again.is_some()),
        }
    }
}
