//! What there is to say of the export: what keeps it, and what was lost.

use std::sync::{Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use nono_audit::otlp::{Rejected, Signal};
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
    undelivered: u64,
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

    /// The export has ended, and so many records were left.
    pub(super) fn ended(&self, left: u64) {
        self.lock().undelivered = left;
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
        if let (Some(why), 0) = (failure, state.undelivered) {
            let message = format!("the collector at {address} does not take records: {why}");
            let hint = "the log holds them, and they are sent when it does";
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
        if state.undelivered > 0 {
            let message = format!(
                "{} records were not delivered to the collector at {address} before the proxy \
                 ended: {}",
                state.undelivered,
                failure.unwrap_or("there was no time left"),
            );
            let hint = "a longer otlp_flush_secs gives it more time; audit_file keeps a copy";
            found.push(say("otlp_undelivered", message, Some(hint)));
        }
        found
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
