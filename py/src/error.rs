//! The one place where errors of the crates below become Python's exceptions.
//!
//! No message here holds a secret: the crates' own errors name a field or a reference, never
//! what a reference leads to.

use std::error::Error;
use std::path::Path;
use std::{io, iter};

use nono_proxy::StartError;
use nono_sandbox::Step;
use pyo3::exceptions::{PyNotImplementedError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// A configuration that cannot be meant is a `ValueError`; one that could be, but that this
/// version cannot serve, a `NotImplementedError`.
#[expect(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
pub(crate) fn config_error(error: nono_proxy::ConfigError) -> PyErr {
    if error.is_unsupported() {
        return PyNotImplementedError::new_err(error.to_string());
    }
    PyValueError::new_err(error.to_string())
}

/// A proxy that could not start.
pub(crate) fn start_error(error: StartError) -> PyErr {
    match error {
        StartError::Config(error) => config_error(error),
        error => PyRuntimeError::new_err(format!("failed to start the proxy: {error}")),
    }
}

/// A sandbox that could not be described, entered or run in.
#[expect(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
pub(crate) fn sandbox_error(error: nono_sandbox::Error) -> PyErr {
    use nono_sandbox::Error;
    match &error {
        Error::PathMissing { path, source } | Error::Resolve { path, source } => {
            path_error(source, path)
        }
        Error::Spawn { step: Step::WorkingDirectory, path: Some(path), source } => {
            path_error(source, path)
        }
        error if error.is_bad_argument() => PyValueError::new_err(with_sources(error)),
        error => PyRuntimeError::new_err(with_sources(error)),
    }
}

/// An error and what caused it: Python has one line for both.
pub(crate) fn with_sources(error: &dyn Error) -> String {
    let causes = iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// An error of the operating system about a path, with `errno` and `filename` set. Python picks
/// the subclass (`FileNotFoundError`, `PermissionError`, ...) by the number.
pub(crate) fn path_error(error: &io::Error, path: &Path) -> PyErr {
    let text = error.to_string();
    // The number is an attribute already; the text of the standard library repeats it.
    let text = text.split(" (os error").next().unwrap_or_default().to_owned();
    match error.raw_os_error() {
        Some(number) => PyOSError::new_err((number, text, path.as_os_str().to_owned())),
        None => PyOSError::new_err(format!("{text}: {}", path.display())),
    }
}
