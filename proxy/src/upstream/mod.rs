//! The upstream side of one worker: dials judged addresses, and reuses connections.
//!
//! This is the seam behind which the client side of HTTP may change: the layers know only
//! [`Upstream::send`] and [`Upstream::dial`].

mod connector;
mod pool;
mod resolver;

use std::sync::Arc;

use http::{Request, Response};
use hyper::client::conn::http1;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::address::Reach;
use crate::body::Body;
use crate::config::Limits;
use crate::error::{Error, Upstream as Failure};
use crate::exchange::Way;
use crate::route::Route;
use crate::target::Target;

use connector::Connector;
pub(crate) use pool::Lease;
use pool::Pool;

/// A requests's sender on one upstream connection.
type SendRequest = http1::SendRequest<Body>;

/// Where a request is sent.
#[derive(Debug)]
pub(crate) enum Destination {
    /// To the upstream of a route.
    Route(Arc<Route>),
    /// To a host that the client named.
    Open(Target, Reach),
}

impl Destination {
    /// The end of `way`, within `reach`.
    pub(crate) fn new(way: Way, reach: Reach) -> Self {
        match way {
            Way::Route(route) => Self::Route(route),
            Way::Tunnel(target) | Way::Forward(target) => Self::Open(target, reach),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Upstream {
    connector: Connector,
    pool: Arc<Pool>,
    limits: Limits,
}

impl Upstream {
    /// An upstream side without connections yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { connector: Connector::new(&limits), pool: Pool::new(limits.pool_idle), limits }
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
        self.connector.dial(target, reach).await
    }

    /// Sends `request`, on a connection that waits in the pool or on a new one.
    ///
    /// # Errors
    /// As [`Upstream::dial`]; and when the upstream does not answer properly or in time.
    pub(crate) async fn send(
        &self,
        to: &Destination,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        loop {
            let reused = self.pool.take(to).await;
            let is_reused = reused.is_some();
            let mut sender = match reused {
                Some(sender) => sender,
                None => self.connector.connect(to).await?,
            };
            let sent = timeout(self.limits.response_head, sender.try_send_request(request)).await;
            match sent {
                Ok(Ok(response)) => {
                    let mut response = response.map(Body::incoming);
                    let lease = Lease::new(&self.pool, to, sender);
                    response.body_mut().hold_lease(lease);
                    return Ok(response);
                }
                Ok(Err(mut failed)) => match failed.take_message() {
                    // Closed while it waited; nothing of the request was written.
                    Some(unsent) if is_reused => request = unsent,
                    _ => return Err(Failure::BadResponse(failed.error().to_string()).into()),
                },
                Err(_) => return Err(Failure::ResponseTimeout.into()),
            }
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Upstream(failure)
    }
}
