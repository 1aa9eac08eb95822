//! A set in words, for people.

use std::fmt::{self, Display, Formatter, Write as _};
use std::iter;

use crate::capability::CapabilitySet;

impl CapabilitySet {
    /// All that is granted and denied, one a line. No newline at the end.
    pub fn summary(&self) -> String {
        let files = self.fs_capabilities().iter().map(|grant| {
            let kind = if grant.is_file() { "file" } else { "dir" };
            let withheld = if grant.access().is_read() && !grant.is_executable() {
                ", not executable"
            } else {
                ""
            };
            format!("  {} [{}] ({kind}{withheld})", grant.resolved().display(), grant.access())
        });
        let sockets = self.unix_sockets().iter().map(|socket| {
            let kind = if socket.is_directory() { "dir" } else { "socket" };
            format!("  {} [connect] ({kind})", socket.resolved().display())
        });
        let denied =
            self.denied_paths().iter().map(|path| format!("  {}", path.resolved().display()));
        let ports = [
            ("tcp connect ports", self.tcp_connect_ports()),
            ("tcp bind ports", self.bind_ports()),
            ("localhost ports", self.localhost_ports()),
        ];
        let ports = ports
            .into_iter()
            .filter(|(_, ports)| !ports.is_empty())
            .map(|(what, ports)| format!("  {what}: {}", join(ports)));
        let network = iter::once(format!("  outbound: {}", self.network())).chain(ports);

        let mut text = String::new();
        if self.fs_capabilities().is_empty() && self.unix_sockets().is_empty() {
            text.push_str("(no capabilities granted)\n");
        }
        block(&mut text, "Filesystem:", files);
        block(&mut text, "Unix sockets:", sockets);
        block(&mut text, "Denied:", denied);
        block(&mut text, "Network:", network);
        text.pop();
        text
    }
}

/// A heading with its lines, if there are any.
fn block(text: &mut String, heading: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        for line in iter::once(heading.to_owned()).chain(lines) {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "{line}");
        }
    }
}

fn join(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

impl Display for CapabilitySet {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "CapabilitySet(fs={}, network={})", self.fs_capabilities().len(), self.network())
    }
}
