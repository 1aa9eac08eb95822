//! Event streams: how long after its sending an event arrives.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bench_support::{Arguments, Failure};
use memchr::memmem::find;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};

use crate::connection::{Connection, Plan};
use crate::quantile;

/// What stands before the time in each event, and how many digits that has.
const MARK: &[u8] = b"data: ";
const DIGITS: usize = 19;

/// Enough for the events that come together on one stream.
const BUFFER: usize = 16 * 1024;

/// What one stream saw, in microseconds.
#[derive(Debug, Default)]
struct Seen {
    /// From the request to the first event.
    first: u64,
    /// From sending to arrival, of all others.
    late: Vec<u64>,
}

pub(crate) async fn run(plan: Plan, arguments: &Arguments) -> Result<Value, Failure> {
    let plan = Arc::new(plan);
    let streams: u32 = arguments.required("streams")?;
    let count: usize = arguments.required("count")?;
    let every = Duration::from_micros(arguments.required("every-us")?);
    let start = Instant::now();
    // Evenly within one interval, as independent streams would be.
    let mut running: JoinSet<_> = (0..streams)
        .map(|n| follow(Arc::clone(&plan), start + every * n / streams, count))
        .collect();
    let (mut first, mut late) = (Vec::new(), Vec::new());
    while let Some(done) = running.join_next().await {
        let seen = done??;
        first.push(seen.first);
        late.extend(seen.late);
    }
    first.sort_unstable();
    late.sort_unstable();
    Ok(json!({
        "events": late.len() + first.len(),
        "seconds": start.elapsed().as_secs_f64(),
        "p50_us": quantile(&late, 0.5),
        "p99_us": quantile(&late, 0.99),
        "first_p50_us": quantile(&first, 0.5),
    }))
}

async fn follow(plan: Arc<Plan>, start: Instant, count: usize) -> Result<Seen, Failure> {
    let mut connection = Connection::open(&plan, Some(BUFFER)).await?;
    interval_at(start, Duration::from_secs(1)).tick().await;
    let begun = Instant::now();
    connection.subscribe(&plan).await?;
    let mut seen = Seen::default();
    let mut events = 0;
    while events < count {
        while let Some(sent) = next(&mut connection)? {
            events += 1;
            if events == 1 {
                seen.first = u64::try_from(begun.elapsed().as_micros())?;
            } else {
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
                seen.late.push(u64::try_from(now.saturating_sub(sent) / 1000)?);
            }
        }
        if events < count && connection.fill().await? == 0 {
            return Err(format!("a stream ended after {events} of {count} events").into());
        }
    }
    Ok(seen)
}

/// When the next event that has come was sent. How it is framed does not matter: chunks are
/// never cut within an event this short, unless a proxy cuts them, which would be an error here.
fn next(connection: &mut Connection) -> Result<Option<u128>, Failure> {
    let pending = connection.pending();
    let Some(at) = find(pending, MARK) else {
        return Ok(None);
    };
    let start = at + MARK.len();
    let Some(digits) = pending.get(start..start + DIGITS) else {
        return Ok(None);
    };
    let sent = std::str::from_utf8(digits)?.parse()?;
    connection.consume(start + DIGITS);
    Ok(Some(sent))
}
