//! What a policy may say: each level with its fields, and no others.

use std::collections::BTreeMap;
use std::env;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::PolicyError;
use super::expand::PathRule;
use super::value::{Amount, Port, unique};
use crate::object::read_as_objects;

read_as_objects!(
    Document,
    Meta,
    Audit,
    Group,
    Allow,
    Deny,
    NetworkRules,
    RouteFields,
    OAuth2,
    Vault,
    Endpoint,
    Limits,
);

/// The whole.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub(super) struct Document {
    #[serde(deserialize_with = "unique")]
    pub(super) groups: BTreeMap<String, Group>,
    #[serde(default)]
    pub(super) audit: Audit,
    #[serde(default, rename = "meta")]
    _meta: Meta,
    /// For editors, which look there for the fields.
    #[serde(default, rename = "$schema")]
    _schema: Option<String>,
    /// Of other programs that read the same file.
    #[serde(default, rename = "profiles")]
    _profiles: IgnoredAny,
}

impl Document {
    pub(super) fn parse(text: &str) -> Result<Self, PolicyError> {
        let mut json = serde_json::Deserializer::from_str(text);
        let document: Self = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let place = error.path().to_string();
            let place = if place == "." { String::new() } else { place };
            PolicyError::format(place, error.into_inner())
        })?;
        json.end().map_err(|error| PolicyError::format(String::new(), error))?;
        Ok(document)
    }
}

/// Which document this is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
struct Meta {
    #[serde(rename = "version")]
    _version: Option<serde_json::Number>,
    #[serde(rename = "schema_version")]
    _schema_version: Option<String>,
}

/// What is kept of what the proxy does.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct Audit {
    records: Option<Amount>,
    file: Option<PathRule>,
}

impl Audit {
    /// How many records wait to be drained at most.
    pub fn records(&self) -> Option<u64> {
        self.records.map(Amount::get)
    }

    /// Where the proxy appends its records.
    pub fn file(&self) -> Option<&PathRule> {
        self.file.as_ref()
    }
}

/// Grants, denials, network rules and limits that are chosen together.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Group {
    description: String,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    pub(super) allow: Allow,
    #[serde(default)]
    pub(super) deny: Deny,
    #[serde(default)]
    pub(super) network: NetworkRules,
    #[serde(default)]
    pub(super) limits: Limits,
    /// Of macOS, whose links the paths of a grant are resolved through anyway.
    #[serde(default, rename = "symlink_pairs")]
    _symlink_pairs: BTreeMap<String, String>,
}

impl Group {
    /// What it is for.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Where it applies; everywhere if nothing is said.
    pub fn platform(&self) -> Option<Platform> {
        self.platform
    }

    /// Whether it holds whatever else is chosen.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Whether it applies on this platform.
    pub fn is_for_here(&self) -> bool {
        self.platform.is_none_or(|platform| platform.name() == env::consts::OS)
    }
}

/// Where a group applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// Linux.
    Linux,
    /// macOS.
    Macos,
    /// Windows, where nothing is enforced: such groups are for other programs.
    Windows,
}

impl Platform {
    /// Its name, as policies and [`env::consts::OS`] have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Macos => "macos",
            Self::Windows => "windows",
        }
    }
}

/// Granted paths. One that does not exist is left out.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub(super) struct Allow {
    pub(super) read: Vec<PathRule>,
    pub(super) write: Vec<PathRule>,
    pub(super) readwrite: Vec<PathRule>,
    pub(super) unix_sockets: Vec<PathRule>,
}

/// Denied paths, whether they exist or not.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub(super) struct Deny {
    pub(super) access: Vec<PathRule>,
    /// Of macOS: what is granted to write cannot be removed either.
    pub(super) unlink: bool,
    #[serde(rename = "unlink_override_for_user_writable")]
    pub(super) unlink_override: bool,
}

/// What may be reached.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub(super) struct NetworkRules {
    pub(super) block: bool,
    #[serde(alias = "allow_proxy", alias = "proxy_allow")]
    pub(super) allow_domain: Vec<String>,
    pub(super) deny_domain: Vec<String>,
    pub(super) credentials: Vec<String>,
    #[serde(deserialize_with = "unique")]
    pub(super) custom_credentials: BTreeMap<String, Route>,
    #[serde(alias = "external_proxy")]
    pub(super) upstream_proxy: Option<String>,
    #[serde(alias = "external_proxy_bypass")]
    pub(super) upstream_bypass: Vec<String>,
    pub(super) max_connections: Option<Amount>,
    pub(super) connect_ports: Vec<Port>,
    pub(super) bind_ports: Vec<Port>,
    pub(super) localhost_ports: Vec<Port>,
}

