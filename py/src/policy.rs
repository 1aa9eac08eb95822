//! `Policy` and `ResolvedPolicy`: groups of a document, chosen by name.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use nono_sandbox::policy::{
    self, InjectMode, NetworkPlan, OAuth2, Resolved, Route, RouteFields, Variables, Vault,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::{OsArgument, os_paths, texts};
use crate::capability::PyCapabilitySet;
use crate::config::PyProxyConfig;
use crate::credential::{PyOAuth2Config, PyVaultConfig};
use crate::enums::inject_mode;
use crate::error::{policy_error, policy_fault};
use crate::external::PyExternalProxyConfig;
use crate::route::PyRouteConfig;

/// A group and one rule of it: group, field, rule as written, path that it is about.
type RuleTuple = (String, &'static str, String, OsString);

/// A parsed policy: named groups of grants, denials and network rules.
#[pyclass(name = "Policy", module = "nono_py", frozen, weakref, eq)]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PyPolicy {
    inner: policy::Policy,
    text: String,
}

#[pymethods]
#[expect(clippy::needless_pass_by_value, reason = "extracted from Python arguments")]
impl PyPolicy {
    /// Return the text that this was parsed from.
    fn to_json(&self) -> &str {
        &self.text
    }

    /// Return the names of all groups, sorted.
    fn group_names(&self) -> Vec<String> {
        self.inner.group_names().map(ToOwned::to_owned).collect()
    }

    /// Return what a group is for; `None` if there is none of this name.
    fn group_description(&self, name: &str) -> Option<&str> {
        self.inner.group(name).ok().map(policy::Group::description)
    }

    /// Return the names of the groups that hold whatever else is chosen, on this platform.
    fn required_groups(&self) -> Vec<String> {
        self.inner.required_groups().map(ToOwned::to_owned).collect()
    }

    /// Let `caps` hold what the groups grant and deny: all of it or, on an error, none.
    ///
    /// Paths that do not exist are left out, and are in `skipped_paths`: nothing is made here (see
    /// `make_directories`). A group that blocks the network, or has rules for a proxy, blocks the
    /// network of `caps`; one that blocks the port which another opens is a `ValueError`. `variables`
    /// (`HOME`, `TMPDIR`, `XDG_...`) are taken before the environment's.
    #[pyo3(signature = (group_names, caps, *, variables=HashMap::new()))]
    fn resolve_groups(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = texts)] group_names: Vec<String>,
        caps: &Bound<'_, PyCapabilitySet>,
        variables: HashMap<String, OsArgument>,
    ) -> PyResult<PyResolvedPolicy> {
        let variables = merged(&variables);
        let resolved = caps.get().with(py, |set| self.inner.resolve(&group_names, set, &variables));
        Ok(PyResolvedPolicy { inner: resolved.map_err(policy_error)? })
    }

    /// Make the missing directories that the groups let a program write, and return them.
    ///
    /// They are their owner's alone. Only paths that end in `/` are known to be directories.
    #[pyo3(signature = (group_names, *, variables=HashMap::new()))]
    fn make_directories(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = texts)] group_names: Vec<String>,
        variables: HashMap<String, OsArgument>,
    ) -> PyResult<Vec<OsString>> {
        let variables = merged(&variables);
        let made = py.detach(|| self.inner.make_directories(&group_names, &variables));
        Ok(made.map_err(policy_error)?.into_iter().map(Into::into).collect())
    }

    /// Return the paths that the groups deny: as written and, if different, without links.
    fn resolve_deny_paths(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = texts)] group_names: Vec<String>,
    ) -> PyResult<Vec<OsString>> {
        let paths = py.detach(|| self.inner.deny_paths(&group_names, &Variables::of_process()));
        Ok(paths.map_err(policy_error)?.into_iter().map(Into::into).collect())
    }

    /// Return what a proxy is to allow; `None` if the groups say nothing that a proxy does.
    ///
    /// Of `max_connections` the smallest number counts. Two groups with different upstream proxies,
    /// or different routes of one name, are a `ValueError` that names both. What a group opens that
    /// another blocks is in it all the same: `run` and `explain` refuse such groups.
    fn resolve_proxy_config<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = texts)] group_names: Vec<String>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let plan = self.inner.network_plan(&group_names).map_err(policy_error)?;
        plan.map(|plan| self.proxy_config(py, plan)).transpose()
    }

    /// Return the limits of a run under these groups: of each the smallest.
    ///
    /// They have the names of `sandboxed_exec`'s arguments.
    fn resolve_limits(
        &self,
        #[pyo3(from_py_with = texts)] group_names: Vec<String>,
    ) -> PyResult<HashMap<&'static str, u64>> {
        Ok(self.inner.limits(&group_names).map_err(policy_error)?.given().collect())
    }

    /// Raise `ValueError` if one of `excluded_groups` is a required group.
    fn validate_group_exclusions(
        &self,
        #[pyo3(from_py_with = texts)] excluded_groups: Vec<String>,
    ) -> PyResult<()> {
        self.inner.check_exclusions(&excluded_groups).map_err(policy_error)
    }

    /// Rules about hosts: group, field, rule.
    fn _host_rules(&self, names: Vec<String>) -> PyResult<Vec<(String, &'static str, String)>> {
        let plan = self.inner.network_plan(&names).map_err(policy_error)?.unwrap_or_default();
        let of = |field, rules: Vec<(String, String)>| {
            rules.into_iter().map(move |(group, rule)| (group, field, rule))
        };
        Ok(of("network.deny_domain", plan.denied_hosts)
            .chain(of("network.allow_domain", plan.allowed_hosts))
            .collect())
    }

    /// Routes: group, name, and what the proxy makes of it.
    fn _routes<'py>(
        &self,
        py: Python<'py>,
        names: Vec<String>,
    ) -> PyResult<Vec<(String, String, Bound<'py, PyAny>)>> {
        let plan = self.inner.network_plan(&names).map_err(policy_error)?.unwrap_or_default();
        let of = |(group, name, rule): (String, String, Route)| {
            let config = route(py, &group, &name, &rule)?;
            Ok((group, name, config))
        };
        plan.routes.into_iter().map(of).collect()
    }

    /// Refuse groups of which one blocks the network that one opens.
    fn _check_blocking(&self, names: Vec<String>) -> PyResult<()> {
        self.inner.check_blocking(&names).map_err(policy_error)
    }

    /// The groups among these that deny the network wholly.
    fn _blocking_groups(&self, names: Vec<String>) -> PyResult<Vec<String>> {
        self.inner.blocking_groups(&names).map_err(policy_error)
    }

    /// The ports that these groups open past a proxy: group, field and port.
    fn _port_rules(&self, names: Vec<String>) -> PyResult<Vec<(String, &'static str, u16)>> {
        self.inner.port_rules(&names).map_err(policy_error)
    }

    fn __repr__(&self) -> String {
        format!("Policy(groups={})", self.inner.group_names().count())
    }

    /// The same for all: equal texts are rare, and hashing one takes longer than comparing.
    #[expect(clippy::unused_self, reason = "a method of Python's")]
    fn __hash__(&self) -> u64 {
        0
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (String,))> {
        let load = slf.py().import("nono_py")?.getattr("load_policy")?;
        Ok((load, (slf.get().text.clone(),)))
    }
}

