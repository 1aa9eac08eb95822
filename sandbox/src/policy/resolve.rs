//! Chosen groups become grants and denials of a set: all of them, or none.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::document::NetworkRules;
use super::error::PolicyError;
use super::expand::{PathRule, Variables};
use super::network::check_opened;
use super::{Group, Policy};
use crate::capability::{Access, CapabilitySet, Grant};
use crate::denied::DeniedPath;
use crate::error::Error;
use crate::network::Network;
use crate::source::Source;

/// What was chosen, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    names: Vec<String>,
    rules: Vec<Rule>,
    needs_unlink_overrides: bool,
}

impl Resolved {
    /// The chosen groups that are for this platform, as often as they were named.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Every path of theirs.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The denied paths: as they are written and, where that differs, without symbolic links.
    pub fn deny_paths(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.kind == RuleKind::Deny) {
            for path in [Some(&rule.path), rule.resolved.as_ref()].into_iter().flatten() {
                if !paths.contains(path) {
                    paths.push(path.clone());
                }
            }
        }
        paths
    }

    /// The paths that were to be granted and do not exist here, or cannot be reached.
    pub fn skipped_paths(&self) -> impl Iterator<Item = &Path> {
        let is_skipped = |rule: &&Rule| rule.kind != RuleKind::Deny && rule.resolved.is_none();
        self.rules.iter().filter(is_skipped).map(|rule| rule.path.as_path())
    }

    /// Whether a group asks for overrides of macOS's denial to remove.
    pub fn needs_unlink_overrides(&self) -> bool {
        self.needs_unlink_overrides
    }
}

/// One path of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The group.
    pub group: String,
    /// What is said of the path.
    pub kind: RuleKind,
    /// The path as the document has it.
    pub written: PathRule,
    /// The path with its variables expanded.
    pub path: PathBuf,
    /// The path without symbolic links; `None` if it is not there.
    pub resolved: Option<PathBuf>,
}

/// What is said of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// It is granted.
    Allow(Access),
    /// It is a unix socket, or a directory of them, that can be connected to.
    UnixSocket,
    /// It is denied.
    Deny,
}

impl RuleKind {
    /// The field of the document that says so.
    pub fn field(self) -> &'static str {
        match self {
            Self::Allow(Access::Read) => "allow.read",
            Self::Allow(Access::Write) => "allow.write",
            Self::Allow(Access::ReadWrite) => "allow.readwrite",
            Self::UnixSocket => "allow.unix_sockets",
            Self::Deny => "deny.access",
        }
    }
}

impl Policy {
    /// Grants and denies what the groups say, and limits the network where they do. On an error
    /// the set is as it was.
    ///
    /// A group that blocks the network blocks it, and no other opens a port of it. One with rules
    /// for a proxy blocks all but the proxy: if the set has none yet, it is for the caller to say
    /// which ([`CapabilitySet::proxy_only`]), and whether there is to be one where another group
    /// blocks ([`check_blocking`](Self::check_blocking)).
    ///
    /// # Errors
    ///
    /// [`PolicyError::UnknownGroup`], [`PolicyError::Blocked`], [`PolicyError::Variable`] or
    /// [`PolicyError::Path`].
    pub fn resolve(
        &self,
        names: &[String],
        caps: &mut CapabilitySet,
        variables: &Variables,
    ) -> Result<Resolved, PolicyError> {
        let chosen = self.select(names)?;
        check_opened(&chosen, NetworkRules::opens_port_beside)?;
        let mut changed = caps.clone();
        let (mut resolved, mut denies_removal) = (Resolved::default(), false);
        for (name, group) in &chosen {
            for (kind, rule) in group.path_rules() {
                let rule = expand(name, kind, rule, variables)?;
                resolved.rules.push(apply(rule, &mut changed)?);
            }
            group.limit_network(&mut changed);
            resolved.needs_unlink_overrides |= group.deny.unlink_override;
            denies_removal |= group.deny.unlink;
        }
        if denies_removal && !resolved.needs_unlink_overrides {
            changed.deny_removal();
        }
        resolved.names =
            names.iter().filter(|name| chosen.contains_key(name.as_str())).cloned().collect();
        *caps = changed;
        Ok(resolved)
    }