/// A path prefix of the proxy, the upstream it leads to, and the credential put on the way. What
/// is not given is as the proxy has it, or the preset.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the names of the proxy's own configuration")]
pub struct RouteFields {
    pub preset: Option<String>,
    pub prefix: Option<String>,
    pub upstream: Option<String>,
    pub credential_key: Option<String>,
    pub inject_mode: Option<InjectMode>,
    pub inject_header: Option<String>,
    pub credential_format: Option<String>,
    pub path_pattern: Option<String>,
    pub path_replacement: Option<String>,
    pub query_param_name: Option<String>,
    pub env_var: Option<String>,
    pub endpoint_rules: Vec<Endpoint>,
    pub tls_ca: Option<PathRule>,
    pub tls_client_cert: Option<PathRule>,
    pub tls_client_key: Option<PathRule>,
    pub base_url_vars: Vec<String>,
    pub key_vars: Vec<String>,
    pub strip_client_credentials: Option<bool>,
    pub scrub_bodies: Option<bool>,
    pub credential_command: Vec<String>,
    pub credential_ttl_secs: Option<Amount>,
    pub oauth2: Option<OAuth2>,
    pub vault: Option<Vault>,
    #[serde(deserialize_with = "unique")]
    pub extra_headers: BTreeMap<String, String>,
}

/// An OAuth 2.0 token endpoint, and references to the right to get tokens from it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[expect(missing_docs, reason = "the names of the proxy's own configuration")]
pub struct OAuth2 {
    pub token_url: String,
    pub client_id: String,
    pub client_secret: Option<String>,
    pub refresh_token: Option<String>,
    pub scope: Option<String>,
    #[serde(default, deserialize_with = "unique")]
    pub extra_params: BTreeMap<String, String>,
    #[serde(default)]
    pub secret_in_body: bool,
}

/// The server of a `vault://` reference.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[expect(missing_docs, reason = "the names of the proxy's own configuration")]
pub struct Vault {
    pub address: String,
    pub token_key: String,
    pub namespace: Option<String>,
}

/// A route that says where it begins and leads: by itself, or by a preset.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "RouteFields")]
pub struct Route(RouteFields);

impl Route {
    /// What is said of it.
    pub fn fields(&self) -> &RouteFields {
        &self.0
    }
}

impl TryFrom<RouteFields> for Route {
    type Error = &'static str;

    fn try_from(fields: RouteFields) -> Result<Self, Self::Error> {
        match &fields {
            RouteFields { preset: None, prefix: None, .. } => Err("missing field `prefix`"),
            RouteFields { preset: None, upstream: None, .. } => Err("missing field `upstream`"),
            _ => Ok(Self(fields)),
        }
    }
}

/// Requests that a route lets through.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Endpoint {
    /// The method; `*` is any.
    pub method: String,
    /// A glob of paths.
    pub path: String,
}

/// Where a route puts its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names of the proxy's own configuration")]
pub enum InjectMode {
    Header,
    UrlPath,
    QueryParam,
    BasicAuth,
}

/// Limits of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct Limits {
    timeout_secs: Option<Amount>,
    max_processes: Option<Amount>,
    max_cpu_seconds: Option<Amount>,
    max_memory_bytes: Option<Amount>,
    max_file_size_bytes: Option<Amount>,
    max_open_files: Option<Amount>,
    max_output_bytes: Option<Amount>,
}

impl Limits {
    /// Those that are given, by the names that a document and a run have for them.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = [
            ("timeout_secs", self.timeout_secs),
            ("max_processes", self.max_processes),
            ("max_cpu_seconds", self.max_cpu_seconds),
            ("max_memory_bytes", self.max_memory_bytes),
            ("max_file_size_bytes", self.max_file_size_bytes),
            ("max_open_files", self.max_open_files),
            ("max_output_bytes", self.max_output_bytes),
        ];
        all.into_iter().filter_map(|(name, amount)| Some((name, amount?.get())))
    }

    /// Of each limit the smaller one.
    pub(super) fn smallest(self, other: &Self) -> Self {
        let smaller = |one: Option<Amount>, other: Option<Amount>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self {
            timeout_secs: smaller(self.timeout_secs, other.timeout_secs),
            max_processes: smaller(self.max_processes, other.max_processes),
            max_cpu_seconds: smaller(self.max_cpu_seconds, other.max_cpu_seconds),
            max_memory_bytes: smaller(self.max_memory_bytes, other.max_memory_bytes),
            max_file_size_bytes: smaller(self.max_file_size_bytes, other.max_file_size_bytes),
            max_open_files: smaller(self.max_open_files, other.max_open_files),
            max_output_bytes: smaller(self.max_output_bytes, other.max_output_bytes),
        }
    }
}
