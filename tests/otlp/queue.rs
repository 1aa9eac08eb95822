//! Records that outlive the proxy that made them, in a queue on disk.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nono_audit::queue::QueueOptions;
use nono_proxy::{Limits, OtlpConfig, ProxyConfig, ProxyHandle, StartError};
use support::{Collector, Connection, Origin, TestProxy, Wire, answer, isolated_async, route};
use tempfile::TempDir;

use super::{ask, end, exporting, with_limits};

const LONG: Duration = Duration::from_mins(1);
/// So many bytes that a queue never fills.
const AMPLE: u64 = 64 << 20;
/// Names the queue to the process that is to be killed.
const VICTIM: &str = "NONO_TEST_QUEUE_VICTIM";

fn queued(otlp: OtlpConfig, directory: &Path) -> OtlpConfig {
    sized(otlp, directory, QueueOptions::LEAST_BYTES)
}

fn sized(otlp: OtlpConfig, directory: &Path, max_bytes: u64) -> OtlpConfig {
    let queue = QueueOptions { directory: directory.into(), max_bytes };
    OtlpConfig { queue: Some(queue), flush: Duration::from_millis(300), ..otlp }
}

/// A collector that is never there.
async fn away() -> (Wire, OtlpConfig) {
    let silent = Wire::bind().await;
    let endpoint = format!("http://{}", silent.addr);
    (silent, OtlpConfig { endpoint, ..OtlpConfig::default() })
}

#[tokio::test]
async fn what_one_proxy_could_not_deliver_the_next_one_does() {
    let directory = TempDir::new().unwrap();
    let queue = directory.path().join("queue");
    let (origin, (_silent, nowhere)) = (Origin::hello().await, away().await);
    for (count, number) in [(3, 1), (4, 2)] {
        let proxy = exporting(origin.addr, queued(nowhere.clone(), &queue)).await;
        ask(&proxy, count).await;
        let found = end(&proxy).await;
        let [("otlp_queued", message)] = &*found else { panic!("{found:?}") };
        let len = |number| fs::metadata(file(&queue, number)).unwrap().len();
        let left = format!("records of {} bytes", (1..=number).map(len).sum::<u64>());
        assert!(message.starts_with(&left), "{message}");
    }
    let collector = Collector::willing().await;
    let proxy = exporting(origin.addr, queued(collector.config(), &queue)).await;
    ask(&proxy, 2).await;
    assert_eq!(end(&proxy).await, []);
    assert_eq!(collector.sequences(), [0, 1, 2, 0, 1, 2, 3, 0, 1], "oldest first, each once");
    assert_eq!(collector.spans().len(), 9);
    let mut instances: Vec<_> =
        collector.taken("/v1/logs").into_iter().map(|delivery| delivery.instance).collect();
    instances.dedup();
    assert_eq!(instances.len(), 3, "each is of the run that it happened in");
    let mode = fs::metadata(&queue).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    let proxy = exporting(origin.addr, queued(collector.config(), &queue)).await;
    assert_eq!(end(&proxy).await, []);
    assert_eq!(collector.spans().len(), 9, "nothing comes again");
}

