//! Follows the paths of somebody else's calls, name by name. The kernel would follow them for us:
//! `/proc/self`, and a descriptor's name beneath it, would lead to what is ours. Nothing here takes
//! memory from the allocator: see `mod.rs`.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use arrayvec::ArrayVec;
use rustix::fs::{FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, open, openat};
use rustix::io::Errno;

use super::proc::{HANDLE, Name, PATH, Place, number, process_of};

/// Links that are followed one after the other before it is taken for a loop, as in the kernel.
const MOST_LINKS: usize = 40;
/// Bytes of the longest name of a file.
const LONGEST: usize = 255;
/// Room for a path, and for what links put in front of its rest.
const ROOM: usize = 2 * PATH;

/// Takes hold of the file that `path` is for a thread, from the directory that `start` leads to. A
/// link at the end is followed if `to_end` says so. The thread has our root: none of its calls can
/// change that. What it names of its own process beneath `/proc` is its own, and what another
/// process has open is not reached by a name there.
///
/// What was reached is the thread's only if it still waits when all is done.
pub(super) fn follow(
    thread: i32,
    start: &CStr,
    path: &CStr,
    to_end: bool,
) -> Result<OwnedFd, Errno> {
    let path = path.to_bytes();
    let is_absolute = |path: &[u8]| path.starts_with(b"/");
    let mut ahead = Ahead::new();
    ahead.put(path)?;
    let mut at = match path {
        [] => return Err(Errno::NOENT),
        _ if is_absolute(path) => root()?,
        _ => open(start, HANDLE, Mode::empty())?,
    };
    let mut links = 0;
    while let Some(name) = ahead.next()? {
        let next = openat(&at, &*name, HANDLE | OFlags::NOFOLLOW, Mode::empty())?;
        let is_link = FileType::from_raw_mode(fstat(&next)?.st_mode) == FileType::Symlink;
        if !is_link || ahead.is_empty() && !to_end {
            at = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(Errno::LOOP);
        }
        match text(thread, &next)? {
            Some(text) => {
                ahead.put(text.bytes())?;
                if is_absolute(text.bytes()) {
                    at = root()?;
                }
            }
            None => at = openat(&at, &*name, HANDLE, Mode::empty())?,
        }
    }
    Ok(at)
}

fn root() -> Result<OwnedFd, Errno> {
    open(c"/", HANDLE, Mode::empty())
}

/// The path that a link is for a thread. None for one of its own that has none: that leads to
/// something which the thread has open, wherever that is.
fn text(thread: i32, link: &OwnedFd) -> Result<Option<Place>, Errno> {
    let plain = || Place::at(link, c"").map(Some);
    if fstatfs(link)?.f_type != PROC_SUPER_MAGIC {
        return plain();
    }
    let name = Place::of(&Name::of_own(link))?;
    // Where another process has its `/proc` it is not ours.
    let beneath = name.bytes().strip_prefix(b"/proc/").ok_or(Errno::ACCESS)?;
    let process = process_of(thread)?;
    let mut parts = beneath.splitn(2, |byte| *byte == b'/');
    match (parts.next().unwrap_or_default(), parts.next()) {
        (b"self", None) => Ok(Some(Place::new(format_args!("{process}")))),
        (b"thread-self", None) => Ok(Some(Place::new(format_args!("{process}/task/{thread}")))),
        // Such as `/proc/mounts`, which leads on to `self`.
        (_, None) => plain(),
        (first, Some(_)) => {
            let owner = number(Some(first), 10).and_then(|owner| i32::try_from(owner).ok());
            let is_own = owner.is_some_and(|owner| [process, thread].contains(&owner));
            if is_own { Ok(None) } else { Err(Errno::ACCESS) }
        }
    }
}

/// What of a path is still to be followed.
struct Ahead {
    bytes: [u8; ROOM],
    start: usize,
}

impl Ahead {
    fn new() -> Self {
        Self { bytes: [0; ROOM], start: ROOM }
    }

    /// Puts a path in front. What is there already begins with a slash.
    fn put(&mut self, path: &[u8]) -> Result<(), Errno> {
        let start = self.start.checked_sub(path.len()).ok_or(Errno::NAMETOOLONG)?;
        let place = self.bytes.get_mut(start..self.start).unwrap_or_default();
        place.copy_from_slice(path);
        self.start = start;
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.start == ROOM
    }

