//! `QueryContext`: what a capability set allows, without trying it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use nono_sandbox::{
    FsCapability, NetworkAnswer, PathAnswer, ProcessAction, ProcessAnswer, Query, Suggestion,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::os_path;
use crate::capability::PyCapabilitySet;
use crate::enums::AccessArgument;
use crate::error::argument_error;
use crate::int;

/// Answers what a `CapabilitySet` allows, from the rules that a sandbox of it enforces.
///
/// The set is taken as it is now. Paths are followed as the kernel would when it is asked.
#[pyclass(name = "QueryContext", module = "nono_py", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct PyQueryContext {
    inner: Query,
}

#[pymethods]
#[expect(clippy::needless_pass_by_value, reason = "extracted from Python arguments")]
impl PyQueryContext {
    #[new]
    fn new(py: Python<'_>, caps: &Bound<'_, PyCapabilitySet>) -> Self {
        Self { inner: Query::new(caps.get().snapshot(py)) }
    }

    /// Return whether a path may be used this way.
    fn query_path<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = os_path)] path: PathBuf,
        mode: AccessArgument,
    ) -> PyResult<Bound<'py, PyDict>> {
        let answer = py.detach(|| self.inner.path(&path, mode.0));
        let said = PyDict::new(py);
        match answer {
            PathAnswer::Allowed(by) => {
                granted(&said, &by)?;
                let access = if let [one] = by.as_slice() { one.access() } else { mode.0 };
                said.set_item("access", access.to_string())?;
            }
            PathAnswer::Insufficient { granted } => {
                verdict(&said, false, "insufficient_access")?;
                said.set_item("granted", granted.to_string())?;
                said.set_item("requested", mode.0.to_string())?;
            }
            PathAnswer::Denied(denied) => {
                verdict(&said, false, "path_denied")?;
                said.set_item("denied_path", denied.resolved().as_os_str())?;
            }
            PathAnswer::Refused(message) => refused(&said, message)?,
            PathAnswer::NotGranted | PathAnswer::Unreachable => {
                verdict(&said, false, "path_not_granted")?;
            }
        }
        Ok(said)
    }

    /// Return the smallest grant that would allow it, as the call that makes it.
    ///
    /// `None` if it is allowed already, or denied by a rule of its own.
    fn suggest_path(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = os_path)] path: PathBuf,
        mode: AccessArgument,
    ) -> Option<String> {
        text(py.detach(|| self.inner.suggest_path(&path, mode.0)))
    }

    /// Return whether the network may be used.
    ///
    /// With `port`, for a TCP connection to it or, with `bind=True`, for serving at it; with
    /// `host`, an address or `localhost`, at that one. A name stands for any host.
    #[pyo3(signature = (host=None, port=None, *, bind=false))]
    fn query_network<'py>(
        &self,
        py: Python<'py>,
        host: Option<&str>,
        #[pyo3(from_py_with = int::optional_port)] port: Option<u16>,
        bind: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let said = PyDict::new(py);
        let Some(port) = port else {
            if host.is_some() || bind {
                return Err(argument_error("a question about a host or bind needs a port"));
            }
            let is_blocked = self.inner.caps().is_network_blocked();
            let refusal = py.detach(|| self.inner.refusal());
            if let Some(message) = refusal.filter(|_| !is_blocked) {
                refused(&said, message.to_owned())?;
                return Ok(said);
            }
            let reason = if is_blocked { "network_blocked" } else { "network_allowed" };
            verdict(&said, !is_blocked, reason)?;
            return Ok(said);
        };
        let address = host.and_then(address);
        // Whether the set is refused may have to be found out.
        let (answer, suggestion) = py.detach(|| {
            if bind {
                return (self.inner.bind(address, port), self.inner.suggest_bind(address, port));
            }
            let answer = match address {
                Some(ip) => self.inner.connect(SocketAddr::new(ip, port)),
                None => self.inner.connect_port(port),
            };
            (answer, self.inner.suggest_connect(address, port))
        });
        self.tell(&said, answer, suggestion)?;
        Ok(said)
    }

    /// Return whether a unix socket with a path may be connected to.
    fn query_unix_socket<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = os_path)] path: PathBuf,
    ) -> PyResult<Bound<'py, PyDict>> {
        let said = PyDict::new(py);
        let (answer, suggestion) =
            py.detach(|| (self.inner.unix_socket(&path), self.inner.suggest_unix_socket(&path)));
        self.tell(&said, answer, suggestion)?;
        Ok(said)
    }

    /// Return whether this may be done to processes outside the sandbox.
    ///
    /// To signal them; to trace them and read their memory; to change their priorities and limits;
    /// to see their names and arguments in `/proc`.
    fn query_process<'py>(&self, py: Python<'py>, action: &str) -> PyResult<Bound<'py, PyDict>> {
        let action = process_action(action)?;
        let said = PyDict::new(py);
        let (answer, suggestion) =
            py.detach(|| (self.inner.process(action), self.inner.suggest_process(action)));
        match answer {
            ProcessAnswer::Granted(by) => granted(&said, &by)?,
            ProcessAnswer::NotJudged => verdict(&said, true, "not_judged")?,
            ProcessAnswer::NotGranted => verdict(&said, false, "path_not_granted")?,
            ProcessAnswer::Refused(message) => refused(&said, message)?,
            _ => verdict(&said, false, "process_outside")?,
        }
        suggest(&said, suggestion)?;
        Ok(said)
    }
}

