//! The one place where errors of the crates below become Python's exceptions.
//!
//! No message here holds a secret: the crates' own errors name a field or a reference, never
//! what a reference leads to.

use std::io;
use std::path::Path;

use pyo3::exceptions::{PyNotImplementedError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// A configuration that cannot be meant: `ValueError`.
#[expect(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
pub(crate) fn config_error(error: nono_proxy::ConfigError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A proxy that could not start.
pub(crate) fn start_error(error: nono_proxy::StartError) -> PyErr {
    use nono_proxy::StartError;
    match error {
        StartError::Config(error) => config_error(error),
        error => PyRuntimeError::new_err(format!("cannot start the proxy: {error}")),
    }
}

/// A sandbox that could not be described, applied or run in.
#[expect(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
pub(crate) fn sandbox_error(error: nono_sandbox::Error) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}

/// An error of the operating system about a path, with `errno` and `filename` set. Python picks
/// the subclass (`FileNotFoundError`, `PermissionError`, ...) by the number.
pub(crate) fn path_error(error: &io::Error, path: &Path) -> PyErr {
    let text = error.to_string();
    // The number is an attribute already; the text of the standard library repeats it.
    let text = text
        .split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned();
    match error.raw_os_error() {
        Some(number) => PyOSError::new_err((number, text, path.to_path_buf())),
        None => PyOSError::new_err(format!("{text}: {}", path.display())),
    }
}

/// An option that is part of the interface and not built yet: never accepted and ignored.
pub(crate) fn not_implemented(option: &str, value: &str) -> PyErr {
    PyNotImplementedError::new_err(format!("{option}={value} is not implemented"))
}
