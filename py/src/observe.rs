//! What a command does, noted while nothing is refused: for `learn`.

use std::ffi::OsString;
use std::sync::Arc;

use nono_sandbox::{Act, Observed};
use pyo3::prelude::*;

use crate::exec::PyCommand;
use crate::result::PyExecResult;

/// What was done: in one word, to which path, or at which address and port.
type Noted = (&'static str, Option<OsString>, Option<(String, u16)>);

/// Run a command whose set has an open network, and return its result and what it did.
#[pyfunction]
#[pyo3(name = "_observe")]
pub(crate) fn observe(
    py: Python<'_>,
    command: &Bound<'_, PyCommand>,
) -> PyResult<(PyExecResult, Vec<Noted>)> {
    let observed = Arc::new(Observed::default());
    let result = command.get().run_observed(py, &observed)?;
    Ok((result, observed.acts().into_iter().map(noted).collect()))
}

fn noted(act: Act) -> Noted {
    let name = act.name();
    match act {
        Act::Connect(address) | Act::Bind(address) | Act::Datagram(address) => {
            (name, None, Some((address.ip().to_string(), address.port())))
        }
        Act::Read(path) | Act::Write(path) | Act::Make(path) | Act::UnixSocket(path) => {
            (name, Some(path.into_os_string()), None)
        }
        _ => (name, None, None),
    }
}
