//! Where the credential of a `RouteConfig` comes from, besides references: a value, a callable
//! that is asked for one, an OAuth 2.0 issuer, and the Vault server of a reference.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nono_credentials::{Fault, Fetched, Locator, Provide, Provided, Secret, Store};
use nono_proxy::{OAuth2Config, VaultConfig};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDateTime, PyDelta, PyString, PyTuple};

use crate::arguments::{PairsArgument, optional_os_path, time_limit};
use crate::blocking;
use crate::error::{argument_error, credential_error, credential_fault, reference_error};
use crate::value::{Reduced, reduce};

/// The argument `credential`.
#[derive(Debug, Clone)]
pub(crate) struct CredentialArgument(pub(crate) Provided);

impl FromPyObject<'_, '_> for CredentialArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if object.is_callable() {
            let callable = Callable(object.to_owned().unbind());
            return Ok(Self(Provided::by("credential callable", callable)));
        }
        let wrong = || {
            let kind = kind(&object);
            PyTypeError::new_err(format!("a credential is str, bytes or a callable, not {kind}"))
        };
        let secret = secret(&object)?.ok_or_else(wrong)?;
        if secret.is_empty() {
            return Err(argument_error("credential is empty"));
        }
        Ok(Self(Provided::value(secret)))
    }
}

/// A function or coroutine function that returns a value, or a value and its expiry.
struct Callable(Py<PyAny>);

impl Provide for Callable {
    fn provide(&self) -> Result<Fetched, Fault> {
        let fetched = Python::try_attach(|py| {
            let given = self.call(py).map_err(|error| format!("raised {}", name(py, &error)))?;
            fetched(&given).map_err(|what| format!("gave {what}"))
        });
        match fetched {
            Some(Ok(fetched)) => Ok(fetched),
            Some(Err(fault)) => Err(Fault::Unavailable(format!("the callable {fault}"))),
            None => Err(Fault::Unavailable("the interpreter is ending".into())),
        }
    }
}

impl Callable {
    fn call<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let given = self.0.bind(py).call0()?;
        if given.hasattr("__await__")? {
            return py.import("nono_py._aio")?.call_method1("run", (given,));
        }
        Ok(given)
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

/// The Vault server that a `vault://mount/path#field` reference is of.
///
/// `token_key` is a credential reference to the token that it is asked with. `tls_ca` is a file of
/// certificates that its own is trusted by, besides the system's.
#[pyclass(name = "VaultConfig", module = "nono_py", frozen, weakref, eq, hash)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct PyVaultConfig(pub(crate) VaultConfig);

#[pymethods]
impl PyVaultConfig {
    #[new]
    #[pyo3(signature = (address, token_key, namespace=None, *, tls_ca=None))]
    fn new(
        address: String,
        token_key: String,
        namespace: Option<String>,
        #[pyo3(from_py_with = optional_os_path)] tls_ca: Option<PathBuf>,
    ) -> Self {
        Self(VaultConfig { address, token_key, namespace, tls_ca })
    }

    /// Its URL: https; plain http only on this machine.
    #[getter]
    fn address(&self) -> &str {
        &self.0.address
    }

    /// Where the token is kept that it is asked with.
    #[getter]
    fn token_key(&self) -> &str {
        &self.0.token_key
    }

    /// The namespace of the secret, where the server has them.
    #[getter]
    fn namespace(&self) -> Option<&str> {
        self.0.namespace.as_deref()
    }

    /// Certificate authorities to trust for it besides the system's, as a PEM file.
    #[getter]
    fn tls_ca(&self) -> Option<&OsStr> {
        self.0.tls_ca.as_deref().map(Path::as_os_str)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("VaultConfig(address={})", PyString::new(py, &self.0.address).repr()?))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        reduce(slf, &["address", "token_key", "namespace", "tls_ca"])
    }
}

/// What the constructor of `OAuth2Config` takes.
const OAUTH2_FIELDS: [&str; 8] = [
    "token_url",
    "client_id",
    "client_secret",
    "refresh_token",
    "scope",
    "extra_params",
    "secret_in_body",
    "tls_ca",
];

