//! Arguments that say what a program's standard streams are connected to, as `subprocess` has them.

use std::sync::Arc;

use nono_sandbox::{Stdio, WindowSize};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyMemoryView, PyString};

use crate::error::{argument_error, descriptor_error};

// `subprocess.PIPE`, `STDOUT` and `DEVNULL`.
const PIPE: i32 = -1;
const STDOUT: i32 = -2;
const DEVNULL: i32 = -3;

/// A constant of `subprocess`, a descriptor, or an object that has one.
#[derive(Debug, Clone)]
pub(crate) struct StreamArgument(pub(crate) Stdio);

impl FromPyObject<'_, '_> for StreamArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let stream = match object.extract::<i32>() {
            Ok(PIPE) => Stdio::Pipe,
            Ok(STDOUT) => Stdio::Stdout,
            Ok(DEVNULL) => Stdio::Null,
            Ok(number) if number >= 0 => duplicate(number)?,
            Err(_) if !object.is_instance_of::<PyInt>() => of_object(&object)?,
            _ => {
                let number = &*object;
                let message = format!("{number} is neither a descriptor nor PIPE, STDOUT, DEVNULL");
                return Err(argument_error(message));
            }
        };
        Ok(Self(stream))
    }
}

/// The stream of an object that has a descriptor. What a closed one says is no constant.
fn of_object(object: &Bound<'_, PyAny>) -> PyResult<Stdio> {
    let said = object.call_method0("fileno")?;
    match said.extract() {
        Ok(number) if number >= 0 => duplicate(number),
        _ => {
            let kind = object.get_type().name()?;
            let message =
                format!("this {kind} is closed, or has no descriptor: fileno() is {said}");
            Err(argument_error(message))
        }
    }
}

fn duplicate(number: i32) -> PyResult<Stdio> {
    Stdio::duplicate(number).map_err(descriptor_error)
}

/// What a program reads: bytes, or text in UTF-8.
#[derive(Debug, Clone)]
pub(crate) struct InputArgument(pub(crate) Arc<[u8]>);

impl FromPyObject<'_, '_> for InputArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if let Ok(text) = object.cast::<PyString>() {
            let text = text.to_cow()?;
            return Ok(Self(text.as_bytes().into()));
        }
        let view = PyMemoryView::from(&object)
            .map_err(|_| PyTypeError::new_err("input must be bytes-like or str"))?;
        Ok(Self(view.call_method0("tobytes")?.extract::<Vec<u8>>()?.into()))
    }
}

/// `True` for a terminal of the usual size, or its rows and columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TerminalArgument(pub(crate) Option<WindowSize>);

impl FromPyObject<'_, '_> for TerminalArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if let Ok(wanted) = object.cast::<PyBool>() {
            return Ok(Self(wanted.is_true().then(WindowSize::default)));
        }
        let (rows, columns) = object
            .extract()
            .map_err(|_| PyTypeError::new_err("pty must be a bool or a tuple (rows, columns)"))?;
        Ok(Self(Some(WindowSize { rows, columns })))
    }
}
