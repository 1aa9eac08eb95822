//! The upstream side of one worker: dials judged addresses, and reuses connections.
//!
//! This is the seam behind which the client side of HTTP may change: the layers know only
//! [`Upstream::send`] and [`Upstream::dial`].

mod attempt;
mod connector;
mod destination;
mod http1;
mod http2;
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
use nono_credentials::Doubt;
use tokio::time::timeout;

use crate::address::Reach;
use crate::body::Body;
use crate::config::Settings;
use crate::error::{Error, Refusal, Upstream as Failure};
use crate::exchange::Way;
use crate::target::Target;

pub(crate) use attempt::Attempt;
use connector::Connector;
pub(crate) use destination::{Destination, End};
#[cfg(feature = "fuzzing")]
pub(crate) use http1::whole;
pub(crate) use http1::{Cut, Payload};
use http1::{Lost, Reply};
pub(crate) use http2::{Stream, reason as http2_reason};
pub(crate) use line::Line;
pub(crate) use outer::Outer;
use outer::OuterError;
use pool::{Free, Full, Place, Pool};
use sender::Sender;

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
    pub(crate) fn new(settings: &Settings, own: SocketAddr) -> Self {
        let limits = &settings.limits;
        // As many as there may be clients, for each of which one is in use at most.
        let idle = limits.max_client_connections.div_ceil(limits.workers.max(1));
        let pool = Pool::new(limits.pool_idle, idle);
        Self { connector: Connector::new(settings, own), pool }
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

    /// Sends `request`, on a connection of the pool that has room for it or on a new one; `attempt`
    /// knows which. `interim` is given the heads of interim responses, over HTTP/1.1: the
    /// library tells of none over HTTP/2.
    ///
    /// # Errors
    /// As [`Upstream::dial`]; and when the upstream does not answer properly. Waits for an answer
    /// without limit.
    pub(crate) async fn send(
        &self,
        to: &Destination,
        mut request: Box<Request<Body>>,
        attempt: &Attempt<'_>,
        interim: &mut (dyn FnMut(&Response<()>) + Send),
    ) -> Result<Answered, Error> {
        if let Some(outer) = to.forwarder() {
            outer.authorize(request.headers_mut()).await.map_err(Failure::from)?;
        }
        let place = self.pool.place(to);
        let mut was_refused = false;
        loop {
            let (sender, is_reused) = self.sender(to, &place, was_refused).await?;
            attempt.begin(&sender);
            match sender {
                Sender::Http1(connection) => {
                    match connection.exchange(to, &mut request, interim).await {
                        Ok(reply) => return answered(reply, to, place, *request),
                        // It closed while the request was on its way there (RFC 9112 §9.3.1).
                        Err(Lost { is_repeatable: true, .. }) if is_reused => {}
                        Err(lost) => return Err(lost.failure.into()),
                    }
                }
                Sender::Http2(stream) => match Box::pin(stream.exchange(to, request)).await {
                    Ok(response) => return Ok(Answered::Response(response)),
                    // It closed while nobody used it.
                    Err(http2::Lost::Unsent(_, unsent)) if is_reused => request = unsent,
                    Err(http2::Lost::Unprocessed(_, same)) if !was_refused => {
                        was_refused = true;
                        request = same;
                    }
                    Err(lost) => return Err(Failure::from(lost).into()),
                },
            }
        }
    }

    /// A connection for an exchange, and whether it was there before; `is_fresh` if it must not be.
    async fn sender(
        &self,
        to: &Destination,
        place: &Place,
        is_fresh: bool,
    ) -> Result<(Sender, bool), Error> {
        let free = if is_fresh { Ok(place.dial()) } else { place.take(to.needs_http1()) };
        // Boxed, as connecting is: both are rare, and would make every request large.
        let free = match free {
            Ok(free) => free,
            Err(full) => Box::pin(self.wait(place, full)).await?,
        };
        match free {
            Free::Ready(sender) => Ok((sender, true)),
            Free::Dial(dialling) => {
                let connecting = self.connector.connect(to, dialling.freed());
                let sender = Box::pin(connecting).await?;
                if let Sender::Http2(stream) = &sender {
                    dialling.share(stream);
                }
                Ok((sender, false))
            }
        }
    }

    /// Waits until an exchange may begin, for as long as connecting may take.
    async fn wait<'a>(&self, place: &'a Place, full: Full) -> Result<Free<'a>, Error> {
        let waited = timeout(self.connector.limit(), place.wait(full)).await;
        waited.map_err(|_| Failure::Busy.into())
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
