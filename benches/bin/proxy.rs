//! The proxy in a process of its own, as the package runs it: every feature on that is on by
//! default. Prints its port and token, and the file that clients trust it by if it intercepts; ends
//! when its standard input does.
//!
//! ```text
//! bench-proxy --route api=http://127.0.0.1:8080 --key env://BENCH_KEY --allow 127.0.0.1:8081
//! bench-proxy --route … --key env://BENCH_KEY --otlp http://127.0.0.1:4318
//! bench-proxy --route … --key env://BENCH_KEY --audit-file target/records.jsonl
//! bench-proxy --route api=https://localhost:8443 --key … --intercept target/certificates
//! ```

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use bench_support::{Arguments, Failure, answer};
use nono_audit::FileOptions;
use nono_proxy::bench::Part;
use nono_proxy::{InterceptConfig, Limits, OtlpConfig, ProxyConfig, ProxyHandle, RouteConfig};
use serde_json::json;

/// How often the records are taken out, as a program that ships them would.
const DRAIN_MS: u64 = 100;

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let every: u64 = arguments.optional("drain-ms")?.unwrap_or(DRAIN_MS);
    for part in arguments.all("without") {
        match part.as_str() {
            "records" => Part::Records.leave_out(),
            "scrubbing" => Part::Scrubbing.leave_out(),
            "watching" => Part::Watching.leave_out(),
            _ => return Err(format!("--without {part}: records, scrubbing or watching").into()),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.block_on(ProxyHandle::start(config(&arguments)?))?;
    if let Some(found) = handle.diagnostics().first() {
        return Err(found.message.clone().into());
    }
    let variables = handle.env_vars();
    let token = variables.iter().find(|(name, _)| name == "NONO_PROXY_TOKEN");
    let (_, token) = token.ok_or("the proxy names no token")?;
    let trusted = variables.iter().find(|(name, _)| name == "SSL_CERT_FILE");
    let trusted = trusted.map(|(_, file)| file);
    answer(&json!({ "port": handle.addr().port(), "token": token, "ca": trusted }))?;

    let (open, end) = channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        drop(open);
    });
    while end.recv_timeout(Duration::from_millis(every)) == Err(RecvTimeoutError::Timeout) {
        drop(handle.drain_audit());
    }
    runtime.block_on(handle.shutdown(Duration::ZERO));
    Ok(())
}

fn config(arguments: &Arguments) -> Result<ProxyConfig, Failure> {
    let route = |text: &String| {
        let (prefix, upstream) = text.split_once('=').ok_or("--route is prefix=url")?;
        Ok::<_, Failure>(RouteConfig {
            prefix: prefix.into(),
            upstream: upstream.into(),
            credential_key: arguments.optional("key")?,
            tls_ca: arguments.optional("ca")?.filter(|_| upstream.starts_with("https")),
            ..RouteConfig::default()
        })
    };
    let mut limits = Limits::default();
    if let Some(workers) = arguments.optional("workers")? {
        limits.workers = workers;
    }
    let collector = |endpoint| OtlpConfig {
        endpoint,
        headers: vec![("Authorization".into(), "Bearer {}".into())],
        credential_key: arguments.optional("key").ok().flatten(),
        ..OtlpConfig::default()
    };
    let intercepted = |ca_dir| InterceptConfig { ca_dir, ..InterceptConfig::default() };
    let chained = |path: PathBuf| FileOptions { path, max_bytes: 256 << 20, keep: 1 };
    Ok(ProxyConfig {
        otlp: arguments.optional("otlp")?.map(collector),
        intercept: arguments.optional("intercept")?.map(intercepted),
        audit_file: arguments.optional("audit-file")?.map(chained),
        allowed_hosts: arguments.all("allow").to_vec(),
        routes: arguments.all("route").iter().map(route).collect::<Result<_, _>>()?,
        // The default is below what the widest runs open at once.
        max_connections: arguments.optional("places")?.unwrap_or(20_000),
        limits,
        ..ProxyConfig::default()
    })
}
