//! Whole numbers as arguments (`from_py_with`). One that does not fit is an `OverflowError`, which
//! says of which argument, and what would fit; a truth value is a `TypeError`.

use std::fmt::Display;

use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyBool;

/// Makes a function for each argument, by its name.
macro_rules! numbers {
    ($($name:ident: $kind:ty),* $(,)?) => {$(
        pub(crate) fn $name(object: &Bound<'_, PyAny>) -> PyResult<$kind> {
            check_no_bool(object, stringify!($name))?;
            object.extract().map_err(|error| {
                said(object.py(), error, stringify!($name), &<$kind>::MIN, &<$kind>::MAX)
            })
        }
    )*};
}

/// The same for arguments that may be `None`.
macro_rules! optional_numbers {
    ($($name:ident: $kind:ty),* $(,)?) => {$(
        pub(crate) fn $name(object: &Bound<'_, PyAny>) -> PyResult<Option<$kind>> {
            check_no_bool(object, stringify!($name))?;
            object.extract().map_err(|error| {
                said(object.py(), error, stringify!($name), &<$kind>::MIN, &<$kind>::MAX)
            })
        }
    )*};
}

numbers! {
    audit_disk_bytes: u64,
    audit_file_keep: usize,
    audit_file_max_bytes: u64,
    audit_records: usize,
    bind_port: u16,
    max_bytes: u64,
    max_connections: usize,
    max_entries: u64,
    number: u32,
    port: u16,
    snapshot_count: u32,
    snapshot_number: u32,
}

optional_numbers! {
    exit_code: i32,
    gid: u32,
    max_client_connections: usize,
    max_cpu_seconds: u64,
    max_file_size_bytes: u64,
    max_memory_bytes: u64,
    max_open_files: u64,
    max_output_bytes: u64,
    max_processes: u64,
    optional_port: u16,
    otlp_queue_bytes: u64,
    uid: u32,
    workers: usize,
}

/// Refuses a truth value, which is a number too in Python, and a slip.
fn check_no_bool(object: &Bound<'_, PyAny>, name: &str) -> PyResult<()> {
    if object.is_instance_of::<PyBool>() {
        let message = format!("{} must be a number, not bool", argument(name));
        return Err(PyTypeError::new_err(message));
    }
    Ok(())
}

/// The name of an argument that a function here may have another for.
fn argument(name: &str) -> &str {
    name.trim_start_matches("optional_")
}

/// The error of a number that does not fit, in words; any other as it is.
fn said(
    py: Python<'_>,
    error: PyErr,
    name: &str,
    least: &dyn Display,
    most: &dyn Display,
) -> PyErr {
    if !error.is_instance_of::<PyOverflowError>(py) {
        return error;
    }
    let name = argument(name);
    PyOverflowError::new_err(format!("{name} must be a number from {least} to {most}"))
}
