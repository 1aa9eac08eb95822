//! Lines that are drained piece by piece, as one `bytes` object.
//!
//! `BytesIO` puts them together: it gives its memory away as the object, so that no second copy of
//! all lines is made, and raises `MemoryError` where there is none.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

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
        let piece = PyBytes::new_with(py, piece.len(), |bytes| {
            bytes.copy_from_slice(piece);
            Ok(())
        })?;
        match self {
            Self::Nothing => *self = Self::One(piece.unbind()),
            Self::One(first) => {
                let file = py.import("io")?.getattr("BytesIO")?.call0()?;
                write(&file, first.bind(py))?;
                write(&file, &piece)?;
                *self = Self::Many(file.unbind());
            }
            Self::Many(file) => write(file.bind(py), &piece)?,
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

fn write(file: &Bound<'_, PyAny>, piece: &Bound<'_, PyBytes>) -> PyResult<()> {
    file.call_method1(intern!(file.py(), "write"), (piece,)).map(drop)
}
