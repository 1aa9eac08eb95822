//! The clients of the benchmarks, on one thread so that they leave the other cores to what is
//! measured. Prints one line of JSON.
//!
//! | mode         | what it does                                                              |
//! |--------------|-----------------------------------------------------------------------------|
//! | `requests` | one request after the other on each connection, for a time or a number      |
//! | `rate`     | requests when a schedule says so, however late the answers are              |
//! | `events`   | event streams; how late events arrive                                       |
//! | `bulk`     | one long download                                                           |
//! | `sockets`  | WebSockets, on each one message after the other                             |
//! | `setups`   | a new connection (or tunnel) for each request                               |
//! | `http2`    | as `requests`, on each of the streams of each connection, over HTTP/2       |
//! | `http2-bulk` | as `bulk`, over HTTP/2                                                    |
//! | `idle`     | opens connections or streams, says so, and holds them until its input ends  |

mod connection;
mod events;
mod http2;
mod idle;
mod rate;
mod requests;
mod security;
mod sockets;

use std::time::Duration;

use bench_support::{Arguments, Failure, answer};
use tokio::time::timeout;

use connection::Plan;

/// No run is longer; what hangs must not hang the whole benchmark.
const LIMIT: Duration = Duration::from_mins(2);

fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let mode = words.next().unwrap_or_default();
    let arguments = Arguments::parse(words)?;
    let plan = Plan::new(&arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = async {
        match mode.as_str() {
            "requests" => requests::run(plan, &arguments).await,
            "rate" => rate::run(plan, &arguments).await,
            "sockets" => sockets::run(&plan, &arguments).await,
            "events" => events::run(plan, &arguments).await,
            "bulk" => requests::bulk(&plan, &arguments).await,
            "setups" => requests::setups(plan, &arguments).await,
            "http2" => http2::run(&plan, &arguments).await,
            "http2-bulk" => http2::bulk(&plan, &arguments).await,
            "idle" => idle::run(&plan, &arguments).await,
            _ => Err(format!("{mode:?} is not a mode").into()),
        }
    };
    let found = runtime.block_on(async { timeout(LIMIT, run).await })??;
    answer(&found)
}

/// The value below which `share` of the sorted `values` are.
fn quantile(values: &[u64], share: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a place within the list"
    )]
    let place = (values.len().saturating_sub(1) as f64 * share).round() as usize;
    values.get(place).copied().unwrap_or_default()
}
