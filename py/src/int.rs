//! Whole numbers as arguments (`from_py_with`). One that does not fit is an `OverflowError`, which
//! says of which argument, and what would fit.

use std::fmt::Display;

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;

/// Makes a function for each argument, by its name.
macro_rules! numbers {
    ($($name:ident: $kind:ty),* $(,)?) => {$(
        pub(crate) fn $name(object: &Bound<'_, PyAny>) -> PyResult<$kind> {
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
    let name = name.trim_start_matches("optional_");
    PyOverflowError::new_err(format!("{name} must be a number from {least} to {most}"))
}
