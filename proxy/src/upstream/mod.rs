//! The upstream side of one worker: dials judged addresses, and reuses connections.
//!
//! This is the seam behind which the client side of HTTP may change: the layers know only
//! [`Upstream::send`] and [`Upstream::dial`].

mod connector;
mod destination;
mod http1;
mod line;
mod outer;
mod paced;
mod pool;
mod resolver;
mod sender;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, request};
use hyper::client::conn::http2::SendRequest;
use nono_audit::Recorder;
use nono_credentials::Doubt;

use crate::address::Reach;
use crate::body::Body;
use crate::config::Limits;
use crate::error::{Error, Refusal, Upstream as Failure};
use crate::exchange::Way;
use crate::target::Target;

use connector::Connector;
pub(crate) use destination::{Destination, End};
#[cfg(feature = "fuzzing")]
pub(crate) use http1::whole;
pub(crate) use http1::{Cut, Payload};
use http1::{Lost, Reply};
pub(crate) use line::Line;
pub(crate) use outer::Outer;
use outer::OuterError;
use pool::{Place, Pool};
use sender::{Sender, address_http2};

/// See the module.
#[derive(Debug)]
pub(crate) struct Upstream {
    connector: Connector,
    pool: Arc<Pool>,
}

/// What an upstream answers.
pub(crate) enum Answered {
    Response(Response<Body>),
    /// It switched protocols, with this head.
    Switched(Response<()>, Opened<Box<Line>>),
}

/// The head of the request that a response refuses for its credential; an extension of that
/// response.
#[derive(Clone)]
pub(crate) struct Refused(pub(crate) Box<request::Parts>);

impl Refused {
    fn attach<A, B>(request: Request<A>, response: &mut Response<B>) {
        response.extensions_mut().insert(Self(Box::new(request.into_parts().0)));
    }
}

/// A connection that bytes are relayed to.
#[derive(Debug)]
pub(crate) struct Opened<T> {
    pub(crate) io: T,
    /// What came from there already.
    pub(crate) early: Bytes,
}

impl Upstream {
    /// An upstream side without connections yet, which never leads to the listener at `own`.
    pub(crate) fn new(limits: &Limits, own: SocketAddr, outer: Option<Arc<Outer>>) -> Self {
        Self { connector: Connector::new(limits, own, outer), pool: Pool::new(limits.pool_idle) }
    }

