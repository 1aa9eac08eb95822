//! Reports of how a session ended, for programs that put them together themselves.

use nono_sandbox::Report;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::Value;

use crate::error::argument_error;

/// Return what is to be said of an exit code, as `ExecResult.session_diagnostics` says it.
#[pyfunction]
pub(crate) fn build_session_diagnostic_report(
    py: Python<'_>,
    exit_code: i32,
) -> PyResult<Bound<'_, PyAny>> {
    let report = serde_json::to_string(&Report::of_exit_code(exit_code))
        .map_err(|error| PyRuntimeError::new_err(format!("cannot serialise: {error}")))?;
    parsed(py, "exit_code", &report)
}

/// Return a session's report as `session`, and one of its proxy, if there is one, as `proxy`.
///
/// Raise `ConfigurationError` if one of them is no JSON.
#[pyfunction]
#[pyo3(signature = (session_report_json, proxy_diagnostics_json=None))]
pub(crate) fn merge_diagnostic_report_json<'py>(
    py: Python<'py>,
    session_report_json: &str,
    proxy_diagnostics_json: Option<&str>,
) -> PyResult<Bound<'py, PyDict>> {
    let merged = PyDict::new(py);
    merged.set_item("session", parsed(py, "session_report_json", session_report_json)?)?;
    if let Some(proxy) = proxy_diagnostics_json.filter(|text| !text.is_empty()) {
        merged.set_item("proxy", parsed(py, "proxy_diagnostics_json", proxy)?)?;
    }
    Ok(merged)
}

fn parsed<'py>(py: Python<'py>, argument: &str, text: &str) -> PyResult<Bound<'py, PyAny>> {
    // Judged here, since Python's own parser takes more than JSON has (`NaN`).
    serde_json::from_str::<Value>(text)
        .map_err(|error| argument_error(format!("{argument} is no JSON: {error}")))?;
    py.import("json")?.call_method1("loads", (text,))
}
