//! Where the credential of a `RouteConfig` comes from, besides references and what the program gives
//! itself: an OAuth 2.0 issuer, and the Vault server of a reference. And what `nono-py credential`
//! does.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nono_credentials::{Locator, Secret, Store};
use nono_proxy::{OAuth2Config, VaultConfig};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::arguments::{PairsArgument, optional_os_path, time_limit};
use crate::blocking;
use crate::error::{credential_error, credential_fault, reference_error};
use crate::value::{Reduced, reduce};

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