#[tokio::test]
async fn a_queue_serves_one_proxy_whose_user_alone_can_write_there() {
    let directory = TempDir::new().unwrap();
    let (_silent, nowhere) = away().await;
    let config = |directory: &Path| ProxyConfig {
        otlp: Some(queued(nowhere.clone(), directory)),
        ..ProxyConfig::default()
    };
    let first = ProxyHandle::start(config(directory.path())).await.unwrap();
    let refused = |result: Result<ProxyHandle, StartError>| result.unwrap_err().to_string();
    let shown = refused(ProxyHandle::start(config(directory.path())).await);
    assert!(shown.contains("a log is being written there already"), "{shown}");
    drop(first);
    drop(ProxyHandle::start(config(directory.path())).await.unwrap());

    let open = directory.path().join("open");
    fs::DirBuilder::new().mode(0o700).create(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let shown = refused(ProxyHandle::start(config(&open)).await);
    assert!(shown.contains("others can write to it"), "{shown}");
    let shown = refused(ProxyHandle::start(config(&directory.path().join("none/queue"))).await);
    assert!(shown.contains("No such file"), "{shown}");
}

#[tokio::test]
async fn a_queue_that_is_full_is_told_of_and_loses_nothing() {
    let directory = TempDir::new().unwrap();
    let is_away = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&is_away);
    let react = move |_: &[_]| answer(if state.load(Ordering::SeqCst) { 503 } else { 200 });
    let (origin, collector) = (Origin::hello().await, Collector::start(None, react).await);
    let limits = Limits { audit_records: 100, audit_disk: 0, ..Limits::default() };
    let otlp = OtlpConfig { flush: LONG, ..queued(collector.config(), directory.path()) };
    let proxy = with_limits(origin.addr, otlp, limits).await;
    let mut connection = Connection::open(proxy.addr()).await;
    let request = proxy.begin(&format!("GET /api/{}", "x".repeat(6000))) + "\r\n";
    let mut served = 0;
    loop {
        connection.send(&request).await;
        if connection.reply().await.status == 200 {
            served += 1;
        } else if proxy.diagnostics().iter().any(|it| it.route_prefix == "otlp_queue") {
            break;
        }
        proxy.drain_audit();
    }
    let found = proxy.diagnostics();
    let of_queue = found.iter().find(|it| it.route_prefix == "otlp_queue").unwrap();
    assert_eq!(of_queue.code, "audit_unwritable");
    assert!(of_queue.message.contains("1048576 bytes are full"), "{}", of_queue.message);
    assert!(found.iter().any(|it| it.code == "otlp_unavailable"));
    is_away.store(false, Ordering::SeqCst);
    collector.until(|it| it.sequences().len() >= served).await;
    while proxy.get("/api/x").await.status == 503 {}
    assert_eq!(end(&proxy).await, []);
    assert!(collector.sequences().into_iter().eq(0..=served as u64));
}

/// Neither to note what is delivered nor to make room by it needs more.
#[test]
fn a_queue_on_a_disk_that_is_full_goes_on_when_the_collector_is_back() {
    isolated_async(
        "queue::a_queue_on_a_disk_that_is_full_goes_on_when_the_collector_is_back",
        async {
            let directory = TempDir::new().unwrap();
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs"]).arg(directory.path());
            assert!(mount.status().unwrap().success());
            let is_away = Arc::new(AtomicBool::new(true));
            let state = Arc::clone(&is_away);
            let react = move |_: &[_]| answer(if state.load(Ordering::SeqCst) { 503 } else { 200 });
            let (origin, collector) = (Origin::hello().await, Collector::start(None, react).await);
            let otlp =
                OtlpConfig { flush: LONG, ..sized(collector.config(), directory.path(), AMPLE) };
            let proxy = exporting(origin.addr, otlp).await;
            let path = format!("/api/{}", "x".repeat(900));
            let mut served = 0;
            let of_queue = |proxy: &TestProxy| {
                let found = proxy.diagnostics();
                found.into_iter().find(|it| it.route_prefix == "otlp_queue")
            };
            while of_queue(&proxy).is_none() {
                assert_eq!(proxy.get(&path).await.status, 200);
                served += 1;
            }
            let message = of_queue(&proxy).unwrap().message;
            assert!(message.contains("No space left on device"), "{message}");
            // More than there is room for.
            for _ in 0..served {
                assert_eq!(proxy.get(&path).await.status, 200);
            }
            is_away.store(false, Ordering::SeqCst);
            collector.until(|it| it.sequences().len() >= 2 * served).await;
            assert_eq!(end(&proxy).await, []);
            assert!(collector.sequences().into_iter().eq(0..2 * served as u64));
        },
    );
}

#[tokio::test]
async fn what_is_damaged_in_a_queue_is_told_and_the_rest_delivered() {
    let directory = TempDir::new().unwrap();
    let (origin, (_silent, nowhere)) = (Origin::hello().await, away().await);
    let proxy = exporting(origin.addr, queued(nowhere, directory.path())).await;
    ask(&proxy, 5).await;
    end(&proxy).await;
    let path = directory.path().join("queue-1.ndjson");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("/api/2", "/api/9")).unwrap();
    let collector = Collector::willing().await;
    let proxy = exporting(origin.addr, queued(collector.config(), directory.path())).await;
    let found = end(&proxy).await;
    let [("otlp_queue_damaged", message)] = &*found else { panic!("{found:?}") };
    assert!(message.starts_with("1 parts") && message.contains("queue-1.ndjson"), "{message}");
    assert_eq!(collector.sequences(), [0, 1, 3, 4]);
}

