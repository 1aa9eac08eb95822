//! `RouteConfig`: a plain value, judged when made.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;

use nono_proxy::RouteConfig;
use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};

use crate::arguments::{CommandArgument, PairsArgument, optional_os_path, texts, time_limit};
use crate::credential::{PyOAuth2Config, PyVaultConfig};
use crate::enums::{InjectArgument, inject_mode};
use crate::error::{argument_error, config_error, path_error};
use crate::provided::{CredentialArgument, PyAsked};
use crate::value::{Reduced, hash_of, reduce};

/// What the constructor takes, but for `credential`: a value or function stays in its process.
const FIELDS: [&str; 23] = [
    "prefix",
    "upstream",
    "credential_key",
    "inject_mode",
    "inject_header",
    "credential_format",
    "path_pattern",
    "path_replacement",
    "query_param_name",
    "env_var",
    "endpoint_rules",
    "tls_ca",
    "tls_client_cert",
    "tls_client_key",
    "base_url_vars",
    "key_vars",
    "strip_client_credentials",
    "credential_command",
    "credential_ttl_secs",
    "oauth2",
    "vault",
    "extra_headers",
    "scrub_bodies",
];

/// A path prefix of the proxy, the upstream it leads to, and the credential put on the way.
///
/// The credential is kept where `credential_key` says (a name in the keyring, `keyring://`,
/// `env://`, `file://`, `op://`, `bw://`, `cmd://` with `credential_command`, `vault://` with
/// `vault`), or is got by `oauth2`, or given as `credential`: a value, or a function or coroutine
/// function that returns one, or one and its expiry (a `datetime` with a time zone, or a
/// `timedelta` or seconds from now). The function is called on a thread of its own, and again
/// before the value expires.
#[pyclass(name = "RouteConfig", module = "nono_py", frozen, weakref, eq)]
#[derive(Debug)]
pub(crate) struct PyRouteConfig {
    inner: RouteConfig,
    /// The callable that gives its credential, if one does; `inner` does not hold it.
    asked: Option<Py<PyAsked>>,
}

