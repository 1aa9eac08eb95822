//! `WebSocket`s: on each, a message, its echo, and the next message.

use std::time::Instant;

use bench_support::{Arguments, Failure};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderName, HeaderValue, Request};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::connection::Plan;
use crate::requests::{Until, micros, summary};

pub(crate) async fn run(plan: &Plan, arguments: &Arguments) -> Result<Value, Failure> {
    let path: String = arguments.required("path")?;
    let mut request = format!("ws://{}{path}", plan.address).into_client_request()?;
    for line in arguments.all("header") {
        let (name, value) = line.split_once(": ").ok_or("--header is `name: value`")?;
        request.headers_mut().insert(name.parse::<HeaderName>()?, HeaderValue::try_from(value)?);
    }
    let message = "x".repeat(arguments.required("message")?);
    let connections: usize = arguments.required("connections")?;
    let mut opened = Vec::with_capacity(connections);
    for _ in 0..connections {
        opened.push(open(plan, request.clone()).await?);
    }
    let until = Until::new(arguments)?;
    let begun = Instant::now();
    let mut running: JoinSet<_> =
        opened.into_iter().map(|socket| talk(socket, message.clone(), until)).collect();
    let mut took = Vec::new();
    while let Some(done) = running.join_next().await {
        took.extend(done??);
    }
    Ok(summary(took, begun.elapsed().as_secs_f64()))
}

type Socket = tokio_tungstenite::WebSocketStream<TcpStream>;

async fn open(plan: &Plan, request: Request<()>) -> Result<Socket, Failure> {
    let stream = TcpStream::connect(plan.address).await?;
    stream.set_nodelay(true)?;
    let (socket, _) = client_async(request, stream).await?;
    Ok(socket)
}

async fn talk(mut socket: Socket, message: String, until: Until) -> Result<Vec<u64>, Failure> {
    let mut took = Vec::new();
    while !until.is_over(took.len()) {
        let begun = Instant::now();
        socket.send(Message::text(&*message)).await?;
        let echo = socket.next().await.ok_or("the socket was closed")??;
        if echo.to_text()? != message {
            return Err("what came back is not what was sent".into());
        }
        took.push(micros(begun));
    }
    Ok(took)
}
