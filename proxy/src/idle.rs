//! Notices that nothing happens for too long, with one timer that is set anew only when it
//! fires: progress costs no more than a flag.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer in the runtime's wheel; to make one and take it off costs more than to reuse it.
pub(crate) type Timer = Pin<Box<Sleep>>;

/// Fires when there was no progress for at least its limit, and at most twice that.
#[derive(Debug)]
pub(crate) struct Idle {
    limit: Duration,
    /// Made at the first wait; many bodies never wait.
    timer: Option<Timer>,
    has_progressed: bool,
}

impl Idle {
    /// A limit that starts to run when it is first polled.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, timer: None, has_progressed: false }
    }

    /// As [`Idle::new`], with a timer that another has used: what it waits for may be near, so
    /// its first firing does not count.
    pub(crate) fn with_timer(limit: Duration, timer: Option<Timer>) -> Self {
        Self { limit, has_progressed: timer.is_some(), timer }
    }

    /// Its timer, for another.
    pub(crate) fn into_timer(self) -> Option<Timer> {
        self.timer
    }

    /// Something happened.
    pub(crate) fn progress(&mut self) {
        self.has_progressed = true;
    }

    /// Ready when nothing has happened for too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let due = || Instant::now() + limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due())));
        loop {
            ready!(timer.as_mut().poll(cx));
            if !std::mem::take(&mut self.has_progressed) {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::{Instant, advance};

    use super::Idle;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn it_fires_only_without_progress() {
        let mut idle = Idle::new(LIMIT);
        let mut fired = || std::future::poll_fn(|cx| idle.poll(cx)).now_or_never().is_some();
        assert!(!fired());
        advance(LIMIT / 2).await;
        assert!(!fired());
        advance(LIMIT).await;
        assert!(fired());
        let mut idle = Idle::new(LIMIT);
        let began = Instant::now();
        for _ in 0..10 {
            assert!(std::future::poll_fn(|cx| idle.poll(cx)).now_or_never().is_none());
            advance(LIMIT / 2).await;
            idle.progress();
        }
        std::future::poll_fn(|cx| idle.poll(cx)).await;
        assert!(began.elapsed() >= LIMIT * 6 && began.elapsed() <= LIMIT * 7);
    }
}