    /// The connections that wait for reuse.
    pub(crate) fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.pool)
    }

    /// How the end of `way` is reached, within `reach`; `needs_http1` if the request asks for an
    /// upgrade.
    ///
    /// # Errors
    /// The host cannot stand in a URL.
    pub(crate) fn destination(
        &self,
        way: Way,
        reach: Reach,
        needs_http1: bool,
    ) -> Result<Destination, Refusal> {
        let destination = Destination::new(way, reach, needs_http1)?;
        // A request that is to become a tunnel goes through one: few proxies send it on.
        if needs_http1 || destination.is_secure() {
            return Ok(destination);
        }
        let outer = self.connector.outer(destination.target(), destination.reach()).cloned();
        Ok(destination.forwarded_by(outer))
    }

    /// Opens a connection of its own to `target`, for a tunnel.
    ///
    /// # Errors
    /// [`Error::Upstream`], or [`Error::Refused`] for an address outside `reach`.
    pub(crate) async fn dial(&self, target: &Target, reach: Reach) -> Result<Line, Error> {
        Box::pin(self.connector.dial(target, reach)).await
    }

    /// Sends `request`, on a connection that waits in the pool or on a new one. `interim` is given
    /// the heads of interim responses.
    ///
    /// # Errors
    /// As [`Upstream::dial`]; and when the upstream does not answer properly. Waits for an answer
    /// without limit.
    pub(crate) async fn send(
        &self,
        to: &Destination,
        mut request: Box<Request<Body>>,
        recorder: &Recorder,
        interim: &mut (dyn FnMut(&Response<()>) + Send),
    ) -> Result<Answered, Error> {
        if let Some(outer) = to.forwarder() {
            outer.authorize(request.headers_mut()).await.map_err(Failure::from)?;
        }
        let mut place = self.pool.place(to);
        let mut waiting = place.take(to.needs_http1());
        loop {
            let is_reused = waiting.is_some();
            let sender = match waiting.take() {
                Some(sender) => sender,
                // Boxed: connecting is rare, and its state would make every request large.
                None => Box::pin(self.connect(to, &place)).await?,
            };
            place.peer = sender.peer();
            recorder.note(|record| record.upstream_addr = place.peer);
            match sender {
                Sender::Http1(connection, _) => {
                    match connection.exchange(to, &mut request, interim).await {
                        Ok(reply) => return answered(reply, to, place, *request),
                        // It closed while the request was on its way there (RFC 9112 §9.3.1).
                        Err(Lost { is_repeatable: true, .. }) if is_reused => {}
                        Err(lost) => return Err(lost.failure.into()),
                    }
                }
                Sender::Http2(sender, _) => match Box::pin(send_http2(sender, to, request)).await {
                    Ok(response) => return Ok(Answered::Response(response)),
                    // Closed while it waited; nothing of the request was written.
                    Err((_, Some(unsent))) if is_reused => request = unsent,
                    Err((failure, _)) => return Err(failure.into()),
                },
            }
        }
    }

    /// Opens a connection, and shares it if it can be.
    async fn connect(&self, to: &Destination, place: &Place) -> Result<Sender, Error> {
        let sender = self.connector.connect(to).await?;
        if let Sender::Http2(sender, peer) = &sender {
            place.share(sender.clone(), *peer);
        }
        Ok(sender)
    }
}

fn answered(
    reply: Reply,
    to: &Destination,
    place: Place,
    request: Request<Body>,
) -> Result<Answered, Error> {
    match reply {
        Reply::Switched(head, switched) => Ok(Answered::Switched(head, switched)),
        Reply::Response(mut response) => {
            // Not a challenge to the client, which has nothing to answer it with.
            if let Some(outer) = to.forwarder() {
                outer.judge(response.status()).map_err(Failure::from)?;
            }
            response.body_mut().return_to(place);
            if Doubt::of(response.status()).is_some() {
                Refused::attach(request, &mut response);
            }
            Ok(Answered::Response(response.map(Body::payload)))
        }
    }
}

/// Sends over HTTP/2; an error comes with the request if nothing of it was written.
async fn send_http2(
    mut sender: SendRequest<Body>,
    to: &Destination,
    mut request: Box<Request<Body>>,
) -> Result<Response<Body>, (Failure, Option<Box<Request<Body>>>)> {
    // The library keeps what it sends, so here it has to be copied.
    let may_be_refused = to.route().is_some_and(|route| route.credential.is_some());
    let head = may_be_refused.then(|| head_of(&request));
    address_http2(to, &mut request);
    match sender.try_send_request(*request).await {
        Ok(mut response) => {
            if let Some(head) = head
                && Doubt::of(response.status()).is_some()
            {
                Refused::attach(head, &mut response);
            }
            Ok(response.map(Body::incoming))
        }
        Err(mut failed) => {
            let unsent = failed.take_message().map(Box::new);
            Err((explain(failed.error()), unsent))
        }
    }
}

fn head_of(request: &Request<Body>) -> Request<()> {
    let mut head = Request::new(());
    request.method().clone_into(head.method_mut());
    request.uri().clone_into(head.uri_mut());
    request.headers().clone_into(head.headers_mut());
    head
}

fn explain(error: &hyper::Error) -> Failure {
    if error.is_user() {
        // The request's body failed, which only the client can have caused.
        return Failure::RequestCut;
    }
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    Failure::BadResponse(reason)
}

impl From<OuterError> for Failure {
    fn from(error: OuterError) -> Self {
        Self::Outer(error.to_string())
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Upstream(failure)
    }
}
