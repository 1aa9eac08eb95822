//! The upstream side of one worker: dials judged addresses, and reuses connections.
//!
//! This is the seam behind which the client side of HTTP may change: the layers know only
//! [`Upstream::send`] and [`Upstream::dial`].

mod connector;
mod destination;
mod pool;
mod resolver;
mod sender;

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use tokio::net::TcpStream;

use crate::address::Reach;
use crate::body::Body;
use crate::config::Limits;
use crate::error::{Error, Upstream as Failure};
use crate::exchange::Peer;
use crate::target::Target;

use connector::Connector;
pub(crate) use destination::{Destination, End};
pub(crate) use pool::Lease;
use pool::Pool;
use sender::Sender;

/// See the module.
#[derive(Debug)]
pub(crate) struct Upstream {
    connector: Connector,
    pool: Arc<Pool>,
}

impl Upstream {
    /// An upstream side without connections yet, which never leads to the listener at `own`.
    pub(crate) fn new(limits: &Limits, own: SocketAddr) -> Self {
        Self { connector: Connector::new(limits, own), pool: Pool::new(limits.pool_idle) }
    }

    /// The connections that wait for reuse.
    pub(crate) fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.pool)
    }

    /// Opens a connection of its own to `target`, for a tunnel.
    ///
    /// # Errors
    /// [`Error::Upstream`], or [`Error::Refused`] for an address outside `reach`.
    pub(crate) async fn dial(&self, target: &Target, reach: Reach) -> Result<TcpStream, Error> {
        Box::pin(self.connector.dial(target, reach)).await
    }

    /// Sends `request`, on a connection that waits in the pool or on a new one.
    ///
    /// # Errors
    /// As [`Upstream::dial`]; and when the upstream does not answer properly. Waits for an answer
    /// without limit.
    pub(crate) async fn send(
        &self,
        to: &Destination,
        mut request: Box<Request<Body>>,
        peer: &Arc<Peer>,
    ) -> Result<Response<Body>, Error> {
        loop {
            let reused = self.pool.take(to).await;
            let is_reused = reused.is_some();
            let mut sender = match reused {
                Some(sender) => sender,
                // Boxed: connecting is rare, and its state would make every request large.
                None => Box::pin(self.connect(to)).await?,
            };
            match sender.send(to, *request).await {
                Ok(response) => {
                    let mut response = response.map(Body::incoming);
                    if let Sender::Http1(connection) = sender {
                        let lease = Lease::new(&self.pool, to, connection, peer);
                        response.body_mut().hold_lease(lease);
                    }
                    return Ok(response);
                }
                Err(mut failed) => match failed.take_message() {
                    // Closed while it waited; nothing of the request was written.
                    Some(unsent) if is_reused => *request = unsent,
                    _ => return Err(explain(failed.error()).into()),
                },
            }
        }
    }

    /// Opens a connection, and shares it if it can be.
    async fn connect(&self, to: &Destination) -> Result<Sender, Error> {
        let sender = self.connector.connect(to).await?;
        if let Sender::Http2(sender) = &sender {
            self.pool.share(to, sender.clone());
        }
        Ok(sender)
    }
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

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Upstream(failure)
    }
}
