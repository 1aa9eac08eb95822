//! What the parts cost: rules, routes, paths, tokens, redaction, records, and the layers of the
//! stack. Where the last part of a name is a number, it says how much there is of something:
//! those are the costs that must not grow faster than it.

use std::hint::black_box;

use bench_support::Failure;
use bench_support::layers::{self, BATCH};
use bench_support::round_trip::RoundTrip;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use http::{HeaderValue, Method};
use nono_audit::redact::path_and_query;
use nono_audit::{
    AuthOutcome, Bounds, FileOptions, FileSink, Log, Mode, Outcome, Overflow, Reader, Recorder,
    Session, Sink as _,
};
use nono_proxy::RouteConfig;
use nono_proxy::bench::{Endpoints, Hosts, Routes, Token, is_plain};

/// How many rules, routes or records.
const MANY: [usize; 3] = [10, 1000, 100_000];

fn main() -> Result<(), Failure> {
    let mut criterion = Criterion::default().configure_from_args();
    hosts(&mut criterion);
    endpoints(&mut criterion)?;
    routes(&mut criterion)?;
    records(&mut criterion)?;
    chained(&mut criterion)?;
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
    for rules in MANY {
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

/// The cost must not grow with the rules.
fn endpoints(criterion: &mut Criterion) -> Result<(), Failure> {
    let mut group = criterion.benchmark_group("endpoints");
    for rules in MANY {
        let listed: Vec<_> = (0..rules)
            .map(|n| match n % 3 {
                0 => ("GET".to_owned(), format!("/v1/projects/{n}/models")),
                1 => ("POST".to_owned(), format!("/v1/teams/*/runs/{n}")),
                _ => ("*".to_owned(), format!("/v2/tenants/{n}/**")),
            })
            .collect();
        let endpoints = Endpoints::new(&listed)?;
        for (case, method, path) in [
            ("literal", Method::GET, "/v1/projects/6/models"),
            ("one star", Method::POST, "/v1/teams/blue/runs/7"),
            ("two stars", Method::PUT, "/v2/tenants/8/a/b"),
            ("stranger", Method::GET, "/v1/teams/blue/walks/7"),
        ] {
            if endpoints.allow(&method, path) != (case != "stranger") {
                return Err(format!("{case}: judged wrongly").into());
            }
            group.bench_function(BenchmarkId::new(case, rules), |b| {
                b.iter(|| endpoints.allow(black_box(&method), black_box(path)));
            });
        }
        group.bench_function(BenchmarkId::new("build", rules), |b| {
            b.iter_batched(|| (), |()| Endpoints::new(&listed), BatchSize::LargeInput);
        });
    }
    group.finish();
    Ok(())
}

/// The cost must not grow with the routes.
fn routes(criterion: &mut Criterion) -> Result<(), Failure> {
    let mut group = criterion.benchmark_group("routes");
    // Each is an object with its parsed upstream; more are no configuration.
    for many in [10, 100, 1000, 10_000] {
        let route = |n| RouteConfig {
            prefix: format!("api/{n}"),
            upstream: format!("https://api-{n}.example.com/v1"),
            ..RouteConfig::default()
        };
        let listed: Vec<_> = (0..many).map(route).collect();
        let routes = Routes::new(&listed)?;
        for (case, path) in [("known", "/api/7/models"), ("stranger", "/nowhere/7/models")] {
            if routes.lead(path) != (case == "known") {
                return Err(format!("{case}: judged wrongly").into());
            }
            group.bench_function(BenchmarkId::new(case, many), |b| {
                b.iter(|| routes.lead(black_box(path)));
            });
        }
        group.bench_function(BenchmarkId::new("build", many), |b| {
            b.iter_batched(|| (), |()| Routes::new(&listed), BatchSize::LargeInput);
        });
    }
    group.finish();
    Ok(())
}

/// A record from its opening to its place in the log: by how many wait there, and by its size.
fn records(criterion: &mut Criterion) -> Result<(), Failure> {
    let mut group = criterion.benchmark_group("records");
    let bounds = Bounds { records: usize::MAX, disk: 0, overflow: Overflow::Refuse };
    let (sender, log) = Log::open(Session(0), bounds, Vec::new())?;
    let mut consumer = log.subscribe(Reader::holding("bench"));
    let write = |path: &str| {
        let Some(permit) = sender.try_reserve() else { return };
        let recorder = Recorder::open(permit, Mode::Reverse, "127.0.0.1:9".into());
        recorder.note(|record| {
            record.method = Some("GET".into());
            record.path = Some(path_and_query(path, "", &[""; 0]));
        });
        recorder.finish(Outcome::Complete);
    };
    for waiting in MANY {
        // All of them are taken out each time, so that as many wait on the average.
        group.throughput(Throughput::Elements(waiting as u64));
        group.bench_function(BenchmarkId::new("write and drain", waiting), |b| {
            b.iter(|| {
                (0..waiting).for_each(|_| write("/v1/models"));
                consumer.drain().len()
            });
        });
    }
    for bytes in [100, 1000, 10_000] {
        let path = "x".repeat(bytes);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("path of bytes", bytes), |b| {
            b.iter(|| write(&path));
            drop(consumer.drain());
        });
    }
    group.finish();
    if consumer.lag() == 0 { Ok(()) } else { Err("records were left".into()) }
}

/// The lines of a chained file, by how many records are written at once: of requests to one route by
/// clients that take turns.
fn chained(criterion: &mut Criterion) -> Result<(), Failure> {
    let bounds = Bounds { records: usize::MAX, disk: 0, overflow: Overflow::Refuse };
    let (sender, log) = Log::open(Session(0), bounds, Vec::new())?;
    let mut consumer = log.subscribe(Reader::holding("bench"));
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("audit-events.ndjson");
    let mut sink = FileSink::open(FileOptions { path, max_bytes: 256 << 20, keep: 1 })?;
    let mut group = criterion.benchmark_group("chained file");
    for many in [1, 30, 400] {
        for n in 0..many {
            let permit = sender.try_reserve().ok_or("the log is full")?;
            let client = format!("127.0.0.1:{}", 40_000 + n % 64);
            let recorder = Recorder::open(permit, Mode::Reverse, client.into());
            recorder.note(|record| {
                record.method = Some("GET".into());
                record.path = Some(path_and_query("/api/small", "", &[""; 0]));
                record.route_id = Some("api".into());
                record.auth_outcome = Some(AuthOutcome::Succeeded);
            });
            recorder.responded(200);
            recorder.finish(Outcome::Complete);
        }
        let records = consumer.drain();
        group.throughput(Throughput::Elements(many));
        group.bench_function(BenchmarkId::new("write", many), |b| b.iter(|| sink.write(&records)));
    }
    group.finish();
    Ok(())
}

fn paths(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("paths");
    for segments in [3, 30, 300, 3000] {
        let path = "/segment".repeat(segments);
        group.throughput(Throughput::Bytes(path.len() as u64));
        group.bench_function(BenchmarkId::new("judge", path.len()), |b| {
            b.iter(|| is_plain(black_box(&path)));
        });
    }
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
            b.iter(|| path_and_query(black_box(&path), &shown, &[] as &[&str]));
        });
    }
    group.finish();
    Ok(())
}

fn layers(criterion: &mut Criterion) -> Result<(), Failure> {
    let mut group = criterion.benchmark_group("layers");
    group.throughput(Throughput::Elements(BATCH as u64));
    layers::for_each(|case, run| {
        group.bench_function(case, |b| b.iter(&mut *run));
    })?;
    group.finish();
    Ok(())
}

fn round_trip(criterion: &mut Criterion) -> Result<(), Failure> {
    let trip = RoundTrip::start()?;
    let mut group = criterion.benchmark_group("round trip");
    let mut direct = trip.direct()?;
    group.bench_function("direct", |b| b.iter(&mut direct));
    let mut proxied = trip.proxied()?;
    group.bench_function("proxy", |b| {
        b.iter(&mut proxied);
        trip.drain();
    });
    group.finish();
    Ok(())
}
