//! Every record is delivered, whatever the collector does; or it is said that it was not.

use std::convert::Infallible;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use nono_proxy::{Compression, Limits, OtlpConfig, ProxyConfig, RouteConfig};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceResponse,
};
use prost::Message as _;
use support::{
    Authority, Collector, KEY_VARIABLE, Origin, REAL_KEY, Reaction, TestProxy, Wire, answer, route,
};

use super::{ask, end, exporting, with_limits};

#[tokio::test]
async fn an_outage_delays_records_and_loses_none() {
    let is_away = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&is_away);
    let react = move |_: &[_]| answer(if state.load(Ordering::SeqCst) { 503 } else { 200 });
    let (origin, collector) = (Origin::hello().await, Collector::start(None, react).await);
    let limits = Limits { audit_records: 40, ..Limits::default() };
    let proxy = with_limits(origin.addr, collector.config(), limits).await;
    for n in 0..200 {
        // The log makes room by itself, on disk; a request may come before it has.
        while proxy.get(&format!("/api/{n}")).await.status == 503 {}
        proxy.drain_audit();
    }
    collector.until(|it| it.deliveries().len() > 1).await;
    let found = proxy.diagnostics().remove(0);
    assert_eq!((found.code, &*found.route_prefix), ("otlp_unavailable", "otlp"));
    assert!(found.message.contains("503"), "{}", found.message);
    is_away.store(false, Ordering::SeqCst);
    collector.until(|it| it.sequences().len() >= 200).await;
    assert_eq!(end(&proxy).await, []);
    assert!(collector.sequences().into_iter().eq(0..200), "each once, and in order");
    assert_eq!(collector.spans().len(), 200);
}

#[tokio::test]
async fn a_collector_that_asks_for_time_is_given_it() {
    let react = |seen: &[_]| {
        let mut reaction = answer(if seen.len() > 1 { 200 } else { 429 });
        reaction.headers_mut().insert("retry-after", "2".parse().unwrap());
        reaction
    };
    let (origin, collector) = (Origin::hello().await, Collector::start(None, react).await);
    let proxy = exporting(origin.addr, collector.config()).await;
    ask(&proxy, 1).await;
    collector.until(|it| it.spans().len() == 1).await;
    let deliveries = collector.deliveries();
    let statuses: Vec<_> = deliveries.iter().map(|it| it.status).collect();
    assert_eq!(statuses, [429, 200, 200]);
    let waited = deliveries[1].at - deliveries[0].at;
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
    assert_eq!(end(&proxy).await, []);
}

#[tokio::test]
async fn what_is_refused_for_good_is_counted_and_not_sent_again() {
    let react = |seen: &[_]| {
        if seen.len() > 2 {
            return answer(200);
        }
        // google.rpc.Status with its message alone.
        let mut reaction: Reaction = answer(400).map(|_| Full::from("\x12\x07no\nroom").boxed());
        reaction.headers_mut().insert("retry-after", "1".parse().unwrap());
        reaction
    };
    let (origin, collector) = (Origin::hello().await, Collector::start(None, react).await);
    let proxy = exporting(origin.addr, collector.config()).await;
    ask(&proxy, 1).await;
    collector.until(|it| it.deliveries().len() == 2).await;
    ask(&proxy, 1).await;
    let found = end(&proxy).await;
    assert_eq!(collector.sequences(), [1]);
    assert_eq!(collector.deliveries().len(), 4);
    let [("otlp_rejected", message)] = &*found else { panic!("{found:?}") };
    assert!(message.contains("1 log records and 1 spans"), "{message}");
    assert!(message.ends_with("400 Bad Request: no room"), "{message}");
}

