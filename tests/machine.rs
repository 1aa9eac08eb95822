//! What a proxy takes of its machine: descriptors, memory, threads, time to start. Each test has
//! a process of its own, so that only the proxy's share is counted.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::ffi::OsStr;
use std::fs::File;
use std::future::pending;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use http::Response;
use http_body_util::{BodyExt as _, Full};
use nono_credentials::{root_certificates, system_roots};
use nono_proxy::{InterceptConfig, Limits, OAuth2Config, ProxyConfig, ProxyHandle, RouteConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Authority, Origin, TestProxy, Wire, apart, isolated_async, route};
use tokio::time::timeout;

/// A proxy with a route to `origin` that takes as many clients as the system lets it.
async fn proxy(origin: SocketAddr) -> TestProxy {
    let limits = Limits { max_client_connections: 100_000, ..Limits::default() };
    TestProxy::with_limits(origin, limits).await
}

/// Lets this process open `most` files, if it may; returns how many it can.
fn limit_files(most: u64) -> u64 {
    let now = getrlimit(Resource::Nofile);
    let maximum = now.maximum.map(|hard| hard.max(most));
    if setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum }).is_err() {
        let current = now.maximum;
        setrlimit(Resource::Nofile, Rlimit { current, maximum: now.maximum }).unwrap();
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
}

/// Memory of this process in use, in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// One request on a connection that is kept.
fn ask(client: &mut TcpStream, request: &str) {
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 1024];
    let length = client.read(&mut answer).unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "{:?}", &answer[..length]);
}

#[test]
fn room_for_descriptors_is_made_at_the_start() {
    apart("room_for_descriptors_is_made_at_the_start", &[], async {
        limit_files(4096);
        let room = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
            size.trim().parse::<usize>().unwrap()
        };
        assert!(room() < 2000);
        let origin = Origin::hello().await;
        let limits = Limits { max_client_connections: 1000, ..Limits::default() };
        let proxy = TestProxy::with_limits(origin.addr, limits).await;
        assert!(room() >= 2000);
        // More than the process may have is no reason not to start.
        assert_eq!(self::proxy(origin.addr).await.get("/api/x").await.status, 200);
        assert_eq!(proxy.get("/api/x").await.status, 200);
    });
}

#[test]
fn ten_thousand_connections_can_wait() {
    apart("ten_thousand_connections_can_wait", &[], async {
        // Both ends of each are in this process.
        let files = limit_files(20_500);
        let most = 10_000.min((files - 300) / 2);
        let origin = Wire::bind().await.ok();
        let proxy = proxy(origin.addr).await;
        let request = proxy.begin("GET /api/x") + "\r\n";
        let addr = proxy.addr();
        let clients = tokio::task::spawn_blocking(move || {
            let before = resident();
            let mut clients = Vec::new();
            for _ in 0..most {
                let mut client = TcpStream::connect(addr).unwrap();
                ask(&mut client, &request);
                clients.push(client);
            }
            let each = (resident() - before) / most;
            assert!(each < 6_000, "{each} bytes for each of {most}");
            for client in clients.iter_mut().step_by(100) {
                ask(client, &request);
            }
            clients
        });
        let mut clients = clients.await.unwrap();
        // None of them holds it up, or this waits for ever.
        proxy.shutdown(Duration::MAX).await;
        assert_eq!(clients[0].read(&mut [0]).unwrap(), 0);
    });
}

