//! Files that hold secrets: regular, small, the caller's own or root's, and closed to all others.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::SecretBuf;

/// Larger than any key in use; a bound, so that a wrong path cannot fill memory.
const SIZE_LIMIT: u64 = 64 * 1024;

/// How often a file is read that changes while it is read.
const ATTEMPTS: usize = 8;

/// Why a file was not read as one that holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum NotPrivate {
    /// It is not there, or cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// It is no place for a secret; says what to do about it.
    #[error("{0}")]
    Unfit(String),
    /// It changed each time it was read.
    #[error("it changed each time it was read; replace it by a rename")]
    Unsteady,
}

/// Reads the file at `path`; once more if it changed meanwhile, since half of a key is none.
///
/// # Errors
/// [`NotPrivate`]; its words show nothing of what is in the file.
pub fn read_private(path: &Path) -> Result<SecretBuf, NotPrivate> {
    for _ in 0..ATTEMPTS {
        if let Some(bytes) = read_once(path)? {
            return Ok(bytes);
        }
    }
    Err(NotPrivate::Unsteady)
}

/// Reads the file at `path`; `None` when it changed meanwhile.
fn read_once(path: &Path) -> Result<Option<SecretBuf>, NotPrivate> {
    // Non-blocking, so that a FIFO at the path is seen by the check below and not waited for.
    let non_blocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let mut file = File::options().read(true).custom_flags(non_blocking).open(path)?;
    // The open file is judged, not the path: the path may change meanwhile.
    let metadata = file.metadata()?;
    if let Some(objection) = objection(path, &metadata) {
        return Err(NotPrivate::Unfit(objection));
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
            Err(error) => return Err(error.into()),
        }
    }
    let written = |m: &Metadata| (m.len(), m.mtime(), m.mtime_nsec());
    Ok((written(&metadata) == written(&file.metadata()?)).then_some(bytes))
}

/// Why a file with this metadata may not serve as a secret's place, if so.
fn objection(path: &Path, metadata: &Metadata) -> Option<String> {
    let (path, me) = (path.display(), nix::unistd::geteuid().as_raw());
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
