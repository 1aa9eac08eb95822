//! What there is to say of the export: what keeps it, and what was lost.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use nono_audit::otlp::{Rejected, Signal};
use nono_audit::queue::Damage;
use nono_credentials::Credential;

use super::Collector;
use crate::prepare::Diagnostic;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Status(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Why the last attempt failed, until one succeeds.
    failure: Option<String>,
    rejected: Lost,
    /// Records that the collector had not taken when the export ended.
    undelivered: Left,
    /// What of a queue could not be read.
    damage: Option<Damage>,
    /// Why a queue cannot be read now.
    unreadable: Option<String>,
    /// Why it cannot be written down how far a queue is delivered.
    unsettled: Option<String>,
}

/// What is left at the end.
#[derive(Debug, Default, PartialEq, Eq)]
enum Left {
    #[default]
    Nothing,
    /// So many records, which ended with the process.
    Lost(u64),
    /// So many bytes of them, which a queue has.
    Queued(u64),
}

/// What a collector refused for good.
#[derive(Debug, Default)]
struct Lost {
    logs: u64,
    spans: u64,
    /// The last reason.
    reason: String,
}

impl Status {
    /// The collector is there.
    pub(super) fn reached(&self) {
        let mut state = self.lock();
        // Seldom anything else; and a drop is spared.
        if state.failure.is_some() {
            state.failure = None;
        }
    }

    /// It is not, for now.
    pub(super) fn failed(&self, why: String) {
        self.lock().failure = Some(why);
    }

    /// It took a request, but not all that was in it.
    pub(super) fn rejected(&self, signal: Signal, rejected: Rejected) {
        self.lock().rejected.add(signal, rejected.count, rejected.reason);
    }

    /// It refused a request of `count`.
    pub(super) fn refused(
        &self,
        signal: Signal,
        count: usize,
        status: StatusCode,
        why: Option<String>,
    ) {
        let reason = why.map_or_else(|| status.to_string(), |why| format!("{status}: {why}"));
        self.lock().rejected.add(signal, count as u64, reason);
    }

    /// The export has ended, and so many records were not delivered.
    pub(super) fn lost(&self, count: u64) {
        if count > 0 {
            self.lock().undelivered = Left::Lost(count);
        }
    }

    /// The export has ended, and records of so many bytes are left in the queue.
    pub(super) fn left(&self, bytes: u64) {
        if bytes > 0 {
            self.lock().undelivered = Left::Queued(bytes);
        }
    }

    /// Something of the queue could not be read.
    pub(super) fn damaged(&self, damage: &Damage) {
        let mut state = self.lock();
        if state.damage.as_ref() != Some(damage) {
            state.damage = Some(damage.clone());
        }
    }

    /// Whether the queue could be read, or why not.
    pub(super) fn readable(&self, error: Option<&io::Error>) {
        let mut state = self.lock();
        if error.is_some() || state.unreadable.is_some() {
            state.unreadable = error.map(ToString::to_string);
        }
    }

    /// Whether it could be written down how far the queue is delivered.
    pub(super) fn stored(&self, done: io::Result<()>) {
        self.lock().unsettled = done.err().map(|error| error.to_string());
    }

    /// What is to be said.
    pub(super) fn diagnostics(&self, collector: &Collector) -> Vec<Diagnostic> {
        let state = self.lock();
        let address = collector.uri(Signal::Logs).authority().map_or("", |it| it.as_str());
        let say = |code, message, hint: Option<&str>| Diagnostic {
            code,
            severity: "warning",
            route_prefix: "otlp".into(),
            credential_ref: collector.credential().map_or_else(String::new, located),
            message,
            hint: hint.map(str::to_owned),
        };
        let mut found = Vec::new();
        let failure = state.failure.as_deref();
        if let (Some(why), Left::Nothing) = (failure, &state.undelivered) {
            let message = format!("the collector at {address} does not take records: {why}");
            let hint = "they are held, and sent when it does";
            found.push(say("otlp_unavailable", message, Some(hint)));
        }
        let Lost { logs, spans, reason } = &state.rejected;
        if logs + spans > 0 {
            let message = format!(
                "the collector at {address} has refused {logs} log records and {spans} spans \
                 for good, the last ones with: {reason}"
            );
            found.push(say("otlp_rejected", message, None));
        }
        if let (Some(why), Left::Nothing) = (&state.unreadable, &state.undelivered) {
            let message = format!("the queue cannot be read now: {why}");
            let hint = "records are held in it, and sent when it can; a file that never can is left \
                        out when the proxy starts again without it";
            found.push(say("otlp_queue_unreadable", message, Some(hint)));
        }
        let why = state.unreadable.as_deref().or(failure).unwrap_or("there was no time left");
        match state.undelivered {
            Left::Nothing => {}
            Left::Lost(count) => {
                let message = format!(
                    "{count} records were not delivered to the collector at {address} before the \
                     proxy ended: {why}"
                );
                let hint = "a longer otlp_flush_secs gives it more time; otlp_queue_dir keeps \
                            them for the next proxy";
                found.push(say("otlp_undelivered", message, Some(hint)));
            }
            Left::Queued(bytes) => {
                let message = format!(
                    "records of {bytes} bytes for the collector at {address} are left in the \
                     queue: {why}"
                );
                let hint = "the next proxy with this otlp_queue_dir delivers them";
                found.push(say("otlp_queued", message, Some(hint)));
            }
        }
        found.extend(state.of_queue().map(|message| say("otlp_queue_damaged", message, None)));
        found
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is wrong with the queue.
    fn of_queue(&self) -> impl Iterator<Item = String> {
        let damage = self.damage.as_ref().map(|Damage { count, first }| {
            format!("{count} parts of the queue could not be read and are left out; first {first}")
        });
        let unsettled = self.unsettled.as_ref().map(|why| {
            format!("what is delivered may be delivered again, since it cannot be noted: {why}")
        });
        damage.into_iter().chain(unsettled)
    }
}

impl Lost {
    fn add(&mut self, signal: Signal, count: u64, reason: String) {
        match signal {
            Signal::Logs => self.logs += count,
            Signal::Spans => self.spans += count,
        }
        self.reason = reason;
    }
}

fn located(credential: &Credential) -> String {
    credential.locator().to_string()
}
