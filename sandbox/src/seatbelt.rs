//! The profile that holds a process on macOS, as text: the same grants in Seatbelt's language.
//!
//! The text is made everywhere, so that it can be tested and reviewed everywhere; only macOS takes
//! it. Everything is denied that no rule allows, and of the rules that match the last one counts.

mod rule;

use std::fmt::Write as _;
use std::path::Path;

use crate::capability::{CapabilitySet, FsCapability};
use crate::deny::Exceptions;
use crate::error::{Error, Feature};
use crate::network::Network;

/// What every process needs: to run itself, to signal its own kind, to walk along paths, and to
/// ask for names and clocks. No file's content is among it.
const BASE: &str = "(version 1)
(deny default)
(allow process-fork)
(allow signal (target same-sandbox))
(allow process-info* (target same-sandbox))
(allow sysctl-read)
(allow file-read-metadata)
(allow file-read* (literal \"/\"))
(allow mach-lookup (global-name \"com.apple.system.notification_center\"))
(allow mach-lookup (global-name \"com.apple.system.opendirectoryd.libinfo\"))
(allow mach-lookup (global-name \"com.apple.system.logger\"))
";

/// After all grants: nothing can be removed or renamed.
const NO_REMOVAL: &str = "(deny file-write-unlink)";

impl CapabilitySet {
    /// The Seatbelt profile of this set.
    ///
    /// # Errors
    ///
    /// [`Error::Deny`] for a denied path that cannot be kept out of a grant, and
    /// [`Error::Unsupported`] for what the language cannot say: a proxy that is not on this
    /// machine, or a path that is no UTF-8.
    pub fn seatbelt_profile(&self) -> Result<String, Error> {
        let mut profile = BASE.to_owned();
        let exceptions = Exceptions::of(self)?;
        for grant in self.fs_capabilities() {
            // Rules go by paths: whoever may rename what is above a denied one has it by another.
            exceptions.inside(grant)?;
            files(&mut profile, grant)?;
        }
        // Device nodes are nobody's to make, whatever is granted.
        profile.push_str("(deny file-mknod)\n");
        network(&mut profile, self)?;
        for rule in self.platform_rules() {
            line(&mut profile, rule);
        }
        for denied in self.denied_paths() {
            let filter = path_filter("subpath", denied.resolved())?;
            line(&mut profile, &format!("(deny file-read* file-write* process-exec* {filter})"));
            line(&mut profile, &format!("(deny network-outbound (remote unix-socket {filter}))"));
            // Nor can a rule of the platform let anybody rename it so.
            for above in
                denied.resolved().ancestors().skip(1).filter(|path| path.parent().is_some())
            {
                let filter = path_filter("literal", above)?;
                line(&mut profile, &format!("(deny file-write-unlink {filter})"));
            }
        }
        Ok(profile)
    }

    /// Adds a rule in Seatbelt's own language, for macOS: `(allow OPERATION... FILTER...)`, or the
    /// same with `deny`. It is checked everywhere.
    ///
    /// It comes after the grants and before the denials of the set. What it opens besides files is
    /// not judged.
    ///
    /// # Errors
    ///
    /// [`Error::PlatformRule`] if it is not one such rule, has a filter that is not known here, or
    /// opens the whole file system.
    pub fn platform_rule(&mut self, rule: &str) -> Result<(), Error> {
        rule::check(rule)
            .map_err(|reason| Error::PlatformRule { rule: rule.to_owned(), reason })?;
        self.platform_rules.push(rule.to_owned());
        Ok(())
    }

    /// Keeps what is granted to write from being removed or renamed, on macOS.
    pub(crate) fn deny_removal(&mut self) {
        if !self.platform_rules().iter().any(|rule| rule == NO_REMOVAL) {
            self.platform_rules.push(NO_REMOVAL.to_owned());
        }
    }

    /// Takes back that a policy lets nothing be removed (`deny.unlink`): what is granted to write
    /// can be, on macOS as everywhere.
    pub fn allow_removal(&mut self) {
        self.platform_rules.retain(|rule| rule != NO_REMOVAL);
    }
}

fn files(profile: &mut String, grant: &FsCapability) -> Result<(), Error> {
    let kind = if grant.is_file() { "literal" } else { "subpath" };
    let filter = path_filter(kind, grant.resolved())?;
    let operations = [
        (grant.access().is_read(), "file-read*"),
        (grant.is_executable(), "process-exec* file-map-executable"),
        (grant.access().is_write(), "file-write*"),
    ];
    for (_, operation) in operations.into_iter().filter(|(is_granted, _)| *is_granted) {
        line(profile, &format!("(allow {operation} {filter})"));
    }
    Ok(())
}

fn network(profile: &mut String, caps: &CapabilitySet) -> Result<(), Error> {
    let has_ports = !caps.tcp_connect_ports().is_empty() || !caps.bind_ports().is_empty();
    match caps.network() {
        Network::Open if !has_ports => {
            line(profile, "(allow network*)");
            line(profile, "(allow system-socket)");
            return Ok(());
        }
        // The language knows two hosts: this one and any.
        Network::ProxyOnly(proxy) if !proxy.ip().is_loopback() => {
            let what = "a proxy that is not on this machine";
            return Err(Error::Unsupported { feature: Feature::Grant { what } });
        }
        Network::ProxyOnly(proxy) => outbound(profile, "localhost", proxy.port()),
        Network::Open | Network::Blocked => {}
    }
    for port in caps.tcp_connect_ports() {
        outbound(profile, "*", *port);
    }
    for port in caps.bind_ports() {
        inbound(profile, "*", *port);
    }
    for port in caps.localhost_ports() {
        outbound(profile, "localhost", *port);
        inbound(profile, "localhost", *port);
    }
    for socket in caps.unix_sockets() {
        let kind = if socket.is_directory() { "subpath" } else { "path-literal" };
        let filter = path_filter(kind, socket.resolved())?;
        line(profile, &format!("(allow network-outbound (remote unix-socket {filter}))"));
    }
    Ok(())
}

fn outbound(profile: &mut String, host: &str, port: u16) {
    line(profile, &format!("(allow network-outbound (remote tcp \"{host}:{port}\"))"));
}

fn inbound(profile: &mut String, host: &str, port: u16) {
    line(profile, &format!("(allow network-bind (local tcp \"{host}:{port}\"))"));
    line(profile, &format!("(allow network-inbound (local tcp \"{host}:{port}\"))"));
}

fn line(profile: &mut String, rule: &str) {
    profile.push_str(rule);
    profile.push('\n');
}

fn path_filter(kind: &str, path: &Path) -> Result<String, Error> {
    let what = "a path that is no UTF-8";
    let text = path.to_str().ok_or(Error::Unsupported { feature: Feature::Grant { what } })?;
    Ok(format!("({kind} {})", quote(text)))
}

/// A string of the language: what would end it, or the line, is escaped.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            // Writing to a `String` cannot fail.
            control if control.is_ascii_control() => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}