/// Processor time that this process has used.
fn used(stat: &File) -> Duration {
    let mut text = [0; 1024];
    let length = stat.read_at(&mut text, 0).unwrap();
    let text = String::from_utf8_lossy(&text[..length]);
    let fields = text.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn without_free_descriptors_the_proxy_waits_and_then_goes_on() {
    apart("without_free_descriptors_the_proxy_waits_and_then_goes_on", &[], async {
        let origin = Origin::hello().await;
        let proxy = proxy(origin.addr).await;
        let stat = File::open("/proc/self/stat").unwrap();
        limit_files(u64::try_from(count("fd")).unwrap() + 60);
        let mut clients = Vec::new();
        let error = loop {
            match TcpStream::connect(proxy.addr()) {
                Ok(client) => clients.push(client),
                Err(error) => break error,
            }
        };
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
        let before = used(&stat);
        // What is measured is time in which nothing happens.
        let idle = timeout(Duration::from_millis(500), pending::<()>());
        idle.await.unwrap_err();
        let spent = used(&stat).saturating_sub(before);
        assert!(spent < Duration::from_millis(150), "{spent:?} of 500 ms");
        clients.clear();
        assert_eq!(proxy.get("/api/x").await.text(), "hello");
    });
}

/// How long what should end at once may take.
const HANG: Duration = Duration::from_secs(20);

/// Opens as many files as this process may.
fn fill_files() -> Vec<File> {
    std::iter::repeat_with(|| File::open("/dev/null")).map_while(Result::ok).collect()
}

/// How often the thread whose status is in `status` went to sleep.
fn sleeps(status: &File) -> u64 {
    let mut text = [0; 4096];
    let length = status.read_at(&mut text, 0).unwrap();
    let text = String::from_utf8_lossy(&text[..length]);
    let count = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.unwrap().trim().parse().unwrap()
}

/// The status of the thread that is called `name`, once it waits: it takes its name when it runs.
fn status_of(name: &str) -> File {
    let is_it = |status: &PathBuf| {
        let text = std::fs::read_to_string(status).unwrap_or_default();
        text.starts_with(&format!("Name:\t{name}\n")) && text.contains("\nState:\tS")
    };
    loop {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let mut statuses = tasks.map(|task| task.unwrap().path().join("status"));
        if let Some(found) = statuses.find(is_it) {
            return File::open(found).unwrap();
        }
    }
}

#[test]
fn a_shutdown_that_begins_without_free_descriptors_ends() {
    apart("a_shutdown_that_begins_without_free_descriptors_ends", &[], async {
        limit_files(200);
        let origin = Origin::hello().await;
        let limits = Limits { workers: 1, ..Limits::default() };
        // Never dropped: that would wait too, where the shutdown does not end.
        let proxy = Box::leak(Box::new(TestProxy::with_limits(origin.addr, limits).await));
        let acceptor = status_of("nono-worker-0");
        let mut files = fill_files();
        files.pop();
        let before = sleeps(&acceptor);
        let _client = TcpStream::connect(proxy.addr()).unwrap();
        // It has found that there is a connection, and no descriptor for it.
        while sleeps(&acceptor) == before {
            tokio::task::yield_now().await;
        }
        timeout(HANG, proxy.shutdown(Duration::ZERO)).await.expect("it does not end");
    });
}

#[test]
fn without_free_descriptors_the_metrics_wait_for_the_end_of_the_grace() {
    apart("without_free_descriptors_the_metrics_wait_for_the_end_of_the_grace", &[], async {
        limit_files(200);
        let wire = Wire::bind().await;
        let config = ProxyConfig {
            routes: vec![route("/api", wire.addr)],
            metrics: Some("127.0.0.1:0".parse().unwrap()),
            ..ProxyConfig::default()
        };
        let proxy = TestProxy::start(config).await;
        let stat = File::open("/proc/self/stat").unwrap();
        let _running = wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
        let mut files = fill_files();
        let measured = async {
            // The listener for clients is closed: that makes room, which is filled too.
            let filled = files.len();
            while files.len() == filled {
                files.extend(fill_files());
                tokio::task::yield_now().await;
            }
            files.pop();
            let _scrape = TcpStream::connect(proxy.metrics_addr().unwrap()).unwrap();
            let before = used(&stat);
            // What is measured is time in which nothing happens.
            let idle = timeout(Duration::from_millis(500), pending::<()>());
            idle.await.unwrap_err();
            used(&stat).saturating_sub(before)
        };
        tokio::select! {
            biased;
            () = proxy.shutdown(Duration::MAX) => unreachable!("a request runs"),
            spent = measured => assert!(spent < Duration::from_millis(150), "{spent:?} of 500 ms"),
        }
    });
}

/// As in a container that is made of little.
#[test]
fn where_the_system_has_no_roots_mozillas_are_trusted() {
    isolated_async("where_the_system_has_no_roots_mozillas_are_trusted", async {
        let hide = "for dir in /etc/ssl /etc/pki /usr/lib/ssl /usr/local/ssl; do
            [ ! -d $dir ] || mount -t tmpfs none $dir || exit 1
        done";
        assert!(Command::new("sh").args(["-c", hide]).status().unwrap().success());
        assert!(rustls_native_certs::load_native_certs().certs.is_empty());
        assert!(!system_roots().is_empty());
        // By clients of a proxy that intercepts too: their variables name nothing else.
        let dir = tempfile::tempdir().unwrap();
        let intercept = InterceptConfig { ca_dir: dir.path().into(), ..InterceptConfig::default() };
        let config = ProxyConfig { intercept: Some(intercept), ..ProxyConfig::default() };
        let proxy = TestProxy::start(config).await;
        let named = std::fs::read_to_string(proxy.file("SSL_CERT_FILE")).unwrap();
        let count = named.matches("BEGIN CERTIFICATE").count();
        assert_eq!(count, root_certificates().len() + 1);
        assert!(count > 100, "{count}");
    });
}

#[test]
fn roots_that_cannot_be_read_are_told_of_and_no_others_trusted() {
    let empty = tempfile::tempdir().unwrap();
    let gone = OsStr::new("/nowhere/roots.pem");
    let variables = [("SSL_CERT_FILE", gone), ("SSL_CERT_DIR", empty.path().as_os_str())];
    apart("roots_that_cannot_be_read_are_told_of_and_no_others_trusted", &variables, async {
        assert!(system_roots().is_empty());
        let proxy = TestProxy::start(ProxyConfig::default()).await;
        let [found] = &*proxy.diagnostics() else { panic!("{:?}", proxy.diagnostics()) };
        assert_eq!((found.code, &*found.route_prefix), ("roots_unreadable", "tls"));
        assert!(found.message.contains("/nowhere/roots.pem"), "{}", found.message);
    });
}

/// Whoever changes it may wait for the proxy meanwhile.
#[test]
fn no_thread_of_the_proxys_own_waits_for_the_environment() {
    static READERS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    apart("no_thread_of_the_proxys_own_waits_for_the_environment", &[], async {
        nono_credentials::hold_environment_by(|read| {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            READERS.lock().unwrap().push(name);
            read();
            true
        });
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "s").unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let origin = Origin::hello().await;
        let oauth2 = OAuth2Config {
            token_url: "https://127.0.0.1:9/token".into(),
            client_id: "c".into(),
            client_secret: Some(format!("file://{}", secret.display())),
            ..OAuth2Config::default()
        };
        let upstream = route("/api", origin.addr);
        let routes = vec![RouteConfig { credential_key: None, oauth2: Some(oauth2), ..upstream }];
        let proxy = TestProxy::start(ProxyConfig { routes, ..ProxyConfig::default() }).await;
        let [found] = &*proxy.diagnostics() else { panic!("{:?}", proxy.diagnostics()) };
        assert!(found.message.contains("cannot be reached"), "{}", found.message);
        let readers = READERS.lock().unwrap();
        assert!(!readers.is_empty() && readers.iter().all(|name| name == "nono-credential"));
    });
}

