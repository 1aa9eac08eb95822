//! The end of a proxy: what runs may finish, the rest is cut, nothing is left.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread::{self, Builder as ThreadBuilder};
use std::time::Duration;

use nono_audit::Outcome;
use nono_proxy::{Limits, ProxyConfig, ProxyHandle, StartError};
use support::{Connection, Origin, TestProxy, Wire, apart, route};

const LONG: Duration = Duration::from_mins(1);

/// A proxy with a request that its upstream has received and not answered.
async fn with_running_request() -> (TestProxy, Connection, Connection) {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let (client, upstream) = wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
    (proxy, client, upstream)
}

#[tokio::test]
async fn a_request_in_flight_finishes() {
    let (proxy, mut client, mut upstream) = with_running_request().await;
    let finish = async {
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
        client.reply().await
    };
    let ((), reply) = tokio::join!(proxy.shutdown(LONG), finish);
    assert_eq!(reply.text(), "done");
    assert_eq!(proxy.only_record().outcome, Outcome::Complete);
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut_and_recorded_as_such() {
    let (proxy, mut client, _upstream) = with_running_request().await;
    proxy.shutdown(Duration::from_millis(50)).await;
    assert!(client.rest().await.is_empty());
    assert_eq!(proxy.only_record().outcome, Outcome::Shutdown);
}

#[tokio::test]
async fn idle_connections_do_not_hold_a_shutdown_up_and_the_port_is_free_after_it() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_route(origin.addr).await;
    let mut idle = Connection::open(proxy.addr()).await;
    assert_eq!(proxy.get("/api/x").await.status, 200);
    proxy.shutdown(Duration::MAX).await;
    proxy.shutdown(Duration::MAX).await;
    assert!(idle.rest().await.is_empty());
    StdListener::bind(proxy.addr()).unwrap();
    assert_eq!(proxy.drain_audit().len(), 1, "records stay after the shutdown");
}

#[tokio::test]
async fn a_second_shutdown_can_shorten_the_first_but_not_lengthen_it() {
    let (proxy, mut client, _upstream) = with_running_request().await;
    let second = async {
        // The first has begun when nothing is accepted any more.
        while StdStream::connect(proxy.addr()).is_ok() {
            tokio::task::yield_now().await;
        }
        tokio::join!(proxy.shutdown(Duration::MAX), proxy.shutdown(Duration::from_millis(50)));
    };
    tokio::join!(proxy.shutdown(Duration::MAX), second);
    assert!(client.rest().await.is_empty());
    assert_eq!(proxy.only_record().outcome, Outcome::Shutdown);
}

/// The threads of this process that `is_one` is true of, by name and state.
fn threads(is_one: impl Fn(&str, char) -> bool) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let found = stats.filter(|stat| {
        let (before, behind) = stat.rsplit_once(") ").unwrap();
        is_one(before.split_once('(').unwrap().1, behind.chars().next().unwrap())
    });
    found.count()
}

#[test]
fn of_several_shutdowns_none_returns_before_the_end() {
    apart("of_several_shutdowns_none_returns_before_the_end", &[], async {
        let limits = Limits { workers: 1, audit_records: 4, audit_disk: 0, ..Limits::default() };
        let proxy = TestProxy::with_limits(Origin::hello().await.addr, limits).await;
        // Held up in its end is the thread of the log, by its alarm.
        let ((alarm, alarmed), (go_on, going_on)) = (mpsc::channel(), mpsc::channel::<()>());
        let going_on = Mutex::new(going_on);
        proxy.warn_by(move |_| {
            let _ = alarm.send(());
            let _ = going_on.lock().unwrap().recv();
        });
        while alarmed.try_recv().is_err() {
            proxy.get("/api/x").await;
        }
        let returned = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                let shutdown = || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(proxy.shutdown(Duration::ZERO));
                    returned.fetch_add(1, Ordering::SeqCst);
                };
                ThreadBuilder::new().name("shutdown".into()).spawn_scoped(scope, shutdown).unwrap();
            }
            // Then both are woken, and wait again for what comes after.
            while threads(|name, _| matches!(name, "nono-worker-0" | "nono-control")) > 0 {}
            while threads(|name, state| name == "shutdown" && state != 'S') > 0 {}
            let early = returned.load(Ordering::SeqCst);
            drop(go_on);
            assert_eq!(early, 0);
        });
        assert_eq!(returned.into_inner(), 2);
    });
}

