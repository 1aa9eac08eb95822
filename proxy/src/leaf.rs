//! The leaf of the stack: opens a tunnel for `CONNECT`, and sends everything else upstream.

use std::future::ready;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::Response;
use nono_audit::Recorder;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::body::Body;
use crate::error::Error;
use crate::exchange::{Exchange, Ready, Way};
use crate::layers::Answer;
use crate::layers::limit::{Limit, Place};
use crate::server::http1::Switched;
use crate::stack::Shared;
use crate::tunnel::Side;
use crate::upstream::{Opened, Upstream};
use crate::{connect, forward, tunnel};

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Leaf(Arc<Worker>);

/// What one worker thread reaches the network with.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) upstream: Upstream,
    /// The places of the exchanges that may run at once.
    pub(crate) limit: Limit,
    /// Its connections and tunnels; it ends when they have.
    pub(crate) tasks: TaskTracker,
}

impl Worker {
    /// Relays between the client's side, once it has switched protocols, and `server`, as a task
    /// that gives the place back and then ends the record.
    pub(crate) fn relay<T>(
        &self,
        client: oneshot::Receiver<Switched>,
        server: Opened<T>,
        recorder: Arc<Recorder>,
        place: Option<Place>,
    ) where
        T: Side + 'static,
    {
        let cut = self.shared.cut.clone();
        let idle = self.shared.settings.limits.idle;
        self.tasks.spawn(async move {
            let outcome = tunnel::run(client, server, &recorder, idle, &cut).await;
            // Before the record, which tells that the place is free.
            drop(place);
            recorder.finish(outcome);
        });
    }
}

impl Leaf {
    /// The leaf of `worker`.
    pub(crate) fn new(worker: Worker) -> Self {
        Self(Arc::new(worker))
    }
}

impl From<Arc<Worker>> for Leaf {
    fn from(worker: Arc<Worker>) -> Self {
        Self(worker)
    }
}

impl Service<Exchange<Ready>> for Leaf {
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, exchange: Exchange<Ready>) -> Self::Future {
        let worker = Arc::clone(&self.0);
        // Each boxed by itself: one future of them all would hold the exchange twice, and be more
        // than the allocator keeps at hand.
        match &exchange.stage.way {
            Way::Tunnel(_) => Box::pin(connect::open(worker, exchange)),
            Way::Intercept(target) => {
                let target = target.clone();
                Box::pin(ready(Ok(connect::intercept(&worker, exchange, target))))
            }
            Way::Forward(_) | Way::Route(_) | Way::Secure(..) => {
                Box::pin(forward::send(worker, exchange))
            }
        }
    }
}