#[tokio::test]
async fn a_key_that_a_collector_repeats_is_not_in_what_is_said_of_it() {
    fn refuses(status: u16, said: &str) -> Reaction {
        let length = char::from(u8::try_from(said.len()).unwrap());
        answer(status).map(|_| Full::from(format!("\x12{length}{said}")).boxed())
    }
    let (forbids, knows_not) =
        (|said: String| refuses(403, &said), |said: String| refuses(401, &said));
    let takes_none = |said: String| {
        let partial = ExportLogsPartialSuccess { rejected_log_records: 1, error_message: said };
        let body = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        answer(200).map(|_| Full::from(body).boxed())
    };
    let origin = Origin::hello().await;
    let ways = [
        (forbids as fn(String) -> Reaction, "otlp_rejected", ""),
        (takes_none, "otlp_rejected", ""),
        (knows_not, "otlp_undelivered", ")"),
    ];
    for (react, code, behind) in ways {
        let quoting = move |seen: &[support::Delivery]| {
            react(format!("bad key: {}", seen.last().unwrap().authorization))
        };
        let collector = Collector::start(None, quoting).await;
        let otlp = OtlpConfig {
            headers: vec![("Authorization".into(), "Bearer {}".into())],
            credential_key: Some(format!("env://{KEY_VARIABLE}")),
            flush: Duration::from_secs(1),
            ..collector.config()
        };
        let proxy = exporting(origin.addr, otlp).await;
        ask(&proxy, 1).await;
        let found = end(&proxy).await;
        assert_eq!(collector.deliveries()[0].authorization, format!("Bearer {REAL_KEY}"));
        let [(said, message)] = &*found else { panic!("{found:?}") };
        assert_eq!(*said, code);
        let masked = "*".repeat(REAL_KEY.len());
        assert!(message.ends_with(&format!("bad key: Bearer {masked}{behind}")), "{message}");
    }
}

#[tokio::test]
async fn an_answer_whose_body_never_ends_is_one() {
    let react = |_: &[_]| {
        let endless = stream::pending::<Result<Frame<Bytes>, Infallible>>();
        answer(200).map(|_| StreamBody::new(endless).boxed())
    };
    let (origin, collector) = (Origin::hello().await, Collector::start(None, react).await);
    let otlp = OtlpConfig { timeout: Duration::from_millis(300), ..collector.config() };
    let proxy = exporting(origin.addr, otlp).await;
    ask(&proxy, 1).await;
    collector.until(|it| it.spans().len() == 1).await;
    assert_eq!(end(&proxy).await, []);
    assert_eq!(collector.deliveries().len(), 2, "each message was sent once");
}

#[tokio::test]
async fn what_a_collector_takes_in_part_is_not_sent_again_and_the_rest_is_counted() {
    let react = |seen: &[support::Delivery]| {
        if seen.last().unwrap().path != "/v1/logs" {
            return answer(200);
        }
        let partial =
            ExportLogsPartialSuccess { rejected_log_records: 1, error_message: "too old".into() };
        let body = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        answer(200).map(|_| Full::from(body).boxed())
    };
    let (origin, collector) = (Origin::hello().await, Collector::start(None, react).await);
    let proxy = exporting(origin.addr, collector.config()).await;
    ask(&proxy, 3).await;
    let found = end(&proxy).await;
    assert_eq!(collector.sequences(), [0, 1, 2]);
    let batches = collector.taken("/v1/logs").len();
    let [("otlp_rejected", message)] = &*found else { panic!("{found:?}") };
    let counted = format!("{batches} log records and 0 spans");
    assert!(message.contains(&counted) && message.ends_with("too old"), "{message}");
}

#[tokio::test]
async fn what_is_too_large_is_sent_in_parts() {
    let react = |seen: &[support::Delivery]| {
        answer(if seen.last().unwrap().sequences.len() > 10 { 413 } else { 200 })
    };
    let (origin, collector) = (Origin::hello().await, Collector::start(None, react).await);
    let proxy = exporting(origin.addr, collector.config()).await;
    ask(&proxy, 60).await;
    assert_eq!(end(&proxy).await, []);
    assert!(collector.sequences().into_iter().eq(0..60));
    assert_eq!(collector.spans().len(), 60);
}

