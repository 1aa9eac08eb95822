//! A refused key is fetched again and the request repeated, wherever on the request the key goes
//! and whatever is spoken.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, StatusCode, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Frame;
use nono_proxy::{InjectMode, InterceptConfig, ProxyConfig, RouteConfig};
use support::{Authority, Connection, Origin, TestProxy, exchange};
use tempfile::TempDir;

use super::stage::{Script, answer, open_route, proxy};

const OLD: &str = "old-key";
const NEW: &str = "new-key";

fn rotated() -> Script {
    Script::new(&[Ok((OLD, None)), Ok((NEW, None))])
}

/// An origin that answers 401 wherever the new key is not; over TLS it offers HTTP/2.
async fn picky(authority: Option<&Authority>) -> Origin {
    let identity = authority.map(|it| it.identity(&["localhost"]).with_http2());
    Origin::start(identity, |seen| {
        let has_key = seen.target.contains(NEW) || seen.header("authorization").contains(NEW);
        answer(if has_key { StatusCode::OK } else { StatusCode::UNAUTHORIZED })
    })
    .await
}

fn targets(origin: &Origin) -> Vec<String> {
    origin.seen().into_iter().map(|seen| seen.target).collect()
}

/// Asks for what `path` makes of the session token, through `route`.
async fn ask(route: RouteConfig, path: impl Fn(&str) -> String) -> (TestProxy, u16) {
    let proxy = proxy(route).await;
    let head = format!("GET {} HTTP/1.1\r\nHost: proxy\r\n\r\n", path(&proxy.token));
    let status = exchange(proxy.addr(), &head).await.status;
    (proxy, status)
}

#[tokio::test]
async fn in_the_query() {
    let (origin, script) = (picky(None).await, rotated());
    let route = RouteConfig {
        credential: Some(script.provided()),
        inject_mode: InjectMode::QueryParam,
        query_param_name: Some("key".into()),
        ..open_route(&origin)
    };
    let (proxy, status) = ask(route, |token| format!("/api/x?a=1&key={token}&b=2")).await;
    assert_eq!(status, 200);
    let [first, second] = &targets(&origin)[..] else { panic!("{:?}", targets(&origin)) };
    assert!(first.contains("key=old-key") && first.contains("a=1"), "{first}");
    // Each parameter once, the key among them.
    assert_eq!(*second, first.replace(OLD, NEW));
    assert_eq!((script.asked(), proxy.only_record().status), (2, Some(200)));
}

#[tokio::test]
async fn in_the_path() {
    let (origin, script) = (picky(None).await, rotated());
    let route = RouteConfig {
        credential: Some(script.provided()),
        inject_mode: InjectMode::UrlPath,
        path_pattern: Some("/bot{}/".into()),
        ..open_route(&origin)
    };
    let (proxy, status) = ask(route, |token| format!("/api/bot{token}/me?b=2")).await;
    assert_eq!(status, 200);
    assert_eq!(targets(&origin), ["/botold-key/me?b=2", "/botnew-key/me?b=2"]);
    assert_eq!((script.asked(), proxy.only_record().status), (2, Some(200)));
}

/// A proxy with a route to a TLS origin, which intercepts what goes there; and where its files are.
async fn secured(authority: &Authority, origin: &Origin, script: &Script) -> (TestProxy, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let route = RouteConfig {
        credential: Some(script.provided()),
        upstream: format!("https://localhost:{}", origin.addr.port()),
        tls_ca: Some(authority.pem_file()),
        ..open_route(origin)
    };
    let intercept = InterceptConfig { ca_dir: dir.path().into(), ..InterceptConfig::default() };
    let config =
        ProxyConfig { routes: vec![route], intercept: Some(intercept), ..ProxyConfig::default() };
    (TestProxy::start(config).await, dir)
}

fn keys_over_http2(origin: &Origin) -> Vec<String> {
    let seen = origin.seen();
    assert!(seen.iter().all(|seen| seen.version == Version::HTTP_2));
    seen.iter().map(|seen| seen.header("authorization").to_owned()).collect()
}

#[tokio::test]
async fn over_http2_to_the_upstream() {
    let (authority, script) = (Authority::new(), rotated());
    let origin = picky(Some(&authority)).await;
    let (proxy, _dir) = secured(&authority, &origin, &script).await;
    assert_eq!(proxy.get("/api/x").await.status, 200);
    assert_eq!(keys_over_http2(&origin), ["Bearer old-key", "Bearer new-key"]);
    assert_eq!((script.asked(), proxy.only_record().status), (2, Some(200)));
}

/// Many on one connection are refused at once; one fetch serves them all.
#[tokio::test]
async fn over_http2_on_both_sides_inside_a_tunnel() {
    let (authority, script) = (Authority::new(), rotated());
    let origin = picky(Some(&authority)).await;
    let (proxy, _dir) = secured(&authority, &origin, &script).await;
    let sender = proxy.inside_http2(origin.addr.port()).await;
    let uri = Arc::new(format!("https://localhost:{}/x", origin.addr.port()));
    let asking = (0..8).map(|_| {
        let (mut sender, uri) = (sender.clone(), Arc::clone(&uri));
        let empty = Empty::<Bytes>::new().map_err(|never| match never {}).boxed();
        async move { sender.send_request(Request::get(&*uri).body(empty).unwrap()).await.unwrap() }
    });
    for response in futures_util::future::join_all(asking).await {
        assert_eq!(response.status(), StatusCode::OK);
    }
    assert_eq!(script.asked(), 2);
    let keys = keys_over_http2(&origin);
    assert_eq!(keys.iter().filter(|key| **key == "Bearer new-key").count(), 8);
    let records = proxy.records(9).await;
    assert!(records.iter().all(|record| record.status == Some(200)), "{records:#?}");
}

/// What is asked again still has its place among what may run.
#[tokio::test]
async fn within_the_limit_of_what_may_run() {
    let script = rotated();
    let origin = Origin::start(None, |seen| {
        if !seen.header("authorization").contains(NEW) {
            let refused = Response::builder().status(StatusCode::UNAUTHORIZED);
            return refused.body(Empty::new().boxed()).unwrap();
        }
        let begun = Frame::data(Bytes::from_static(b"begun"));
        let endless = stream::once(async { Ok(begun) }).chain(stream::pending());
        Response::new(BoxBody::new(StreamBody::new(endless)))
    })
    .await;
    let route = RouteConfig { credential: Some(script.provided()), ..open_route(&origin) };
    let config = ProxyConfig { routes: vec![route], max_connections: 1, ..ProxyConfig::default() };
    let proxy = TestProxy::start(config).await;
    let mut first = Connection::open(proxy.addr()).await;
    first.send(proxy.begin("GET /api/x") + "\r\n").await;
    assert!(first.head().await.starts_with("http/1.1 200"));
    assert_eq!(proxy.get("/api/x").await.status, 503);
}
