//! Arguments that Python programs write in more than one way.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use nono_proxy::Limits;
use nono_sandbox::is_loader_variable;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMapping, PyString, PyTuple};

use crate::error::argument_error;

/// A `str`, `bytes` or `os.PathLike`, as the operating system will see it.
#[derive(Debug, Clone)]
pub(crate) struct OsArgument(pub(crate) OsString);

impl FromPyObject<'_, '_> for OsArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyString>() {
            return Ok(Self(object.extract()?));
        }
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Self(OsString::from_vec(bytes.as_bytes().to_vec())));
        }
        // A `str` or `bytes`, or it raises.
        let path = object.py().import("os")?.call_method1("fspath", (object,))?;
        Self::extract(path.as_borrowed())
    }
}

/// A path, however Python has it (`from_py_with`).
pub(crate) fn os_path(object: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    Ok(object.extract::<OsArgument>()?.0.into())
}

/// A path, or `None`.
pub(crate) fn optional_os_path(object: &Bound<'_, PyAny>) -> PyResult<Option<PathBuf>> {
    if object.is_none() { Ok(None) } else { os_path(object).map(Some) }
}

/// A sequence of paths.
pub(crate) fn os_paths(object: &Bound<'_, PyAny>) -> PyResult<Vec<PathBuf>> {
    check_sequence(object)?;
    let paths: Vec<OsArgument> = object.extract()?;
    Ok(paths.into_iter().map(|path| path.0.into()).collect())
}

/// A sequence of `str`.
pub(crate) fn texts(object: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    check_sequence(object)?;
    object.extract()
}

/// A sequence of `str`, or `None`.
pub(crate) fn optional_texts(object: &Bound<'_, PyAny>) -> PyResult<Option<Vec<String>>> {
    if object.is_none() { Ok(None) } else { texts(object).map(Some) }
}

/// Refuses one text where several are due: it is a sequence too, of its letters.
fn check_sequence(object: &Bound<'_, PyAny>) -> PyResult<()> {
    if object.is_instance_of::<PyString>() || object.is_instance_of::<PyBytes>() {
        let kind = object.get_type().name()?;
        let message = format!("a list is needed, not one {kind}: put it in brackets");
        return Err(PyTypeError::new_err(message));
    }
    Ok(())
}

/// A program and its arguments: a sequence, never one string to be split.
#[derive(Debug, Clone)]
pub(crate) struct CommandArgument(pub(crate) Vec<OsString>);

impl FromPyObject<'_, '_> for CommandArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyString>() || object.is_instance_of::<PyBytes>() {
            let message = "command must be a sequence of arguments, not one string";
            return Err(PyTypeError::new_err(message));
        }
        let items = object.try_iter()?.map(|item| Ok(item?.extract::<OsArgument>()?.0));
        Ok(Self(items.collect::<PyResult<_>>()?))
    }
}

/// Environment variables: a mapping, or a sequence of pairs in which the last of a name wins.
#[derive(Debug, Clone, Default)]
pub(crate) struct EnvArgument(pub(crate) Vec<(OsString, OsString)>);

impl FromPyObject<'_, '_> for EnvArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let pair = |item: PyResult<Bound<'_, PyAny>>| {
            let (name, value): (OsArgument, OsArgument) = item?.extract()?;
            Ok((name.0, value.0))
        };
        Ok(Self(items(object)?.map(pair).collect::<PyResult<_>>()?))
    }
}

/// Names and their values: a mapping, or a sequence of pairs.
#[derive(Debug, Clone, Default)]
pub(crate) struct PairsArgument(pub(crate) Vec<(String, String)>);

impl FromPyObject<'_, '_> for PairsArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        Ok(Self(items(object)?.map(|item| item?.extract()).collect::<PyResult<_>>()?))
    }
}

/// The pairs of a mapping, or of a sequence of such.
fn items<'py>(
    object: Borrowed<'_, 'py, PyAny>,
) -> PyResult<impl Iterator<Item = PyResult<Bound<'py, PyAny>>>> {
    let items = match object.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any().try_iter()?,
        Err(_) => object.try_iter()?,
    };
    let pair = |item: Bound<'py, PyAny>| match item.cast::<PyTuple>().map(PyTupleMethods::len) {
        Ok(2) => Ok(item),
        Ok(len) => Err(argument_error(format!("each item must be a tuple of two, not of {len}"))),
        Err(_) => {
            let kind = item.get_type().name()?;
            let message = format!("each item must be a tuple of two, not {kind}");
            Err(PyTypeError::new_err(message))
        }
    };
    Ok(items.map(move |item| item.and_then(pair)))
}

/// A time limit of `value` seconds.
///
/// # Errors
/// `ValueError`, naming `field`: it is zero, negative, or longer than a proxy waits.
pub(crate) fn time_limit(field: &str, value: f64) -> PyResult<Duration> {
    let most = Limits::LONGEST.as_secs_f64();
    if value > 0.0 && value <= most {
        return Ok(Duration::from_secs_f64(value).max(Duration::from_nanos(1)));
    }
    let message = format!("{field} {value:?} must be a number above 0 and at most {most:?}");
    Err(argument_error(message))
}

/// Refuses a name that no environment can hold, or that would let the caller's environment run
/// code in the child before the sandbox's program does.
///
/// # Errors
/// `ValueError`, with the name and never the value.
pub(crate) fn check_variable_name(name: &str) -> PyResult<()> {
    let reason = if name.is_empty() {
        "must not be empty"
    } else if name.contains(['=', '\0']) {
        "must not contain '=' or NUL"
    } else if is_loader_variable(name.as_ref()) {
        "is not allowed: it controls the dynamic loader"
    } else {
        return Ok(());
    };
    Err(argument_error(format!("environment variable name '{}' {reason}", name.escape_debug())))
}
