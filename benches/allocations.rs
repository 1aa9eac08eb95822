//! How often memory is asked for: by each layer, and by a whole request. Prints JSON.
//!
//! A program of its own, since counting makes what is counted slower.

use std::alloc::System;
use std::collections::BTreeMap;

use bench_support::layers::{self, BATCH};
use bench_support::round_trip::RoundTrip;
use bench_support::{Failure, answer};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> Result<(), Failure> {
    let mut found = BTreeMap::new();
    layers::for_each(|case, run| {
        found.insert(format!("layers/{case}"), count(BATCH, run));
    })?;
    let trip = RoundTrip::start()?;
    let mut ask = trip.proxied()?;
    let mut failed = 0;
    let mut asks = || (0..BATCH).for_each(|_| failed += u32::from(!ask()));
    // Lists that grow with the records have grown once this is over.
    asks();
    let whole = count(BATCH, &mut asks);
    trip.drain();
    if failed > 0 {
        return Err(format!("{failed} requests failed").into());
    }
    found.insert("round trip/proxy".into(), whole);
    answer(&serde_json::to_value(found)?)
}

/// The allocations of one of the `many` things that `run` does.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn count(many: usize, run: &mut dyn FnMut()) -> f64 {
    let region = Region::new(ALLOCATOR);
    run();
    let change = region.change();
    (change.allocations + change.reallocations) as f64 / many as f64
}
