//! The beginning of the end: what all that runs of a proxy watches.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio_util::sync::CancellationToken;

/// Whether the proxy drains: takes no new work, and lets what runs finish.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    token: CancellationToken,
    has_begun: AtomicBool,
}

impl Drain {
    /// Begins it; a second time without effect.
    pub(crate) fn begin(&self) {
        self.has_begun.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Whether it has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Ready when it has begun.
    pub(crate) async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// Runs `work` until it is done, or until this begins: then `None`. To be awaited by one task
    /// only, since it is registered once, and not at every poll: the token has a lock that all
    /// workers share, and connections are polled several times a request.
    pub(crate) async fn run_until_begun<F: Future>(&self, work: F) -> Option<F::Output> {
        let (mut work, mut begun) = (pin!(work), pin!(self.token.cancelled()));
        let mut is_registered = false;
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            if !is_registered {
                is_registered = true;
                return begun.as_mut().poll(cx).map(|()| None);
            }
            if self.has_begun() { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }
}
