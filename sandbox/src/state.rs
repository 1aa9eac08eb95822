//! A set as JSON, to be shown to a reviewer, stored, or sent to another process, and back.
//!
//! What is read back is what the text shows: a path that leads elsewhere than it says is refused,
//! and so is every field that is not known.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::capability::{Access, CapabilitySet, FsCapability, Grant};
use crate::error::Error;
use crate::network::Network;
use crate::object::{read_as_objects, write_as_derived};
use crate::source::Source;

read_as_objects!(State, Granted, Socket, PathPair);
write_as_derived!(State, Granted, Socket, PathPair);

/// All that a [`CapabilitySet`] grants, without the open objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct State {
    fs: Vec<Granted>,
    net_blocked: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proxy: Option<SocketAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tcp_connect_ports: Vec<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tcp_bind_ports: Vec<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    localhost_ports: Vec<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unix_sockets: Vec<Socket>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    denied_paths: Vec<PathPair>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    platform_rules: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    accept_less: bool,
}

/// One granted path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct Granted {
    original: PathBuf,
    resolved: PathBuf,
    access: AccessName,
    is_file: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    no_exec: bool,
    #[serde(default = "user", skip_serializing_if = "is_user")]
    source: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum AccessName {
    #[serde(rename = "read")]
    Read,
    #[serde(rename = "write")]
    Write,
    #[serde(rename = "read+write")]
    ReadWrite,
}

/// One granted unix socket, or directory of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct Socket {
    original: PathBuf,
    resolved: PathBuf,
    scope: Scope,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Scope {
    #[serde(rename = "file")]
    File,
    #[serde(rename = "dir_subtree")]
    Directory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Mode {
    #[serde(rename = "connect")]
    Connect,
}

/// A path as it was given, and where it led.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct PathPair {
    original: PathBuf,
    resolved: PathBuf,
}

impl State {
    /// What a set grants.
    pub fn of(caps: &CapabilitySet) -> Self {
        let fs = caps.fs_capabilities().iter().map(|grant| Granted {
            original: grant.original().to_owned(),
            resolved: lasting(grant),
            access: grant.access().into(),
            is_file: grant.is_file(),
            no_exec: grant.access().is_read() && !grant.is_executable(),
            source: grant.source().to_string(),
        });
        let sockets = caps.unix_sockets().iter().map(|socket| Socket {
            original: socket.original().to_owned(),
            resolved: socket.resolved().to_owned(),
            scope: if socket.is_directory() { Scope::Directory } else { Scope::File },
            mode: Mode::Connect,
        });
        let denied = caps.denied_paths().iter().map(|path| PathPair {
            original: path.original().to_owned(),
            resolved: path.resolved().to_owned(),
        });
        Self {
            fs: fs.collect(),
            net_blocked: caps.is_network_blocked(),
            proxy: match caps.network() {
                Network::ProxyOnly(proxy) => Some(proxy),
                _ => None,
            },
            tcp_connect_ports: caps.tcp_connect_ports().to_vec(),
            tcp_bind_ports: caps.bind_ports().to_vec(),
            localhost_ports: caps.localhost_ports().to_vec(),
            unix_sockets: sockets.collect(),
            denied_paths: denied.collect(),
            platform_rules: caps.platform_rules().to_vec(),
            accept_less: caps.is_accepting_less(),
        }
    }

    /// How many paths are granted.
    pub fn granted(&self) -> usize {
        self.fs.len()
    }

    /// Whether the network is limited.
    pub fn is_network_blocked(&self) -> bool {
        self.net_blocked
    }

    /// The text, with two spaces for each level.
    ///
    /// # Errors
    ///
    /// [`Error::StatePathText`] if a path is no UTF-8, which JSON has no form for.
    pub fn to_json(&self) -> Result<String, Error> {
        if let Some(path) = self.paths().find(|path| path.to_str().is_none()) {
            return Err(Error::StatePathText { path: path.to_owned() });
        }
        serde_json::to_string_pretty(self).map_err(|source| Error::StateFormat { source })
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let granted = self.fs.iter().map(|grant| [&grant.original, &grant.resolved]);
        let sockets = self.unix_sockets.iter().map(|socket| [&socket.original, &socket.resolved]);
        let denied = self.denied_paths.iter().map(|path| [&path.original, &path.resolved]);
        granted.chain(sockets).chain(denied).flatten().map(PathBuf::as_path)
    }

