//! A credential from its first fetch to its expiry.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::StatusCode;
use nono_audit::Outcome;
use nono_credentials::{Fault, Fetched, Provide, Provided, Secret};
use nono_proxy::{Limits, ProxyConfig, RouteConfig};
use support::{Connection, Origin, TestProxy, exchange, route};

use crate::stage::{
    Endless, KeyFile, Script, answer, judge, keys, keys_seen, open_route, proxy, until,
};

#[tokio::test]
async fn a_key_that_appears_later_is_picked_up_without_a_restart() {
    let origin = Origin::hello().await;
    let file = KeyFile::missing();
    let proxy =
        proxy(RouteConfig { credential_key: Some(file.locator()), ..open_route(&origin) }).await;
    let reply = proxy.get("/api/x").await;
    assert_eq!((reply.status, reply.code()), (503, "credential_not_found".into()));
    assert!(reply.text().contains(&file.locator()) && reply.text().contains("mode 600"));
    assert_eq!(proxy.diagnostics().len(), 1);
    file.replace("sk-now-it-is-here");
    let reply = until(async || proxy.get("/api/x").await, |reply| reply.status != 503).await;
    assert_eq!(reply.status, 200);
    assert_eq!(keys_seen(&origin), ["sk-now-it-is-here"]);
    assert_eq!(proxy.diagnostics(), []);
}

#[tokio::test]
async fn a_replaced_file_is_noticed_and_its_old_key_is_still_taken_out_of_answers() {
    let origin = Origin::start(None, |seen| {
        // Echoes, whatever it is asked, the first key.
        let _ = seen;
        http::Response::new(http_body_util::BodyExt::boxed(http_body_util::Full::from(
            "sk-the-first-key sk-the-second-key",
        )))
    })
    .await;
    let file = KeyFile::new("sk-the-first-key");
    let proxy =
        proxy(RouteConfig { credential_key: Some(file.locator()), ..open_route(&origin) }).await;
    assert_eq!(proxy.get("/api/x").await.text(), "**************** sk-the-second-key");
    file.replace("sk-the-second-key\n");
    let stars = "**************** *****************";
    until(async || proxy.get("/api/x").await, |reply| reply.text() == stars).await;
    // That one may have been on its way with the old key when the new one was read.
    assert_eq!(proxy.get("/api/x").await.text(), stars);
    assert_eq!(keys_seen(&origin).last().unwrap(), "sk-the-second-key");
}

#[tokio::test]
async fn a_value_is_fetched_again_before_it_expires() {
    let origin = Origin::hello().await;
    let life = Some(Duration::from_secs(1));
    let script = Script::new(&[Ok(("first-key", life)), Ok(("second-key", None))]);
    let route = RouteConfig { credential: Some(script.provided()), ..open_route(&origin) };
    let proxy = proxy(route).await;
    assert_eq!(proxy.get("/api/x").await.status, 200);
    until(async || script.asked(), |asked| *asked == 2).await;
    // It has been asked, and its answer is on its way.
    let is_second = |_: &_| keys_seen(&origin).last().is_some_and(|key| key == "second-key");
    let status = until(async || proxy.get("/api/x").await.status, is_second).await;
    assert_eq!((status, &*keys_seen(&origin)[0]), (200, "first-key"));
}

#[tokio::test]
async fn an_expired_value_is_not_sent() {
    let origin = Origin::hello().await;
    let life = Some(Duration::from_millis(300));
    let script = Script::new(&[Ok(("only-key", life)), Err("the issuer is down")]);
    let route = RouteConfig { credential: Some(script.provided()), ..open_route(&origin) };
    let started = Instant::now();
    let proxy = proxy(route).await;
    let reply = until(async || proxy.get("/api/x").await, |reply| reply.status != 200).await;
    assert!(started.elapsed() >= Duration::from_millis(300), "given up before its time");
    assert_eq!((reply.status, reply.code()), (503, "credential_unavailable".into()));
    assert!(reply.text().contains("the issuer is down"), "{}", reply.text());
    assert!(proxy.diagnostics()[0].message.contains("the issuer is down"));
}

