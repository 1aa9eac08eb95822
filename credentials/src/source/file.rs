//! `file:///path`: a file that holds the secret and that only its owner may read.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Fault, Fetched, Fetching, Inquiry, Source};
use crate::{Secret, SecretBuf};

/// Larger than any key in use; a bound, so that a wrong path cannot fill memory.
const SIZE_LIMIT: u64 = 64 * 1024;

/// How often a file is read that changes while it is read.
const ATTEMPTS: usize = 8;

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

/// Reads the file at `path`; once more if it changed meanwhile, since half of a key is none.
fn read(path: &Path) -> Result<Secret, Fault> {
    for _ in 0..ATTEMPTS {
        if let Some(secret) = read_once(path)? {
            return Ok(secret);
        }
    }
    Err(Fault::Unavailable("it changed each time it was read; replace it by a rename".into()))
}

/// Reads the file at `path`; `None` when it changed meanwhile.
fn read_once(path: &Path) -> Result<Option<Secret>, Fault> {
    let unavailable = |error: io::Error| Fault::Unavailable(error.to_string());
    // Non-blocking, so that a FIFO at the path is seen by the check below and not waited for.
    let opened = fs::File::options()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Fault::Missing(format!("create {} with mode 600", path.display())));
        }
        Err(error) => return Err(unavailable(error)),
    };
    // The open file is judged, not the path: the path may change meanwhile.
    let metadata = file.metadata().map_err(unavailable)?;
    if let Some(reason) = objection(path, &metadata) {
        return Err(Fault::Unavailable(reason));
    }
    // One byte more than it should have shows whether it has grown.
    let size = usize::try_from(metadata.len()).unwrap_or(0) + 1;
    let mut bytes = SecretBuf::default();
    while bytes.len() < size {
        let most = size - bytes.len();
        match bytes.read_from(&mut file, most) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unavailable(error)),
        }
    }
    let secret = Secret::from(bytes).without_line_ending();
    let after = file.metadata().map_err(unavailable)?;
    let written = |m: &fs::Metadata| (m.len(), m.mtime(), m.mtime_nsec());
    if written(&metadata) != written(&after) {
        return Ok(None);
    }
    if secret.is_empty() {
        let hint = format!("{} is empty; write the secret into it", path.display());
        return Err(Fault::Missing(hint));
    }
    Ok(Some(secret))
}

/// Why a file with this metadata may not serve as a secret's place, if so.
fn objection(path: &Path, metadata: &fs::Metadata) -> Option<String> {
    let path = path.display();
    let me = nix::unistd::geteuid().as_raw();
    if !metadata.is_file() {
        Some("it is not a regular file".into())
    } else if metadata.len() > SIZE_LIMIT {
        Some(format!("it is larger than {SIZE_LIMIT} bytes"))
    } else if metadata.uid() != me && metadata.uid() != 0 {
        Some(format!("it belongs to uid {}; run: chown {me} {path}", metadata.uid()))
    } else if metadata.mode() & 0o077 != 0 {
        Some(format!("others may access it; run: chmod 600 {path}"))
    } else {
        None
    }
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
