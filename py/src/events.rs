//! `AuditEvent`: records as objects.

use std::sync::Arc;

use nono_audit::{
    AuthMechanism, AuthOutcome, Batch, DenialCategory, InjectionMode, Protocol, Record,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::audit;
use crate::value::{Remade, from_json, remake, to_json};

/// What happened in one exchange. Its fields are made only when they are read.
#[pyclass(name = "AuditEvent", module = "nono_py", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct PyAuditEvent {
    batch: Arc<Vec<Record>>,
    at: usize,
}

impl PyAuditEvent {
    /// The record at this place of a batch, which must be there.
    pub(crate) fn new(batch: &Arc<Vec<Record>>, at: usize) -> Self {
        Self { batch: Arc::clone(batch), at }
    }

    fn record(&self) -> &Record {
        // It is made only for a record that is there.
        &self.batch[self.at]
    }
}

/// All records of `batches`, as objects.
pub(crate) fn objects<'py>(py: Python<'py>, batches: &[Batch]) -> PyResult<Bound<'py, PyList>> {
    let len = batches.iter().map(|batch| batch.len()).sum();
    let events = batches
        .iter()
        .map(|batch| batch.clone().into_shared())
        .flat_map(|batch| (0..batch.len()).map(move |at| PyAuditEvent::new(&batch, at)));
    PyList::new(py, Exactly { items: events, len })
}

/// An iterator of which it is known how many items it has, as a list wants to know.
struct Exactly<I> {
    items: I,
    len: usize,
}

impl<I: Iterator> Iterator for Exactly<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let item = self.items.next()?;
        self.len -= 1;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

impl<I: Iterator> ExactSizeIterator for Exactly<I> {}

#[pymethods]
impl PyAuditEvent {
    /// When it began, in milliseconds since the epoch.
    #[getter]
    fn timestamp_unix_ms(&self) -> u64 {
        self.record().timestamp_unix_ms
    }

    /// How the client reached the proxy.
    ///
    /// `connect` is a tunnel, `external` one through an external proxy, `connect_intercept` one
    /// that ends in the proxy and what comes in it, and `reverse` a request to a route, or a
    /// forwarded one (which has no `route_id`).
    #[getter]
    fn mode(&self) -> &str {
        self.record().mode.as_str()
    }

    /// Whether it was let through.
    #[getter]
    fn decision(&self) -> &str {
        self.record().decision.as_str()
    }

    /// The host that was asked for, and for a route its upstream's; empty if none was named.
    #[getter]
    fn target(&self) -> &str {
        &self.record().target
    }

    /// The port that was asked for.
    #[getter]
    fn port(&self) -> Option<u16> {
        self.record().port
    }

    /// The method of the request.
    #[getter]
    fn method(&self) -> Option<&str> {
        self.record().method.as_deref()
    }

    /// Path and query as the client sent them, without credentials.
    #[getter]
    fn path(&self) -> Option<&str> {
        self.record().path.as_deref()
    }

    /// The status that the client received; `None` if it left before.
    #[getter]
    fn status(&self) -> Option<u16> {
        self.record().status
    }

    /// Why it was refused or failed, in words.
    #[getter]
    fn reason(&self) -> Option<&str> {
        self.record().reason.as_deref()
    }

    /// The prefix of its route, without slashes around it.
    #[getter]
    fn route_id(&self) -> Option<&str> {
        self.record().route_id.as_deref()
    }

    /// Where the client showed the session token.
    #[getter]
    fn auth_mechanism(&self) -> Option<&str> {
        self.record().auth_mechanism.map(AuthMechanism::as_str)
    }

    /// Whether the session token was right.
    #[getter]
    fn auth_outcome(&self) -> Option<&str> {
        self.record().auth_outcome.map(AuthOutcome::as_str)
    }

    /// Whether the route's credential was put on the request.
    #[getter]
    fn managed_credential_active(&self) -> Option<bool> {
        self.record().managed_credential_active
    }