/// An OAuth 2.0 token endpoint, and the right to get tokens from it.
///
/// `client_secret` and `refresh_token` are credential references, and `client_id` may be one. With
/// a `refresh_token` that is the grant, and else the client's own credentials are; one that the
/// issuer replaces is used from memory, until the issuer refuses it or another is kept there.
/// `tls_ca` is a file of certificates that the issuer's is trusted by, besides the system's.
#[pyclass(name = "OAuth2Config", module = "nono_py", frozen, weakref, eq, hash)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct PyOAuth2Config(pub(crate) OAuth2Config);

#[pymethods]
impl PyOAuth2Config {
    #[new]
    #[pyo3(signature = (
        token_url, client_id, client_secret=None, *, refresh_token=None, scope=None,
        extra_params=PairsArgument::default(), secret_in_body=false, tls_ca=None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "the keyword arguments of the Python class")]
    fn new(
        token_url: String,
        client_id: String,
        client_secret: Option<String>,
        refresh_token: Option<String>,
        scope: Option<String>,
        extra_params: PairsArgument,
        secret_in_body: bool,
        #[pyo3(from_py_with = optional_os_path)] tls_ca: Option<PathBuf>,
    ) -> Self {
        Self(OAuth2Config {
            token_url,
            client_id,
            client_secret,
            refresh_token,
            scope,
            extra_params: extra_params.0,
            secret_in_body,
            tls_ca,
        })
    }

    /// The token endpoint: an https URL; plain http only on this machine.
    #[getter]
    fn token_url(&self) -> &str {
        &self.0.token_url
    }

    /// The client's name, or where it is kept.
    #[getter]
    fn client_id(&self) -> &str {
        &self.0.client_id
    }

    /// Where the client's secret is kept; public clients have none.
    #[getter]
    fn client_secret(&self) -> Option<&str> {
        self.0.client_secret.as_deref()
    }

    /// Where the refresh token is kept, if that is the grant.
    #[getter]
    fn refresh_token(&self) -> Option<&str> {
        self.0.refresh_token.as_deref()
    }

    /// What the token is to be for, in the issuer's words.
    #[getter]
    fn scope(&self) -> Option<&str> {
        self.0.scope.as_deref()
    }

    /// Further parameters of the request, as `audience`.
    #[getter]
    fn extra_params(&self) -> Vec<(String, String)> {
        self.0.extra_params.clone()
    }

    /// Whether the client's secret goes into the body and not into `Authorization`.
    #[getter]
    fn secret_in_body(&self) -> bool {
        self.0.secret_in_body
    }

    /// Certificate authorities to trust for it besides the system's, as a PEM file.
    #[getter]
    fn tls_ca(&self) -> Option<&OsStr> {
        self.0.tls_ca.as_deref().map(Path::as_os_str)
    }

    /// Without the references: whoever mistakes a key for one finds it nowhere.
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("OAuth2Config(token_url={})", PyString::new(py, &self.0.token_url).repr()?))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        reduce(slf, &OAUTH2_FIELDS)
    }
}

/// Store a key in the keyring, in place of what is there.
#[pyfunction]
#[pyo3(name = "_store_credential")]
pub(crate) fn store_credential(py: Python<'_>, reference: &str, key: &[u8]) -> PyResult<()> {
    let locator = Locator::parse(reference).map_err(reference_error)?;
    let secret = Secret::new(key.to_vec());
    py.detach(|| nono_credentials::store(&locator, &secret)).map_err(credential_fault)
}

/// Try whether there is a key that can be sent.
#[pyfunction]
#[pyo3(name = "_check_credential")]
pub(crate) fn check_credential(py: Python<'_>, reference: &str, timeout: f64) -> PyResult<()> {
    let locator = Locator::parse(reference).map_err(reference_error)?;
    let store = Store::new(time_limit("timeout", timeout)?);
    blocking::run(py, store.check(&locator))?.map_err(|error| {
        let text = match error.hint() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.in_full(),
        };
        credential_error(error.code(), text)
    })
}

/// The names of the keys in the keyring.
#[pyfunction]
#[pyo3(name = "_list_credentials")]
pub(crate) fn list_credentials(py: Python<'_>) -> PyResult<Vec<String>> {
    py.detach(nono_credentials::names).map_err(credential_fault)
}