#[test]
fn the_systems_roots_are_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roots.pem");
    // Under two names: what is written and removed must never be what the machine itself uses.
    let variables = ["SSL_CERT_FILE", "NONO_TEST_ROOTS"].map(|name| (name, file.as_os_str()));
    apart("the_systems_roots_are_read_once", &variables, async {
        let file = std::env::var_os("NONO_TEST_ROOTS").unwrap();
        let authority = Authority::new();
        std::fs::copy(authority.pem_file(), &file).unwrap();
        let identity = authority.identity(&["localhost"]);
        let hello = |_: &_| Response::new(Full::from("hello").boxed());
        let origin = Origin::start(Some(identity), hello).await;
        let start = async || {
            let upstream = format!("https://localhost:{}", origin.addr.port());
            let routes = vec![RouteConfig { upstream, ..route("/api", origin.addr) }];
            TestProxy::start(ProxyConfig { routes, ..ProxyConfig::default() }).await
        };
        let first = start().await;
        assert_eq!(first.get("/api/x").await.text(), "hello");
        std::fs::remove_file(&file).unwrap();
        // What is read again would no longer be there.
        assert_eq!(start().await.get("/api/x").await.text(), "hello");
    });
}

#[test]
fn many_proxies_live_side_by_side() {
    apart("many_proxies_live_side_by_side", &[], async {
        let origin = Origin::hello().await;
        let before = (count("task"), count("fd"));
        let mut proxies = Vec::new();
        for _ in 0..100 {
            let limits = Limits { workers: 1, ..Limits::default() };
            proxies.push(TestProxy::with_limits(origin.addr, limits).await);
        }
        for (proxy, other) in proxies.iter().zip(proxies.iter().skip(1)) {
            assert_eq!(proxy.get("/api/x").await.text(), "hello");
            assert_ne!(proxy.token, other.token);
            assert_eq!(proxy.drain_audit().len(), 1);
        }
        // One thread for its work, one that listens, and one that keeps its log.
        assert_eq!(count("task"), before.0 + 300);
        proxies.clear();
        assert_eq!(count("task"), before.0);
        let deadline = Instant::now() + Duration::from_secs(20);
        while count("fd") > before.1 {
            assert!(Instant::now() < deadline, "{} -> {}", before.1, count("fd"));
            // The origin closes its sides when it notices.
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_start_without_descriptors_is_an_error_and_leaves_none_open() {
    apart("a_start_without_descriptors_is_an_error_and_leaves_none_open", &[], async {
        let room = limit_files(4096);
        let before = count("fd");
        let mut failed = 0;
        for more in 0..64 {
            limit_files((before + more) as u64);
            match ProxyHandle::start(ProxyConfig::default()).await {
                Ok(handle) => handle.shutdown(Duration::from_secs(5)).await,
                Err(error) => {
                    failed += 1;
                    assert!(error.to_string().contains("Too many open files"), "{more}: {error}");
                }
            }
            limit_files(room);
        }
        assert!((1..64).contains(&failed), "{failed} starts failed");
        let closed = async {
            while count("fd") > before {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), closed).await.expect("all are closed again");
    });
}
