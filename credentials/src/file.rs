//! `file:///path`: a file that holds the secret and that only its owner may read.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use futures_util::future::BoxFuture;

use crate::source::{Source, off_thread};
use crate::{Error, Locator, Secret};

/// Larger than any key in use; a bound, so that a wrong path cannot fill memory.
const SIZE_LIMIT: u64 = 64 * 1024;

pub(crate) struct File(pub(crate) Locator);

impl Source for File {
    fn fetch(&self) -> BoxFuture<'static, Result<Secret, Error>> {
        let locator = self.0.clone();
        off_thread(locator.clone(), move || read(&locator))
    }
}

fn read(locator: &Locator) -> Result<Secret, Error> {
    let unavailable = |reason: String| Error::Unavailable { locator: locator.clone(), reason };
    let not_found = |hint: String| Error::NotFound { locator: locator.clone(), hint };
    let Locator::File(path) = locator else {
        return Err(unavailable("not file://".into()));
    };

    // Non-blocking, so that a FIFO at the path is seen by the check below and not waited for.
    let opened = fs::File::options()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(not_found(format!("create {} with mode 600", path.display())));
        }
        Err(error) => return Err(unavailable(error.to_string())),
    };
    // The open file is judged, not the path: the path may change meanwhile.
    let metadata = file.metadata().map_err(|error| unavailable(error.to_string()))?;
    if let Some(reason) = objection(path, &metadata) {
        return Err(unavailable(reason));
    }
    let size = usize::try_from(metadata.len()).unwrap_or(0);
    // Room for all of it at once: a growing buffer would leave copies behind.
    let mut bytes = Vec::with_capacity(size + 1);
    let read = Read::by_ref(&mut file).take(SIZE_LIMIT).read_to_end(&mut bytes);
    let secret = Secret::new(bytes).without_line_ending();
    read.map_err(|error| unavailable(error.to_string()))?;
    if secret.is_empty() {
        return Err(not_found(format!("{} is empty; write the secret into it", path.display())));
    }
    Ok(secret)
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

    use super::read;
    use crate::{Error, Locator};

    fn with_mode(content: &str, mode: u32) -> (tempfile::TempDir, Locator) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, Locator::File(path))
    }

    #[test]
    fn a_private_file_is_read_without_its_line_ending() {
        let (_dir, locator) = with_mode("sk-1\n", 0o600);
        assert_eq!(read(&locator).unwrap().expose(), b"sk-1");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_command_to_run() {
        let (_dir, locator) = with_mode("sk-1", 0o644);
        let message = read(&locator).unwrap_err().to_string();
        assert!(message.contains("chmod 600 /"), "{message}");
        assert!(!message.contains("sk-1"));
    }

    #[test]
    fn an_empty_or_missing_file_is_not_found() {
        let (dir, locator) = with_mode("\n", 0o600);
        assert!(matches!(read(&locator), Err(Error::NotFound { .. })));
        let missing = Locator::File(dir.path().join("nothing"));
        assert!(matches!(read(&missing), Err(Error::NotFound { .. })));
    }

    #[test]
    fn a_directory_or_fifo_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [dir.path().to_owned(), fifo] {
            let error = read(&Locator::File(path)).unwrap_err();
            assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        }
    }
}
