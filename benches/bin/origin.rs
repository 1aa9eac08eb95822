//! An upstream that costs little. It answers only those who show the real key, so a proxy that
//! forgot to inject it cannot look fast. With `--certificate` and `--private-key` it speaks TLS,
//! and HTTP/2 in it with `--http2 true`.
//!
//! | path                          | answer                                                   |
//! |-------------------------------|----------------------------------------------------------|
//! | `/small`                      | some 120 bytes                                           |
//! | `/sink`                       | how many bytes the body had, once it has ended           |
//! | `/v1/logs`, `/v1/traces`      | the same: a collector of OpenTelemetry that keeps nothing |
//! | `/bulk?bytes=N`               | N bytes                                                  |
//! | `/events?count=N&every_us=T`  | N events, one every T, each with the time of its sending |
//! | `/echo`                       | switches to WebSocket, and answers each message with it  |
//! | `/v1/chat/completions`        | what an LLM API answers                                  |

use std::convert::Infallible;
use std::net::{Ipv4Addr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bench_support::{Arguments, Failure, answer};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Builder;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// What `/small` answers: as long as a short API response.
const SMALL: &str = r#"{"id":"bench-0001","object":"list","data":[{"id":"small","object":"model","created":1700000000}],"more":false}"#;

/// What an LLM API answers.
const COMPLETION: &str = r#"{"id":"chatcmpl-bench0001","object":"chat.completion","created":1700000000,"model":"bench","choices":[{"index":0,"message":{"role":"assistant","content":"pong"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}"#;

/// What one write of `/bulk` has.
static CHUNK: [u8; 256 * 1024] = [b'x'; 256 * 1024];

/// Makes an event as long as those of LLM APIs.
const PADDING: &str =
    "................................................................................";

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let key = HeaderValue::try_from(format!("Bearer {}", arguments.required::<String>("key")?))?;
    let tls = security(&arguments)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    answer(&json!({ "port": listener.local_addr()?.port() }))?;
    let key = Arc::new(key);
    let run = |listener| {
        let (key, tls) = (Arc::clone(&key), tls.clone());
        std::thread::spawn(move || serve(listener, &key, tls.as_ref()))
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let running: Vec<_> =
        (0..threads).map(|_| listener.try_clone().map(run)).collect::<Result<_, _>>()?;
    for thread in running {
        thread.join().map_err(|_| "a thread of the origin panicked")??;
    }
    Ok(())
}

/// How the certificate is shown, if the arguments name one, and whether HTTP/2 is spoken.
fn security(arguments: &Arguments) -> Result<Option<TlsAcceptor>, Failure> {
    let Some(certificate) = arguments.optional::<String>("certificate")? else { return Ok(None) };
    let key: String = arguments.required("private-key")?;
    let is_http2 = arguments.optional("http2")?.unwrap_or(false);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)?.collect();
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain?, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![if is_http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    config.ticketer = Ticketer::new()?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// One thread with its runtime: takes its share of the connections.
fn serve(
    listener: TcpListener,
    key: &Arc<HeaderValue>,
    tls: Option<&TlsAcceptor>,
) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (key, tls) = (Arc::clone(key), tls.cloned());
            // A client that leaves ends its connection and nothing else.
            tokio::spawn(async move {
                match tls {
                    None => converse(stream, false, key).await,
                    Some(tls) => {
                        let stream = tls.accept(stream).await?;
                        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        converse(stream, is_http2, key).await
                    }
                }
            });
        }
    })
}

/// Answers the requests of a connection.
async fn converse<T>(io: T, is_http2: bool, key: Arc<HeaderValue>) -> Result<(), Failure>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| respond(request, Arc::clone(&key)));
    let io = TokioIo::new(io);
    if is_http2 {
        http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await?;
    } else {
        http1::Builder::new().serve_connection(io, service).with_upgrades().await?;
    }
    Ok(())
}

async fn respond(
    mut request: Request<Incoming>,
    key: Arc<HeaderValue>,
) -> Result<Response<Payload>, Infallible> {
    let is_known = request.headers().get(AUTHORIZATION) == Some(&*key);
    if is_known && request.uri().path() == "/echo" {
        return Ok(switch(&mut request));
    }
    let status = if is_known { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    let number = |name: &str| {
        let query = request.uri().query().unwrap_or_default();
        let pair = query.split('&').filter_map(|pair| pair.split_once('='));
        pair.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok()).unwrap_or(0)
    };
    let mut kind = "application/json";
    let payload = match request.uri().path() {
        _ if !is_known => Payload::whole("{}"),
        "/events" => {
            kind = "text/event-stream";
            Payload::events(number("count"), Duration::from_micros(number("every_us").max(1)))
        }
        "/bulk" => Payload::Bulk { left: number("bytes") },
        "/sink" | "/v1/logs" | "/v1/traces" => match count(request.into_body()).await {
            Ok(bytes) => Payload::whole(format!("{{\"bytes\":{bytes}}}")),
            Err(_) => Payload::whole("{}"),
        },
        path if path.ends_with("/chat/completions") => match count(request.into_body()).await {
            Ok(_) => Payload::whole(COMPLETION),
            Err(_) => Payload::whole("{}"),
        },
        _ => Payload::whole(SMALL),
    };
    let mut response = Response::new(payload);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Agrees to speak WebSocket from here on.
fn switch(request: &mut Request<Incoming>) -> Response<Payload> {
    let key = request.headers().get(SEC_WEBSOCKET_KEY).map_or(&[][..], HeaderValue::as_bytes);
    let accept = HeaderValue::try_from(derive_accept_key(key));
    tokio::spawn(echo(hyper::upgrade::on(request)));
    let mut response = Response::new(Payload::Whole(None));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = accept {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// Answers each message with itself, until the client leaves.
async fn echo(switched: OnUpgrade) -> Result<(), Failure> {
    let io = TokioIo::new(switched.await?);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn count(mut body: Incoming) -> Result<usize, hyper::Error> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(bytes)
}

/// The body of a response.
enum Payload {
    Whole(Option<Bytes>),
    Bulk { left: u64 },
    Events { left: u64, ticks: Interval },
}

impl Payload {
    fn whole(text: impl Into<Bytes>) -> Self {
        Self::Whole(Some(text.into()))
    }

    fn events(count: u64, every: Duration) -> Self {
        let mut ticks = interval_at(Instant::now(), every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self::Events { left: count, ticks }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut *self {
            Self::Whole(bytes) => bytes.take(),
            Self::Bulk { left: 0 } | Self::Events { left: 0, .. } => None,
            Self::Bulk { left } => {
                let length = usize::try_from(*left).unwrap_or(CHUNK.len()).min(CHUNK.len());
                *left -= length as u64;
                Some(Bytes::from_static(&CHUNK[..length]))
            }
            Self::Events { left, ticks } => {
                ready!(ticks.poll_tick(cx));
                *left -= 1;
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Some(format!("data: {:019} {PADDING}\n\n", now.as_nanos()).into())
            }
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Bulk { left } => SizeHint::with_exact(*left),
            Self::Events { .. } => SizeHint::default(),
        }
    }
}
