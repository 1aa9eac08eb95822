//! What the parts cost: rules, paths, tokens, redaction, and the layers of the stack.
//!
//! The layers are measured without sockets, by requests that one of them refuses: the one that
//! is refused further in has passed all before. What passes all of them needs an upstream and is
//! measured over loopback, where the kernel's share is most of it.

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use bench_support::Failure;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use http::{HeaderValue, Request};
use nono_proxy::bench::{Hosts, Token, is_plain, stack_runner};
use nono_proxy::{Limits, ProxyConfig, ProxyHandle, RouteConfig};
use tokio::runtime::{Builder, Runtime};

fn main() -> Result<(), Failure> {
    let mut criterion = Criterion::default().configure_from_args();
    hosts(&mut criterion);
    paths(&mut criterion);
    tokens(&mut criterion)?;
    layers(&mut criterion)?;
    round_trip(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

/// The cost must not grow with the rules.
fn hosts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hosts");
    for rules in [10, 1000, 100_000] {
        let listed: Vec<_> = (0..rules)
            .map(|n| match n % 2 {
                0 => format!("api-{n}.example.com"),
                _ => format!("*.tenant-{n}.example.net:443"),
            })
            .collect();
        let hosts = Hosts::new(&listed);
        for (case, host) in [
            ("exact", "api-4.example.com"),
            ("wildcard", "a.b.tenant-5.example.net"),
            ("stranger", "api.elsewhere.example.org"),
        ] {
            group.bench_function(BenchmarkId::new(case, rules), |b| {
                b.iter(|| hosts.allow(black_box(host)));
            });
        }
        group.bench_function(BenchmarkId::new("build", rules), |b| {
            b.iter_batched(|| (), |()| Hosts::new(&listed), BatchSize::LargeInput);
        });
    }
    group.finish();
}

fn paths(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("paths");
    let long = format!("/v1/{}", "segment/".repeat(500));
    for (case, path) in [("short", "/v1/chat/completions"), ("4 kB", &long)] {
        group.throughput(Throughput::Bytes(path.len() as u64));
        group.bench_function(case, |b| b.iter(|| is_plain(black_box(path))));
    }
    group.finish();
}

fn tokens(criterion: &mut Criterion) -> Result<(), Failure> {
    let token = Token::new()?;
    let right = HeaderValue::try_from(token.bearer())?;
    let wrong = HeaderValue::try_from(Token::new()?.bearer())?;
    let mut group = criterion.benchmark_group("token");
    group.bench_function("right", |b| b.iter(|| token.is_in(black_box(&right))));
    group.bench_function("wrong", |b| b.iter(|| token.is_in(black_box(&wrong))));
    group.finish();

    let shown = token.bearer().replace("Bearer ", "");
    let mut group = criterion.benchmark_group("redaction");
    for (case, path) in [
        ("nothing to hide", "/v1/models?limit=20&order=asc".to_owned()),
        ("key in query", "/v1/models?limit=20&api_key=abcdef".to_owned()),
        ("token in path", format!("/bot{shown}/send?chat=1")),
    ] {
        group.bench_function(case, |b| {
            b.iter(|| nono_audit::redact::path_and_query(black_box(&path), &shown, &[] as &[&str]));
        });
    }
    group.finish();
    Ok(())
}

/// How many requests are measured as one: the audit channel is emptied after each batch.
const BATCH: usize = 100;

fn layers(criterion: &mut Criterion) -> Result<(), Failure> {
    let config = ProxyConfig {
        routes: vec![RouteConfig {
            prefix: "api".into(),
            upstream: "http://127.0.0.1:9/v1".into(),
            endpoint_rules: vec![("GET".into(), "/models/**".into())],
            ..RouteConfig::default()
        }],
        denied_hosts: vec!["127.0.0.1".into()],
        ..ProxyConfig::default()
    };
    let token = Token::new()?;
    let bearer = token.bearer();
    let run = stack_runner(&config, token)?;
    let runtime = runtime()?;
    let mut group = criterion.benchmark_group("layers");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (case, path, authorization, status) in [
        ("refused by authenticate", "/api/models/x", "Bearer x", 401),
        ("refused by route", "/none/models/x", &*bearer, 404),
        ("refused by endpoint rules", "/api/files/x", &*bearer, 403),
        ("refused by allow", "/api/models/x", &*bearer, 403),
    ] {
        let request = || {
            Request::get(path)
                .header("host", "127.0.0.1")
                .header("user-agent", "bench/1.0")
                .header("accept", "application/json")
                .header("authorization", authorization)
                .body(())
        };
        let requests = (0..BATCH).map(|_| request()).collect::<Result<Vec<_>, _>>()?;
        let batch = || runtime.block_on(run(&requests));
        if batch().iter().any(|found| *found != status) {
            return Err(format!("{case}: not answered {status}").into());
        }
        group.bench_function(case, |b| b.iter(batch));
    }
    group.finish();
    Ok(())
}

/// One request at a time over loopback: a client, the proxy, an upstream that does the least.
fn round_trip(criterion: &mut Criterion) -> Result<(), Failure> {
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let port = upstream.local_addr()?.port();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = upstream.accept() {
            std::thread::spawn(move || answer(stream));
        }
    });
    let config = ProxyConfig {
        routes: vec![RouteConfig {
            prefix: "api".into(),
            upstream: format!("http://127.0.0.1:{port}"),
            ..RouteConfig::default()
        }],
        limits: Limits { workers: 1, ..Limits::default() },
        ..ProxyConfig::default()
    };
    let handle = runtime()?.block_on(ProxyHandle::start(config))?;
    let variables = handle.env_vars();
    let token = variables.iter().find(|(name, _)| name == "NONO_PROXY_TOKEN");
    let (_, token) = token.ok_or("the proxy names no token")?;
    let head = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n")
    };
    let mut group = criterion.benchmark_group("round trip");
    for (case, address, path) in
        [("direct", port, "/small"), ("proxy", handle.addr().port(), "/api/small")]
    {
        let mut stream = TcpStream::connect(("127.0.0.1", address))?;
        stream.set_nodelay(true)?;
        let request = head(path);
        let mut buffer = [0; 1024];
        let mut ask = move || {
            stream.write_all(request.as_bytes())?;
            let read = stream.read(&mut buffer)?;
            Ok::<_, std::io::Error>(buffer[..read].starts_with(b"HTTP/1.1 200"))
        };
        if !ask()? {
            return Err(format!("{case}: not answered 200").into());
        }
        group.bench_function(case, |b| b.iter(|| ask().is_ok_and(|ok| ok)));
        let _ = handle.drain_audit();
    }
    group.finish();
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer)? > 0 {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")?;
    }
    Ok(())
}

fn runtime() -> Result<Runtime, std::io::Error> {
    Builder::new_current_thread().enable_all().build()
}