impl PyPolicy {
    fn parse(py: Python<'_>, text: &str) -> PyResult<Self> {
        let inner = py.detach(|| policy::Policy::parse(text)).map_err(policy_error)?;
        Ok(Self { inner, text: text.to_owned() })
    }

    fn proxy_config<'py>(&self, py: Python<'py>, plan: NetworkPlan) -> PyResult<Bound<'py, PyAny>> {
        let routes = plan.routes.iter();
        let routes = routes.map(|(group, name, rule)| route(py, group, name, rule));
        let arguments = PyDict::new(py);
        arguments.set_item("allowed_hosts", hosts("allow_domain", plan.allowed_hosts)?)?;
        arguments.set_item("denied_hosts", hosts("deny_domain", plan.denied_hosts)?)?;
        arguments.set_item("routes", routes.collect::<PyResult<Vec<_>>>()?)?;
        if let Some((group, address)) = plan.upstream_proxy {
            let external = py.get_type::<PyExternalProxyConfig>();
            let bypass = hosts("upstream_bypass", plan.upstream_bypass)?;
            let made = external.call1((address, bypass));
            let place = || format!("upstream_proxy of group `{group}`");
            arguments
                .set_item("external_proxy", made.map_err(|error| placed(py, error, place))?)?;
        }
        if let Some(most) = plan.max_connections {
            arguments.set_item("max_connections", most)?;
        }
        if let Some(records) = self.inner.audit().records() {
            arguments.set_item("audit_records", records)?;
        }
        if let Some(rule) = self.inner.audit().file() {
            let path = Variables::of_process().path(rule).map_err(policy_error)?;
            arguments.set_item("audit_file", path)?;
        }
        py.get_type::<PyProxyConfig>().call((), Some(&arguments))
    }
}

/// The hosts of rules in `field`, each with its group; one that no proxy takes is said with both.
fn hosts(field: &str, rules: Vec<(String, String)>) -> PyResult<Vec<String>> {
    let judged = rules.into_iter().map(|(group, rule)| match nono_proxy::fault_of_rule(&rule) {
        None => Ok(rule),
        Some(reason) => {
            let place = format!("network.{field} `{}` of group `{group}`", rule.escape_debug());
            Err(policy_fault(format!("Configuration parse error: {place}: {reason}")))
        }
    });
    judged.collect()
}

