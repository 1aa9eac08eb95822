//! `Verification`: what a child in a sandbox was refused.

use nono_sandbox::{Check, Verification};
use pyo3::prelude::*;

use crate::apply::PyEnforcement;

/// What came of one attempt.
#[pyclass(name = "Check", module = "nono_py", frozen, weakref, eq)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PyCheck {
    inner: Check,
}

#[pymethods]
impl PyCheck {
    /// What was tried, in words.
    #[getter]
    fn what(&self) -> &str {
        &self.inner.what
    }

    /// Whether the kernel refused it.
    #[getter]
    fn denied(&self) -> bool {
        self.inner.is_denied
    }

    /// The error that it was refused with; `None` if it was let through.
    #[getter]
    fn errno(&self) -> Option<i32> {
        self.inner.errno
    }

    fn __repr__(&self) -> String {
        format!("Check({})", self.inner)
    }

    fn __str__(&self) -> String {
        self.inner.to_string()
    }
}

/// What a sandbox denies, as a child in it has found out.
///
/// True if all was denied that was tried.
#[pyclass(name = "Verification", module = "nono_py", frozen, weakref, eq)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PyVerification {
    inner: Verification,
}

impl From<Verification> for PyVerification {
    fn from(inner: Verification) -> Self {
        Self { inner }
    }
}

#[pymethods]
impl PyVerification {
    /// Whether all was denied that was tried.
    #[getter]
    fn passed(&self) -> bool {
        self.inner.is_passed()
    }

    /// Every attempt, in the order in which they were made.
    #[getter]
    fn checks(&self) -> Vec<PyCheck> {
        self.inner.checks.iter().map(|check| PyCheck { inner: check.clone() }).collect()
    }

    /// What was not denied.
    #[getter]
    fn failures(&self) -> Vec<PyCheck> {
        self.inner.failures().map(|check| PyCheck { inner: check.clone() }).collect()
    }

    /// What the kernel enforced meanwhile.
    #[getter]
    fn enforcement(&self) -> PyEnforcement {
        self.inner.enforcement.clone().into()
    }

    fn __bool__(&self) -> bool {
        self.inner.is_passed()
    }

    fn __repr__(&self) -> String {
        let (all, failed) = (self.inner.checks.len(), self.inner.failures().count());
        format!("Verification(checks={all}, failures={failed})")
    }
}
