//! One request at a time over loopback, all in one process: a client, the proxy, and an upstream
//! that does the least.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use nono_proxy::{Limits, ProxyConfig, ProxyHandle, RouteConfig};
use tokio::runtime::Runtime;

use crate::Failure;
use crate::layers::runtime;

/// A proxy with one worker, and the upstream that its route leads to.
#[derive(Debug)]
pub struct RoundTrip {
    handle: ProxyHandle,
    /// What started the proxy; the workers have runtimes of their own.
    _runtime: Runtime,
    upstream: u16,
    token: String,
}

impl RoundTrip {
    /// Starts both.
    ///
    /// # Errors
    /// One of them does not start.
    pub fn start() -> Result<Self, Failure> {
        let upstream = TcpListener::bind("127.0.0.1:0")?;
        let port = upstream.local_addr()?.port();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = upstream.accept() {
                std::thread::spawn(move || answer(stream));
            }
        });
        let config = ProxyConfig {
            routes: vec![RouteConfig {
                prefix: "api".into(),
                upstream: format!("http://127.0.0.1:{port}"),
                ..RouteConfig::default()
            }],
            limits: Limits { workers: 1, ..Limits::default() },
            ..ProxyConfig::default()
        };
        let runtime = runtime()?;
        let handle = runtime.block_on(ProxyHandle::start(config))?;
        let variables = handle.env_vars();
        let token = variables.into_iter().find(|(name, _)| name == "NONO_PROXY_TOKEN");
        let (_, token) = token.ok_or("the proxy names no token")?;
        Ok(Self { handle, _runtime: runtime, upstream: port, token })
    }

    /// A connection to the upstream itself, and what asks on it once.
    ///
    /// # Errors
    /// It does not answer.
    pub fn direct(&self) -> Result<impl FnMut() -> bool + use<>, Failure> {
        self.connect(self.upstream, "/small")
    }

    /// A connection to the proxy, and what asks on it once.
    ///
    /// # Errors
    /// It does not answer.
    pub fn proxied(&self) -> Result<impl FnMut() -> bool + use<>, Failure> {
        self.connect(self.handle.addr().port(), "/api/small")
    }

    /// Takes the records out, of which there is no end otherwise.
    pub fn drain(&self) {
        drop(self.handle.drain_audit());
    }

    fn connect(&self, port: u16, path: &str) -> Result<impl FnMut() -> bool + use<>, Failure> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\r\n",
            self.token
        );
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let mut buffer = [0; 1024];
        let mut ask = move || {
            let sent = stream.write_all(request.as_bytes());
            let read = stream.read(&mut buffer).unwrap_or(0);
            sent.is_ok() && buffer[..read].starts_with(b"HTTP/1.1 200")
        };
        if !ask() {
            return Err(format!("{path}: not answered 200").into());
        }
        Ok(ask)
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer)? > 0 {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")?;
    }
    Ok(())
}