/// A route of a policy, as the proxy takes it. What is wrong with it is said with its name.
fn route<'py>(
    py: Python<'py>,
    group: &str,
    name: &str,
    route: &Route,
) -> PyResult<Bound<'py, PyAny>> {
    let fields = route.fields();
    let arguments = PyDict::new(py);
    set_texts(&arguments, fields)?;
    set_lists(&arguments, fields)?;
    set_sources(&arguments, fields)?;
    if let Some(mode) = fields.inject_mode {
        arguments.set_item("inject_mode", inject_mode(py, proxy_mode(mode))?)?;
    }
    for (field, path) in [
        ("tls_ca", &fields.tls_ca),
        ("tls_client_cert", &fields.tls_client_cert),
        ("tls_client_key", &fields.tls_client_key),
    ] {
        if let Some(rule) = path {
            let path = Variables::of_process().path(rule).map_err(policy_error)?;
            arguments.set_item(field, path)?;
        }
    }
    let class = py.get_type::<PyRouteConfig>();
    let made = match &fields.preset {
        None => class.call((), Some(&arguments)),
        Some(preset) => {
            if !arguments.contains("credential_key")? {
                arguments.set_item("credential_key", py.None())?;
            }
            class.call_method("preset", (preset,), Some(&arguments))
        }
    };
    made.map_err(|error| placed(py, error, || format!("route `{name}` of group `{group}`")))
}

/// What is wrong with a value of a policy, with where that stands in it.
fn placed(py: Python<'_>, error: PyErr, place: impl FnOnce() -> String) -> PyErr {
    if !error.is_instance_of::<PyValueError>(py) {
        return error;
    }
    policy_fault(format!("Configuration parse error: {}: {}", place(), error.value(py)))
}

fn proxy_mode(mode: InjectMode) -> nono_proxy::InjectMode {
    match mode {
        InjectMode::Header => nono_proxy::InjectMode::Header,
        InjectMode::UrlPath => nono_proxy::InjectMode::UrlPath,
        InjectMode::QueryParam => nono_proxy::InjectMode::QueryParam,
        InjectMode::BasicAuth => nono_proxy::InjectMode::BasicAuth,
    }
}

fn set_texts(arguments: &Bound<'_, PyDict>, fields: &RouteFields) -> PyResult<()> {
    for (name, value) in [
        ("prefix", &fields.prefix),
        ("upstream", &fields.upstream),
        ("credential_key", &fields.credential_key),
        ("inject_header", &fields.inject_header),
        ("credential_format", &fields.credential_format),
        ("path_pattern", &fields.path_pattern),
        ("path_replacement", &fields.path_replacement),
        ("query_param_name", &fields.query_param_name),
        ("env_var", &fields.env_var),
    ] {
        if let Some(value) = value {
            arguments.set_item(name, value)?;
        }
    }
    for (name, value) in [
        ("strip_client_credentials", fields.strip_client_credentials),
        ("scrub_bodies", fields.scrub_bodies),
    ] {
        if let Some(value) = value {
            arguments.set_item(name, value)?;
        }
    }
    match fields.credential_ttl_secs {
        Some(seconds) => arguments.set_item("credential_ttl_secs", seconds.get()),
        None => Ok(()),
    }
}

/// Where a credential comes from that is more than a reference.
fn set_sources(arguments: &Bound<'_, PyDict>, fields: &RouteFields) -> PyResult<()> {
    let py = arguments.py();
    if let Some(OAuth2 { token_url, client_id, extra_params, secret_in_body, .. }) = &fields.oauth2
    {
        let given = PyDict::new(py);
        given.set_item("token_url", token_url)?;
        given.set_item("client_id", client_id)?;
        given.set_item("extra_params", extra_params.iter().collect::<Vec<_>>())?;
        given.set_item("secret_in_body", secret_in_body)?;
        for (name, value) in fields.oauth2.iter().flat_map(oauth2_references) {
            given.set_item(name, value)?;
        }
        let class = py.get_type::<PyOAuth2Config>();
        arguments.set_item("oauth2", class.call((), Some(&given))?)?;
    }
    if let Some(Vault { address, token_key, namespace }) = &fields.vault {
        let class = py.get_type::<PyVaultConfig>();
        arguments.set_item("vault", class.call1((address, token_key, namespace))?)?;
    }
    Ok(())
}