#[tokio::test]
async fn a_shutdown_waits_for_a_bounded_time_and_says_what_was_left() {
    let (origin, silent) = (Origin::hello().await, Wire::bind().await);
    let otlp = OtlpConfig {
        endpoint: format!("http://{}", silent.addr),
        flush: Duration::from_millis(300),
        ..OtlpConfig::default()
    };
    let proxy = exporting(origin.addr, otlp).await;
    ask(&proxy, 5).await;
    let found = end(&proxy).await;
    let [("otlp_undelivered", message)] = &*found else { panic!("{found:?}") };
    assert!(message.starts_with("5 records were not delivered"), "{message}");
    assert_eq!(proxy.drain_audit().len(), 5, "who reads them here has them all the same");
}

#[tokio::test]
async fn requests_are_compressed_unless_that_is_not_wanted() {
    let (origin, collector) = (Origin::hello().await, Collector::willing().await);
    for (compression, is_packed) in [(Compression::Gzip, true), (Compression::None, false)] {
        let proxy = exporting(origin.addr, OtlpConfig { compression, ..collector.config() }).await;
        ask(&proxy, 1).await;
        assert_eq!(end(&proxy).await, []);
        assert_eq!(collector.deliveries().last().unwrap().is_packed, is_packed);
    }
    assert_eq!(collector.sequences(), [0, 0]);
    assert_eq!(OtlpConfig::default().compression, Compression::Gzip);
}

#[tokio::test]
async fn what_is_there_at_a_shutdown_is_delivered_at_once() {
    let (origin, collector) = (Origin::hello().await, Collector::willing().await);
    let proxy = exporting(origin.addr, collector.config()).await;
    ask(&proxy, 20).await;
    assert_eq!(end(&proxy).await, []);
    assert!(collector.sequences().into_iter().eq(0..20));
}

#[tokio::test]
async fn a_collector_that_is_away_cannot_take_more_than_the_logs_room() {
    let is_away = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&is_away);
    let react = move |_: &[_]| answer(if state.load(Ordering::SeqCst) { 503 } else { 200 });
    let (origin, collector) = (Origin::hello().await, Collector::start(None, react).await);
    let limits = Limits { audit_records: 10, audit_disk: 0, ..Limits::default() };
    let proxy = with_limits(origin.addr, collector.config(), limits).await;
    for n in 0..15 {
        let status = proxy.get("/api/x").await.status;
        assert_eq!(status, if n < 10 { 200 } else { 503 });
        proxy.drain_audit();
    }
    is_away.store(false, Ordering::SeqCst);
    collector.until(|it| it.spans().len() == 10).await;
    while proxy.get("/api/x").await.status == 503 {}
    assert_eq!(end(&proxy).await, []);
    assert!(collector.sequences().into_iter().eq(0..11));
}

#[tokio::test]
async fn a_collector_over_tls_is_shown_a_credential() {
    let authority = Authority::new();
    let identity = authority.identity(&["localhost"]);
    let collector = Collector::start(Some(identity), |_| answer(200)).await;
    let origin = Origin::hello().await;
    let trusting = |tls_ca| OtlpConfig {
        endpoint: format!("https://localhost:{}/base/..", collector.addr().port()),
        headers: vec![("Authorization".into(), "Bearer {}".into())],
        credential_key: Some(format!("env://{KEY_VARIABLE}")),
        tls_ca,
        flush: Duration::from_secs(1),
        ..OtlpConfig::default()
    };
    let proxy = exporting(origin.addr, trusting(Some(authority.pem_file()))).await;
    ask(&proxy, 1).await;
    assert_eq!(end(&proxy).await, []);
    let shown: Vec<_> = collector.deliveries().into_iter().map(|it| it.authorization).collect();
    assert_eq!(shown, [format!("Bearer {REAL_KEY}"), format!("Bearer {REAL_KEY}")]);

    let proxy = exporting(origin.addr, trusting(None)).await;
    ask(&proxy, 1).await;
    let found = end(&proxy).await;
    let [("otlp_undelivered", message)] = &*found else { panic!("{found:?}") };
    assert!(message.contains("certificate"), "{message}");
    assert_eq!(collector.deliveries().len(), 2);
}