    /// Makes the directories that the groups let a program write and that are missing, as their
    /// owner's alone. Only what a document writes with a `/` at its end is known to be one. Gives
    /// those that were made; what cannot be made is left out by [`resolve`](Self::resolve).
    ///
    /// # Errors
    ///
    /// [`PolicyError::UnknownGroup`] or [`PolicyError::Variable`].
    pub fn make_directories(
        &self,
        names: &[String],
        variables: &Variables,
    ) -> Result<Vec<PathBuf>, PolicyError> {
        let mut made = Vec::new();
        for group in self.select(names)?.values() {
            let written = group.allow.write.iter().chain(&group.allow.readwrite);
            for rule in written.filter(|rule| rule.is_directory()) {
                let path = variables.path(rule)?;
                // A link that leads nowhere is not followed.
                if path.symlink_metadata().is_err() && make_directory(&path).is_ok() {
                    made.push(path);
                }
            }
        }
        Ok(made)
    }

    /// What the groups deny, without granting or denying anything.
    ///
    /// # Errors
    ///
    /// Those of [`resolve`](Self::resolve).
    pub fn deny_paths(
        &self,
        names: &[String],
        variables: &Variables,
    ) -> Result<Vec<PathBuf>, PolicyError> {
        let mut resolved = Resolved::default();
        for (name, group) in self.select(names)? {
            for rule in &group.deny.access {
                let rule = expand(name, RuleKind::Deny, rule, variables)?;
                resolved.rules.push(apply(rule, &mut CapabilitySet::new())?);
            }
        }
        Ok(resolved.deny_paths())
    }
}

impl Group {
    fn path_rules(&self) -> impl Iterator<Item = (RuleKind, &PathRule)> {
        fn of(kind: RuleKind, paths: &[PathRule]) -> impl Iterator<Item = (RuleKind, &PathRule)> {
            paths.iter().map(move |path| (kind, path))
        }
        of(RuleKind::Allow(Access::Read), &self.allow.read)
            .chain(of(RuleKind::Allow(Access::Write), &self.allow.write))
            .chain(of(RuleKind::Allow(Access::ReadWrite), &self.allow.readwrite))
            .chain(of(RuleKind::UnixSocket, &self.allow.unix_sockets))
            .chain(of(RuleKind::Deny, &self.deny.access))
    }

    fn limit_network(&self, caps: &mut CapabilitySet) {
        let rules = &self.network;
        if rules.block || rules.wants_proxy() && caps.network() == Network::Open {
            caps.block_network();
        }
        let ports = &mut caps.ports;
        ports.connect.extend(rules.connect_ports.iter().map(|port| port.port()));
        ports.bind.extend(rules.bind_ports.iter().map(|port| port.port()));
        ports.localhost.extend(rules.localhost_ports.iter().map(|port| port.port()));
    }
}

fn expand(
    group: &str,
    kind: RuleKind,
    written: &PathRule,
    variables: &Variables,
) -> Result<Rule, PolicyError> {
    let path = variables.path(written)?;
    Ok(Rule { group: group.to_owned(), kind, written: written.clone(), path, resolved: None })
}

/// Lets a set hold a rule, and notes where its path leads.
fn apply(rule: Rule, caps: &mut CapabilitySet) -> Result<Rule, PolicyError> {
    let resolved = match rule.kind {
        RuleKind::Allow(access) => {
            let source = Source::Group(rule.group.clone());
            let grant = Grant::new(&rule.path, !rule.path.is_dir(), access);
            caps.grant(Grant { source, ..grant })
                .map(|()| caps.fs_capabilities().last().map(|grant| grant.resolved().to_owned()))
        }
        RuleKind::UnixSocket => caps
            .allow_unix_socket(&rule.path)
            .map(|()| caps.unix_sockets().last().map(|socket| socket.resolved().to_owned())),
        RuleKind::Deny => caps
            .deny_path(&rule.path)
            .map(|()| caps.denied_paths().last().map(DeniedPath::resolved).map(Path::to_owned)),
    };
    match resolved {
        Ok(resolved) => Ok(Rule { resolved, ..rule }),
        Err(error) if rule.kind != RuleKind::Deny && is_absent(&error) => Ok(rule),
        Err(source) => Err(PolicyError::Path {
            is_denied: rule.kind == RuleKind::Deny,
            group: rule.group,
            path: rule.path,
            source: Box::new(source),
        }),
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// Whether a path is not there, or not for us: then it is not for the sandboxed program either.
fn is_absent(error: &Error) -> bool {
    match error {
        Error::PathMissing { .. } => true,
        Error::Resolve { source, .. } => {
            matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory)
        }
        _ => false,
    }
}
