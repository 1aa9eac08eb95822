//! Requests in a closed loop: each connection asks again as soon as it has its answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bench_support::{Arguments, Failure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::connection::{Connection, Plan};
use crate::quantile;

/// When a connection has done enough.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    Time(Instant),
    Number(u64),
}

impl Until {
    pub(crate) fn new(arguments: &Arguments) -> Result<Self, Failure> {
        if let Some(number) = arguments.optional("requests")? {
            return Ok(Self::Number(number));
        }
        let seconds = Duration::try_from_secs_f64(arguments.required("seconds")?)?;
        Ok(Self::Time(Instant::now() + seconds))
    }

    pub(crate) fn is_over(self, done: usize) -> bool {
        match self {
            Self::Time(end) => Instant::now() >= end,
            Self::Number(number) => done as u64 >= number,
        }
    }
}

/// Kept-alive connections; one that the server ends is opened anew.
pub(crate) async fn run(plan: Plan, arguments: &Arguments) -> Result<Value, Failure> {
    let until = Until::new(arguments)?;
    each(plan, arguments, |plan| async move {
        let mut connection = None;
        let mut took = Vec::new();
        while !until.is_over(took.len()) {
            let begun = Instant::now();
            let (open, may_follow) = again(&plan, connection.take()).await?;
            took.push(micros(begun));
            connection = may_follow.then_some(open);
        }
        Ok(took)
    })
    .await
}

/// Asks on `kept`, or on a new connection when there is none or the server has closed it unsaid.
pub(crate) async fn again(
    plan: &Plan,
    kept: Option<Connection>,
) -> Result<(Connection, bool), Failure> {
    if let Some(mut open) = kept
        && let Ok((may_follow, _)) = open.exchange(plan).await
    {
        return Ok((open, may_follow));
    }
    let mut open = Connection::open(plan, None).await?;
    let (may_follow, _) = open.exchange(plan).await?;
    Ok((open, may_follow))
}

/// A new connection for each request.
pub(crate) async fn setups(plan: Plan, arguments: &Arguments) -> Result<Value, Failure> {
    let until = Until::new(arguments)?;
    each(plan, arguments, |plan| async move {
        let plan = plan.of_another();
        let mut took = Vec::new();
        while !until.is_over(took.len()) {
            let begun = Instant::now();
            let mut open = Connection::open(&plan, Some(4096)).await?;
            open.check_resumed(&plan, took.is_empty())?;
            open.reset_when_dropped()?;
            open.exchange(&plan).await?;
            took.push(micros(begun));
        }
        Ok(took)
    })
    .await
}

/// One download.
pub(crate) async fn bulk(plan: &Plan, arguments: &Arguments) -> Result<Value, Failure> {
    let expected: u64 = arguments.required("expect")?;
    let mut connection = Connection::open(plan, None).await?;
    let begun = Instant::now();
    let (_, bytes) = connection.exchange(plan).await?;
    downloaded(bytes, expected, begun)
}

/// What is told of a download that began so long ago.
pub(crate) fn downloaded(bytes: u64, expected: u64, begun: Instant) -> Result<Value, Failure> {
    if bytes != expected {
        return Err(format!("{bytes} bytes came, not {expected}").into());
    }
    Ok(json!({ "bytes": bytes, "seconds": begun.elapsed().as_secs_f64() }))
}

async fn each<F>(
    plan: Plan,
    arguments: &Arguments,
    work: impl Fn(Arc<Plan>) -> F,
) -> Result<Value, Failure>
where
    F: Future<Output = Result<Vec<u64>, Failure>> + Send + 'static,
{
    let plan = Arc::new(plan);
    let connections: usize = arguments.required("connections")?;
    let begun = Instant::now();
    let mut running: JoinSet<_> = (0..connections).map(|_| work(Arc::clone(&plan))).collect();
    let mut took = Vec::new();
    while let Some(done) = running.join_next().await {
        took.extend(done??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(summary(took, seconds))
}

/// What is told of requests that `took` so many microseconds each.
pub(crate) fn summary(mut took: Vec<u64>, seconds: f64) -> Value {
    took.sort_unstable();
    json!({
        "requests": took.len(),
        "seconds": seconds,
        "p50_us": quantile(&took, 0.5),
        "p99_us": quantile(&took, 0.99),
        "p999_us": quantile(&took, 0.999),
    })
}

pub(crate) fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
