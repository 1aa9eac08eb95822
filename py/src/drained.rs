//! Lines that are drained piece by piece, as one `bytes` object.
//!
//! Where there are several, `BytesIO` puts them together: it gives its memory away as the object, so
//! that no second copy of all lines is made, and raises `MemoryError` where there is none.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// So much is copied into the file at once: small enough that the allocator has it at hand the next
/// time, where memory that is new to the process costs more than the lines do.
const COPIED: usize = 64 << 10;

/// Pieces, in their order.
#[derive(Default)]
pub(crate) enum Gathered {
    #[default]
    Nothing,
    One(Py<PyBytes>),
    /// A `BytesIO` with all of them.
    Many(Py<PyAny>),
}

impl Gathered {
    /// Adds a piece. After an error it is not there.
    pub(crate) fn add(&mut self, py: Python<'_>, piece: &[u8]) -> PyResult<()> {
        match self {
            Self::Nothing => *self = Self::One(copy(py, piece)?.unbind()),
            Self::One(first) => {
                let file = py.import("io")?.getattr("BytesIO")?.call1((first.bind(py),))?;
                write(&file, piece)?;
                *self = Self::Many(file.unbind());
            }
            Self::Many(file) => write(file.bind(py), piece)?,
        }
        Ok(())
    }

    /// All of them.
    pub(crate) fn into_bytes(self, py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
        match self {
            Self::Nothing => Ok(PyBytes::new(py, b"")),
            Self::One(only) => Ok(only.into_bound(py)),
            Self::Many(file) => {
                let bytes = file.bind(py).call_method0(intern!(py, "getvalue"))?;
                Ok(bytes.cast_into()?)
            }
        }
    }
}

fn copy<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, bytes.len(), |room| {
        room.copy_from_slice(bytes);
        Ok(())
    })
}

/// Appends all of `piece`, or nothing.
fn write(file: &Bound<'_, PyAny>, piece: &[u8]) -> PyResult<()> {
    let py = file.py();
    let end = file.call_method1(intern!(py, "seek"), (0, 2))?;
    let written = piece.chunks(COPIED).try_for_each(|part| {
        file.call_method1(intern!(py, "write"), (copy(py, part)?,)).map(drop)
    });
    if written.is_err() {
        file.call_method1(intern!(py, "truncate"), (end,))?;
    }
    written
}