impl PyQueryContext {
    fn tell(
        &self,
        said: &Bound<'_, PyDict>,
        answer: NetworkAnswer,
        suggestion: Option<Suggestion>,
    ) -> PyResult<()> {
        let reason = match answer {
            NetworkAnswer::Open => "network_allowed",
            NetworkAnswer::Proxy => "proxy",
            NetworkAnswer::PortGranted => "port_granted",
            NetworkAnswer::SocketGranted => "socket_granted",
            NetworkAnswer::Blocked => "network_blocked",
            NetworkAnswer::PortNotGranted => "port_not_granted",
            NetworkAnswer::SocketNotGranted => "socket_not_granted",
            NetworkAnswer::Refused => {
                return refused(said, self.inner.refusal().unwrap_or_default().to_owned());
            }
        };
        verdict(said, answer.is_allowed(), reason)?;
        suggest(said, suggestion)
    }
}

fn process_action(name: &str) -> PyResult<ProcessAction> {
    Ok(match name {
        "signal" => ProcessAction::Signal,
        "trace" => ProcessAction::Trace,
        "change" => ProcessAction::Change,
        "see" => ProcessAction::See,
        _ => {
            let name = name.escape_debug();
            let message =
                format!("action must be 'signal', 'trace', 'change' or 'see', got '{name}'");
            return Err(argument_error(message));
        }
    })
}

/// The address that a host is for certain.
fn address(host: &str) -> Option<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn suggest(said: &Bound<'_, PyDict>, suggestion: Option<Suggestion>) -> PyResult<()> {
    text(suggestion).map_or(Ok(()), |suggestion| said.set_item("suggestion", suggestion))
}

fn granted(said: &Bound<'_, PyDict>, by: &[FsCapability]) -> PyResult<()> {
    verdict(said, true, "granted_path")?;
    if let [one] = by {
        return said.set_item("granted_path", one.resolved().as_os_str());
    }
    let several: Vec<_> = by.iter().map(ToString::to_string).collect();
    said.set_item("granted_path", several.join(" + "))
}

/// A set of which no sandbox can be made allows nothing.
fn refused(said: &Bound<'_, PyDict>, message: String) -> PyResult<()> {
    verdict(said, false, "set_refused")?;
    said.set_item("message", message)
}

fn verdict(said: &Bound<'_, PyDict>, is_allowed: bool, reason: &str) -> PyResult<()> {
    said.set_item("status", if is_allowed { "allowed" } else { "denied" })?;
    said.set_item("reason", reason)
}

fn text(suggestion: Option<Suggestion>) -> Option<String> {
    suggestion.map(|suggestion| suggestion.to_string())
}
