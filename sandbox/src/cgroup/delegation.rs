//! Finds the part of the control group tree that the caller may manage.
//!
//! Being able to write there is not enough: root can everywhere, and whoever manages the tree takes
//! it ill if somebody else does. A part is the caller's if its manager has marked it so, as systemd
//! does (`Delegate=yes`); if it belongs to the caller's user, who is not root; or if nothing is
//! above it, as in a container with a tree of its own.

use std::ffi::OsString;
use std::fs::read_to_string;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::{Mode, getxattr, mkdir};
use rustix::io::Errno;
use rustix::process::{geteuid, getpid};

use crate::sys;

/// What the names of groups made for programs begin with; the number of who made it follows.
pub(super) const PREFIX: &str = "nono-";
/// Where the caller goes if its own group is to be divided: processes are in leaves only.
const CALLER: &str = "nono-caller";
/// The controllers that a group gives to those in it.
const CONTROL: &str = "cgroup.subtree_control";
/// What systemd marks with: root's own, and any user's.
const MARKS: [&str; 2] = ["trusted.delegate", "user.delegate"];

/// A group in which others can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delegation {
    pub path: PathBuf,
    /// Whether memory can be limited in those.
    pub has_memory: bool,
    /// Whether the number of processes can be.
    pub has_processes: bool,
}

/// The caller's. Found once: a process is seldom moved, and a group that can no longer be used is
/// noticed by whoever makes one in it.
pub(super) fn delegation() -> Option<Delegation> {
    static FOUND: OnceLock<Option<Delegation>> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return found.clone();
    }
    let _turn = Turn::take();
    // Whoever had the turn before may have found it.
    if let Some(found) = FOUND.get() {
        return found.clone();
    }
    let place = find();
    let divided = place.as_ref().map(|place| divide(&place.path, place.is_own));
    // Others that are in the caller's group now may have ended by the next time.
    if let Some(Site { path, .. }) = &place {
        remove_left(path);
    }
    let is_settled = !matches!(divided, Some(Err(Errno::BUSY)));
    let [has_memory, has_processes] = divided.and_then(Result::ok).unwrap_or_default();
    let found = place.map(|Site { path, .. }| Delegation { path, has_memory, has_processes });
    if is_settled {
        let _ = FOUND.set(found.clone());
    }
    found
}

/// The turn of the one thread that looks for the caller's group: it may move the caller, and who
/// looks meanwhile would find neither the one place nor the other.
///
/// No lock of the library's: in a copy of the process that `fork` makes meanwhile nobody would open
/// it. There the turn is of another process, and can be taken.
struct Turn;

/// The process whose turn it is; zero for nobody's.
static TURN: AtomicI32 = AtomicI32::new(0);

impl Turn {
    fn take() -> Self {
        let own = getpid().as_raw_nonzero().get();
        let mut whose = 0;
        while let Err(other) =
            TURN.compare_exchange(whose, own, Ordering::Acquire, Ordering::Relaxed)
        {
            // It is some milliseconds, and once in a process.
            std::thread::yield_now();
            whose = if other == own { 0 } else { other };
        }
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TURN.store(0, Ordering::Release);
    }
}

/// A group that the caller may manage.
struct Site {
    path: PathBuf,
    /// Whether the caller is in it.
    is_own: bool,
}

fn find() -> Option<Site> {
    if !sys::can_begin_in_group() {
        return None;
    }
    // Others may have given groups and mounts any name; the caller's own is text.
    let lines = |path| std::fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned());
    let (own, mounts) = (lines("/proc/self/cgroup").ok()?, lines("/proc/self/mountinfo").ok()?);
    let Place { path, is_top, is_aside } = locate(&own, &mounts)?;
    if is_top || is_marked(&path) || is_users(&path) {
        return Some(Site { path, is_own: !is_aside });
    }
    // A service may be put into a leaf of what is delegated to it (`DelegateSubgroup=`).
    let above = path.parent().filter(|above| !is_aside && is_marked(above))?;
    Some(Site { path: above.to_owned(), is_own: false })
}

/// Gives the controllers of memory and processes to the groups in this one, as far as they can be
/// had, and tells which those are.
///
/// # Errors
///
/// `EBUSY` if other processes are in it: one that gives controllers has none of its own.
fn divide(path: &Path, is_own: bool) -> Result<[bool; 2], Errno> {
    let wanted = ["memory", "pids"];
    let has = |file: &str| {
        let names = read_to_string(path.join(file)).unwrap_or_default();
        wanted.map(|controller| names.split_whitespace().any(|name| name == controller))
    };
    let (available, given) = (has("cgroup.controllers"), has(CONTROL));
    if available == given {
        return Ok(given);
    }
    // The root of the tree may have both, and is the only group without a type.
    if path.join("cgroup.type").exists() && has_processes(path) {
        if !is_own || !is_alone(path) {
            return Err(Errno::BUSY);
        }
        step_aside(path)?;
    }
    for controller in wanted {
        // What cannot be had is missing from the list.
        let _ = write(&path.join(CONTROL), &format!("+{controller}"));
    }
    Ok(has(CONTROL))
}

