//! Lines that are drained piece by piece, as one `bytes` object.
//!
//! `BytesIO` puts them together: it gives its memory away as the object, so that no second copy of
//! all lines is made, and raises `MemoryError` where there is none.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Up to here glibc learns what is asked for again and again (`M_MMAP_THRESHOLD`, mallopt(3)).
const LEARNED: usize = (32 << 20) - (64 << 10);

/// The most that a file has grown to.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

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
        if let Self::One(first) = self {
            let file = py.import("io")?.getattr("BytesIO")?.call1((first.bind(py),))?;
            file.call_method1(intern!(py, "seek"), (0, 2))?;
            // From here on the file alone has the first piece, so that it grows where it is.
            *self = Self::Many(file.unbind());
        }
        if let Self::Many(file) = self {
            return write(file.bind(py), &piece);
        }
        *self = Self::One(piece.unbind());
        Ok(())
    }

    /// All of them.
    pub(crate) fn into_bytes(self, py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
        match self {
            Self::Nothing => Ok(PyBytes::new(py, b"")),
            Self::One(only) => Ok(only.into_bound(py)),
            Self::Many(file) => {
                let bytes = file.bind(py).call_method0(intern!(py, "getvalue"))?;
                let bytes = bytes.cast_into::<PyBytes>()?;
                expect_again(bytes.as_bytes().len());
                Ok(bytes)
            }
        }
    }
}

/// Has the allocator keep room for a file that grows to `len` again. It asks the system anew for what
/// is larger than anything that was freed, and gives back what is more than twice that; a file takes an
/// eighth more while it grows, beside the piece. Memory that is new to the process each time costs more
/// than the lines do.
fn expect_again(len: usize) {
    if len > LARGEST.fetch_max(len, Ordering::Relaxed) {
        let mut room = Vec::<u8>::new();
        // Nothing is lost where there is not so much.
        let _ = room.try_reserve_exact((2 * len).min(LEARNED));
        black_box(room);
    }
}

fn write(file: &Bound<'_, PyAny>, piece: &Bound<'_, PyBytes>) -> PyResult<()> {
    file.call_method1(intern!(file.py(), "write"), (piece,)).map(drop)
}
