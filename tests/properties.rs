//! What holds for all inputs and not for examples alone, shown end to end: a proxy judges what
//! an origin receives, and answers whatever comes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

#[path = "properties/bytes.rs"]
mod bytes;
#[path = "properties/hosts.rs"]
mod hosts;
#[path = "properties/paths.rs"]
mod paths;

use proptest::prelude::{ProptestConfig, Strategy, TestCaseError};
use proptest::test_runner::TestRunner;
use tokio::runtime::{Builder, Runtime};

/// Runs `check` on `cases` values of `strategy`, all on one runtime, so that proxies and origins
/// made outside serve every case.
fn for_all<S, F>(runtime: &Runtime, cases: u32, strategy: &S, check: F)
where
    S: Strategy,
    F: AsyncFn(S::Value) -> Result<(), TestCaseError>,
{
    // Nothing is written to the source tree; a failure prints the smallest case.
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let ran = TestRunner::new(config).run(strategy, |value| runtime.block_on(check(value)));
    if let Err(error) = ran {
        panic!("{error}");
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}
