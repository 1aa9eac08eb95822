//! `CONNECT`: dials first, answers 200 only when that worked (RFC 9110 §9.3.6), then relays.

mod tunnel;

use std::sync::Arc;

use http::Response;
use tokio_util::task::TaskTracker;

use crate::body::Body;
use crate::exchange::{Exchange, Ready};
use crate::layers::Answer;
use crate::stack::Shared;
use crate::upstream::Upstream;

/// Opens the tunnel that `exchange` asks for. It runs as a task of `tunnels` and ends the record.
pub(crate) async fn open(
    upstream: &Upstream,
    shared: &Shared,
    tunnels: &TaskTracker,
    exchange: Exchange<Ready>,
) -> Answer {
    let Exchange {
        mut request,
        recorder,
        place,
        stage: Ready { way, reach },
    } = exchange;
    let server = upstream.dial(way.target(), reach).await?;
    let client = hyper::upgrade::on(&mut request);
    let cut = shared.cut.clone();
    tunnels.spawn(async move {
        tunnel::run(client, server, Arc::clone(&recorder), cut).await;
        drop(place);
    });
    Ok(Response::new(Body::tunnel()))
}
