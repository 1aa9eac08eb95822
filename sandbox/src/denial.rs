//! What a supervisor has refused: facts, unlike what a program says of itself.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::quoted::quoted;

/// A call of a sandboxed program that its supervisor has refused.
///
/// That it was made is certain. Why it was made is not: a program that wants a grant can make a
/// call to be refused it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Denial {
    /// What was to be done.
    pub action: Action,
    /// To whom, or where.
    pub target: Target,
}

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// To connect to the target.
    Connect,
    /// To serve at the target.
    Bind,
    /// To serve at a port of the kernel's choice, at every address.
    Listen,
    /// To change a file's mode, owner, times or attributes.
    Change,
}

/// What a refused call was about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// A host and port.
    Address(SocketAddr),
    /// A unix socket with a path, as the program says it.
    Path(PathBuf),
    /// A unix socket with a name that is no path.
    Name(Vec<u8>),
    /// Nothing that has an address.
    Other,
}

impl Denial {
    /// The smallest grant that would have let it pass, as a call of a method of
    /// [`CapabilitySet`](crate::CapabilitySet). None if there is none so small, or it depends on
    /// more than is known.
    pub fn smallest_grant(&self) -> Option<String> {
        match (self.action, &self.target) {
            (_, Target::Address(address)) if address.port() == 0 => None,
            (_, Target::Address(address)) if address.ip().to_canonical().is_loopback() => {
                Some(format!("allow_localhost_port({})", address.port()))
            }
            (Action::Connect, Target::Address(address)) => {
                Some(format!("allow_tcp_connect_port({})", address.port()))
            }
            (Action::Bind, Target::Address(address)) => {
                Some(format!("allow_bind_port({})", address.port()))
            }
            (Action::Connect, Target::Path(path)) if path.is_absolute() => {
                Some(format!("allow_unix_socket({})", quoted(path)))
            }
            _ => None,
        }
    }
}

impl Display for Denial {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self.action {
            Action::Connect => "to connect",
            Action::Bind => "to serve",
            Action::Listen => "to serve at a port that was not bound",
            Action::Change => "to change the mode, owner, times or attributes of a file",
        })?;
        let preposition = if self.action == Action::Connect { "to" } else { "at" };
        match &self.target {
            Target::Address(address) => write!(f, " {preposition} {address}")?,
            Target::Path(path) => {
                // As the program says it, which may be anything.
                let path = path.as_os_str().as_encoded_bytes().escape_ascii();
                write!(f, " {preposition} the unix socket {path}")?;
            }
            Target::Name(name) => {
                write!(f, " {preposition} the unix socket @{}", name.escape_ascii())?;
            }
            Target::Other => {}
        }
        f.write_str(" was refused")
    }
}

#[cfg(target_os = "linux")]
pub(crate) use noted::Denials;

#[cfg(target_os = "linux")]
mod noted {
    use std::sync::{Mutex, PoisonError};

    use super::Denial;

    /// How many are kept of one command: its first ones, each once.
    const MOST: usize = 64;

    /// Where a supervisor notes what it refuses.
    #[derive(Debug, Default)]
    pub(crate) struct Denials(Mutex<Vec<Denial>>);

    impl Denials {
        pub(crate) fn note(&self, denial: Denial) {
            let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if noted.len() < MOST && !noted.contains(&denial) {
                noted.push(denial);
            }
        }

        pub(crate) fn take(&self) -> Vec<Denial> {
            std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_grant_is_named() {
        let table = [
            (Action::Connect, "127.0.0.1:80", Some("allow_localhost_port(80)")),
            (Action::Connect, "[::1]:80", Some("allow_localhost_port(80)")),
            (Action::Connect, "192.0.2.1:443", Some("allow_tcp_connect_port(443)")),
            (Action::Bind, "0.0.0.0:80", Some("allow_bind_port(80)")),
            (Action::Bind, "127.0.0.1:80", Some("allow_localhost_port(80)")),
            (Action::Connect, "[::ffff:127.0.0.1]:80", Some("allow_localhost_port(80)")),
            (Action::Bind, "127.0.0.1:0", None),
        ];
        for (action, address, grant) in table {
            let target = Target::Address(address.parse().unwrap());
            assert_eq!(Denial { action, target }.smallest_grant().as_deref(), grant, "{address}");
        }
        let of = |path: &str| {
            let target = Target::Path(path.into());
            Denial { action: Action::Connect, target }.smallest_grant()
        };
        assert_eq!(of("/run/a\"b").as_deref(), Some(r#"allow_unix_socket("/run/a\"b")"#));
        // Nobody knows any more from where.
        assert_eq!(of("a.sock"), None);
    }
}
