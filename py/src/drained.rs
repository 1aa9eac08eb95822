//! Lines that are drained piece by piece, as one `bytes` object.
//!
//! `BytesIO` puts them together: it gives its memory away as the object, so that no second copy of
//! all lines is made, and raises `MemoryError` where there is none. It is given room for all at
//! once: what grows step by step is memory that is new to the process each time, which costs more
//! than the lines do.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Room is asked for in multiples of so many bytes, so that drains of about as much ask for the same;
/// and up to so many: what is larger glibc gives back to the system each time (`M_MMAP_THRESHOLD`,
/// mallopt(3)), and can make larger where it is. It bounds what an estimate is trusted for, too.
const STEP: usize = 1 << 20;
const MOST: usize = 31 << 20;

/// The most that was asked for.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// Pieces, in their order.
#[derive(Default)]
pub(crate) enum Gathered {
    #[default]
    Nothing,
    One(Py<PyBytes>),
    /// A `BytesIO` with all of them, and with room for what was expected.
    Many(Py<PyAny>),
}

impl Gathered {
    /// Adds a piece, of pieces that are likely to have `whole` bytes together. After an error it is
    /// not there.
    pub(crate) fn add(&mut self, py: Python<'_>, piece: &[u8], whole: usize) -> PyResult<()> {
        let bytes = |piece: &[u8]| {
            PyBytes::new_with(py, piece.len(), |bytes| {
                bytes.copy_from_slice(piece);
                Ok(())
            })
        };
        let file = match self {
            Self::Nothing if whole <= piece.len() => {
                *self = Self::One(bytes(piece)?.unbind());
                return Ok(());
            }
            Self::Nothing => with_room(py, whole)?,
            Self::One(first) => {
                let file = with_room(py, first.as_bytes(py).len() + piece.len())?;
                write(&file, first.bind(py))?;
                file
            }
            Self::Many(file) => file.bind(py).clone(),
        };
        write(&file, &bytes(piece)?)?;
        *self = Self::Many(file.unbind());
        Ok(())
    }

    /// All of them.
    pub(crate) fn into_bytes(self, py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
        match self {
            Self::Nothing => Ok(PyBytes::new(py, b"")),
            Self::One(only) => Ok(only.into_bound(py)),
            Self::Many(file) => {
                let file = file.bind(py);
                // What is left of the room.
                file.call_method0(intern!(py, "truncate"))?;
                Ok(file.call_method0(intern!(py, "getvalue"))?.cast_into::<PyBytes>()?)
            }
        }
    }
}

/// An empty `BytesIO` that has asked for so much memory, or less where there is less: it grows.
fn with_room(py: Python<'_>, size: usize) -> PyResult<Bound<'_, PyAny>> {
    let size = size.min(MOST).next_multiple_of(STEP);
    if size > LARGEST.fetch_max(size, Ordering::Relaxed) {
        // Given back at once: glibc asks the system anew for what is larger than anything that was
        // given back, and the lines are less than their room.
        let mut room = Vec::<u8>::new();
        let _ = room.try_reserve_exact(size);
        black_box(room);
    }
    let file = py.import("io")?.getattr("BytesIO")?;
    match PyBytes::new_with(py, size, |_| Ok(())) {
        Ok(room) => file.call1((room,)),
        Err(_) => file.call0(),
    }
}

fn write(file: &Bound<'_, PyAny>, piece: &Bound<'_, PyBytes>) -> PyResult<()> {
    file.call_method1(intern!(file.py(), "write"), (piece,)).map(drop)
}