fn oauth2_references(oauth2: &OAuth2) -> [(&'static str, &Option<String>); 3] {
    [
        ("client_secret", &oauth2.client_secret),
        ("refresh_token", &oauth2.refresh_token),
        ("scope", &oauth2.scope),
    ]
}

fn set_lists(arguments: &Bound<'_, PyDict>, fields: &RouteFields) -> PyResult<()> {
    let rules: Vec<_> =
        fields.endpoint_rules.iter().map(|rule| (&rule.method, &rule.path)).collect();
    if !rules.is_empty() {
        arguments.set_item("endpoint_rules", rules)?;
    }
    if !fields.extra_headers.is_empty() {
        arguments.set_item("extra_headers", fields.extra_headers.iter().collect::<Vec<_>>())?;
    }
    for (name, values) in [
        ("base_url_vars", &fields.base_url_vars),
        ("key_vars", &fields.key_vars),
        ("credential_command", &fields.credential_command),
    ] {
        if !values.is_empty() {
            arguments.set_item(name, values)?;
        }
    }
    Ok(())
}

/// The variables of the environment, but for those that are given.
fn merged(given: &HashMap<String, OsArgument>) -> Variables {
    Variables::new(|name| {
        given.get(name).map(|value| value.0.clone()).or_else(|| env::var_os(name))
    })
}

/// What choosing groups has come to.
#[pyclass(name = "ResolvedPolicy", module = "nono_py", frozen, weakref, eq)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PyResolvedPolicy {
    inner: Resolved,
}

#[pymethods]
impl PyResolvedPolicy {
    /// The chosen groups that are for this platform, as often as they were named.
    #[getter]
    fn names(&self) -> Vec<String> {
        self.inner.names().to_vec()
    }

    /// The denied paths: as written and, where that differs, without symbolic links.
    #[getter]
    fn deny_paths(&self) -> Vec<OsString> {
        self.inner.deny_paths().into_iter().map(Into::into).collect()
    }

    /// The paths that were to be granted and do not exist here.
    #[getter]
    fn skipped_paths(&self) -> Vec<OsString> {
        self.inner.skipped_paths().map(Into::into).collect()
    }

    /// Whether a group asks for `apply_unlink_overrides`, on macOS.
    #[getter]
    fn needs_unlink_overrides(&self) -> bool {
        self.inner.needs_unlink_overrides()
    }

    /// Rules about paths: group, field, path as written, path without links.
    #[getter]
    fn _rules(&self) -> Vec<RuleTuple> {
        let rules = self.inner.rules().iter();
        let of = |rule: &policy::Rule| {
            let path = rule.resolved.as_ref().unwrap_or(&rule.path);
            (rule.group.clone(), rule.kind.field(), rule.written.to_string(), path.into())
        };
        rules.map(of).collect()
    }

    fn __repr__(&self) -> String {
        let Self { inner } = self;
        format!(
            "ResolvedPolicy(names={}, deny_paths={}, needs_unlink_overrides={})",
            inner.names().len(),
            inner.deny_paths().len(),
            inner.needs_unlink_overrides()
        )
    }

    #[expect(clippy::unused_self, reason = "a method of Python's")]
    fn __hash__(&self) -> u64 {
        0
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
}

/// Parse a policy.
///
/// Raise `ValueError` with line, column and place, and for a name that is not known the nearest.
#[pyfunction]
pub(crate) fn load_policy(py: Python<'_>, json: &str) -> PyResult<PyPolicy> {
    PyPolicy::parse(py, json)
}

/// Return the policy that comes with this package.
#[pyfunction]
pub(crate) fn load_embedded_policy(py: Python<'_>) -> PyResult<PyPolicy> {
    PyPolicy::parse(py, policy::EMBEDDED)
}

/// Return the text of the policy that comes with this package.
#[pyfunction]
pub(crate) fn embedded_policy_json() -> &'static str {
    policy::EMBEDDED
}

/// Return the JSON Schema (draft 2020-12) of policies.
#[pyfunction]
pub(crate) fn policy_schema_json() -> &'static str {
    policy::SCHEMA
}

/// Raise `RuntimeError` if `caps` reaches what is to be denied.
///
/// From above, at the path itself, or beneath it; through links and `..`, whoever granted it, be it
/// for unix sockets. A path that `caps` itself denies is kept out of grants to read above it, and
/// passes there. One that leads nobody can say where does not pass.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "extracted from Python arguments")]
pub(crate) fn validate_deny_overlaps(
    py: Python<'_>,
    #[pyo3(from_py_with = os_paths)] deny_paths: Vec<PathBuf>,
    caps: &Bound<'_, PyCapabilitySet>,
) -> PyResult<()> {
    let caps = caps.get().snapshot(py);
    py.detach(|| policy::check_overlaps(&deny_paths, &caps)).map_err(policy_error)
}
