//! `file:///path`: a file that holds the secret and that only its owner may read.

use std::io;
use std::path::{Path, PathBuf};

use super::{Fault, Fetched, Fetching, Inquiry, Source};
use crate::Secret;
use crate::private::{self, NotPrivate};

/// What some editors put before a text in UTF-8. It would be sent, and nobody would see why the key
/// is refused.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// See the module.
pub(super) struct KeyFile(pub(super) PathBuf);

impl Source for KeyFile {
    fn fetch<'a>(&'a self, inquiry: &'a Inquiry) -> Fetching<'a> {
        let path = self.0.clone();
        Box::pin(inquiry.off_thread(move || read(&path).map(Fetched::from)))
    }

    fn file(&self) -> Option<&Path> {
        Some(&self.0)
    }
}

/// Reads the secret in the file at `path`.
fn read(path: &Path) -> Result<Secret, Fault> {
    let secret = match private::read_private(path) {
        Ok(bytes) => Secret::from(bytes).without_line_ending(),
        Err(NotPrivate::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Fault::Missing(format!("create {} with mode 600", path.display())));
        }
        Err(other) => return Err(Fault::Unavailable(other.to_string())),
    };
    if secret.expose().starts_with(BYTE_ORDER_MARK) {
        let reason = "it begins with a byte order mark, which is no part of a key; save it without";
        return Err(Fault::Unavailable(reason.into()));
    }
    if secret.is_empty() {
        let hint = format!("{} is empty; write the secret into it", path.display());
        return Err(Fault::Missing(hint));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::{Fault, read};

    fn with_mode(content: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_private_file_is_read_without_its_line_ending() {
        let (_dir, path) = with_mode("sk-1\n", 0o600);
        assert_eq!(read(&path).unwrap().expose(), b"sk-1");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_command_to_run() {
        let (_dir, path) = with_mode("sk-1", 0o644);
        let Err(Fault::Unavailable(message)) = read(&path) else { panic!("it was taken") };
        assert!(message.contains("chmod 600 /"), "{message}");
        assert!(!message.contains("sk-1"));
    }

    #[test]
    fn a_byte_order_mark_is_told_of_and_not_sent() {
        let (_dir, path) = with_mode("\u{feff}sk-1\n", 0o600);
        let Err(Fault::Unavailable(message)) = read(&path) else { panic!("it was taken") };
        assert!(message.contains("byte order mark"), "{message}");
    }

    #[test]
    fn an_empty_or_missing_file_is_not_found() {
        let (dir, path) = with_mode("\n", 0o600);
        assert!(matches!(read(&path), Err(Fault::Missing(_))));
        let missing = dir.path().join("nothing");
        assert!(matches!(read(&missing), Err(Fault::Missing(_))));
    }

    #[test]
    fn a_directory_or_fifo_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [dir.path().to_owned(), fifo] {
            assert!(matches!(read(&path), Err(Fault::Unavailable(_))), "{}", path.display());
        }
    }
}
