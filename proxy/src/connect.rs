//! `CONNECT`: dials first, answers 200 only when that worked (RFC 9110 §9.3.6), then relays. A
//! tunnel that ends in the proxy needs no dialling.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::sync::oneshot;

use crate::body::Body;
use crate::error::Refusal;
use crate::exchange::{Exchange, Ready};
use crate::intercept::{self, Inside};
use crate::layers::Answer;
use crate::leaf::Worker;
use crate::server::spin;
use crate::target::Target;
use crate::upstream::Opened;

/// Opens the tunnel that `exchange` asks for.
///
/// # Errors
/// As of [`crate::upstream::Upstream::dial`].
pub(crate) async fn open(worker: Arc<Worker>, exchange: Exchange<Ready>) -> Answer {
    let Exchange { recorder, peer, place, stage: Ready { way, reach, .. }, .. } = exchange;
    // Reserved before anything happens, as the place for the record of its end.
    if !recorder.reserve_opening() {
        return Err(Refusal::LogFull.into());
    }
    spin::come(&peer);
    let io = worker.upstream.dial(way.target(), reach).await?;
    recorder.note(|record| record.upstream_addr = Some(io.peer()));
    recorder.opened(StatusCode::OK.as_u16());
    let (handover, client) = oneshot::channel();
    worker.relay(client, Opened { io, early: Bytes::new() }, recorder, place);
    Ok(Response::new(Body::tunnel(handover)))
}

/// Ends the tunnel to `target` that `exchange` asks for here. The place among what may run is
/// given back: each request inside takes one of its own.
pub(crate) fn intercept(
    worker: &Arc<Worker>,
    exchange: Exchange<Ready>,
    target: Target,
) -> Response<Body> {
    let recorder = exchange.recorder;
    let inside = Inside::new(target, &recorder, Arc::clone(&worker.shared));
    let (handover, client) = oneshot::channel();
    intercept::begin(worker, client, inside, recorder);
    Response::new(Body::tunnel(handover))
}
