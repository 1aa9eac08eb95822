//! A set in words, for people.

use std::fmt::{self, Display, Formatter, Write as _};
use std::iter;
use std::path::Path;

use crate::capability::CapabilitySet;
use crate::quoted::quoted;

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
            format!("  {} [{}] ({kind}{withheld})", shown(grant.resolved()), grant.access())
        });
        let sockets = self.unix_sockets().iter().map(|socket| {
            let kind = if socket.is_directory() { "dir" } else { "socket" };
            format!("  {} [connect] ({kind})", shown(socket.resolved()))
        });
        let denied = self.denied_paths().iter().map(|path| format!("  {}", shown(path.resolved())));
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

/// A path, in quotes if it has what cannot be seen: it could be taken for more than a path, such as
/// for another line.
fn shown(path: &Path) -> String {
    let quoted = quoted(path);
    match quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(plain) if Path::new(plain) == path => plain.to_owned(),
        _ => quoted,
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::capability::Access;

    #[test]
    fn a_path_is_one_line_and_no_more() {
        let place = tempfile::tempdir().unwrap();
        let forged = place.path().join("x\nNetwork:\n  outbound: blocked");
        fs::create_dir(&forged).unwrap();
        let mut caps = CapabilitySet::new();
        caps.allow_path(&forged, Access::Read).unwrap();
        let summary = caps.summary();
        assert_eq!(summary.lines().filter(|line| line.starts_with("Network:")).count(), 1);
        assert!(summary.contains(r"x\x0aNetwork:\x0a  outbound: blocked"), "{summary}");
    }

    #[test]
    fn a_path_that_can_be_seen_is_written_as_it_is() {
        for plain in ["/a b", "/\u{e9}'"] {
            assert_eq!(shown(Path::new(plain)), plain);
        }
        assert_eq!(shown(Path::new("/a\tb\"")), r#""/a\x09b\"""#);
    }
}
