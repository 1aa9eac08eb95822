//! Requests over HTTP/2: on each connection as many at once as it has streams, each followed by
//! the next as soon as it is answered.

use std::time::Instant;

use bench_support::{Arguments, Failure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::connection::{Connection, Plan};
use crate::requests::{Until, downloaded, micros, summary};

/// Large enough that a download never waits for the client to give leave.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

type Sender = SendRequest<Empty<Bytes>>;

pub(crate) async fn run(plan: &Plan, arguments: &Arguments) -> Result<Value, Failure> {
    let connections: usize = arguments.required("connections")?;
    let streams: usize = arguments.required("streams")?;
    let request = request(arguments)?;
    let mut senders = Vec::with_capacity(connections);
    for _ in 0..connections {
        senders.push(open(plan).await?);
    }
    let until = Until::new(arguments)?;
    let begun = Instant::now();
    let mut running: JoinSet<_> = senders
        .iter()
        .flat_map(|sender| std::iter::repeat_n(sender, streams))
        .map(|sender| ask(sender.clone(), request.clone(), until))
        .collect();
    let mut took = Vec::new();
    while let Some(done) = running.join_next().await {
        took.extend(done??);
    }
    Ok(summary(took, begun.elapsed().as_secs_f64()))
}

/// One download.
pub(crate) async fn bulk(plan: &Plan, arguments: &Arguments) -> Result<Value, Failure> {
    let expected = arguments.required("expect")?;
    let mut sender = open(plan).await?;
    let begun = Instant::now();
    let bytes = exchange(&mut sender, request(arguments)?).await?;
    downloaded(bytes, expected, begun)
}

async fn ask(
    mut sender: Sender,
    request: Request<Empty<Bytes>>,
    until: Until,
) -> Result<Vec<u64>, Failure> {
    let mut took = Vec::new();
    while !until.is_over(took.len()) {
        let begun = Instant::now();
        exchange(&mut sender, request.clone()).await?;
        took.push(micros(begun));
    }
    Ok(took)
}

/// Sends the request and reads the whole response; the length of its body.
async fn exchange(sender: &mut Sender, request: Request<Empty<Bytes>>) -> Result<u64, Failure> {
    sender.ready().await?;
    let mut response = sender.send_request(request).await?;
    if response.status() != 200 {
        return Err(format!("answered {}", response.status()).into());
    }
    let mut read = 0;
    while let Some(frame) = response.body_mut().frame().await {
        read += frame?.data_ref().map_or(0, Bytes::len) as u64;
    }
    Ok(read)
}

async fn open(plan: &Plan) -> Result<Sender, Failure> {
    let stream = Connection::open(plan, Some(4096)).await?.into_stream();
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    // How it ended is seen by the requests on it.
    tokio::spawn(connection);
    Ok(sender)
}

fn request(arguments: &Arguments) -> Result<Request<Empty<Bytes>>, Failure> {
    let path: String = arguments.required("path")?;
    let port: u16 = arguments.required("port")?;
    let target: Option<String> = arguments.optional("connect")?;
    let host = target.unwrap_or_else(|| format!("localhost:{port}"));
    let mut request = Request::get(format!("https://{host}{path}"));
    for line in arguments.all("header") {
        let (name, value) = line.split_once(": ").ok_or("--header is `name: value`")?;
        request = request.header(name, value);
    }
    Ok(request.body(Empty::new())?)
}
