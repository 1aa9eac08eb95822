use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use nono_audit::Outcome;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::coop;

use super::{Connection, Destination, INTERIM_LIMIT, Line, Lost, Payload, Reply};
use crate::address::Reach;
use crate::body::Body;
use crate::exchange::Way;
use crate::target::Target;
use crate::upstream::pool::{Free, Pool};

/// Both ends of a connection.
pub(super) async fn pair() -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let near = TcpStream::connect(addr).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    (Connection::new(Line::Tcp(near, addr)), far)
}

pub(super) fn destination() -> Destination {
    let target = Target::from_authority(&"upstream.example".parse().unwrap(), Some(80)).unwrap();
    Destination::new(Way::Forward(target), Reach::Public, false).unwrap()
}

pub(super) fn request(method: Method, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    request
}

/// A body that comes from a socket: the response with `head`, of which `bytes` come before the
/// end of the connection.
pub(super) async fn payload(head: &str, bytes: &str) -> Body {
    let (connection, mut far) = pair().await;
    far.write_all(format!("{head}{bytes}").as_bytes()).await.unwrap();
    far.shutdown().await.unwrap();
    Body::payload(ask(connection, Method::GET, Body::empty()).await.unwrap().into_body())
}

/// A body that never ends, and what would end it.
pub(super) async fn endless() -> (Body, TcpStream) {
    let (connection, mut far) = pair().await;
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").await.unwrap();
    let response = ask(connection, Method::GET, Body::empty()).await.unwrap();
    (Body::payload(response.into_body()), far)
}

pub(super) async fn ask(
    connection: Connection,
    method: Method,
    body: Body,
) -> Result<Response<Payload>, Lost> {
    let mut request = request(method, body);
    match connection.exchange(&destination(), &mut request, &mut |_| {}).await? {
        Reply::Response(response) => Ok(response),
        Reply::Switched(..) => panic!("it switched protocols"),
    }
}

fn full() -> Body {
    Body::answer("hello", Outcome::Complete)
}

#[tokio::test]
async fn only_what_can_be_done_twice_is_sent_twice() {
    let interim = "HTTP/1.1 103 x\r\n\r\n";
    for (method, body, answer, is_repeatable) in [
        (Method::GET, Body::empty(), "", true),
        (Method::HEAD, Body::empty(), "", true),
        (Method::DELETE, Body::empty(), "", true),
        (Method::OPTIONS, Body::empty(), "", true),
        (Method::POST, Body::empty(), "", false),
        (Method::PATCH, Body::empty(), "", false),
        ("MKCOL".parse().unwrap(), Body::empty(), "", false),
        (Method::PUT, full(), "", false),
        (Method::GET, full(), "", false),
        (Method::GET, Body::empty(), "H", false),
        (Method::GET, Body::empty(), "HTTP/1.1 200 OK\r\n", false),
        (Method::GET, Body::empty(), interim, false),
        (Method::GET, Body::empty(), "hello", false),
    ] {
        let shown = format!("{method} {answer:?}");
        let (connection, mut far) = pair().await;
        far.write_all(answer.as_bytes()).await.unwrap();
        far.shutdown().await.unwrap();
        let lost = ask(connection, method, body).await.unwrap_err();
        assert_eq!(lost.is_repeatable, is_repeatable, "{shown}");
    }
}

#[tokio::test]
async fn a_connection_that_is_reset_is_like_one_that_is_closed() {
    let (connection, far) = pair().await;
    far.set_zero_linger().unwrap();
    drop(far);
    assert!(ask(connection, Method::GET, Body::empty()).await.unwrap_err().is_repeatable);
}

