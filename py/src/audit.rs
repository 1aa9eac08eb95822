//! Records and diagnostics as plain Python dictionaries.

use nono_audit::Record;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use serde::Serialize;

/// Records as a list of dictionaries, keys in the order of the record's fields.
pub(crate) fn events(py: Python<'_>, records: &[Record]) -> PyResult<Py<PyAny>> {
    to_python(py, &to_json(records)?)
}

/// `value` as JSON text.
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> PyResult<String> {
    serde_json::to_string(value)
        .map_err(|error| PyRuntimeError::new_err(format!("cannot serialise: {error}")))
}

/// JSON text as Python's own objects; the parser of the standard library keeps the order of keys
/// and knows every type that JSON has, so there is no second table of conversions to maintain.
pub(crate) fn to_python(py: Python<'_>, json: &str) -> PyResult<Py<PyAny>> {
    Ok(py.import("json")?.call_method1("loads", (json,))?.unbind())
}
