//! Records and diagnostics as Python dictionaries.

use nono_audit::{AuthMechanism, AuthOutcome, DenialCategory, InjectionMode, Record};
use nono_proxy::Diagnostic;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// Records as a list of dictionaries, keys in the order of the record's fields.
pub(crate) fn events<'py>(py: Python<'py>, records: &[Record]) -> PyResult<Bound<'py, PyList>> {
    let events = records.iter().map(|record| event(py, record)).collect::<PyResult<Vec<_>>>()?;
    PyList::new(py, events)
}

/// Sets `dict[name]` to the field of that name, for each, with keys that are made only once.
macro_rules! set {
    ($py:ident, $dict:ident, $($name:ident: $value:expr,)*) => {
        $($dict.set_item(intern!($py, stringify!($name)), $value)?;)*
    };
}

fn event<'py>(py: Python<'py>, record: &Record) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    set! { py, dict,
        timestamp_unix_ms: record.timestamp_unix_ms,
        mode: record.mode.as_str(),
        decision: record.decision.as_str(),
        target: &*record.target,
        port: record.port,
        method: record.method.as_deref(),
        path: record.path.as_deref(),
        status: record.status,
        reason: record.reason.as_deref(),
        route_id: record.route_id.as_deref(),
        auth_mechanism: record.auth_mechanism.map(AuthMechanism::as_str),
        auth_outcome: record.auth_outcome.map(AuthOutcome::as_str),
        managed_credential_active: record.managed_credential_active,
        injection_mode: record.injection_mode.map(InjectionMode::as_str),
        denial_category: record.denial_category.map(DenialCategory::as_str),
        sequence: record.sequence,
        id: &record.id,
        outcome: record.outcome.as_str(),
        duration_ms: record.duration_ms,
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        client: record.client.as_deref(),
    }
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
        set! { py, dict,
            code: found.code,
            severity: found.severity,
            route_prefix: &found.route_prefix,
            credential_ref: &found.credential_ref,
            message: &found.message,
            hint: found.hint.as_deref(),
        }
        list.append(dict)?;
    }
    Ok(list)
}
