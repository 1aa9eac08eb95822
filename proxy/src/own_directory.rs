//! Directories whose files must be the proxy's own.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

/// Bits of a mode that let others than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Judges the directory, and says where it really is: nobody but its owner may put another file
/// in the place of one in it.
pub(crate) fn check(dir: &Path) -> Result<PathBuf, String> {
    let missing = |error: io::Error| format!("it cannot be used: {error}");
    let real = fs::canonicalize(dir).map_err(missing)?;
    // The open of a FIFO would wait for a writer.
    let opened = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&real);
    let found = opened.and_then(|file| file.metadata()).map_err(missing)?;
    if !found.is_dir() {
        return Err("it is not a directory".into());
    }
    if found.uid() != geteuid().as_raw() {
        return Err(format!(
            "it belongs to user {}, not to the proxy's, {}",
            found.uid(),
            geteuid()
        ));
    }
    if found.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(format!(
            "others can write to it (mode {:04o}); `chmod go-w` it",
            found.mode() & 0o7777
        ));
    }
    Ok(real)
}
