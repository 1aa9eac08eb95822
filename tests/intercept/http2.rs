//! HTTP/2 inside a tunnel.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, StreamBody, combinators::BoxBody};
use nono_audit::{Mode, Outcome};
use nono_proxy::{InterceptConfig, ProxyConfig, RouteConfig};
use support::{Authority, REAL_KEY, Seen, TestProxy, Wire};

use super::Setting;

pub(super) fn get(port: u16, path: &str) -> Request<BoxBody<Bytes, io::Error>> {
    let empty = Empty::new().map_err(|never| match never {}).boxed();
    Request::get(format!("https://localhost:{port}{path}")).body(empty).unwrap()
}

async fn text(response: Response<hyper::body::Incoming>) -> String {
    let whole = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(whole.to_vec()).unwrap()
}

#[tokio::test]
async fn many_requests_at_once_share_a_connection_and_are_recorded_each() {
    let setting = Setting::new().await;
    let sender = setting.proxy.inside_http2(setting.port()).await;
    let asking = (0..50).map(|n| {
        let mut sender = sender.clone();
        let request = get(setting.port(), &format!("/{n}"));
        async move { sender.send_request(request).await.unwrap() }
    });
    for response in futures_util::future::join_all(asking).await {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(text(response).await, "GET 0");
    }
    let records = setting.proxy.records(51).await;
    assert!(records.iter().all(|record| record.mode == Mode::ConnectIntercept));
    assert!(records.iter().all(|record| record.outcome == Outcome::Complete), "{records:#?}");
    let seen = setting.origin.seen();
    let bearer = format!("Bearer {REAL_KEY}");
    assert!(seen.iter().all(|seen: &Seen| seen.header("authorization") == bearer));
}

#[tokio::test]
async fn each_request_is_judged() {
    let setting = Setting::with(|mut config| {
        config.routes[0].endpoint_rules = vec![("GET".into(), "/ok".into())];
        config
    })
    .await;
    let mut sender = setting.proxy.inside_http2(setting.port()).await;
    let port = setting.port();
    for (request, status) in [
        (get(port, "/ok"), 200),
        (get(port, "/not"), 403),
        (get(1, "/ok"), 421),
        (get(port, "/ok"), 200),
    ] {
        let uri = request.uri().clone();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), status, "{uri}");
    }
    let mut request = get(port, "/ok");
    request.headers_mut().insert("host", "other.example".parse().unwrap());
    assert_eq!(sender.send_request(request).await.unwrap().status(), 421);
    assert_eq!(setting.origin.seen().len(), 2);
}

#[tokio::test]
async fn trailers_pass_but_for_those_that_are_keys() {
    let setting = Setting::new().await;
    let mut sender = setting.proxy.inside_http2(setting.port()).await;
    for (name, status) in [("x-sum", 200), ("authorization", 400)] {
        let mut trailers = HeaderMap::new();
        trailers.insert(name, "theirs".parse().unwrap());
        let frames = [Ok(Frame::data(Bytes::from("a"))), Ok(Frame::trailers(trailers))];
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
        let mut request = get(setting.port(), "/").map(|_| body);
        *request.method_mut() = http::Method::POST;
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), status, "{name}");
    }
    let seen = setting.origin.only();
    assert_eq!(seen.trailers["x-sum"], "theirs");
}

#[tokio::test]
async fn crumbs_of_cookies_become_one_field() {
    let setting = Setting::new().await;
    let mut sender = setting.proxy.inside_http2(setting.port()).await;
    let mut request = get(setting.port(), "/");
    for crumb in ["a=1", "b=2"] {
        request.headers_mut().append("cookie", crumb.parse().unwrap());
    }
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    let seen = setting.origin.only();
    assert_eq!(seen.header("cookie"), "a=1; b=2");
}

/// As gRPC says how a call ended.
#[tokio::test]
async fn the_trailers_of_a_response_come_through() {
    let setting = Setting::new().await;
    let mut sender = setting.proxy.inside_http2(setting.port()).await;
    let response = sender.send_request(get(setting.port(), "/trailers")).await.unwrap();
    let whole = response.into_body().collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
}

/// An upstream that speaks HTTP/1.1 may put anything there, and clients of HTTP/2 take none of it.
#[tokio::test]
async fn trailers_of_a_response_that_are_of_its_connection_stay_there() {
    let authority = Authority::new();
    let wire = Wire::bind().await;
    let dir = tempfile::tempdir().unwrap();
    let route = RouteConfig {
        upstream: format!("https://localhost:{}", wire.addr.port()),
        tls_ca: Some(authority.pem_file()),
        ..support::route("/api", wire.addr)
    };
    let intercept = InterceptConfig { ca_dir: dir.path().into(), ..InterceptConfig::default() };
    let config =
        ProxyConfig { routes: vec![route], intercept: Some(intercept), ..ProxyConfig::default() };
    let proxy = TestProxy::start(config).await;
    let mut sender = proxy.inside_http2(wire.addr.port()).await;
    let answering = async {
        let mut upstream = wire.accept_secured(authority.identity(&["localhost"])).await;
        upstream.message().await;
        let trailers = "Connection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nTransfer-Encoding: x\r\n\
                        Content-Length: 9\r\ngrpc-status: 0\r\n";
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        upstream.send(format!("{head}3\r\nabc\r\n0\r\n{trailers}\r\n")).await;
        upstream
    };
    let asking = async {
        let response = sender.send_request(get(wire.addr.port(), "/")).await.unwrap();
        response.into_body().collect().await.unwrap()
    };
    let (whole, _upstream) = tokio::join!(asking, answering);
    let trailers: Vec<_> = whole.trailers().unwrap().keys().map(HeaderName::as_str).collect();
    assert_eq!(trailers, ["grpc-status"]);
    assert_eq!(whole.to_bytes(), "abc");
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_and_reaches_nobody() {
    let setting = Setting::new().await;
    let mut sender = setting.proxy.inside_http2(setting.port()).await;
    let mut request = get(setting.port(), "/");
    for n in 0..80 {
        let name: HeaderName = format!("x-{n}").parse().unwrap();
        request.headers_mut().insert(name, "v".repeat(1024).parse().unwrap());
    }
    let answered = sender.send_request(request).await;
    assert!(answered.is_err() || answered.is_ok_and(|response| response.status() == 431));
    assert!(setting.origin.seen().is_empty());
}

#[tokio::test]
async fn a_connection_on_which_nothing_runs_is_closed() {
    let setting = Setting::with(|mut config| {
        config.limits.head = Duration::from_millis(200);
        config
    })
    .await;
    let mut sender = setting.proxy.inside_http2(setting.port()).await;
    let response = sender.send_request(get(setting.port(), "/")).await.unwrap();
    assert_eq!(text(response).await, "GET 0");
    let closed = async {
        while sender.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.unwrap();
}
