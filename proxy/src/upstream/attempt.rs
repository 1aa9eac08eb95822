//! Which connection an exchange is on: its record says so, and whoever waits for the answer can
//! give the connection up.

use std::sync::{Arc, Mutex, PoisonError};

use nono_audit::Recorder;

use super::http2;
use super::sender::Sender;

/// See the module.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    recorder: &'a Recorder,
    shared: Mutex<Option<Arc<http2::Connection>>>,
}

impl<'a> Attempt<'a> {
    /// Of the exchange of `recorder`, before it has a connection.
    pub(crate) fn new(recorder: &'a Recorder) -> Self {
        Self { recorder, shared: Mutex::default() }
    }

    /// The exchange is on this connection from now on.
    pub(super) fn begin(&self, sender: &Sender) {
        let peer = sender.peer();
        self.recorder.note(|record| record.upstream_addr = Some(peer));
        if let Sender::Http2(stream) = sender {
            self.set(Some(Arc::clone(stream.connection())));
        }
    }

    /// No answer came in time: no other exchange shall begin on a connection that may be dead. One
    /// that is not shared ends with its exchange.
    pub(crate) fn give_up(&self) {
        if let Some(connection) = self.set(None) {
            connection.retire();
        }
    }

    fn set(&self, shared: Option<Arc<http2::Connection>>) -> Option<Arc<http2::Connection>> {
        let mut current = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, shared)
    }
}
