//! Connections and streams that are open and do nothing.

use std::io::Read as _;

use bench_support::{Arguments, Failure, answer};
use serde_json::{Value, json};

use crate::connection::{Connection, Plan};

/// Enough for a head and an event.
const BUFFER: usize = 1024;

pub(crate) async fn run(plan: &Plan, arguments: &Arguments) -> Result<Value, Failure> {
    let count: usize = arguments.required("connections")?;
    let streams = arguments.optional("streams")?.unwrap_or(false);
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = Connection::open(plan, Some(BUFFER)).await?;
        if streams {
            connection.subscribe(plan).await?;
            while connection.pending().is_empty() {
                connection.fill().await?;
            }
        } else if !connection.exchange(plan).await?.0 {
            return Err("the server does not keep connections".into());
        }
        held.push(connection);
    }
    answer(&json!({ "open": held.len() }))?;
    // Nothing else is to run here.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(json!({ "held": held.len() }))
}