/// A client of `proxy` that was refused, and closes neither the connection nor its side of it.
async fn refused(proxy: &TestProxy, request: &str, status: u16) -> Connection {
    let mut client = Connection::open(proxy.addr()).await;
    client.send(request).await;
    assert_eq!(client.message().await.status(), status);
    client
}

#[tokio::test]
async fn a_refused_client_that_does_not_close_does_not_hold_a_shutdown_up() {
    let origin = Origin::hello().await;
    let unread = "POST /api/x HTTP/1.1\r\nHost: p\r\nContent-Length: 9\r\n\r\n";
    let proxy = TestProxy::with_route(origin.addr).await;
    let other = TestProxy::with_route(origin.addr).await;
    // By a proxy that goes on, such a client is waited for to the end.
    let mut waited_for = refused(&other, unread, 401).await;
    let outlasted = async {
        while waited_for.try_send("x").await {
            tokio::task::yield_now().await;
        }
    };
    let _lingering =
        [refused(&proxy, "NONSENSE\r\n\r\n", 400).await, refused(&proxy, unread, 401).await];
    tokio::select! {
        biased;
        () = proxy.shutdown(Duration::MAX) => {}
        () = outlasted => panic!("it is waited for as long as by one that goes on"),
    }
}

#[tokio::test]
async fn a_tunnel_is_cut_at_the_end_of_the_grace() {
    let echo = Origin::echo().await;
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let mut tunnel = Connection::open(proxy.addr()).await;
    let token = proxy.proxy_authorization();
    tunnel.send(format!("CONNECT {echo} HTTP/1.1\r\nHost: {echo}\r\n{token}\r\n")).await;
    tunnel.head().await;
    proxy.shutdown(Duration::from_millis(50)).await;
    assert!(tunnel.rest().await.is_empty());
    assert_eq!(proxy.only_record().outcome, Outcome::Shutdown);
}

#[tokio::test]
async fn dropping_the_handle_stops_the_proxy() {
    let (proxy, mut client, _upstream) = with_running_request().await;
    let addr = proxy.addr();
    drop(proxy);
    assert!(client.rest().await.is_empty());
    StdListener::bind(addr).unwrap();
}

#[tokio::test]
async fn nothing_is_left_behind() {
    let origin = Origin::hello().await;
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let round = async || {
        let proxy = TestProxy::with_route(origin.addr).await;
        proxy.get("/api/x").await;
        proxy.shutdown(LONG).await;
    };
    round().await;
    let before = (count("task"), count("fd"));
    for _ in 0..1000 {
        round().await;
    }
    // The origin closes its side of a connection when it notices; a few may still be open.
    let (tasks, fds) = (count("task"), count("fd"));
    assert!(tasks <= before.0 && fds <= before.1 + 5, "{before:?} -> {:?}", (tasks, fds));
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let taken = StdListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap();
    let error = ProxyHandle::start(ProxyConfig { bind, ..ProxyConfig::default() }).await;
    let error = error.unwrap_err();
    assert!(matches!(error, StartError::Bind { .. }));
    assert!(error.to_string().contains(&bind.to_string()), "{error}");
}

#[tokio::test]
async fn wrong_configuration_does_not_start() {
    let origin = Origin::hello().await;
    let base = ProxyConfig::default;
    for (value, config) in [
        ("https://x", ProxyConfig { allowed_hosts: vec!["https://x".into()], ..base() }),
        ("*", ProxyConfig { allowed_hosts: vec!["*".into()], ..base() }),
        ("a b", ProxyConfig { denied_hosts: vec!["a b".into()], ..base() }),
        (
            "allow_all_hosts",
            ProxyConfig { allow_all_hosts: true, allowed_hosts: vec!["x".into()], ..base() },
        ),
        (
            "api",
            ProxyConfig {
                routes: vec![route("/api", origin.addr), route("api/", origin.addr)],
                ..base()
            },
        ),
    ] {
        let error = ProxyHandle::start(config).await.unwrap_err().to_string();
        assert!(error.contains(value), "{error}");
    }
}
