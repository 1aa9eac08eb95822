//! Directories whose files must be the proxy's own.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::{getegid, geteuid};

/// Bits of a mode that let others than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The bit of a mode that lets nobody move what others have in the directory.
const STICKY: u32 = 0o1000;

/// Who owns what belongs to nobody in this process's namespace of users.
const OVERFLOW: u32 = 65_534;

/// Judges the directory, and says where it really is: nobody but its owner may put another file
/// in the place of one in it, nor another directory in the place of it or of one above it.
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
    real.ancestors().skip(1).try_for_each(check_above)?;
    Ok(real)
}

/// Judges a directory above it, of which no link is a part.
fn check_above(dir: &Path) -> Result<(), String> {
    let shown = dir.display();
    let found = fs::symlink_metadata(dir)
        .map_err(|error| format!("{shown} above it cannot be judged: {error}"))?;
    let (owner, mode) = (found.uid(), found.mode());
    if owner != 0 && owner != geteuid().as_raw() && !(owner == OVERFLOW && is_unmapped(owner)) {
        return Err(format!(
            "{shown} above it belongs to user {owner}, who could put another in its place"
        ));
    }
    // The process's own group is its user's alone where such modes are usual (umask 002).
    let others = if found.gid() == getegid().as_raw() { 0o002 } else { WRITABLE_BY_OTHERS };
    if mode & others != 0 && mode & STICKY == 0 {
        return Err(format!(
            "others can write to {shown} above it (mode {:04o}), and so put another in its place; \
             `chmod go-w` that",
            mode & 0o7777
        ));
    }
    Ok(())
}

/// Whether nobody in this process's namespace of users is `user`: in one that was made for few, as for
/// a container without privileges, what is root's outside seems to be.
fn is_unmapped(user: u32) -> bool {
    let Ok(map) = fs::read_to_string("/proc/self/uid_map") else { return false };
    let numbers = |line: &str| line.split_whitespace().filter_map(|it| it.parse().ok()).collect();
    !map.lines().any(|line| {
        let numbers: Vec<u32> = numbers(line);
        matches!(numbers[..], [first, _, count] if user >= first && user - first < count)
    })
}
