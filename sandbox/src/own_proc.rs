//! Grants beneath `/proc/self`. The name leads everybody to a directory of his own: granted as
//! what it was to the parent, it would show a child the parent's secrets and hide its own.

use std::path::{Path, PathBuf};

/// A path beneath the `/proc` directory of whoever runs, and not of a process by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnPath {
    /// Whether it is beneath `/proc/thread-self`.
    is_thread: bool,
    rest: PathBuf,
}

impl OwnPath {
    /// Recognises a resolved path beneath this process's own directory.
    pub(crate) fn new(resolved: &Path) -> Option<Self> {
        let own = Path::new("/proc").join(std::process::id().to_string());
        let rest = resolved.strip_prefix(own).ok()?;
        let mut parts = rest.components();
        let is_thread =
            parts.next().is_some_and(|part| part.as_os_str() == "task") && parts.next().is_some();
        let rest = if is_thread { parts.as_path() } else { rest };
        Some(Self { is_thread, rest: rest.to_owned() })
    }

    /// The path for a process to say of itself.
    pub(crate) fn of_self(&self) -> PathBuf {
        let own = if self.is_thread { "/proc/thread-self" } else { "/proc/self" };
        Path::new(own).join(&self.rest)
    }

    /// The path for others to say of the first thread of process `pid`.
    pub(crate) fn of(&self, pid: i32) -> PathBuf {
        let pid = pid.to_string();
        let mut path = Path::new("/proc").join(&pid);
        if self.is_thread {
            path.push("task");
            path.push(&pid);
        }
        path.join(&self.rest)
    }
}
