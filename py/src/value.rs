//! What makes a plain value of a configuration: it is reduced to what its constructor takes, so
//! that it can be pickled.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

/// What makes values of what `pickle` has kept.
const RESTORE: &str = "nono_py._restore";

/// A function, and its arguments: a class and the keyword arguments of its constructor.
pub(crate) type Reduced<'py> = (Bound<'py, PyAny>, (Bound<'py, PyType>, Bound<'py, PyDict>));

/// Reduces a value to its class and `fields`: the parameters of its constructor, each of which has
/// a property of the same name.
pub(crate) fn reduce<'py, T>(value: &Bound<'py, T>, fields: &[&str]) -> PyResult<Reduced<'py>> {
    let (value, py) = (value.as_any(), value.py());
    let given = PyDict::new(py);
    for field in fields {
        given.set_item(field, value.getattr(*field)?)?;
    }
    Ok((py.import(RESTORE)?.getattr("value")?, (value.get_type(), given)))
}

/// The hash of a value.
pub(crate) fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