impl PartialEq for PyRouteConfig {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl PyRouteConfig {
    /// The route as the proxy takes it.
    pub(crate) fn to_config(&self) -> RouteConfig {
        self.inner.clone()
    }
}

#[pymethods]
impl PyRouteConfig {
    #[new]
    #[pyo3(signature = (
        prefix, upstream, credential_key=None,
        inject_mode=InjectArgument(nono_proxy::InjectMode::Header),
        inject_header="Authorization", credential_format=None, path_pattern=None,
        path_replacement=None, query_param_name=None, env_var=None, endpoint_rules=PairsArgument::default(),
        tls_ca=None, tls_client_cert=None, tls_client_key=None, base_url_vars=Vec::new(),
        key_vars=Vec::new(), strip_client_credentials=false, credential=None,
        credential_command=None, credential_ttl_secs=None, oauth2=None, vault=None,
        extra_headers=PairsArgument::default(), scrub_bodies=true,
    ))]
    #[expect(clippy::too_many_arguments, reason = "the keyword arguments of the Python class")]
    fn new(
        prefix: String,
        upstream: String,
        credential_key: Option<String>,
        inject_mode: InjectArgument,
        inject_header: &str,
        credential_format: Option<String>,
        path_pattern: Option<String>,
        path_replacement: Option<String>,
        query_param_name: Option<String>,
        env_var: Option<String>,
        endpoint_rules: PairsArgument,
        #[pyo3(from_py_with = optional_os_path)] tls_ca: Option<PathBuf>,
        #[pyo3(from_py_with = optional_os_path)] tls_client_cert: Option<PathBuf>,
        #[pyo3(from_py_with = optional_os_path)] tls_client_key: Option<PathBuf>,
        #[pyo3(from_py_with = texts)] base_url_vars: Vec<String>,
        #[pyo3(from_py_with = texts)] key_vars: Vec<String>,
        strip_client_credentials: bool,
        credential: Option<CredentialArgument>,
        credential_command: Option<CommandArgument>,
        credential_ttl_secs: Option<f64>,
        oauth2: Option<Py<PyOAuth2Config>>,
        vault: Option<Py<PyVaultConfig>>,
        extra_headers: PairsArgument,
        scrub_bodies: bool,
    ) -> PyResult<Self> {
        let ttl = credential_ttl_secs.map(|ttl| time_limit("credential_ttl_secs", ttl));
        let (credential, asked) = credential.map(|given| (given.provided, given.asked)).unzip();
        let inner = RouteConfig {
            prefix,
            upstream,
            credential_key,
            credential,
            credential_command: credential_command.map(words).transpose()?.unwrap_or_default(),
            credential_ttl: ttl.transpose()?,
            oauth2: oauth2.map(|oauth2| oauth2.get().0.clone()),
            vault: vault.map(|vault| vault.get().0.clone()),
            extra_headers: extra_headers.0,
            inject_mode: inject_mode.0,
            inject_header: inject_header.to_owned(),
            credential_format,
            path_pattern,
            path_replacement,
            query_param_name,
            env_var,
            base_url_vars,
            key_vars,
            endpoint_rules: endpoint_rules.0,
            strip_client_credentials,
            scrub_bodies,
            tls_ca,
            tls_client_cert,
            tls_client_key,
        };
        check_files(&inner)?;
        inner.check().map_err(config_error)?;
        Ok(Self { inner, asked: asked.flatten() })
    }

    /// Return the route to a well-known API, with what its SDKs call their variables.
    ///
    /// What is given beside the name wins over the preset. `azure-openai` needs `upstream`: the
    /// endpoint of the resource. With `credential_key=None` the client brings its own key, unless
    /// `credential` or `oauth2` is given.
    #[classmethod]
    #[pyo3(signature = (name, *, credential_key, **overrides))]
    fn preset<'py>(
        cls: &Bound<'py, PyType>,
        name: &str,
        credential_key: Option<&str>,
        overrides: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let preset = RouteConfig::preset(name).map_err(config_error)?;
        let arguments = PyDict::new(cls.py());
        arguments.set_item("prefix", preset.prefix)?;
        arguments.set_item("upstream", preset.upstream)?;
        arguments.set_item("base_url_vars", preset.base_url_vars)?;
        let is_given = |name: &str| -> PyResult<bool> {
            let value = overrides.map(|given| given.get_item(name)).transpose()?.flatten();
            Ok(value.is_some_and(|value| !value.is_none()))
        };
        if credential_key.is_some() || is_given("credential")? || is_given("oauth2")? {
            arguments.set_item("credential_key", credential_key)?;
            arguments.set_item("key_vars", preset.key_vars)?;
            let mode = overrides.map(|given| given.get_item("inject_mode")).transpose()?.flatten();
            // With another mode the credential goes elsewhere, and this header means nothing.
            if mode.is_none_or(|mode| mode.extract().is_ok_and(InjectArgument::is_header)) {
                arguments.set_item("inject_header", preset.inject_header)?;
            }
        }
        if let Some(overrides) = overrides {
            arguments.update(overrides.as_mapping())?;
        }
        // The class's own call, so that unknown overrides are the usual TypeError.
        cls.call((), Some(&arguments))
    }

    /// The path prefix, of one or more segments: `/openai`.
    #[getter]
    fn prefix(&self) -> &str {
        &self.inner.prefix
    }

    /// Where it leads: an https URL, with or without a base path.
    ///
    /// Plain http leads to loopback and private addresses only.
    #[getter]
    fn upstream(&self) -> &str {
        &self.inner.upstream
    }

    /// Where its credential is kept; see above.
    #[getter]
    fn credential_key(&self) -> Option<&str> {
        self.inner.credential_key.as_deref()
    }

    /// The program of a `cmd://` reference, and its arguments.
    #[getter]
    fn credential_command(&self) -> Vec<String> {
        self.inner.credential_command.clone()
    }

    /// How long a credential is valid whose source does not say.
    #[getter]
    fn credential_ttl_secs(&self) -> Option<f64> {
        self.inner.credential_ttl.map(|ttl| ttl.as_secs_f64())
    }

    /// Headers that go with the credential, which stands where they have `{}`.
    #[getter]
    fn extra_headers(&self) -> Vec<(String, String)> {
        self.inner.extra_headers.clone()
    }

    /// The token endpoint that gives the credential, instead of `credential_key`.
    #[getter]
    fn oauth2(&self) -> Option<PyOAuth2Config> {
        self.inner.oauth2.clone().map(PyOAuth2Config)
    }

    /// The Vault server of a `vault://` reference.
    #[getter]
    fn vault(&self) -> Option<PyVaultConfig> {
        self.inner.vault.clone().map(PyVaultConfig)
    }

    /// Where the credential goes on a request.
    #[getter]
    fn inject_mode<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        inject_mode(py, self.inner.inject_mode)
    }

    /// The header that it goes into, for `HEADER` and `BASIC_AUTH`.
    #[getter]
    fn inject_header(&self) -> &str {
        &self.inner.inject_header
    }

    /// The header's value with `{}` in the credential's place, for `HEADER`.
    ///
    /// By default `Bearer {}` in `Authorization`, and the credential alone in other headers.
    #[getter]
    fn credential_format(&self) -> Option<&str> {
        self.inner.credential_format.as_deref()
    }

    /// What clients send in the path, with `{}` in the token's place, for `URL_PATH`.
    #[getter]
    fn path_pattern(&self) -> Option<&str> {
        self.inner.path_pattern.as_deref()
    }

    /// What the upstream gets for `path_pattern`; by default the same.
    #[getter]
    fn path_replacement(&self) -> Option<&str> {
        self.inner.path_replacement.as_deref()
    }

    /// The query parameter that it goes into, for `QUERY_PARAM`.
    #[getter]
    fn query_param_name(&self) -> Option<&str> {
        self.inner.query_param_name.as_deref()
    }

    /// A variable that holds what stands for the key, besides `PREFIX_API_KEY`.
    #[getter]
    fn env_var(&self) -> Option<&str> {
        self.inner.env_var.as_deref()
    }

    /// Methods and paths of which a request must match one; without any, all may pass.
    ///
    /// A path is what follows the prefix. `*` stays within one of its segments and `**` does not;
    /// neither stands for nothing. `{a,b}` stands for two paths, `?` for one character, and
    /// `[ab]` and `[!a-z]` for one of a class. The method `*` is any.
    #[getter]
    fn endpoint_rules(&self) -> Vec<(String, String)> {
        self.inner.endpoint_rules.clone()
    }

    /// Certificate authorities to trust for it besides the system's, as a PEM file.
    #[getter]
    fn tls_ca(&self) -> Option<&OsStr> {
        self.inner.tls_ca.as_ref().map(AsRef::as_ref)
    }

    /// The certificate to show to the upstream, as a PEM file; needs `tls_client_key`.
    #[getter]
    fn tls_client_cert(&self) -> Option<&OsStr> {
        self.inner.tls_client_cert.as_ref().map(AsRef::as_ref)
    }

    /// The file of that certificate's private key, as PEM.
    #[getter]
    fn tls_client_key(&self) -> Option<&OsStr> {
        self.inner.tls_client_key.as_ref().map(AsRef::as_ref)
    }

    /// Variables that hold the base URL, besides `PREFIX_BASE_URL`.
    #[getter]
    fn base_url_vars(&self) -> Vec<String> {
        self.inner.base_url_vars.clone()
    }

    /// Variables that hold what stands for the key, besides `PREFIX_API_KEY`.
    #[getter]
    fn key_vars(&self) -> Vec<String> {
        self.inner.key_vars.clone()
    }

    /// Whether a credential of the client's own is removed, rather than refused.
    #[getter]
    fn strip_client_credentials(&self) -> bool {
        self.inner.strip_client_credentials
    }

    /// Whether the credential is taken out of bodies that echo it.
    ///
    /// That may hold an upstream's words back for a second or two where no line ends. Headers are
    /// always looked at.
    #[getter]
    fn scrub_bodies(&self) -> bool {
        self.inner.scrub_bodies
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let prefix = PyString::new(py, &self.inner.prefix).repr()?;
        let upstream = PyString::new(py, &self.inner.upstream).repr()?;
        Ok(format!("RouteConfig(prefix={prefix}, upstream={upstream})"))
    }

    fn __hash__(&self) -> u64 {
        hash_of(&(&self.inner.prefix, &self.inner.upstream))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.asked)
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        if slf.get().inner.credential.is_some() {
            let message = "a route with a credential of the program's own cannot be pickled: \
                           keep the credential elsewhere, and name it by credential_key";
            return Err(PyTypeError::new_err(message));
        }
        reduce(slf, &FIELDS)
    }
}

/// The reference's `cmd://` words, which have to be text.
fn words(command: CommandArgument) -> PyResult<Vec<String>> {
    let text = |word: std::ffi::OsString| {
        word.into_string().map_err(|_| argument_error("credential_command is not valid UTF-8"))
    };
    command.0.into_iter().map(text).collect()
}

/// Looks whether the files of a route exist, for an exception with `errno` and `filename`; what
/// is in them is judged by the proxy.
fn check_files(route: &RouteConfig) -> PyResult<()> {
    let files = [&route.tls_ca, &route.tls_client_cert, &route.tls_client_key];
    for path in files.into_iter().flatten() {
        fs::metadata(path).map_err(|error| path_error(&error, path))?;
    }
    Ok(())
}