    /// Reads a text.
    ///
    /// # Errors
    ///
    /// [`Error::StateFormat`], which names the place and what is wrong there.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let state: Self =
            serde_json::from_str(text).map_err(|source| Error::StateFormat { source })?;
        if state.proxy.is_some() && !state.net_blocked {
            let reason = "`proxy` is given and `net_blocked` is false";
            return Err(Error::StateFormat { source: serde::de::Error::custom(reason) });
        }
        match state.fs.iter().find(|grant| Source::parse(&grant.source).is_none()) {
            None => Ok(state),
            Some(grant) => {
                let reason = format!("unknown source `{}`", grant.source);
                Err(Error::StateFormat { source: serde::de::Error::custom(reason) })
            }
        }
    }

    /// Grants anew what was granted, opening every path as it is now.
    ///
    /// # Errors
    ///
    /// [`Error::StatePath`] if a path leads elsewhere than recorded, and the errors of the grants.
    pub fn to_caps(&self) -> Result<CapabilitySet, Error> {
        let mut caps = CapabilitySet::new();
        for grant in &self.fs {
            let access = Access::from(grant.access);
            caps.grant(Grant {
                path: path_to_open(&grant.original, &grant.resolved)?,
                is_file: grant.is_file,
                access,
                is_executable: access.is_read() && !grant.no_exec,
                source: Source::parse(&grant.source).unwrap_or_default(),
            })?;
        }
        for socket in &self.unix_sockets {
            caps.allow_unix_socket(path_to_open(&socket.original, &socket.resolved)?)?;
        }
        for path in &self.denied_paths {
            caps.deny_path(path_to_open(&path.original, &path.resolved)?)?;
        }
        self.compare(&caps)?;
        for rule in &self.platform_rules {
            caps.platform_rule(rule)?;
        }
        self.restore_network(&mut caps)?;
        Ok(caps)
    }

    /// Refuses paths that led elsewhere than recorded.
    fn compare(&self, caps: &CapabilitySet) -> Result<(), Error> {
        for (recorded, opened) in self.fs.iter().zip(caps.fs_capabilities()) {
            same(&recorded.original, &recorded.resolved, &lasting(opened))?;
        }
        for (recorded, opened) in self.denied_paths.iter().zip(caps.denied_paths()) {
            same(&recorded.original, &recorded.resolved, opened.resolved())?;
        }
        for (recorded, opened) in self.unix_sockets.iter().zip(caps.unix_sockets()) {
            same(&recorded.original, &recorded.resolved, opened.resolved())?;
            if opened.is_directory() != (recorded.scope == Scope::Directory) {
                return Err(Error::ExpectedSocket { path: recorded.original.clone() });
            }
        }
        Ok(())
    }

    fn restore_network(&self, caps: &mut CapabilitySet) -> Result<(), Error> {
        match self.proxy {
            Some(proxy) => caps.proxy_only(proxy),
            None if self.net_blocked => caps.block_network(),
            None => {}
        }
        for port in &self.tcp_connect_ports {
            caps.allow_tcp_connect_port(*port)?;
        }
        for port in &self.tcp_bind_ports {
            caps.allow_bind_port(*port)?;
        }
        for port in &self.localhost_ports {
            caps.allow_localhost_port(*port)?;
        }
        if self.accept_less {
            caps.accept_less();
        }
        Ok(())
    }
}

/// The path that a grant has in every process: what is a process's own beneath `/proc` is there
/// under its number, and another process has another.
fn lasting(grant: &FsCapability) -> PathBuf {
    #[cfg(target_os = "linux")]
    if let Some(own) = grant.own() {
        // Without the slash that an empty rest leaves at the end.
        return own.of_self().components().collect();
    }
    grant.resolved().to_owned()
}

/// The path to open. A relative one said something in the directory where it was written, and may
/// say anything here.
fn path_to_open<'a>(original: &'a Path, resolved: &'a Path) -> Result<&'a Path, Error> {
    if !resolved.is_absolute() {
        return Err(Error::StatePath {
            original: original.to_owned(),
            recorded: resolved.to_owned(),
            now: resolved.to_owned(),
        });
    }
    Ok(if original.is_absolute() { original } else { resolved })
}

fn same(original: &Path, recorded: &Path, now: &Path) -> Result<(), Error> {
    if recorded == now {
        return Ok(());
    }
    Err(Error::StatePath {
        original: original.to_owned(),
        recorded: recorded.to_owned(),
        now: now.to_owned(),
    })
}

impl From<Access> for AccessName {
    fn from(access: Access) -> Self {
        match access {
            Access::Read => Self::Read,
            Access::Write => Self::Write,
            Access::ReadWrite => Self::ReadWrite,
        }
    }
}

impl From<AccessName> for Access {
    fn from(name: AccessName) -> Self {
        match name {
            AccessName::Read => Self::Read,
            AccessName::Write => Self::Write,
            AccessName::ReadWrite => Self::ReadWrite,
        }
    }
}

fn user() -> String {
    Source::User.to_string()
}

fn is_user(source: &str) -> bool {
    source == user()
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