#[tokio::test]
async fn a_queue_that_cannot_be_read_now_is_told_of_and_delivered_when_it_can() {
    let directory = TempDir::new().unwrap();
    let (origin, (_silent, nowhere)) = (Origin::hello().await, away().await);
    for _ in 0..2 {
        let proxy = exporting(origin.addr, queued(nowhere.clone(), directory.path())).await;
        ask(&proxy, 3).await;
        end(&proxy).await;
    }
    let is_away = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&is_away);
    let react = move |_: &[_]| answer(if state.load(Ordering::SeqCst) { 503 } else { 200 });
    let collector = Collector::start(None, react).await;
    let otlp = OtlpConfig { flush: LONG, ..queued(collector.config(), directory.path()) };
    let proxy = exporting(origin.addr, otlp).await;
    collector.until(|it| !it.deliveries().is_empty()).await;
    // The first file is read; the second is one that no process can open.
    let (path, aside) = (file(directory.path(), 2), directory.path().join("aside"));
    fs::rename(&path, &aside).unwrap();
    symlink(&path, &path).unwrap();
    is_away.store(false, Ordering::SeqCst);
    let told = loop {
        let mut found = proxy.diagnostics().into_iter();
        if let Some(told) = found.find(|it| it.code == "otlp_queue_unreadable") {
            break told;
        }
        tokio::task::yield_now().await;
    };
    assert!(told.message.contains("queue-2.ndjson"), "{}", told.message);
    assert_eq!(collector.sequences(), [0, 1, 2]);
    fs::rename(&aside, &path).unwrap();
    assert_eq!(end(&proxy).await, []);
    assert_eq!(collector.sequences(), [0, 1, 2, 0, 1, 2]);
}

/// A file of a queue.
fn file(queue: &Path, number: u64) -> PathBuf {
    queue.join(format!("queue-{number}.ndjson"))
}

/// A proxy whose collector is away, and clients that keep it busy until the process is killed.
fn serve(directory: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (origin, (_silent, nowhere)) = (Origin::hello().await, away().await);
        let otlp = sized(nowhere, directory, AMPLE);
        let config = ProxyConfig {
            routes: vec![route("/api", origin.addr)],
            otlp: Some(otlp),
            ..ProxyConfig::default()
        };
        let proxy = TestProxy::start(config).await;
        let request = proxy.begin("GET /api/x") + "\r\n";
        let load = (0..8).map(|_| async {
            let mut connection = Connection::open(proxy.addr()).await;
            loop {
                connection.send(&request).await;
                assert_eq!(connection.reply().await.status, 200);
            }
        });
        futures_util::future::join_all(load).await;
    });
}

/// Has a busy proxy write the queue, and kills it when its files have so many bytes. Returns how
/// many whole records they have then.
fn kill_at(directory: &Path, bytes: usize) -> usize {
    let name = "queue::records_of_a_proxy_that_was_killed_are_delivered_by_the_next";
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(VICTIM, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while read(directory).len() < bytes {
        assert!(begun.elapsed() < LONG, "it writes nothing");
        assert_eq!(victim.try_wait().unwrap(), None, "it ended by itself");
        thread::yield_now();
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    let text = read(directory);
    text.lines().filter(|line| line.contains(r#""sequence":"#) && line.ends_with('}')).count()
}

/// What the files of a queue hold.
fn read(directory: &Path) -> String {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|is| is == "ndjson"));
    files.map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
}

#[test]
fn records_of_a_proxy_that_was_killed_are_delivered_by_the_next() {
    if let Some(directory) = std::env::var_os(VICTIM) {
        return serve(Path::new(&directory));
    }
    let directory = TempDir::new().unwrap();
    let whole = kill_at(directory.path(), 1_500_000);
    assert!(whole > 1000, "{whole}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (origin, collector) = (Origin::hello().await, Collector::willing().await);
        let otlp = OtlpConfig { flush: LONG, ..sized(collector.config(), directory.path(), AMPLE) };
        let proxy = exporting(origin.addr, otlp).await;
        ask(&proxy, 1).await;
        let found = end(&proxy).await;
        let codes: Vec<_> = found.iter().map(|(code, _)| *code).collect();
        assert!(matches!(*codes, [] | ["otlp_queue_damaged"]), "a line may be cut: {found:?}");
        let sequences = collector.sequences();
        let (last, rest) = sequences.split_last().unwrap();
        assert_eq!(*last, 0, "its own comes behind");
        assert!(rest.iter().copied().eq(0..whole as u64), "each once, in order");
    });
}
