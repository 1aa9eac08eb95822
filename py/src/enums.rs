//! The two enumerations of the package.
//!
//! They are Python's own `enum.Enum` classes, defined in `nono_py/_enums.py`, because a class of
//! an extension module can neither be iterated nor pickled like one. Here is only the way from a
//! member to the Rust value and back, by the member's name.

use nono_proxy::InjectMode;
use nono_sandbox::Access;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

static ACCESS_MODE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static INJECT_MODE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

const MODULE: &str = "nono_py._enums";

/// An argument of type `AccessMode`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccessArgument(pub(crate) Access);

/// An argument of type `InjectMode`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InjectArgument(pub(crate) InjectMode);

impl FromPyObject<'_, '_> for AccessArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let class = ACCESS_MODE.import(object.py(), MODULE, "AccessMode")?;
        match member_name(&object, class)?.as_str() {
            "READ" => Ok(Self(Access::Read)),
            "WRITE" => Ok(Self(Access::Write)),
            _ => Ok(Self(Access::ReadWrite)),
        }
    }
}

impl InjectArgument {
    pub(crate) fn is_header(self) -> bool {
        self.0 == InjectMode::Header
    }
}

impl FromPyObject<'_, '_> for InjectArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let class = INJECT_MODE.import(object.py(), MODULE, "InjectMode")?;
        match member_name(&object, class)?.as_str() {
            "HEADER" => Ok(Self(InjectMode::Header)),
            "URL_PATH" => Ok(Self(InjectMode::UrlPath)),
            "QUERY_PARAM" => Ok(Self(InjectMode::QueryParam)),
            _ => Ok(Self(InjectMode::BasicAuth)),
        }
    }
}

/// The member of `AccessMode` for `access`.
pub(crate) fn access_mode(py: Python<'_>, access: Access) -> PyResult<Bound<'_, PyAny>> {
    let name = match access {
        Access::Read => "READ",
        Access::Write => "WRITE",
        Access::ReadWrite => "READ_WRITE",
    };
    ACCESS_MODE.import(py, MODULE, "AccessMode")?.getattr(name)
}

/// The member of `InjectMode` for `mode`.
pub(crate) fn inject_mode(py: Python<'_>, mode: InjectMode) -> PyResult<Bound<'_, PyAny>> {
    let name = match mode {
        InjectMode::Header => "HEADER",
        InjectMode::UrlPath => "URL_PATH",
        InjectMode::QueryParam => "QUERY_PARAM",
        InjectMode::BasicAuth => "BASIC_AUTH",
    };
    INJECT_MODE.import(py, MODULE, "InjectMode")?.getattr(name)
}

fn member_name(object: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<String> {
    if object.is_instance(class)? {
        return object.getattr("name")?.extract();
    }
    let message =
        format!("'{}' object is not an instance of '{}'", object.get_type().name()?, class.name()?);
    Err(PyTypeError::new_err(message))
}