#[tokio::test]
async fn a_credential_that_is_replaced_while_the_proxy_ends_is_fetched() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("key");
    let write = move |key| {
        std::fs::write(&file, key).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        file.display().to_string()
    };
    let path = write("first-key");
    let react = move |seen: &[support::Delivery]| {
        if seen.last().unwrap().authorization == "Bearer second-key" {
            return answer(200);
        }
        write("second-key");
        answer(401)
    };
    let (origin, collector) = (Origin::hello().await, Collector::start(None, react).await);
    let otlp = OtlpConfig {
        headers: vec![("Authorization".into(), "Bearer {}".into())],
        credential_key: Some(format!("file://{path}")),
        ..collector.config()
    };
    let proxy = exporting(origin.addr, otlp).await;
    ask(&proxy, 1).await;
    // Before the record is sent, which is when others have had time to come.
    assert_eq!(end(&proxy).await, []);
    assert_eq!((collector.sequences(), collector.spans().len()), (vec![0], 1));
}

#[tokio::test]
async fn records_wait_for_the_credential_that_a_collector_takes() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("key");
    let write = |key| {
        std::fs::write(&file, key).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    };
    write("first-key");
    let react = |seen: &[support::Delivery]| match &*seen.last().unwrap().authorization {
        "Bearer second-key" => answer(200),
        // google.rpc.Status with its message alone.
        _ => answer(401).map(|_| Full::from("\x12\x06no key").boxed()),
    };
    let (origin, collector) = (Origin::hello().await, Collector::start(None, react).await);
    let otlp = OtlpConfig {
        headers: vec![("Authorization".into(), "Bearer {}".into())],
        credential_key: Some(format!("file://{}", file.display())),
        ..collector.config()
    };
    let proxy = exporting(origin.addr, otlp).await;
    ask(&proxy, 1).await;
    collector.until(|it| it.deliveries().len() == 2).await;
    let found = proxy.diagnostics();
    let message = &found.iter().find(|it| it.code == "otlp_unavailable").unwrap().message;
    assert!(message.contains("refuses its credential (401 Unauthorized: no key)"), "{message}");
    write("second-key");
    collector.until(|it| it.sequences() == [0] && it.spans().len() == 1).await;
    assert_eq!(end(&proxy).await, []);
}

#[tokio::test]
async fn a_credential_that_cannot_be_had_is_said_and_nothing_is_sent_without() {
    let (origin, collector) = (Origin::hello().await, Collector::willing().await);
    let otlp = OtlpConfig {
        headers: vec![("X-Key".into(), "{}".into())],
        credential_key: Some("env://NONO_NO_SUCH_VARIABLE".into()),
        flush: Duration::from_millis(300),
        ..collector.config()
    };
    let proxy = exporting(origin.addr, otlp).await;
    let found = proxy.diagnostics().remove(0);
    assert_eq!((found.code, &*found.route_prefix), ("credential_not_found", "otlp"));
    ask(&proxy, 1).await;
    let codes: Vec<_> = end(&proxy).await.into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, ["credential_not_found", "otlp_undelivered"]);
    assert!(collector.deliveries().is_empty());
}

#[tokio::test]
async fn a_proxy_that_is_dropped_ends_its_export_too() {
    let silent = Wire::bind().await;
    let otlp = OtlpConfig {
        endpoint: format!("http://{}", silent.addr),
        flush: Duration::from_millis(300),
        ..OtlpConfig::default()
    };
    let api = RouteConfig { credential_key: None, ..route("/api", silent.addr) };
    let config = ProxyConfig { routes: vec![api], otlp: Some(otlp), ..ProxyConfig::default() };
    let proxy = TestProxy::start(config).await;
    assert_eq!(proxy.get("/none").await.status, 404);
    // Returns, although what it has to send is never taken.
    drop(proxy);
}