#[tokio::test]
async fn interim_responses_are_told_in_order_and_are_bounded() {
    for (count, is_whole) in [(INTERIM_LIMIT, true), (INTERIM_LIMIT + 1, false)] {
        let (connection, mut far) = pair().await;
        let one = |n| format!("HTTP/1.1 103 x\r\nN: {n}\r\nContent-Length: 9\r\n\r\n");
        let mut answer: String = (0..count).map(one).collect();
        answer += "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        far.write_all(answer.as_bytes()).await.unwrap();
        let mut told = Vec::new();
        let mut request = request(Method::GET, Body::empty());
        let mut tell =
            |head: &Response<()>| told.push(head.headers()["n"].to_str().unwrap().to_owned());
        let reply = connection.exchange(&destination(), &mut request, &mut tell).await;
        assert_eq!(reply.is_ok(), is_whole);
        let expected: Vec<_> = (0..INTERIM_LIMIT).map(|n| n.to_string()).collect();
        assert_eq!(told, expected);
    }
}

#[tokio::test]
async fn a_switch_gives_the_connection_and_what_came_early() {
    let (connection, mut far) = pair().await;
    far.write_all(b"HTTP/1.1 101 x\r\nContent-Length: 5\r\n\r\nearly").await.unwrap();
    let mut request = request(Method::GET, Body::empty());
    let reply = connection.exchange(&destination(), &mut request, &mut |_| {}).await.unwrap();
    let Reply::Switched(head, mut opened) = reply else { panic!("it did not switch") };
    assert_eq!((head.status().as_u16(), &*opened.early), (101, &b"early"[..]));
    far.write_all(b"late").await.unwrap();
    let mut late = [0; 4];
    opened.io.read_exact(&mut late).await.unwrap();
    assert_eq!(&late, b"late");
}

#[tokio::test]
async fn a_switch_within_the_request_is_refused() {
    let (connection, mut far) = pair().await;
    far.write_all(b"HTTP/1.1 101 x\r\n\r\n").await.unwrap();
    let (body, _client) = endless().await;
    let lost = ask(connection, Method::GET, body).await.unwrap_err();
    assert!(format!("{:?}", lost.failure).contains("within the request"), "{lost:?}");
}

#[tokio::test]
async fn a_connection_is_idle_as_long_as_it_is_open_and_silent() {
    let (mut connection, mut far) = pair().await;
    assert!(connection.is_idle() && connection.is_idle());
    far.write_all(b"x").await.unwrap();
    until_seen(|| !connection.is_idle()).await;
    let (mut connection, far) = pair().await;
    drop(far);
    until_seen(|| !connection.is_idle()).await;
}

#[tokio::test]
async fn what_came_is_noticed_by_a_task_that_has_used_up_its_turn() {
    let (mut connection, mut far) = pair().await;
    far.write_all(b"x").await.unwrap();
    // Lets the runtime learn of it.
    tokio::task::yield_now().await;
    while coop::has_budget_remaining() {
        coop::consume_budget().await;
    }
    assert!(!connection.is_idle());
}

/// Waits for what the runtime learns from the kernel.
pub(super) async fn until_seen(mut is_seen: impl FnMut() -> bool) {
    let wait = async {
        while !is_seen() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("it is never noticed");
}

/// A pool in which a connection can wait.
pub(super) fn pool() -> Arc<Pool> {
    Pool::new(Duration::from_mins(1), 2)
}

#[tokio::test]
async fn of_more_connections_than_may_wait_the_oldest_is_closed() {
    let (pool, to) = (pool(), destination());
    let mut ends = Vec::new();
    for _ in 0..3 {
        let (connection, far) = pair().await;
        pool.place(&to).put(connection);
        ends.push(far);
    }
    assert_eq!(ends[0].read(&mut [0]).await.unwrap(), 0, "it is closed");
    let place = pool.place(&to);
    let ready = || matches!(place.take(false), Ok(Free::Ready(_)));
    assert_eq!([ready(), ready(), ready()], [true, true, false]);
    // Those that were taken are not counted any more.
    for _ in 0..2 {
        let (connection, far) = pair().await;
        pool.place(&to).put(connection);
        ends.push(far);
    }
    assert_eq!([ready(), ready(), ready()], [true, true, false]);
}
