//! What makes a plain value of a configuration or a result: it is reduced to what its constructor
//! takes, or what it was read from, so that it can be pickled. Whatever comes back is judged anew.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::argument_error;

/// What makes values of what `pickle` has kept.
const RESTORE: &str = "nono_py._restore";

/// A function, and its arguments: a class and the keyword arguments of its constructor.
pub(crate) type Reduced<'py> = (Bound<'py, PyAny>, (Bound<'py, PyType>, Bound<'py, PyDict>));

/// The function of its class that makes a value, and the arguments.
pub(crate) type Remade<'py, A> = (Bound<'py, PyAny>, A);

/// Reduces a value to `arguments`, of which the static method `_of` of its class makes it.
pub(crate) fn remake<'py, T, A>(value: &Bound<'py, T>, arguments: A) -> PyResult<Remade<'py, A>> {
    Ok((value.as_any().get_type().getattr("_of")?, arguments))
}

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

/// Pairs as a dictionary, in their order.
pub(crate) fn to_dict<'py, 'a>(
    py: Python<'py>,
    pairs: impl IntoIterator<Item = &'a (String, String)>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in pairs {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}

/// The text of a value, for [`from_json`].
pub(crate) fn to_json(value: &impl Serialize) -> PyResult<String> {
    serde_json::to_string(value)
        .map_err(|error| PyRuntimeError::new_err(format!("cannot serialise: {error}")))
}

/// What `pickle` has kept as the text of a value.
pub(crate) fn from_json<T: DeserializeOwned>(text: &str) -> PyResult<T> {
    serde_json::from_str(text)
        .map_err(|error| argument_error(format!("this is not what was pickled: {error}")))
}

/// A text as Python shows it: on one line, whatever is in it.
pub(crate) fn quoted(py: Python<'_>, text: &str) -> PyResult<String> {
    Ok(PyString::new(py, text).repr()?.to_string())
}

/// The hash of a value.
pub(crate) fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
