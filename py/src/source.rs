//! `CapabilitySource`: who granted a path.

use nono_sandbox::Source;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Who granted a path: the program itself, a group of a policy, or this library.
#[pyclass(name = "CapabilitySource", module = "nono_py", frozen, weakref, eq, hash)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PyCapabilitySource {
    inner: Source,
}

impl From<Source> for PyCapabilitySource {
    fn from(inner: Source) -> Self {
        Self { inner }
    }
}

#[pymethods]
impl PyCapabilitySource {
    /// Return the program itself.
    #[staticmethod]
    fn user() -> Self {
        Source::User.into()
    }

    /// Return the group of this name in a policy.
    #[staticmethod]
    fn group(name: String) -> Self {
        Source::Group(name).into()
    }

    /// Return this library: what programs need to start.
    #[staticmethod]
    fn system() -> Self {
        Source::System.into()
    }

    fn __repr__(&self) -> String {
        format!("CapabilitySource({})", self.inner)
    }

    fn __str__(&self) -> String {
        self.inner.to_string()
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let (class, py) = (slf.get_type(), slf.py());
        Ok(match &slf.get().inner {
            Source::Group(name) => (class.getattr("group")?, PyTuple::new(py, [name])?),
            Source::System => (class.getattr("system")?, PyTuple::empty(py)),
            _ => (class.getattr("user")?, PyTuple::empty(py)),
        })
    }
}
