//! The leaf of the stack: opens a tunnel for `CONNECT`, and sends everything else upstream.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::Response;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::body::Body;
use crate::error::Error;
use crate::exchange::{Exchange, Ready, Way};
use crate::layers::Answer;
use crate::stack::Shared;
use crate::upstream::Upstream;
use crate::{connect, forward};

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Leaf(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    upstream: Upstream,
    tunnels: TaskTracker,
}

impl Leaf {
    /// A leaf whose tunnels run as tasks of `tunnels`.
    pub(crate) fn new(shared: Arc<Shared>, upstream: Upstream, tunnels: TaskTracker) -> Self {
        Self(Arc::new(Inner {
            shared,
            upstream,
            tunnels,
        }))
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
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            match exchange.stage.way {
                Way::Tunnel(_) => {
                    connect::open(&inner.upstream, &inner.shared, &inner.tunnels, exchange).await
                }
                Way::Forward(_) | Way::Route(_) => forward::send(&inner.upstream, exchange).await,
            }
        })
    }
}