    /// Takes the next name.
    fn next(&mut self) -> Result<Option<ArrayVec<u8, LONGEST>>, Errno> {
        let rest = self.bytes.get(self.start..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let slashes = rest.iter().take_while(|byte| **byte == b'/').count();
        let mut names = rest.get(slashes..).unwrap_or_default().split(|byte| *byte == b'/');
        let name = names.next().unwrap_or_default();
        self.start += slashes + name.len();
        // What ends with a slash is a directory.
        let name = if name.is_empty() { b"." } else { name };
        ArrayVec::try_from(name).map(Some).map_err(|_| Errno::NAMETOOLONG)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::super::proc::is_same;
    use super::*;

    fn thread() -> i32 {
        rustix::thread::gettid().as_raw_nonzero().get()
    }

    fn reach(start: &Path, path: &str, to_end: bool) -> Result<OwnedFd, Errno> {
        let start = CString::new(start.as_os_str().as_bytes()).unwrap();
        follow(thread(), &start, &CString::new(path).unwrap(), to_end)
    }

    /// Every path leads where the kernel says, or to the kernel's error.
    #[test]
    fn paths_lead_where_the_kernel_follows_them() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path();
        fs::create_dir_all(place.join("a/b")).unwrap();
        fs::write(place.join("a/b/file"), "x").unwrap();
        let long = "n".repeat(256);
        for (name, target) in [
            ("link", "a/b"),
            ("slashed", "a/b/"),
            ("up", "a/b/../.."),
            ("absolute", place.join("a").to_str().unwrap()),
            ("loop", "loop"),
            ("dangling", "nowhere"),
            ("chain", "link/file"),
            ("mounts", "/proc/mounts"),
        ] {
            symlink(target, place.join(name)).unwrap();
        }
        for path in [
            ".",
            "./",
            "..",
            "/",
            "//",
            "///usr//bin/",
            "a",
            "a/",
            "a/b/file",
            "a/b/file/",
            "a//b/./file",
            "link",
            "link/",
            "link/file",
            "link/../b/file",
            "slashed",
            "slashed/file",
            "up",
            "up/a",
            "absolute/b/file",
            "loop",
            "loop/x",
            "dangling",
            "dangling/",
            "chain",
            "chain/",
            "nowhere",
            "nowhere/x",
            "a/b/file/x",
            "",
            "mounts",
            "/../usr",
            "../../../../../../usr",
            &long,
            "/proc/self/cwd",
            "/proc/self/cwd/..",
            "/proc/self/root/usr",
            "/proc/thread-self/cwd",
            "/proc/self/exe",
            "/proc/self",
            "/dev/fd/0",
            "/proc/net",
            "/proc/self/exe/",
            "/proc/self/nothing",
        ] {
            for to_end in [true, false] {
                let flags = if to_end { HANDLE } else { HANDLE | OFlags::NOFOLLOW };
                let base = open(place, HANDLE, Mode::empty()).unwrap();
                let expected = openat(base, path, flags, Mode::empty());
                match (reach(place, path, to_end), expected) {
                    (Ok(reached), Ok(expected)) => {
                        assert!(is_same(reached, &fstat(expected).unwrap()), "{path} {to_end}");
                    }
                    (reached, expected) => {
                        assert_eq!(reached.err(), expected.err(), "{path} {to_end}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_another_process_has_open_is_not_reached() {
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero();
        let dir = tempfile::tempdir().unwrap();
        symlink(format!("/proc/{parent}/cwd"), dir.path().join("link")).unwrap();
        let direct = format!("/proc/{parent}/cwd");
        for path in [direct.as_str(), "link", "link/x", &format!("/proc/{parent}/fd/0")] {
            assert_eq!(reach(dir.path(), path, true).unwrap_err(), Errno::ACCESS, "{path}");
        }
    }

    /// More than the kernel would take of a path at once can lie ahead, and still there is an end.
    #[test]
    fn links_do_not_outgrow_their_room() {
        let dir = tempfile::tempdir().unwrap();
        let long = "/.".repeat(2040);
        symlink(".", dir.path().join("here")).unwrap();
        symlink(format!("here{long}"), dir.path().join("first")).unwrap();
        symlink(format!("first{long}"), dir.path().join("second")).unwrap();
        let reach = |path: &str| reach(dir.path(), &format!("{path}{long}"), true).err();
        assert_eq!(reach("first"), None);
        assert_eq!(reach("second"), Some(Errno::NAMETOOLONG));
    }
}