#[tokio::test]
async fn a_ttl_is_an_expiry_where_the_source_names_none() {
    let origin = Origin::hello().await;
    let script = Script::new(&[Ok(("first-key", None)), Ok(("second-key", None))]);
    let route = RouteConfig {
        credential: Some(script.provided()),
        credential_ttl: Some(Duration::from_millis(500)),
        ..open_route(&origin)
    };
    let proxy = proxy(route).await;
    until(async || script.asked(), |asked| *asked > 2).await;
    assert_eq!(proxy.get("/api/x").await.status, 200);
    assert_eq!(keys_seen(&origin), ["second-key"]);
}

#[tokio::test]
async fn a_refused_key_is_fetched_again_and_the_request_repeated() {
    let valid = keys(&["new-key"]);
    let origin = judge(&valid).await;
    let script = Script::new(&[Ok(("old-key", None)), Ok(("new-key", None))]);
    let route = RouteConfig { credential: Some(script.provided()), ..open_route(&origin) };
    let proxy = proxy(route).await;
    assert_eq!(proxy.get("/api/x").await.status, 200);
    assert_eq!(keys_seen(&origin), ["old-key", "new-key"]);
    assert_eq!(script.asked(), 2);
    let record = proxy.only_record();
    assert_eq!(record.status, Some(200));
}

#[tokio::test]
async fn a_request_with_a_body_is_not_repeated_but_the_next_has_the_new_key() {
    let valid = keys(&["new-key"]);
    let origin = judge(&valid).await;
    let script = Script::new(&[Ok(("old-key", None)), Ok(("new-key", None))]);
    let route = RouteConfig { credential: Some(script.provided()), ..open_route(&origin) };
    let proxy = proxy(route).await;
    let post = proxy.begin("POST /api/x") + "Content-Length: 2\r\n\r\n{}";
    assert_eq!(exchange(proxy.addr(), &post).await.status, 401);
    assert_eq!(keys_seen(&origin), ["old-key"]);
    // That the fetch has been asked for is not that its answer is there.
    until(async || exchange(proxy.addr(), &post).await.status, |status| *status == 200).await;
    assert_eq!(script.asked(), 2);
}

#[tokio::test]
async fn refusals_that_are_not_the_keys_fault_are_passed_on_and_cause_few_fetches() {
    let origin = judge(&keys(&[])).await;
    let script = Script::new(&[Ok(("the-key", None))]);
    let route = RouteConfig { credential: Some(script.provided()), ..open_route(&origin) };
    let proxy = proxy(route).await;
    for _ in 0..20 {
        assert_eq!(proxy.get("/api/x").await.status, 401);
    }
    assert_eq!(origin.seen().len(), 20, "none was repeated with the same key");
    assert!(script.asked() <= 3, "{}", script.asked());
}

#[tokio::test]
async fn refusals_cause_few_fetches_also_where_each_brings_another_key() {
    for status in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
        let origin = Origin::start(None, move |_| answer(status)).await;
        let keys = Endless::default();
        let proxy =
            proxy(RouteConfig { credential: Some(keys.provided()), ..open_route(&origin) }).await;
        for _ in 0..200 {
            assert_eq!(proxy.get("/api/x").await.status, status);
        }
        // At the start, at the first refusal, and, on a slow machine, after pauses that double.
        assert!(keys.asked() <= 6, "{status}: {}", keys.asked());
    }
}

#[tokio::test]
async fn a_reload_fetches_everything_and_says_what_failed() {
    let origin = Origin::hello().await;
    let script = Script::new(&[Ok(("first-key", None)), Ok(("second-key", None)), Err("gone")]);
    let route = RouteConfig { credential: Some(script.provided()), ..open_route(&origin) };
    let proxy = proxy(route).await;
    assert_eq!(proxy.reload_credentials().await, []);
    assert_eq!(proxy.get("/api/x").await.status, 200);
    let failed = proxy.reload_credentials().await;
    assert_eq!(failed[0].code, "credential_unavailable");
    assert!(failed[0].message.contains("gone"));
    assert_eq!(proxy.get("/api/x").await.status, 200, "a valid key is not given up");
    assert_eq!(keys_seen(&origin), ["second-key", "second-key"]);
}

#[tokio::test]
async fn many_that_need_it_at_once_make_one_fetch_and_two_routes_share_it() {
    let origin = Origin::hello().await;
    let script = Script::new(&[Err("not yet"), Ok(("the-key", None))]);
    let route = |prefix: &str| RouteConfig {
        credential: Some(script.provided()),
        prefix: prefix.into(),
        ..open_route(&origin)
    };
    let provided = script.provided();
    let routes = ["/a", "/b"]
        .map(|prefix| RouteConfig { credential: Some(provided.clone()), ..route(prefix) });
    let proxy =
        TestProxy::start(ProxyConfig { routes: routes.into(), ..ProxyConfig::default() }).await;
    let asked = script.asked();
    assert!(asked <= 2, "{asked}");
    until(async || proxy.get("/a/x").await, |reply| reply.status == 200).await;
    let before = script.asked();
    futures_util::future::join_all((0..20).map(|_| proxy.get("/a/x"))).await;
    assert_eq!(script.asked(), before);
}

