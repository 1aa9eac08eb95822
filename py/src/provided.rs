//! The credential that the program gives a `RouteConfig` itself: a value, or a callable that is asked
//! for one.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nono_credentials::{Fault, Fetched, Provide, Provided, Secret};
use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDateTime, PyDelta, PyString, PyTuple, PyWeakrefReference};

use crate::error::argument_error;

/// The argument `credential`.
#[derive(Debug)]
pub(crate) struct CredentialArgument {
    pub(crate) provided: Provided,
    /// What the route has to hold for it.
    pub(crate) asked: Option<Py<PyAsked>>,
}

impl FromPyObject<'_, '_> for CredentialArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if object.is_callable() {
            let asked = Bound::new(object.py(), PyAsked(object.to_owned().unbind()))?;
            let callable = Callable(PyWeakrefReference::new(asked.as_any())?.unbind());
            let provided = Provided::by("credential callable", callable);
            return Ok(Self { provided, asked: Some(asked.unbind()) });
        }
        let wrong = || {
            let kind = kind(&object);
            PyTypeError::new_err(format!("a credential is str, bytes or a callable, not {kind}"))
        };
        let secret = secret(&object)?.ok_or_else(wrong)?;
        if secret.is_empty() {
            return Err(argument_error("credential is empty"));
        }
        Ok(Self { provided: Provided::value(secret), asked: None })
    }
}

/// A function or coroutine function that returns a value, or a value and its expiry: what holds it
/// for a route, where the interpreter's collector of cycles sees it. It may refer to the proxy that
/// asks it.
#[pyclass(frozen, weakref)]
#[derive(Debug)]
pub(crate) struct PyAsked(Py<PyAny>);

#[pymethods]
impl PyAsked {
    /// There is nothing to clear: no cycle is closed by what never changes.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

impl PyAsked {
    fn call<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let given = self.0.bind(py).call0()?;
        if given.hasattr("__await__")? {
            return py.import("nono_py._aio")?.call_method1("run", (given,));
        }
        Ok(given)
    }
}

/// A [`PyAsked`], which routes hold; threads of a proxy, of which the collector knows nothing, do not.
struct Callable(Py<PyWeakrefReference>);

impl Provide for Callable {
    fn provide(&self) -> Result<Fetched, Fault> {
        let fetched = Python::try_attach(|py| {
            let asked = self.0.bind(py).upgrade_as::<PyAsked>().ok().flatten();
            let asked = asked.ok_or("is gone: nobody holds the proxy any more")?;
            let given = asked.get().call(py);
            let given = given.map_err(|error| format!("raised {}", name(py, &error)))?;
            fetched(&given).map_err(|what| format!("gave {what}"))
        });
        match fetched {
            Some(Ok(fetched)) => Ok(fetched),
            Some(Err(fault)) => Err(Fault::Unavailable(format!("the callable {fault}"))),
            None => Err(Fault::Unavailable("the interpreter is ending".into())),
        }
    }
}

/// What may be shown of an exception: its text may hold the value, its name does not.
fn name(py: Python<'_>, error: &PyErr) -> String {
    let name = error.get_type(py).fully_qualified_name();
    name.map_or_else(|_| "an exception".into(), |name| name.to_string())
}

fn kind(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "an object".into(), |name| name.to_string())
}

/// What a callable gave, or in words of nono's own what is wrong with it: the value may be in any
/// exception.
fn fetched(given: &Bound<'_, PyAny>) -> Result<Fetched, String> {
    let value_of = |value: &Bound<'_, PyAny>| match secret(value) {
        Ok(Some(secret)) => Ok(secret),
        Ok(None) => Err(format!("{} where str or bytes is due", kind(value))),
        Err(_) => Err("a str with a lone surrogate, which cannot be sent".into()),
    };
    let Ok(pair) = given.cast::<PyTuple>() else { return Ok(value_of(given)?.into()) };
    let Ok((value, expires)) = pair.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>() else {
        return Err(format!("a tuple of {} where a value and its expiry are due", pair.len()));
    };
    let expires = if expires.is_none() { None } else { Some(expiry(&expires)?) };
    Ok(Fetched { secret: value_of(&value)?, expires })
}

/// The secret in a `bytes` or `str`; `None` in anything else.
fn secret(value: &Bound<'_, PyAny>) -> PyResult<Option<Secret>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Some(Secret::new(bytes.as_bytes().to_vec())));
    }
    let Ok(text) = value.cast::<PyString>() else { return Ok(None) };
    Ok(Some(Secret::new(text.to_cow()?.as_bytes().to_vec())))
}

/// When a value expires: a `datetime` with its time zone, or a `timedelta` or seconds from now.
fn expiry(value: &Bound<'_, PyAny>) -> Result<Instant, String> {
    let never = || "an expiry that is not a time that will come".to_owned();
    let left = left(value).map_err(|error| {
        if error.is_instance_of::<PyTypeError>(value.py()) {
            let kind = kind(value);
            format!("an expiry that is {kind}, and not a datetime, a timedelta or seconds")
        } else {
            never()
        }
    })?;
    let Some(left) = left else {
        let zoneless = "an expiry without a time zone; use datetime.now(timezone.utc) + …";
        return Err(zoneless.into());
    };
    // What is over is no mistake here; it is found when the value is taken. What is no number is.
    let left = if left < 0.0 { 0.0 } else { left };
    let left = Duration::try_from_secs_f64(left).ok();
    left.and_then(|left| Instant::now().checked_add(left)).ok_or_else(never)
}

/// The seconds that are left until then; `None` for a `datetime` that says no time of the world's.
fn left(value: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    if value.is_instance_of::<PyDateTime>() {
        if value.call_method0("utcoffset")?.is_none() {
            return Ok(None);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let then = value.call_method0("timestamp")?.extract::<f64>()?;
        return Ok(Some(then - now.as_secs_f64()));
    }
    if value.is_instance_of::<PyDelta>() {
        return value.call_method0("total_seconds")?.extract().map(Some);
    }
    value.extract().map(Some)
}
