//! `SandboxState`: a capability set as JSON, and back.

use nono_sandbox::State;
use pyo3::prelude::*;

use crate::capability::PyCapabilitySet;
use crate::error::sandbox_error;

/// All that a `CapabilitySet` grants, as text that can be reviewed, kept, and turned back.
#[pyclass(name = "SandboxState", module = "nono_py", frozen, weakref, eq)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PySandboxState {
    inner: State,
}

#[pymethods]
impl PySandboxState {
    /// Return what `caps` grants now.
    #[staticmethod]
    fn from_caps(py: Python<'_>, caps: &Bound<'_, PyCapabilitySet>) -> Self {
        Self { inner: State::of(&caps.get().snapshot(py)) }
    }

    /// Read what `to_json` wrote. Unknown fields are refused.
    #[staticmethod]
    fn from_json(json: &str) -> PyResult<Self> {
        Ok(Self { inner: State::from_json(json).map_err(sandbox_error)? })
    }

    /// Return the text: JSON, indented.
    fn to_json(&self) -> PyResult<String> {
        self.inner.to_json().map_err(sandbox_error)
    }

    /// Grant anew. A path that leads elsewhere than the text says is refused.
    fn to_caps(&self, py: Python<'_>) -> PyResult<PyCapabilitySet> {
        py.detach(|| self.inner.to_caps()).map(Into::into).map_err(sandbox_error)
    }

    /// Whether the network is blocked, or left to a proxy alone.
    #[getter]
    fn net_blocked(&self) -> bool {
        self.inner.is_network_blocked()
    }

    fn __repr__(&self) -> String {
        let (granted, blocked) = (self.inner.granted(), self.inner.is_network_blocked());
        format!("SandboxState(fs={granted}, net_blocked={blocked})")
    }

    #[expect(clippy::unused_self, reason = "a method of Python's")]
    fn __hash__(&self) -> u64 {
        0
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (String,))> {
        Ok((slf.get_type().getattr("from_json")?, (slf.get().to_json()?,)))
    }
}
