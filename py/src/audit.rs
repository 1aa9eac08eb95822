//! Records and diagnostics as Python dictionaries.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::path::PathBuf;

use nono_audit::Record;
use nono_proxy::Diagnostic;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use crate::arguments::os_path;
use crate::error::verify_error;

/// Records as a list of dictionaries, keys in the order of the record's fields.
pub(crate) fn events<'py, 'a>(
    py: Python<'py>,
    records: impl IntoIterator<Item = &'a Record>,
) -> PyResult<Bound<'py, PyList>> {
    let mut words = Words { py, known: HashMap::new(), _records: PhantomData };
    let mut events = Vec::<Bound<'py, PyDict>>::new();
    let mut before = None;
    for record in records {
        // Most of an event is as in the one before it: a copy, and what differs.
        let dict = events.last().map_or_else(|| Ok(PyDict::new(py)), PyDictMethods::copy)?;
        fill(&dict, &mut words, record, before.replace(record))?;
        events.push(dict);
    }
    PyList::new(py, events)
}

/// The strings that records share, such as hosts and the names of outcomes: each made once.
struct Words<'py, 'a> {
    py: Python<'py>,
    /// By address and length: what records share lies in one place.
    known: HashMap<(*const u8, usize), Bound<'py, PyString>>,
    _records: PhantomData<&'a str>,
}

impl<'py, 'a> Words<'py, 'a> {
    fn get(&mut self, word: &'a str) -> Bound<'py, PyString> {
        let known = self.known.entry((word.as_ptr(), word.len()));
        known.or_insert_with(|| PyString::new(self.py, word)).clone()
    }
}

/// Sets `dict[name]` to the field of that name, for each, with keys that are made only once;
/// but for fields that are as they were `before`.
macro_rules! set_changed {
    ($py:ident, $dict:ident, $record:ident, $before:ident, $($name:ident: $value:expr,)*) => {
        $(if $before.is_none_or(|before| before.$name != $record.$name) {
            $dict.set_item(intern!($py, stringify!($name)), $value)?;
        })*
    };
}

/// Makes an event of `dict`, which is that of the record `before` it, or empty.
fn fill<'py, 'a>(
    dict: &Bound<'py, PyDict>,
    words: &mut Words<'py, 'a>,
    record: &'a Record,
    before: Option<&'a Record>,
) -> PyResult<()> {
    fill_request(dict, words, record, before)?;
    fill_course(dict, words, record, before)
}

/// What was asked for, and what was decided.
fn fill_request<'py, 'a>(
    dict: &Bound<'py, PyDict>,
    words: &mut Words<'py, 'a>,
    record: &'a Record,
    before: Option<&'a Record>,
) -> PyResult<()> {
    let py = words.py;
    set_changed! { py, dict, record, before,
        timestamp_unix_ms: record.timestamp_unix_ms,
        mode: words.get(record.mode.as_str()),
        decision: words.get(record.decision.as_str()),
        target: words.get(&record.target),
        port: record.port,
        method: record.method.as_deref().map(|word| words.get(word)),
        path: record.path.as_deref(),
        status: record.status,
        reason: record.reason.as_deref(),
        route_id: record.route_id.as_deref().map(|word| words.get(word)),
        auth_mechanism: record.auth_mechanism.map(|word| words.get(word.as_str())),
        auth_outcome: record.auth_outcome.map(|word| words.get(word.as_str())),
        managed_credential_active: record.managed_credential_active,
        injection_mode: record.injection_mode.map(|word| words.get(word.as_str())),
        denial_category: record.denial_category.map(|word| words.get(word.as_str())),
    }
    Ok(())
}

/// How it went.
#[expect(clippy::float_cmp, reason = "whether it is the very same")]
fn fill_course<'py, 'a>(
    dict: &Bound<'py, PyDict>,
    words: &mut Words<'py, 'a>,
    record: &'a Record,
    before: Option<&'a Record>,
) -> PyResult<()> {
    let py = words.py;
    set_changed! { py, dict, record, before,
        sequence: record.sequence,
        id: record.id.to_string(),
        session: record.session.to_string(),
        phase: words.get(record.phase.as_str()),
        outcome: words.get(record.outcome.as_str()),
        duration_ms: record.duration_ms,
        time_to_first_byte_ms: record.time_to_first_byte_ms,
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        upstream_addr: record.upstream_addr.map(|addr| addr.to_string()),
        protocol: record.protocol.map(|word| words.get(word.as_str())),
        client: record.client.as_deref().map(|word| words.get(word)),
        rule: record.rule.as_deref().map(|word| words.get(word)),
        request_id: record.request_id.as_deref(),
        traceparent: record.traceparent.as_deref().map(ToString::to_string),
        dropped: record.dropped,
    }
    Ok(())
}

/// A record as a dictionary.
pub(crate) fn event<'py>(py: Python<'py>, record: &Record) -> PyResult<Bound<'py, PyDict>> {
    let mut words = Words { py, known: HashMap::new(), _records: PhantomData };
    let dict = PyDict::new(py);
    fill(&dict, &mut words, record, None)?;
    Ok(dict)
}

/// Diagnostics as a list of dictionaries.
pub(crate) fn diagnostics<'py>(
    py: Python<'py>,
    found: &[Diagnostic],
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for found in found {
        let dict = PyDict::new(py);
        dict.set_item("code", found.code)?;
        dict.set_item("severity", found.severity)?;
        dict.set_item("route_prefix", &found.route_prefix)?;
        dict.set_item("credential_ref", &found.credential_ref)?;
        dict.set_item("message", &found.message)?;
        dict.set_item("hint", found.hint.as_deref())?;
        list.append(dict)?;
    }
    Ok(list)
}

/// Check the hash-chained log at `path`, the files that were renamed before it included.
#[pyfunction(name = "_verify_audit")]
#[expect(clippy::needless_pass_by_value, reason = "extracted from a Python argument")]
pub(crate) fn verify_audit(
    py: Python<'_>,
    #[pyo3(from_py_with = os_path)] path: PathBuf,
) -> PyResult<Bound<'_, PyDict>> {
    let verified = py.detach(|| nono_audit::verify(&path)).map_err(verify_error)?;
    let dict = PyDict::new(py);
    dict.set_item("files", verified.files)?;
    dict.set_item("lines", verified.lines)?;
    dict.set_item("head", verified.head.map(|head| head.to_string()))?;
    let fault = verified.fault.map(|fault| (fault.file, fault.line, fault.reason));
    dict.set_item("fault", fault)?;
    Ok(dict)
}
