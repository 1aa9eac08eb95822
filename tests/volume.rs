//! Many records at once: none is lost, none comes twice, and memory stays within its bound.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nono_audit::{Consumer, FileOptions, FileSink, Waited, verify};
use nono_proxy::{Limits, ProxyConfig};
use support::{Connection, Origin, TestProxy, route};
use tempfile::TempDir;

const LONG: Duration = Duration::from_mins(1);
/// Names the file to the process that is to be killed.
const VICTIM: &str = "NONO_TEST_VICTIM";

/// Takes all records until the log ends, resting after each batch. Returns their numbers.
#[expect(clippy::disallowed_methods, reason = "it is to be slow, and waits for nothing")]
fn take_slowly(consumer: &mut Consumer, rest: Duration) -> Vec<u64> {
    let mut seen = Vec::new();
    while consumer.wait(LONG) == Waited::Ready {
        seen.extend(consumer.take().unwrap().iter().map(|record| record.sequence));
        thread::sleep(rest);
    }
    seen
}

/// Sends requests on one connection until `count` were let through, or the proxy is gone.
async fn send(addr: SocketAddr, request: &str, count: usize) {
    let mut connection = Connection::open(addr).await;
    let mut passed = 0;
    while passed < count {
        connection.send(request).await;
        // A log that is full is one for a moment: it makes room by itself.
        passed += usize::from(connection.reply().await.status == 200);
    }
}

#[tokio::test]
async fn at_full_load_every_record_of_a_proxy_reaches_consumers_and_file_once() {
    const CLIENTS: usize = 8;
    const EACH: usize = 400;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("audit-events.ndjson");
    let origin = Origin::hello().await;
    let proxy = TestProxy::start(ProxyConfig {
        routes: vec![route("/api", origin.addr)],
        limits: Limits { audit_records: 300, ..Limits::default() },
        audit_file: Some(FileOptions { path: path.clone(), max_bytes: 1 << 20, keep: 0 }),
        ..ProxyConfig::default()
    })
    .await;
    let readers = [10, 30].map(|rest| {
        let mut consumer = proxy.audit_consumer();
        thread::spawn(move || take_slowly(&mut consumer, Duration::from_millis(rest)))
    });
    let request = proxy.begin("GET /api/x") + "\r\n";
    let load = (0..CLIENTS).map(|_| send(proxy.addr(), &request, EACH));
    join_all(load).await;
    proxy.shutdown(LONG).await;
    let sent = (CLIENTS * EACH) as u64;
    for reader in readers {
        assert!(reader.join().unwrap().into_iter().eq(0..sent));
    }
    assert!(proxy.drain_audit().iter().map(|record| record.sequence).eq(0..sent));
    let verified = verify(&path).unwrap();
    assert_eq!((verified.lines, verified.fault), (sent + verified.files.len() as u64, None));
}

/// A proxy that writes `path`, and clients that keep it busy until the process is killed.
fn serve(path: &OsStr) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let origin = Origin::hello().await;
        let proxy = TestProxy::start(ProxyConfig {
            routes: vec![route("/api", origin.addr)],
            audit_file: Some(FileOptions { path: path.into(), max_bytes: u64::MAX, keep: 0 }),
            ..ProxyConfig::default()
        })
        .await;
        let request = proxy.begin("GET /api/x") + "\r\n";
        let load = (0..8).map(|_| send(proxy.addr(), &request, usize::MAX));
        join_all(load).await;
    });
}

/// Has a busy proxy write `path`, and kills it when the file has so many bytes.
fn kill_at(path: &Path, bytes: u64) {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_proxy_killed_at_full_load_leaves_whole_lines", "--nocapture"])
        .env(VICTIM, path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while fs::metadata(path).map_or(0, |file| file.len()) < bytes {
        assert!(begun.elapsed() < LONG, "it writes nothing");
        assert_eq!(victim.try_wait().unwrap(), None, "it ended by itself");
        thread::yield_now();
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
}

#[test]
fn a_proxy_killed_at_full_load_leaves_whole_lines() {
    if let Some(path) = std::env::var_os(VICTIM) {
        return serve(&path);
    }
    let directory = TempDir::new().unwrap();
    for round in 1..=3 {
        let path = directory.path().join(format!("audit-{round}.ndjson"));
        kill_at(&path, round * 700_000);
        let verified = verify(&path).unwrap();
        assert!(verified.lines > 300, "{}", verified.lines);
        if let Some(fault) = verified.fault {
            let expected = (verified.lines + 1, "it is cut off");
            assert_eq!((fault.line, &*fault.reason), expected, "only the last line may be broken");
        }
        // The next run goes on from there.
        let options = FileOptions { path: path.clone(), max_bytes: u64::MAX, keep: 0 };
        drop(FileSink::open(options).unwrap());
        let verified = verify(&path).unwrap();
        assert_eq!((verified.files.len(), verified.fault), (2, None));
    }
}
