//! Sends a request to its upstream and hands the response back, streaming both ways.

use std::sync::Arc;

use http::header::{HOST, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, Version};
use hyper::ext::on_informational;
use hyper_util::rt::TokioIo;

use crate::body::Body;
use crate::error::{Refusal, Upstream as Failure};
use crate::exchange::{Exchange, Peer, Ready, Way};
use crate::headers::{asks_upgrade, strip_hop_by_hop, strip_switching};
use crate::layers::Answer;
use crate::leaf::Worker;
use crate::scrub::{self, Scrubber};
use crate::target::Scheme;
use crate::upstream::Destination;

/// Sends `exchange` upstream.
///
/// # Errors
/// [`crate::error::Error::Upstream`] when no response comes, `Refused` when the name resolves
/// to an address that may not be reached.
pub(crate) async fn send(worker: &Worker, exchange: Exchange<Ready>) -> Answer {
    let Exchange { mut request, recorder, peer, place, stage: Ready { way, reach } } = exchange;
    let client = asks_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
    relay_interim(&mut request, peer);
    address(&mut request, &way)?;
    let idle = worker.shared.settings.limits.idle;
    request.body_mut().limit_idle(idle);
    let destination = Destination::new(way, reach);
    let mut response = worker.upstream.send(&destination, request).await?;
    *response.version_mut() = Version::HTTP_11;
    response.body_mut().limit_idle(idle);
    scrub(&destination, &mut response);
    match (response.status(), client) {
        (StatusCode::SWITCHING_PROTOCOLS, Some(client)) => {
            let server = hyper::upgrade::on(&mut response).await;
            let server = server.map_err(|error| Failure::BadResponse(error.to_string()))?;
            worker.relay(client, TokioIo::new(server), recorder, place);
            strip_switching(response.headers_mut());
            Ok(response.map(|_| Body::tunnel()))
        }
        (StatusCode::SWITCHING_PROTOCOLS, None) => {
            Err(Failure::BadResponse("it switched protocols unasked".into()).into())
        }
        _ => {
            strip_hop_by_hop(response.headers_mut());
            response.body_mut().hold_place(place);
            Ok(response)
        }
    }
}

/// Takes the route's secret out of a response that echoes it.
fn scrub(destination: &Destination, response: &mut Response<Body>) {
    if let Destination::Route(route) = destination {
        scrub::headers(route, response.headers_mut());
        let scrubber = Scrubber::new(route, response.headers());
        response.body_mut().scrub(scrubber);
    }
}

/// Makes the request one for the end of `way`: its `Host`, and the target in origin-form.
fn address(request: &mut Request<Body>, way: &Way) -> Result<(), Refusal> {
    let scheme = match way {
        Way::Route(route) => route.scheme,
        Way::Tunnel(_) | Way::Forward(_) => Scheme::Http,
    };
    // The host that was judged, whatever the client's Host said.
    let host = HeaderValue::try_from(way.target().host_field(scheme))
        .map_err(|_| Refusal::Malformed("its host cannot stand in a Host field"))?;
    request.headers_mut().insert(HOST, host);
    // An empty path is `/` (RFC 9112 §3.2.1).
    let target = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::from(target.unwrap_or_else(|| PathAndQuery::from_static("/")));
    *request.version_mut() = Version::HTTP_11;
    Ok(())
}

/// Passes interim responses on (RFC 9110 §15.2), but for `100 Continue`, which the client gets
/// as soon as its body is asked for; and not to HTTP/1.0, which does not know them.
fn relay_interim(request: &mut Request<Body>, peer: Arc<Peer>) {
    if request.version() != Version::HTTP_11 {
        return;
    }
    on_informational(request, move |interim| {
        if interim.status() == StatusCode::CONTINUE {
            return;
        }
        let mut head = format!("HTTP/1.1 {}\r\n", interim.status()).into_bytes();
        for (name, value) in interim.headers() {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        peer.gate.interim(&head);
    });
}
