//! A connection that speaks as much HTTP as the benchmarks need.

use std::net::{Ipv4Addr, SocketAddr};

use bench_support::{Arguments, Failure};
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::security::Security;

/// What is read at once: bulk needs much.
const BUFFER: usize = 256 * 1024;

/// Whom to ask, and what.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    /// A `CONNECT` to send first.
    tunnel: Option<Vec<u8>>,
    /// The TLS to speak then.
    security: Option<Security>,
    /// The request with its body.
    pub(crate) request: Vec<u8>,
}

/// The head of a response.
#[derive(Debug, Clone, Copy)]
struct Head {
    status: u16,
    /// Where the body begins.
    end: usize,
    length: Option<u64>,
    is_last: bool,
}

impl Plan {
    /// The plan that the arguments give.
    pub(crate) fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let headers = |name| {
            let lines = arguments.all(name).iter().map(|line| format!("{line}\r\n"));
            lines.collect::<String>()
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.required("port")?));
        let path: String = arguments.required("path")?;
        let body: usize = arguments.optional("body")?.unwrap_or(0);
        let target: Option<String> = arguments.optional("connect")?;
        let host = target.clone().unwrap_or_else(|| address.to_string());
        let text: Option<String> = arguments.optional("json")?;
        let start = if let Some(text) = &text {
            let length = text.len();
            format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\n"
            )
        } else if body > 0 {
            format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {body}\r\n")
        } else {
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n")
        };
        let mut request = format!("{start}{}\r\n", headers("header")).into_bytes();
        request.resize(request.len() + body, b'x');
        request.extend(text.iter().flat_map(|text| text.bytes()));
        let tunnel = target.map(|target| {
            let proxy = headers("connect-header");
            format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{proxy}\r\n").into_bytes()
        });
        Ok(Self { address, tunnel, security: Security::new(arguments)?, request })
    }

    /// The same for another client, which has no sessions to resume yet.
    pub(crate) fn of_another(&self) -> Self {
        Self { security: self.security.as_ref().map(Security::of_another), ..self.clone() }
    }
}

/// What requests are sent on.
pub(crate) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    /// Connects; opens the tunnel and speaks TLS if the plan has them.
    pub(crate) async fn open(plan: &Plan, buffer: Option<usize>) -> Result<Self, Failure> {
        let stream = TcpStream::connect(plan.address).await?;
        stream.set_nodelay(true)?;
        let buffer = vec![0; buffer.unwrap_or(BUFFER)];
        let mut opened = Self { stream: Either::Left(stream), buffer, filled: 0 };
        if let Some(connect) = &plan.tunnel {
            opened.stream.write_all(connect).await?;
            let head = opened.head().await?;
            if head.status != 200 {
                return Err(format!("the tunnel was answered {}", head.status).into());
            }
            opened.consume(head.end);
        }
        opened.stream = match (&plan.security, opened.stream) {
            (Some(security), Either::Left(tcp)) => {
                Either::Right(Box::new(security.connect(tcp).await?))
            }
            (_, stream) => stream,
        };
        Ok(opened)
    }

    /// Has the connection end by a reset, or the ports would run out, since each that was closed is
    /// kept for a minute.
    pub(crate) fn reset_when_dropped(&self) -> Result<(), Failure> {
        let tcp = match &self.stream {
            Either::Left(tcp) => tcp,
            Either::Right(tls) => tls.get_ref().0,
        };
        Ok(tcp.set_zero_linger()?)
    }

    /// Sees that it did what the plan says: the first of a client's connections cannot resume a
    /// session, every other one must if any does.
    pub(crate) fn check_resumed(&self, plan: &Plan, is_first: bool) -> Result<(), Failure> {
        let is_due = plan.security.as_ref().is_some_and(Security::resumes) && !is_first;
        match &self.stream {
            Either::Right(tls) if is_due => match tls.get_ref().1.handshake_kind() {
                Some(HandshakeKind::Resumed) => Ok(()),
                kind => Err(format!("the session was not resumed: {kind:?}").into()),
            },
            _ => Ok(()),
        }
    }

    /// What it runs on.
    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Sends the plan's request and reads the whole response. Whether another may follow, and
    /// the length of the body.
    pub(crate) async fn exchange(&mut self, plan: &Plan) -> Result<(bool, u64), Failure> {
        self.stream.write_all(&plan.request).await?;
        let head = self.begin().await?;
        let mut read = self.filled as u64;
        self.filled = 0;
        while head.length.is_none_or(|length| read < length) {
            match self.stream.read(&mut self.buffer).await? {
                0 if head.length.is_none() => break,
                0 => return Err("the connection ended within a body".into()),
                more => read += more as u64,
            }
        }
        Ok((!head.is_last && head.length.is_some(), read))
    }

    /// Sends the plan's request and reads the head of a response that is to be streamed.
    pub(crate) async fn subscribe(&mut self, plan: &Plan) -> Result<(), Failure> {
        self.stream.write_all(&plan.request).await?;
        self.begin().await.map(drop)
    }

    /// What has come and was not consumed.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Forgets the first `bytes` of what has come.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.buffer.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
    }

    /// Reads more; how much came, 0 at the end.
    pub(crate) async fn fill(&mut self) -> Result<usize, Failure> {
        if self.filled == self.buffer.len() {
            return Err("more came than was made room for".into());
        }
        let more = self.stream.read(&mut self.buffer[self.filled..]).await?;
        self.filled += more;
        Ok(more)
    }

    /// Reads the head of a response that must be a success.
    async fn begin(&mut self) -> Result<Head, Failure> {
        let head = self.head().await?;
        if head.status != 200 {
            return Err(format!("answered {}", head.status).into());
        }
        self.consume(head.end);
        Ok(head)
    }

    async fn head(&mut self) -> Result<Head, Failure> {
        loop {
            if let Some(head) = parse(self.pending())? {
                return Ok(head);
            }
            if self.fill().await? == 0 {
                return Err("the connection ended before a response".into());
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Option<Head>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = response.parse(bytes)? else {
        return Ok(None);
    };
    let value = |name: &str| {
        let mut found = response.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name));
        found.next().map(|header| header.value)
    };
    let length = value("content-length").map(|v| std::str::from_utf8(v).map(str::parse::<u64>));
    Ok(Some(Head {
        status: response.code.unwrap_or_default(),
        end,
        length: length.transpose()?.transpose()?,
        is_last: value("connection").is_some_and(|v| v.eq_ignore_ascii_case(b"close")),
    }))
}
