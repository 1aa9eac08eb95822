//! A server that records what reaches it, on a thread of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::Identity;

/// A response of an origin.
pub type Reaction = Response<BoxBody<Bytes, Infallible>>;

/// What an origin received.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The request-target as it was on the wire.
    pub target: String,
    /// The version of HTTP.
    pub version: Version,
    /// The header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// The trailer fields.
    pub trailers: HeaderMap,
}

impl Seen {
    /// The value of a header, or the empty string.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A recording server. It ends with the process.
#[derive(Clone)]
pub struct Origin {
    /// Where it listens.
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    /// A plain origin that answers everything with 200 and `hello`.
    pub async fn hello() -> Self {
        Self::start(None, |_| Response::new(Full::from("hello").boxed())).await
    }

    /// An origin with `react` as its answer to everything; over TLS if it has an identity.
    pub async fn start(
        identity: Option<Identity>,
        react: impl Fn(&Seen) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Self {
            addr: listener.local_addr().unwrap(),
            seen: Arc::default(),
            connections: Arc::default(),
        };
        let tls = identity.map(|identity| TlsAcceptor::from(Arc::new(identity.server_config())));
        tokio::spawn(origin.clone().accept(listener, tls, Arc::new(react)));
        origin
    }

    /// What has reached it so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The one request that has reached it.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }

    /// How many connections were opened to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    async fn accept<F>(self, listener: TcpListener, tls: Option<TlsAcceptor>, react: Arc<F>)
    where
        F: Fn(&Seen) -> Reaction + Send + Sync + 'static,
    {
        while let Ok((stream, _)) = listener.accept().await {
            self.connections.fetch_add(1, Ordering::SeqCst);
            let (origin, tls, react) = (self.clone(), tls.clone(), Arc::clone(&react));
            tokio::spawn(async move {
                match tls {
                    None => origin.serve(stream, react).await,
                    Some(tls) => {
                        let Ok(stream) = tls.accept(stream).await else {
                            return;
                        };
                        origin.serve(stream, react).await;
                    }
                }
            });
        }
    }

    async fn serve<T, F>(self, stream: T, react: Arc<F>)
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        F: Fn(&Seen) -> Reaction + Send + Sync + 'static,
    {
        let service = service_fn(move |request: Request<Incoming>| {
            let (origin, react) = (self.clone(), Arc::clone(&react));
            async move {
                let (head, body) = request.into_parts();
                let Ok(body) = body.collect().await else { return Err("the request was cut") };
                let trailers = body.trailers().cloned().unwrap_or_default();
                let seen = Seen {
                    method: head.method.to_string(),
                    target: head.uri.to_string(),
                    version: head.version,
                    headers: head.headers,
                    body: body.to_bytes(),
                    trailers,
                };
                let reaction = react(&seen);
                origin.seen.lock().unwrap().push(seen);
                Ok(reaction)
            }
        });
        // A client that leaves is part of some tests.
        let _ = auto::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    /// A TCP server that sends every byte back, with half-close.
    pub async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(stream));
            }
        });
        addr
    }
}

async fn echo(mut stream: TcpStream) {
    let (mut from, mut to) = stream.split();
    let _ = tokio::io::copy(&mut from, &mut to).await;
}
