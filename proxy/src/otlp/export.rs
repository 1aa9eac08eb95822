//! The thread that takes records from their source and sends them, until no more come.

use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use nono_audit::Record;
use nono_audit::otlp::{Encoder, Signal};
use nono_credentials::Store;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Collector;
use super::backoff::Backoff;
use super::client::{Answer, Client, Unavailable};
use super::source::Source;
use super::status::Status;
use crate::prepare::Diagnostic;
use crate::server::Prepared;

/// How long records wait for others to go with them.
const GATHER: Duration = Duration::from_millis(200);

/// A running export.
#[derive(Debug)]
pub(crate) struct Export {
    collector: Arc<Collector>,
    status: Arc<Status>,
    /// Cancelled when no more records come, and the time for those that are left begins to run.
    closing: CancellationToken,
    /// Cancelled when it has ended.
    ended: CancellationToken,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Export {
    /// Begins to send what comes from `source`. What the collector's credential is fetched from is
    /// waited for at most `patience`.
    ///
    /// # Errors
    /// The system refuses a thread or a runtime.
    pub(crate) fn begin(
        collector: &Arc<Collector>,
        source: Source,
        patience: Duration,
    ) -> io::Result<Self> {
        let status = Arc::new(Status::default());
        let closing = CancellationToken::new();
        let exporter = Exporter {
            collector: Arc::clone(collector),
            client: Client::new(Arc::clone(collector)),
            source,
            status: Arc::clone(&status),
            closing: closing.clone(),
        };
        let ended = CancellationToken::new();
        let (done, flush) = (ended.clone().drop_guard(), collector.flush);
        let keeping = keep(Arc::clone(collector), patience);
        let thread = Prepared::new("nono-otlp".into())?.spawn(async move {
            let _done = done;
            tokio::select! {
                () = exporter.run(flush) => {}
                () = keeping => {}
            }
        })?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { collector: Arc::clone(collector), status, closing, ended, thread })
    }

    /// Waits, when the log has ended, until the collector has all, or the time for that is over.
    pub(crate) async fn finish(&self) {
        self.closing.cancel();
        self.ended.cancelled().await;
        self.join();
    }

    /// As [`Self::finish`], and blocks.
    pub(crate) fn join(&self) {
        self.closing.cancel();
        // Held to the end, so that nobody returns before the one who waits.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // A panic in it has been reported by its hook.
            let _ = thread.join();
        }
    }

    /// What keeps records from the collector, and what was lost.
    pub(crate) fn diagnostics(&self) -> Vec<Diagnostic> {
        self.status.diagnostics(&self.collector)
    }
}

impl Drop for Export {
    /// Its time begins to run, if it does not yet; nobody waits for it.
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// Fetches the collector's credential whenever that is due; never ends. Here, and not where those of
/// routes are kept: it may be needed until the last record is delivered, when they are not.
async fn keep(collector: Arc<Collector>, patience: Duration) {
    let store = Store::new(patience);
    match collector.credential() {
        Some(credential) => credential.keep(&store).await,
        None => pending().await,
    }
}

/// What the thread has.
struct Exporter {
    collector: Arc<Collector>,
    client: Client,
    source: Source,
    status: Arc<Status>,
    closing: CancellationToken,
}

impl Exporter {
    async fn run(mut self, flush: Duration) {
        let closing = self.closing.clone();
        let time_is_over = async {
            closing.cancelled().await;
            sleep_until(Instant::now() + flush).await;
        };
        tokio::select! {
            () = self.export() => {}
            () = time_is_over => {}
        }
        // Who has the credential fetched again waits for it as long as the proxy runs; and what was
        // not sent is known when nothing more comes.
        closing.cancelled().await;
        self.source.end(&self.status);
    }

    /// Sends what comes, until nothing more does.
    async fn export(&mut self) {
        let mut backoff = Backoff::new();
        while self.source.has_news(&self.status).await {
            self.gather().await;
            let next = self.source.next(&self.status);
            self.status.readable(next.as_ref().err());
            let Ok(next) = next else {
                self.pause(None, &mut backoff).await;
                continue;
            };
            backoff = Backoff::new();
            let Some(load) = next else { continue };
            let records: Vec<&Record> = load.parts.iter().flat_map(|part| part.iter()).collect();
            for kind in Signal::ALL {
                self.deliver(kind, &load.encoder, &records).await;
            }
            self.source.commit(&self.status);
        }
    }

    /// Lets some more records come.
    async fn gather(&self) {
        if !self.source.has_many() {
            let _ = timeout(GATHER, self.closing.cancelled()).await;
        }
    }

    /// Sends `records` until the collector has taken them or refused them for good; in parts, if
    /// it does not take all at once.
    async fn deliver(&self, signal: Signal, encoder: &Encoder, records: &[&Record]) {
        let mut parts = vec![records];
        while let Some(part) = parts.pop() {
            let Some(message) = encoder.encode(signal, part) else { continue };
            match self.persist(signal, &self.collector.packed(message)).await {
                Answer::Taken(None) => {}
                Answer::Taken(Some(rejected)) => self.status.rejected(signal, rejected),
                Answer::Refused(StatusCode::PAYLOAD_TOO_LARGE, _) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Answer::Refused(status, why) => {
                    let count = part.iter().filter(|record| signal.tells_of(record)).count();
                    self.status.refused(signal, count, status, why);
                }
            }
        }
    }

    /// Sends `message` until the collector answers.
    async fn persist(&self, signal: Signal, message: &Bytes) -> Answer {
        let mut backoff = Backoff::new();
        loop {
            match self.client.send(signal, message).await {
                Ok(answer) => {
                    self.status.reached();
                    return answer;
                }
                Err(Unavailable { why, asked }) => {
                    self.status.failed(why);
                    self.pause(asked, &mut backoff).await;
                }
            }
        }
    }

    /// Waits before the next attempt. When the time is short, less than usual, but for what the
    /// collector has asked for.
    async fn pause(&self, asked: Option<Duration>, backoff: &mut Backoff) {
        let until = Instant::now() + backoff.pause();
        match asked {
            // One that asks for no time at all is not to be asked without end.
            Some(asked) => sleep_until(until.max(Instant::now() + asked)).await,
            None if self.closing.is_cancelled() => sleep_until(until).await,
            None => {
                if timeout_at(until, self.closing.cancelled()).await.is_ok() {
                    *backoff = Backoff::new();
                }
            }
        }
    }
}
