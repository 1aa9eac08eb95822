//! `CONNECT`: dials first, answers 200 only when that worked (RFC 9110 §9.3.6), then relays.

use bytes::Bytes;
use http::Response;

use crate::body::Body;
use crate::exchange::{Exchange, Ready};
use crate::layers::Answer;
use crate::leaf::Worker;
use crate::upstream::Opened;

/// Opens the tunnel that `exchange` asks for.
///
/// # Errors
/// As of [`crate::upstream::Upstream::dial`].
pub(crate) async fn open(worker: &Worker, exchange: Exchange<Ready>) -> Answer {
    let Exchange { mut request, recorder, place, stage: Ready { way, reach }, .. } = exchange;
    let io = worker.upstream.dial(way.target(), reach).await?;
    let client = hyper::upgrade::on(&mut *request);
    worker.relay(client, Opened { io, early: Bytes::new() }, recorder, place);
    Ok(Response::new(Body::tunnel()))
}
