//! Where records are taken from to be sent: the log, or a queue on disk that the log writes to.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use nono_audit::otlp::{Encoder, Resource};
use nono_audit::queue::{Delivery, QueueReader, State};
use nono_audit::{Batch, Consumer, Record};
use tokio::net::UnixStream;
use tokio::sync::Notify;

use super::status::Status;

/// From so many records on, none are waited for.
pub(super) const MANY: usize = 512;

/// What so many have in a queue, about.
const MANY_BYTES: u64 = 256 << 10;

/// See the module. What was taken stays there until it is committed.
#[derive(Debug)]
pub(crate) enum Source {
    /// The log itself: what is not delivered ends with the process.
    Log(FromLog),
    /// A queue: what is not delivered is left to the next process.
    Queue(FromQueue),
}

/// Records that are to be sent together.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) encoder: Arc<Encoder>,
    pub(super) parts: Vec<Arc<Vec<Record>>>,
}

impl Source {
    /// The records that `consumer` sees, which are those of `resource`.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub(crate) fn log(mut consumer: Consumer, resource: &Resource) -> io::Result<Self> {
        let signal = Signal::Given(Some(consumer.signal()?));
        let encoder = Arc::new(Encoder::new(resource));
        Ok(Self::Log(FromLog { consumer, signal, encoder, last: None }))
    }

    /// What is read from a queue; `news` is notified when there is more.
    pub(crate) fn queue(reader: QueueReader, news: Arc<Notify>) -> Self {
        Self::Queue(FromQueue { reader, news, last: None, encoder: None })
    }

    /// Waits for records; false when none will come, or, as `status` is told, none can be waited
    /// for.
    pub(super) async fn has_news(&mut self, status: &Status) -> bool {
        match self {
            Self::Log(log) => log.has_news(status).await,
            Self::Queue(queue) => queue.has_news().await,
        }
    }

    /// Whether there are so many that no more are waited for.
    pub(super) fn has_many(&self) -> bool {
        match self {
            Self::Log(log) => log.consumer.lag() >= MANY as u64,
            Self::Queue(queue) => queue.reader.waiting() >= MANY_BYTES,
        }
    }

    /// The next records: many, if there are many; none if what was there is damaged.
    ///
    /// # Errors
    /// They are there, and cannot be read now.
    pub(super) fn next(&mut self, status: &Status) -> io::Result<Option<Load>> {
        match self {
            Self::Log(log) => Ok(Some(log.next())),
            Self::Queue(queue) => queue.next(status),
        }
    }

    /// Lets go of what was taken last.
    pub(super) fn commit(&mut self, status: &Status) {
        match self {
            Self::Log(log) => log.commit(),
            Self::Queue(queue) => queue.commit(status),
        }
    }

    /// Tells `status` how much is left, now that no more is sent.
    pub(super) fn end(&mut self, status: &Status) {
        match self {
            Self::Log(log) => status.lost(log.consumer.lag()),
            Self::Queue(queue) => status.left(queue.reader.undelivered()),
        }
    }
}

/// See [`Source::Log`].
#[derive(Debug)]
pub(crate) struct FromLog {
    consumer: Consumer,
    signal: Signal,
    encoder: Arc<Encoder>,
    /// The last batch that was taken and is not yet committed.
    last: Option<Batch>,
}

/// A socket that becomes readable when there are records.
#[derive(Debug)]
enum Signal {
    /// Before there was a runtime to watch it with; nothing, if that has refused it.
    Given(Option<StdUnixStream>),
    Watched(UnixStream),
}

impl FromLog {
    async fn has_news(&mut self, status: &Status) -> bool {
        while self.consumer.arm() {
            let signal = match self.signal.watch() {
                Ok(signal) => signal,
                Err(error) => {
                    status.failed(format!("they cannot be waited for: {error}"));
                    return false;
                }
            };
            // Given only to wake; how often does not matter.
            let _ = signal.readable().await;
            let _ = signal.try_read(&mut [0; 64]);
        }
        !self.consumer.has_ended()
    }

    fn next(&mut self) -> Load {
        let mut parts = Vec::new();
        let mut count = 0;
        while count < MANY {
            let next = match &self.last {
                Some(last) => self.consumer.peek_behind(last),
                None => self.consumer.peek(),
            };
            let Some(batch) = next else { break };
            count += batch.len();
            parts.push(batch.clone().into_shared());
            self.last = Some(batch);
        }
        Load { encoder: Arc::clone(&self.encoder), parts }
    }

    fn commit(&mut self) {
        if let Some(last) = self.last.take() {
            self.consumer.commit(&last);
        }
    }
}

impl Signal {
    /// Needs no descriptor of its own: there may be none left.
    fn watch(&mut self) -> io::Result<&UnixStream> {
        if let Self::Given(signal) = self {
            let signal = signal.take().ok_or(io::ErrorKind::NotConnected)?;
            *self = Self::Watched(UnixStream::from_std(signal)?);
        }
        match self {
            Self::Watched(signal) => Ok(signal),
            Self::Given(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// See [`Source::Queue`].
#[derive(Debug)]
pub(crate) struct FromQueue {
    reader: QueueReader,
    news: Arc<Notify>,
    /// What was taken and is not yet committed.
    last: Option<Delivery>,
    /// For the resource of what was taken last.
    encoder: Option<(Arc<Resource>, Arc<Encoder>)>,
}

impl FromQueue {
    async fn has_news(&mut self) -> bool {
        loop {
            match self.reader.state() {
                State::Ready => return true,
                State::Ended => return false,
                State::Waiting => self.news.notified().await,
            }
        }
    }

    fn next(&mut self, status: &Status) -> io::Result<Option<Load>> {
        let next = self.reader.next(MANY);
        self.tell_damage(status);
        let Some(delivery) = next? else {
            // Otherwise what is damaged would fill the queue for good.
            status.stored(self.reader.skip());
            return Ok(None);
        };
        let encoder = match self.encoder.take() {
            Some(known) if Arc::ptr_eq(&known.0, &delivery.resource) => known,
            _ => (Arc::clone(&delivery.resource), Arc::new(Encoder::new(&delivery.resource))),
        };
        let parts = vec![Arc::clone(&delivery.records)];
        let load = Load { encoder: Arc::clone(&encoder.1), parts };
        (self.encoder, self.last) = (Some(encoder), Some(delivery));
        Ok(Some(load))
    }

    fn commit(&mut self, status: &Status) {
        if let Some(last) = self.last.take() {
            status.stored(self.reader.commit(&last));
        }
    }

    fn tell_damage(&self, status: &Status) {
        if let Some(damage) = self.reader.damage() {
            status.damaged(damage);
        }
    }
}
