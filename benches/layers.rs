//! Requests that pass the layers of the stack without sockets, up to the one that refuses them:
//! the one that is refused further in has passed all before. And those that pass them all, beside
//! those for which there are none.

use std::hint::black_box;

use http::Request;
use nono_proxy::bench::{Token, bare_runner, stack_runner};
use nono_proxy::{ProxyConfig, RouteConfig};
use tokio::runtime::{Builder, Runtime};

use crate::Failure;

/// How many requests are run as one: the audit channel is emptied after each batch.
pub const BATCH: usize = 100;

/// A layer that refuses, and with what: from the outermost that looks at requests inwards; and none.
const CASES: [(&str, &str, bool, u16); 5] = [
    ("refused by authenticate", "/api/models/x", false, 401),
    ("refused by route", "/none/models/x", true, 404),
    ("refused by endpoint rules", "/api/files/x", true, 403),
    ("refused by allow", "/denied/models/x", true, 403),
    ("passed", "/api/models/x", true, PASSED),
];

/// What the leaf answers a request that no layer refuses.
const PASSED: u16 = 204;

/// Gives `each` the name of every case, and what runs a batch of its requests.
///
/// # Errors
/// A case is not refused as it should be.
pub fn for_each(mut each: impl FnMut(&str, &mut dyn FnMut())) -> Result<(), Failure> {
    let route = |prefix: &str, upstream: &str| RouteConfig {
        prefix: prefix.into(),
        upstream: upstream.into(),
        endpoint_rules: vec![("GET".into(), "/models/**".into())],
        ..RouteConfig::default()
    };
    let config = ProxyConfig {
        routes: vec![
            route("api", "http://127.0.0.1:9/v1"),
            route("denied", "http://127.0.0.2:9/v1"),
        ],
        denied_hosts: vec!["127.0.0.2".into()],
        ..ProxyConfig::default()
    };
    let token = Token::new()?;
    let bearer = token.bearer();
    let run = stack_runner(&config, token)?;
    let bare = bare_runner();
    let runtime = runtime()?;
    for (case, path, is_known, status) in CASES {
        let request = || {
            Request::get(path)
                .header("host", "127.0.0.1")
                .header("user-agent", "bench/1.0")
                .header("accept", "application/json")
                .header("authorization", if is_known { &*bearer } else { "Bearer x" })
                .body(())
        };
        let requests = (0..BATCH).map(|_| request()).collect::<Result<Vec<_>, _>>()?;
        if runtime.block_on(run(&requests)).iter().any(|found| *found != status) {
            return Err(format!("{case}: not answered {status}").into());
        }
        each(case, &mut || drop(black_box(runtime.block_on(run(&requests)))));
        if status == PASSED {
            each("none", &mut || drop(black_box(runtime.block_on(bare(&requests)))));
        }
    }
    Ok(())
}

/// A runtime on the calling thread.
///
/// # Errors
/// The system has no room for one.
pub fn runtime() -> Result<Runtime, std::io::Error> {
    Builder::new_current_thread().enable_all().build()
}
