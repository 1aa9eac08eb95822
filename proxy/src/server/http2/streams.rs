//! Ends a response that its client does not take. Over HTTP/1.1 the connection sees that; over
//! HTTP/2 the library waits for the client to give leave, and asks the body for nothing meanwhile.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::task_local;

use crate::body::{Body, BodyError};
use crate::exchange::Peer;
use crate::idle::Idle;

task_local! {
    /// What the stream that runs in this task waits for.
    static STREAM: Arc<Waiting>;
}

/// Runs the streams of a connection, as a task each, and ends those of which nothing is taken for
/// `idle`, at least; at most twice that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams {
    pub(super) idle: Duration,
}

/// What a stream waits for.
#[derive(Debug, Default)]
struct Waiting {
    /// For its client: it has been given a part of the response, or the head.
    for_client: AtomicBool,
    /// Whether it was for something else since this was last asked.
    has_progressed: AtomicBool,
}

/// The body of a response, which tells its stream when it is asked for more.
#[derive(Debug)]
pub(super) struct Taken {
    body: Body,
    stream: Option<Arc<Waiting>>,
    /// Held as long as the stream, which may go on when the body has been asked for all.
    _peer: Arc<Peer>,
}

impl Taken {
    /// The body of the response, for `peer`, of the stream that this is called in.
    pub(super) fn new(body: Body, peer: Arc<Peer>) -> Self {
        let stream = STREAM.try_with(Arc::clone).ok();
        if let Some(stream) = &stream {
            stream.for_client.store(true, Ordering::Relaxed);
        }
        Self { body, stream, _peer: peer }
    }
}

impl http_body::Body for Taken {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(stream) = &self.stream {
            stream.for_client.store(polled.is_ready(), Ordering::Relaxed);
            stream.has_progressed.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let waiting = Arc::<Waiting>::default();
        let idle = Idle::new(self.idle);
        let watched = Watched { stream, waiting: Arc::clone(&waiting), idle };
        tokio::spawn(STREAM.scope(waiting, watched));
    }
}

pin_project! {
    /// A stream, or what is left of it. Dropping it resets it.
    struct Watched<F> {
        #[pin]
        stream: F,
        waiting: Arc<Waiting>,
        idle: Idle,
    }
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if this.waiting.has_progressed.swap(false, Ordering::Relaxed) {
            this.idle.progress();
        }
        if this.waiting.for_client.load(Ordering::Relaxed) {
            return this.idle.poll(cx);
        }
        Poll::Pending
    }
}