/// Removes the groups of callers that have ended while something went on in them, if it has ended
/// too.
fn remove_left(path: &Path) {
    let Ok(entries) = path.read_dir() else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        let owner = owner.filter(|owner| owner.parse::<u32>().is_ok());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            // Fails while there is anything in it.
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

fn has_processes(path: &Path) -> bool {
    // If in doubt there are some.
    read_to_string(path.join("cgroup.procs")).map_or(true, |processes| !processes.is_empty())
}

/// Whether the caller is the only process of a group.
fn is_alone(path: &Path) -> bool {
    let own = getpid().as_raw_nonzero().to_string();
    read_to_string(path.join("cgroup.procs")).is_ok_and(|processes| processes.trim_end() == own)
}

/// Moves the caller, and nobody else, out of a group that is to be divided into a leaf of it.
fn step_aside(path: &Path) -> Result<(), Errno> {
    let leaf = path.join(CALLER);
    match mkdir(&leaf, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    write(&leaf.join("cgroup.procs"), &getpid().as_raw_nonzero().to_string())
}

fn write(path: &Path, value: &str) -> Result<(), Errno> {
    let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    std::fs::write(path, value).map_err(failed)
}

fn is_marked(path: &Path) -> bool {
    let mut value = [0; 2];
    MARKS.iter().any(|mark| {
        let length = getxattr(path, *mark, &mut value).unwrap_or(0);
        value.get(..length) == Some(b"1")
    })
}

fn is_users(path: &Path) -> bool {
    let user = geteuid();
    !user.is_root() && path.metadata().is_ok_and(|group| group.uid() == user.as_raw())
}

/// Where a process is in the tree.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    /// Whether nothing that the process could see is above.
    is_top: bool,
    /// Whether the process is in the leaf to which a caller has stepped aside: itself, or whoever
    /// started it. The path is then of the group that was divided.
    is_aside: bool,
}

/// Finds the directory of a process's group, by its `/proc/self/cgroup` and the mounts that it
/// sees.
fn locate(own: &str, mounts: &str) -> Option<Place> {
    let own = Path::new(own.lines().find_map(|line| line.strip_prefix("0::"))?);
    mounts.lines().filter_map(mount).find_map(|(root, point)| {
        // One outside of what is mounted begins with `/..`, or elsewhere.
        let rest = own.strip_prefix(&root).ok()?;
        let is_inside = !rest.components().any(|part| part.as_os_str() == "..");
        let is_aside = rest.ends_with(CALLER);
        let rest = rest.parent().filter(|_| is_aside).unwrap_or(rest);
        let is_top = rest.as_os_str().is_empty();
        let path = if is_top { point } else { point.join(rest) };
        is_inside.then_some(Place { path, is_top, is_aside })
    })
}

/// What a line of `/proc/self/mountinfo` has mounted and where, if that is a tree of control
/// groups.
fn mount(line: &str) -> Option<(PathBuf, PathBuf)> {
    let (mount, source) = line.split_once(" - ")?;
    source.starts_with("cgroup2 ").then_some(())?;
    let mut fields = mount.split(' ').skip(3).map(unescape);
    Some((fields.next()?, fields.next()?))
}

/// Reads blanks and the like, which stand there as a backslash and three octal digits.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\')
            .then(|| std::str::from_utf8(after.get(..3)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "9:name=systemd:/\n4:memory:/a\n0::/user.slice/run-7.scope\n";
    const MOUNTS: &str = "\
        25 20 0:22 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        31 20 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn place(own: &str, mounts: &str) -> Option<(String, bool)> {
        let Place { path, is_top, .. } = locate(own, mounts)?;
        Some((path.to_str()?.to_owned(), is_top))
    }

    #[test]
    fn a_process_is_found_in_the_second_version_of_the_tree() {
        let found = place(HYBRID, MOUNTS);
        assert_eq!(found, Some(("/sys/fs/cgroup/user.slice/run-7.scope".to_owned(), false)));
        assert_eq!(place("0::/\n", MOUNTS), Some(("/sys/fs/cgroup".to_owned(), true)));
        // Neither without a membership nor without a mount.
        assert_eq!(place("4:memory:/a\n", MOUNTS), None);
        assert_eq!(place(HYBRID, MOUNTS.lines().next().unwrap()), None);
        assert_eq!(place("", ""), None);
    }

    #[test]
    fn a_mount_can_show_a_part_of_the_tree() {
        let mounts = "31 20 0:27 /docker/c1 /my\\040groups rw - cgroup2 cgroup2 rw\n";
        assert_eq!(place("0::/docker/c1/x\n", mounts), Some(("/my groups/x".to_owned(), false)));
        assert_eq!(place("0::/docker/c1\n", mounts), Some(("/my groups".to_owned(), true)));
        for outside in ["0::/docker/c2\n", "0::/docker/c12\n", "0::/../c1\n"] {
            assert_eq!(place(outside, mounts), None, "{outside}");
        }
        assert_eq!(place("0::/../other\n", MOUNTS), None);
    }

    #[test]
    fn who_has_stepped_aside_is_of_the_group_that_was_divided() {
        for (own, path, is_top) in [
            ("0::/nono-caller\n", "/sys/fs/cgroup", true),
            ("0::/a.service/nono-caller\n", "/sys/fs/cgroup/a.service", false),
        ] {
            let path = PathBuf::from(path);
            assert_eq!(locate(own, MOUNTS), Some(Place { path, is_top, is_aside: true }));
        }
        let path = PathBuf::from("/sys/fs/cgroup/nono-caller/x");
        let other = Place { path, is_top: false, is_aside: false };
        assert_eq!(locate("0::/nono-caller/x\n", MOUNTS), Some(other));
    }

    #[test]
    fn a_turn_is_one_threads_and_not_that_of_a_copied_process() {
        // As if the process had been copied while somebody had it.
        TURN.store(-1, Ordering::Relaxed);
        let inside = AtomicI32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let _turn = Turn::take();
                        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::Relaxed);
                    }
                });
            }
        });
    }

    #[test]
    fn escapes_are_read_and_all_else_is_left() {
        for (escaped, plain) in
            [("/a\\040b", "/a b"), ("/a\\134", "/a\\"), ("/\\9x", "/\\9x"), ("/a\\", "/a\\")]
        {
            assert_eq!(unescape(escaped), PathBuf::from(plain));
        }
    }
}