/// Waits to be let go, and counts who asked.
struct Hang(Mutex<Receiver<()>>, Arc<AtomicUsize>);

impl Provide for Hang {
    fn provide(&self) -> Result<Fetched, Fault> {
        self.1.fetch_add(1, Ordering::SeqCst);
        let _ = self.0.lock().unwrap().recv();
        Ok(Secret::new("the-late-key".into()).into())
    }
}

#[tokio::test]
async fn a_source_that_hangs_holds_up_the_start_no_longer_than_its_limit() {
    let origin = Origin::hello().await;
    let (end, wait) = channel();
    let asked = Arc::new(AtomicUsize::new(0));
    let provided = Provided::by("hanging", Hang(wait.into(), Arc::clone(&asked)));
    let hanging = RouteConfig {
        credential: Some(provided),
        prefix: "/hanging".into(),
        ..open_route(&origin)
    };
    let limits = Limits { credential: Duration::from_millis(200), ..Limits::default() };
    let routes = vec![hanging, route("/api", origin.addr)];
    let proxy = TestProxy::start(ProxyConfig { routes, limits, ..ProxyConfig::default() }).await;
    assert!(proxy.diagnostics()[0].message.contains("within 0.2 s"), "{:?}", proxy.diagnostics());
    assert_eq!(proxy.get("/api/x").await.status, 200);
    assert_eq!(proxy.get("/hanging/x").await.status, 503);
    // One that has not answered is not asked again, but taken when it does.
    let failed = proxy.reload_credentials().await;
    assert!(failed[0].message.contains("has not answered"), "{}", failed[0].message);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    drop(end);
    until(async || proxy.get("/hanging/x").await, |reply| reply.status == 200).await;
    assert_eq!(keys_seen(&origin).last().unwrap(), "the-late-key");
}

/// How long the first key is valid that a slow source gives.
const LIFE: Duration = Duration::from_millis(100);

/// Gives a key that expires, and for the next one waits to be let go.
struct Slow(Mutex<Receiver<()>>, Arc<AtomicUsize>);

impl Provide for Slow {
    fn provide(&self) -> Result<Fetched, Fault> {
        let secret = Secret::new("the-slow-key".into());
        if self.1.fetch_add(1, Ordering::SeqCst) == 0 {
            return Ok(Fetched { secret, expires: Some(Instant::now() + LIFE) });
        }
        let _ = self.0.lock().unwrap().recv();
        Ok(secret.into())
    }
}

/// Also with a body, of which nothing is asked for until then.
#[tokio::test]
async fn the_request_of_a_client_that_leaves_meanwhile_is_not_sent() {
    let origin = Origin::hello().await;
    let (end, wait) = channel();
    let asked = Arc::new(AtomicUsize::new(0));
    let provided = Provided::by("slow", Slow(wait.into(), Arc::clone(&asked)));
    let route = RouteConfig { credential: Some(provided), ..open_route(&origin) };
    let limits = Limits { credential: Duration::from_mins(1), ..Limits::default() };
    let routes = vec![route];
    let proxy = TestProxy::start(ProxyConfig { routes, limits, ..ProxyConfig::default() }).await;
    let expiry = Instant::now() + LIFE;
    until(async || Instant::now(), |now| *now > expiry).await;
    for body in ["Content-Length: 2\r\n\r\nhi", "Content-Length: 9\r\n\r\nhi"] {
        let mut client = Connection::open(proxy.addr()).await;
        client.send(proxy.begin("POST /api/x") + body).await;
        until(async || proxy.active().len(), |running| *running == 1).await;
        until(async || asked.load(Ordering::SeqCst), |asked| *asked == 2).await;
        drop(client);
        assert_eq!(proxy.records(1).await[0].outcome, Outcome::ClientAbort);
    }
    drop(end);
    assert_eq!(proxy.get("/api/x").await.status, 200);
    assert_eq!(origin.only().method, "GET");
}