    /// Where the route puts its credential.
    #[getter]
    fn injection_mode(&self) -> Option<&str> {
        self.record().injection_mode.map(InjectionMode::as_str)
    }

    /// The kind of refusal or failure.
    #[getter]
    fn denial_category(&self) -> Option<&str> {
        self.record().denial_category.map(DenialCategory::as_str)
    }

    /// Its place among the records of the proxy: 0, 1, 2 and so on, without gaps.
    #[getter]
    fn sequence(&self) -> u64 {
        self.record().sequence
    }

    /// The exchange: a tunnel's records share it, and a refusal's answer has it too.
    #[getter]
    fn id(&self) -> String {
        self.record().id.to_string()
    }

    /// The run of the proxy, which all its records share.
    #[getter]
    fn session(&self) -> String {
        self.record().session.to_string()
    }

    /// What it tells of: a tunnel's opening, an end, or records that are not held (`gap`).
    #[getter]
    fn phase(&self) -> &str {
        self.record().phase.as_str()
    }

    /// How it ended.
    #[getter]
    fn outcome(&self) -> &str {
        self.record().outcome.as_str()
    }

    /// From the head of the request to the end, in milliseconds.
    #[getter]
    fn duration_ms(&self) -> f64 {
        self.record().duration_ms
    }

    /// From the head of the request to that of the response, in milliseconds.
    #[getter]
    fn time_to_first_byte_ms(&self) -> Option<f64> {
        self.record().time_to_first_byte_ms
    }

    /// Bytes of body, or in a tunnel, that came from the client.
    #[getter]
    fn bytes_in(&self) -> u64 {
        self.record().bytes_in
    }

    /// Bytes of body, or in a tunnel, that went to the client.
    #[getter]
    fn bytes_out(&self) -> u64 {
        self.record().bytes_out
    }

    /// The address and port that were connected to.
    #[getter]
    fn upstream_addr(&self) -> Option<String> {
        self.record().upstream_addr.map(|addr| addr.to_string())
    }

    /// The version of HTTP that the client spoke.
    #[getter]
    fn protocol(&self) -> Option<&str> {
        self.record().protocol.map(Protocol::as_str)
    }

    /// The client's address and port.
    #[getter]
    fn client(&self) -> Option<&str> {
        self.record().client.as_deref()
    }

    /// The rule, for hosts or endpoints, that decided, as it was written.
    #[getter]
    fn rule(&self) -> Option<&str> {
        self.record().rule.as_deref()
    }

    /// What the client named its request in `X-Request-Id`.
    #[getter]
    fn request_id(&self) -> Option<&str> {
        self.record().request_id.as_deref()
    }

    /// What the client named as the parent of its request; only where spans are exported.
    #[getter]
    fn traceparent(&self) -> Option<String> {
        self.record().traceparent.as_deref().map(ToString::to_string)
    }

    /// How many records one of the phase `gap` stands for.
    #[getter]
    fn dropped(&self) -> Option<u64> {
        self.record().dropped
    }

    /// Return all fields as a dictionary.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        audit::event(py, self.record())
    }

    /// Return all fields as JSON.
    fn to_json(&self) -> PyResult<String> {
        to_json(self.record())
    }

    #[staticmethod]
    fn _of(json: &str) -> PyResult<Self> {
        Ok(Self { batch: Arc::new(vec![from_json(json)?]), at: 0 })
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Remade<'py, (String,)>> {
        remake(slf, (slf.get().to_json()?,))
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.record() == other.record()
    }

    fn __hash__(&self) -> u64 {
        self.record().sequence
    }

    fn __repr__(&self) -> String {
        let record = self.record();
        let (sequence, target) = (record.sequence, &record.target);
        let (decision, outcome) = (record.decision.as_str(), record.outcome.as_str());
        let phase = record.phase.as_str();
        format!("<AuditEvent {sequence} {phase}: {decision} {target:?}, {outcome}>")
    }
}
