//! `CONNECT`: dials first, answers 200 only when that worked (RFC 9110 §9.3.6), then relays.

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::body::Body;
use crate::error::Refusal;
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
    // Reserved before anything happens, as the place for the record of its end.
    if !recorder.reserve_opening() {
        return Err(Refusal::LogFull.into());
    }
    let io = worker.upstream.dial(way.target(), reach).await?;
    recorder.note(|record| record.upstream_addr = io.peer_addr().ok());
    recorder.opened(StatusCode::OK.as_u16());
    let client = hyper::upgrade::on(&mut *request);
    worker.relay(client, Opened { io, early: Bytes::new() }, recorder, place);
    Ok(Response::new(Body::tunnel()))
}
