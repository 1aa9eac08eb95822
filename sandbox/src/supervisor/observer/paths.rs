//! Where the paths of somebody else's calls lead: relative to its directories, and with its own
//! `/proc/self`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

use crate::sys::read_memory;

/// Bytes of the longest path, its end included.
const LONGEST: usize = 4096;
/// No page of memory is smaller.
const PAGE: u64 = 4096;

/// Copies the path that `address` of a thread's memory points to.
pub(super) fn read_path(thread: i32, address: u64) -> Option<PathBuf> {
    let mut bytes = Vec::new();
    while bytes.len() < LONGEST {
        let at = address.checked_add(u64::try_from(bytes.len()).ok()?)?;
        // To the end of the page: the next one may not be there.
        let mut part = vec![0; usize::try_from(PAGE - at % PAGE).ok()?];
        let copied = read_memory(thread, at, &mut part).ok()?;
        let part = part.get(..copied).filter(|part| !part.is_empty())?;
        if let Some(end) = part.iter().position(|byte| *byte == 0) {
            bytes.extend(part.iter().take(end));
            return Some(OsString::from_vec(bytes).into());
        }
        bytes.extend(part);
    }
    None
}

/// The absolute path that `path` is for a thread which names it beside a directory: its working
/// directory, or the one that a descriptor is of.
pub(super) fn absolute(thread: i32, directory: Option<i32>, path: &Path) -> PathBuf {
    let own = |place: String| PathBuf::from(format!("/proc/{thread}/{place}"));
    let start = match directory {
        None | Some(libc::AT_FDCWD) => own("cwd".to_owned()),
        Some(number) => own(format!("fd/{number}")),
    };
    let joined = if path.as_os_str().is_empty() { start } else { start.join(path) };
    for (public, place) in [
        ("/proc/self", ""),
        ("/proc/thread-self", ""),
        ("/dev/fd", "fd"),
        ("/dev/stdin", "fd/0"),
        ("/dev/stdout", "fd/1"),
        ("/dev/stderr", "fd/2"),
    ] {
        if let Ok(rest) = joined.strip_prefix(public) {
            return own(place.to_owned()).join(rest);
        }
    }
    joined
}

/// Where an absolute path leads, links followed. The kernel says it of what is opened, since
/// `canonicalize` looks every directory up anew for each part beneath it.
pub(super) fn followed(thread: i32, path: &Path) -> io::Result<PathBuf> {
    let opened = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let place = fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd()))?;
    // A pipe has no path, and what was removed has none any more.
    if !place.is_absolute() {
        return Err(io::ErrorKind::NotFound.into());
    }
    place.symlink_metadata()?;
    Ok(as_own(thread, place))
}

/// Where an absolute path leads, its last part not followed; nothing if there is no directory.
pub(super) fn beside(thread: i32, path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?;
    Some(followed(thread, path.parent()?).ok()?.join(name))
}

/// What is the thread's own beneath `/proc`, or ours where a link has led us there, is its
/// `/proc/self`.
fn as_own(thread: i32, path: PathBuf) -> PathBuf {
    let Ok(rest) = path.strip_prefix("/proc") else { return path };
    let mut parts = rest.components();
    let number = parts.next().and_then(|part| part.as_os_str().to_str()?.parse::<i32>().ok());
    let is_own = number.is_some_and(|number| {
        number == thread
            || i64::from(number) == i64::from(std::process::id())
            || Some(number) == process_of(thread)
    });
    if is_own { Path::new("/proc/self").join(parts.as_path()) } else { path }
}

fn process_of(thread: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}
