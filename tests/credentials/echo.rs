//! What an upstream echoes of a key never reaches the client, however late the echo comes.

use nono_proxy::RouteConfig;
use support::{Connection, TestProxy, Wire, route};

use crate::stage::{Endless, proxy};

/// More than are remembered of those that were replaced.
const RELOADS: usize = 40;

/// A request whose key was replaced many times while its upstream took its time to answer.
async fn overtaken() -> (Connection, Connection, TestProxy) {
    let wire = Wire::bind().await;
    let credential = Some(Endless::default().provided());
    let route = RouteConfig { credential, credential_key: None, ..route("/api", wire.addr) };
    let proxy = proxy(route).await;
    let head = proxy.begin("GET /api/x") + "TE: trailers\r\nConnection: te\r\n\r\n";
    let (client, upstream) = wire.request(&proxy, head).await;
    for _ in 0..RELOADS {
        assert_eq!(proxy.reload_credentials().await, []);
    }
    (client, upstream, proxy)
}

#[tokio::test]
async fn of_the_key_that_was_sent_and_of_the_one_in_use() {
    for key in [Endless::key(0), Endless::key(RELOADS)] {
        let (mut client, mut upstream, _proxy) = overtaken().await;
        let chunk = format!("{:x}\r\nyou sent {key}.\r\n", key.len() + 10);
        let answer = [
            &format!("HTTP/1.1 103 Early Hints\r\nLink: <{key}>\r\n{key}: 1\r\n\r\n"),
            &format!("HTTP/1.1 200 It was {key}\r\nTransfer-Encoding: chunked\r\n"),
            &format!("Trailer: x-end\r\nX-Echo: {key}\r\nX-{key}: 1\r\n{key}: 2\r\n\r\n"),
            &chunk,
            &format!("0\r\nX-End: {key}\r\n{key}: 3\r\n\r\n"),
        ];
        upstream.send(answer.map(String::as_str).concat()).await;
        let interim = client.only_head().await;
        assert_eq!(interim.fields(), [format!("link: <{}>", "*".repeat(key.len()))]);
        let reply = client.message().await;
        let shown = format!("{reply:?}").to_lowercase();
        assert!(!shown.contains(&key.to_lowercase()), "{shown}");
        assert_eq!(reply.values("x-echo"), ["*".repeat(key.len())]);
        assert!(shown.contains(&format!("x-end: {}", "*".repeat(key.len()))), "{shown}");
        assert_eq!(reply.content(), format!("you sent {}.", "*".repeat(key.len())).as_bytes());
    }
}
