//! Rotation under load.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::StatusCode;
use nono_proxy::{ProxyConfig, RouteConfig};
use support::{Connection, Origin, TestProxy, route};

use crate::stage::{HANG, KeyFile, answer, key, until};

const REPLACEMENTS: usize = 100;
const REQUESTS: usize = 20_000;
const CONNECTIONS: usize = 8;

/// The issuer of the keys: the newest two are valid, as where old keys get a grace period.
struct Issuer {
    file: KeyFile,
    newest: AtomicUsize,
    /// The newest that has reached the upstream.
    seen: AtomicUsize,
}

fn name(number: usize) -> String {
    format!("sk-rotated-{number:06}")
}

#[tokio::test]
async fn a_key_is_replaced_a_hundred_times_and_no_request_fails() {
    let issuer = Arc::new(Issuer {
        file: KeyFile::new(&name(0)),
        newest: AtomicUsize::new(0),
        seen: AtomicUsize::new(0),
    });
    let stale = Arc::new(Mutex::new(Vec::new()));
    let origin = {
        let (issuer, stale) = (Arc::clone(&issuer), Arc::clone(&stale));
        Origin::start(None, move |seen| {
            let number = key(seen).trim_start_matches("sk-rotated-").parse::<usize>();
            let newest = issuer.newest.load(Ordering::SeqCst);
            match number {
                Ok(number) if number + 1 >= newest => {
                    issuer.seen.fetch_max(number, Ordering::SeqCst);
                    answer(StatusCode::OK)
                }
                _ => {
                    stale.lock().unwrap().push((key(seen).to_owned(), newest));
                    answer(StatusCode::UNAUTHORIZED)
                }
            }
        })
        .await
    };
    let config =
        RouteConfig { credential_key: Some(issuer.file.locator()), ..route("/api", origin.addr) };
    let proxy = Arc::new(
        TestProxy::start(ProxyConfig { routes: vec![config], ..ProxyConfig::default() }).await,
    );
    let (done, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|n| {
            let (proxy, done, is_over) =
                (Arc::clone(&proxy), Arc::clone(&done), Arc::clone(&is_over));
            tokio::spawn(client(n, proxy, done, is_over))
        })
        .collect();
    for number in 1..=REPLACEMENTS {
        issuer.file.replace(&name(number));
        issuer.newest.store(number, Ordering::SeqCst);
        // Until it is in use everywhere: what was sent before with an older one has been
        // answered when each connection has had a turn.
        until(async || issuer.seen.load(Ordering::SeqCst), |seen| *seen == number).await;
        let reached = done.load(Ordering::SeqCst) + 2 * CONNECTIONS;
        until(async || done.load(Ordering::SeqCst), |done| *done >= reached).await;
    }
    until(async || done.load(Ordering::SeqCst), |done| *done >= REQUESTS).await;
    is_over.store(true, Ordering::SeqCst);
    for client in clients {
        let statuses = tokio::time::timeout(HANG, client).await.unwrap().unwrap();
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    }
    assert_eq!(*stale.lock().unwrap(), [], "keys that were no longer valid, and the newest then");
    assert_eq!(proxy.diagnostics(), []);
}

/// Asks over one connection until it is over, half of the time with a body, which keeps the
/// proxy from repeating the request; returns the statuses but for runs of 200.
async fn client(
    number: usize,
    proxy: Arc<TestProxy>,
    done: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
) -> Vec<u16> {
    let mut connection = Connection::open(proxy.addr()).await;
    let request = if number.is_multiple_of(2) {
        proxy.begin("GET /api/x") + "\r\n"
    } else {
        proxy.begin("POST /api/x") + "Content-Length: 2\r\n\r\n{}"
    };
    let mut statuses = vec![];
    while !is_over.load(Ordering::SeqCst) {
        connection.send(&request).await;
        statuses.push(connection.reply().await.status);
        statuses.dedup();
        done.fetch_add(1, Ordering::SeqCst);
    }
    statuses
}
