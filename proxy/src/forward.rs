//! Sends a request to its upstream and hands the response back, streaming both ways.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode, Version};
use nono_audit::Recorder;
use nono_credentials::Loaded;
use tokio::sync::oneshot;

use crate::body::Body;
use crate::error::{Error, Refusal, Upstream as Failure};
use crate::exchange::{Exchange, Peer, Ready};
use crate::headers::{asks_upgrade, strip_hop_by_hop, strip_switching};
use crate::http1::fields;
use crate::idle::{Idle, Timer};
use crate::layers::Answer;
use crate::leaf::Worker;
use crate::scrub::{self, Scrubber, Secrets};
use crate::server::spin::{self, Awaited};
use crate::server::websocket::Challenge;
use crate::upstream::{Answered, Attempt, Destination};

/// Sends `exchange` upstream.
///
/// # Errors
/// [`Error::Upstream`] when no response comes, [`Error::Refused`] when the name resolves to an
/// address that may not be reached.
pub(crate) async fn send(worker: Arc<Worker>, exchange: Exchange<Ready>) -> Answer {
    let Exchange { mut request, recorder, peer, place, stage: Ready { way, reach, sent } } =
        exchange;
    let asks_upgrade = asks_upgrade(request.headers());
    if asks_upgrade && !recorder.reserve_opening() {
        return Err(Refusal::LogFull.into());
    }
    let challenge = request.extensions_mut().remove::<Challenge>();
    let limits = &worker.shared.settings.limits;
    request.body_mut().limit_idle(limits.idle);
    let destination = worker.upstream.destination(way, reach, asks_upgrade)?;
    let knows_interim = request.version() == Version::HTTP_11;
    let mut interim = |head: &Response<()>| {
        if knows_interim {
            relay_interim(head, &peer, secrets(&destination, sent.as_ref()).as_ref());
        }
    };

    let answered = {
        spin::wait_for(Awaited::Response, &peer, Instant::now());
        let timer = peer.gate.timer().take();
        let mut patience = Patience::new(limits.response_head, timer);
        let attempt = Attempt::new(&recorder);
        let mut sending = pin!(worker.upstream.send(&destination, request, &attempt, &mut interim));
        poll_fn(|cx| match sending.as_mut().poll(cx) {
            Poll::Ready(sent) => Poll::Ready(sent),
            Poll::Pending => patience.poll(cx, &recorder, &peer).map(|()| {
                attempt.give_up();
                Err(late())
            }),
        })
        .await
        .inspect(|_| *peer.gate.timer() = patience.idle.into_timer())?
    };
    check(&answered, challenge.as_ref())?;
    match answered {
        Answered::Response(mut response) => {
            *response.version_mut() = Version::HTTP_11;
            response.body_mut().limit_idle(limits.idle);
            scrub(&destination, sent.as_ref(), &mut response);
            strip_hop_by_hop(response.headers_mut());
            response.body_mut().hold_place(place);
            Ok(response)
        }
        Answered::Switched(head, server) if asks_upgrade => {
            let (handover, client) = oneshot::channel();
            let mut response = head.map(|()| Body::tunnel(handover));
            scrub(&destination, sent.as_ref(), &mut response);
            strip_switching(response.headers_mut());
            recorder.opened(StatusCode::SWITCHING_PROTOCOLS.as_u16());
            worker.relay(client, server, recorder, place);
            Ok(response)
        }
        Answered::Switched(..) => {
            Err(Failure::BadResponse("it switched protocols unasked".into()).into())
        }
    }
}

/// Sees that the answer to a WebSocket's opening is one, where the client cannot: over HTTP/2, any
/// success would tell it that its WebSocket is open.
fn check(answered: &Answered, challenge: Option<&Challenge>) -> Result<(), Failure> {
    let reason = match (answered, challenge) {
        (Answered::Switched(head, _), Some(challenge)) if !challenge.is_met_by(head.headers()) => {
            "its Sec-WebSocket-Accept is not the answer to the key"
        }
        (Answered::Response(response), Some(_)) if response.status().is_success() => {
            "it did not switch to WebSocket"
        }
        _ => return Ok(()),
    };
    Err(Failure::BadResponse(reason.into()))
}

/// The secrets that what comes from `destination` may echo: what was `sent` there for its route; or
/// what the proxy that sends the request on was shown, which may have passed it on.
fn secrets(destination: &Destination, sent: Option<&Arc<Loaded>>) -> Option<Secrets> {
    if let Some(route) = destination.route() {
        return Some(Secrets::new(route.credential.as_ref()?, sent?));
    }
    let credential = destination.forwarder()?.credential.as_ref()?;
    Some(Secrets::new(credential, credential.current().as_ref()?))
}

/// Takes the secrets out of a response that echoes them.
fn scrub(destination: &Destination, sent: Option<&Arc<Loaded>>, response: &mut Response<Body>) {
    #[cfg(feature = "bench")]
    if crate::bench::Part::Scrubbing.is_left_out() {
        return;
    }
    let Some(secrets) = secrets(destination, sent) else { return };
    scrub::headers(&secrets, response.headers_mut());
    scrub::reason(&secrets, response);
    let is_left = destination.route().is_some_and(|route| !route.scrubs_bodies);
    let scrubber = Scrubber::new(secrets, response.headers(), is_left);
    response.body_mut().scrub(scrubber);
}

/// Passes an interim response on (RFC 9110 §15.2), but for `100 Continue`, which the client gets
/// as soon as its body is asked for.
fn relay_interim(interim: &Response<()>, peer: &Peer, secrets: Option<&Secrets>) {
    if interim.status() == StatusCode::CONTINUE {
        return;
    }
    let mut headers = interim.headers().clone();
    strip_hop_by_hop(&mut headers);
    // It has no body, whatever it says (RFC 9110 §8.6).
    headers.remove(CONTENT_LENGTH);
    if let Some(secrets) = secrets {
        scrub::headers(secrets, &mut headers);
    }
    let mut head = format!("HTTP/1.1 {}\r\n", interim.status()).into_bytes();
    fields::put(&mut head, &headers);
    head.extend_from_slice(b"\r\n");
    peer.gate.interim(&head);
}

/// Waits for a response's head. While the upstream waits for the client, or takes what it uploads,
/// the time does not run: there is a limit of its own for a client that sends nothing.
struct Patience {
    idle: Idle,
    uploaded: u64,
}

impl Patience {
    fn new(limit: Duration, timer: Option<Timer>) -> Self {
        Self { idle: Idle::with_timer(limit, timer), uploaded: 0 }
    }

    fn poll(&mut self, cx: &mut Context<'_>, recorder: &Recorder, peer: &Peer) -> Poll<()> {
        let uploaded = recorder.bytes_in();
        if uploaded != self.uploaded || peer.gate.is_awaited() {
            self.uploaded = uploaded;
            self.idle.progress();
        }
        self.idle.poll(cx)
    }
}

/// For an upstream that does not answer.
fn late() -> Error {
    Failure::ResponseTimeout.into()
}
