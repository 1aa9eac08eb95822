//! A control group (cgroup v2) for a program and all that it starts, where the caller has been
//! given a part of the tree to manage: `delegation.rs` finds that out. There memory and processes
//! are limited for all together, root included, and nothing gets out of reach of an end.
//!
//! Where there is none, every function here says so, and resource limits have to do.

mod delegation;

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, mkdir, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::getpid;

use crate::limits::Limits;
use crate::stdio::beyond_stdio;
use delegation::{Delegation, PREFIX, delegation};

/// `PID_MAX_LIMIT` of the kernel: more is no limit, and refused.
const MOST_PROCESSES: u64 = 4 << 20;

/// A group that has been made for one program. Dropped, it is removed; if something goes on in it,
/// that is tried again by [`remove_left`].
#[derive(Debug)]
pub(crate) struct Group {
    place: Place,
    directory: OwnedFd,
    /// Takes a 1 to kill all that is in the group. None before Linux 5.14.
    kill: Option<OwnedFd>,
    limits_memory: bool,
    limits_processes: bool,
}

/// What a group has used up, as far as it was counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Bytes of memory of all together, at the peak. From Linux 5.19 on.
    pub peak: Option<u64>,
    /// Whether the kernel has killed for want of memory in the group itself.
    pub is_oom_killed: bool,
}

impl Group {
    /// Makes a group that holds a program to `limits`. None where a group would serve no purpose:
    /// nothing is limited that one could limit, and `is_reached` says that the program's end needs
    /// none; or where none can be had.
    pub(crate) fn for_program(limits: &Limits, is_reached: bool) -> Option<Self> {
        let Limits { max_memory_bytes, max_processes, .. } = *limits;
        if max_memory_bytes.is_none() && max_processes.is_none() && is_reached {
            return None;
        }
        let delegation = delegation()?;
        let memory = max_memory_bytes.filter(|_| delegation.has_memory);
        let processes = max_processes.filter(|_| delegation.has_processes);
        if memory.is_none() && processes.is_none() && is_reached {
            return None;
        }
        // What cannot be had after all is limited as if nothing were delegated.
        let mut group = Self::new(&delegation).ok()?;
        group.limit(memory, processes).ok()?;
        (group.limits_memory, group.limits_processes) = (memory.is_some(), processes.is_some());
        Some(group)
    }

    fn new(delegation: &Delegation) -> Result<Self, Errno> {
        let place = Place::make(&delegation.path)?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(rustix::fs::CWD, &place.path, flags)?;
        let kill = open(directory.as_fd(), c"cgroup.kill", OFlags::WRONLY).ok();
        Ok(Self { place, directory, kill, limits_memory: false, limits_processes: false })
    }

    fn limit(&self, memory: Option<u64>, processes: Option<u64>) -> Result<(), Errno> {
        if let Some(bytes) = memory {
            self.write(c"memory.max", &bytes.to_string())?;
            // All or nothing: what is left of a program that lost a part is of no use.
            self.write(c"memory.oom.group", "1")?;
            match self.write(c"memory.swap.max", "0") {
                // The kernel swaps nothing.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(count) = processes {
            self.write(c"pids.max", &count.min(MOST_PROCESSES).to_string())?;
        }
        Ok(())
    }

    /// Whether memory is limited by it.
    pub(crate) fn limits_memory(&self) -> bool {
        self.limits_memory
    }

    /// Whether the number of processes is limited by it.
    pub(crate) fn limits_processes(&self) -> bool {
        self.limits_processes
    }

    /// What it is to the kernel, for a process to begin in it.
    pub(crate) fn number(&self) -> i32 {
        self.directory.as_raw_fd()
    }

    /// Takes a 1 to kill all that is in it.
    pub(crate) fn kill(&self) -> Option<i32> {
        self.kill.as_ref().map(OwnedFd::as_raw_fd)
    }

    /// Kills all that is in it, and tells whether there was a way to.
    pub(crate) fn kill_all(&self) -> bool {
        self.kill.as_ref().is_some_and(|kill| rustix::io::write(kill, b"1").is_ok())
    }

    /// Where it is, for whoever survives the caller to remove it.
    pub(crate) fn path(&self) -> &CString {
        &self.place.path
    }

    /// What it has used up until now. Nothing is known without the controller of memory.
    pub(crate) fn usage(&self) -> Usage {
        if !self.limits_memory {
            return Usage::default();
        }
        let number = |text: String| text.trim_end().parse().ok();
        let events = self.read(c"memory.events").unwrap_or_default();
        Usage {
            peak: self.read(c"memory.peak").and_then(number),
            is_oom_killed: is_oom_killed(&events),
        }
    }

    fn read(&self, name: &CStr) -> Option<String> {
        let file = open(self.directory.as_fd(), name, OFlags::RDONLY).ok()?;
        std::io::read_to_string(std::fs::File::from(file)).ok()
    }

    fn write(&self, name: &CStr, value: &str) -> Result<(), Errno> {
        let file = open(self.directory.as_fd(), name, OFlags::WRONLY)?;
        // The kernel takes such a value whole or not at all.
        rustix::io::write(file, value.as_bytes()).map(drop)
    }
}

/// The directory of a group.
#[derive(Debug)]
struct Place {
    path: CString,
    /// The process that made it. A copy of that one, made by `fork`, has no part in it.
    owner: i32,
}

impl Place {
    fn make(above: &Path) -> Result<Self, Errno> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let owner = own_number();
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = above.join(format!("{PREFIX}{owner}-{number}"));
            let path = CString::new(path.into_os_string().into_vec()).map_err(|_| Errno::INVAL)?;
            match mkdir(&path, Mode::from_raw_mode(0o755)) {
                Ok(()) => return Ok(Self { path, owner }),
                // Left by an earlier process of this number, or made by one of another namespace.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Something may go on running in it, as it was asked to, or end at this moment.
        if self.owner == own_number() && is_in_use(&self.path) {
            leave([(std::mem::take(&mut self.path), self.owner)]);
        }
    }
}

/// Keeps groups for later. The lock is held for a moment only, or for ever: by a thread that was not
/// copied when this process was, by `fork`.
fn leave(groups: impl IntoIterator<Item = (CString, i32)>) {
    const ATTEMPTS: usize = 1000;
    for _ in 0..ATTEMPTS {
        if let Ok(mut left) = LEFT.try_lock() {
            return left.extend(groups);
        }
        std::thread::yield_now();
    }
}

/// Groups that could not be removed, and who has made them.
static LEFT: Mutex<Vec<(CString, i32)>> = Mutex::new(Vec::new());

/// Removes the groups of earlier programs in which nothing goes on any more.
pub(crate) fn remove_left() {
    let Ok(mut left) = LEFT.try_lock() else { return };
    let mut groups = std::mem::take(&mut *left);
    drop(left);
    if !groups.is_empty() {
        let own = own_number();
        groups.retain(|(path, owner)| *owner == own && is_in_use(path));
        leave(groups);
    }
}

/// Removes a group, and tells whether it cannot be because there is something in it.
fn is_in_use(path: &CStr) -> bool {
    let removed = unlinkat(rustix::fs::CWD, path, AtFlags::REMOVEDIR);
    matches!(removed, Err(Errno::BUSY | Errno::NOTEMPTY))
}

fn own_number() -> i32 {
    getpid().as_raw_nonzero().get()
}

fn open(at: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let fd = openat(at, path, flags | OFlags::CLOEXEC, Mode::empty())?;
    beyond_stdio(fd).map_err(|_| Errno::MFILE)
}

/// A value of a file with a name and a number in each line.
fn value(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name)?.1.parse().ok()
}

/// Whether `memory.events` has a group's own limit killed for. What is killed for the limit of a
/// group above, or because the machine has no memory left, is counted as killed as well.
fn is_oom_killed(events: &str) -> bool {
    ["oom", "oom_kill"].iter().all(|name| value(events, name).is_some_and(|count| count > 0))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_value_is_found_by_its_whole_name() {
        let events = "low 0\nhigh 0\nmax 21\noom 2\noom_kill 3\noom_group_kill 1\n";
        assert_eq!(value(events, "oom_kill"), Some(3));
        assert_eq!(value(events, "oom"), Some(2));
        assert_eq!(value(events, "oom_"), None);
        assert_eq!(value("oom_kill\n", "oom_kill"), None);
    }

    #[test]
    fn others_want_of_memory_is_not_the_groups() {
        assert!(is_oom_killed("low 0\nhigh 0\nmax 21\noom 2\noom_kill 3\noom_group_kill 1\n"));
        assert!(!is_oom_killed("low 0\nhigh 0\nmax 0\noom 0\noom_kill 3\noom_group_kill 0\n"));
        // An allocation that may fail fails, and nobody is killed.
        assert!(!is_oom_killed("low 0\nhigh 0\nmax 21\noom 2\noom_kill 0\noom_group_kill 0\n"));
        assert!(!is_oom_killed(""));
    }

    #[test]
    fn what_others_have_left_is_passed_over() {
        let above = tempfile::tempdir().unwrap();
        for number in 0..100 {
            let left = above.path().join(format!("{PREFIX}{}-{number}", own_number()));
            std::fs::create_dir(left).unwrap();
        }
        let place = Place::make(above.path()).unwrap();
        assert!(place.path.to_string_lossy().ends_with("-100"));
    }

    #[test]
    fn what_could_not_be_removed_is_removed_later() {
        let above = tempfile::tempdir().unwrap();
        let place = Place::make(above.path()).unwrap();
        let path = Path::new(OsStr::from_bytes(place.path.to_bytes())).to_owned();
        std::fs::create_dir(path.join("busy")).unwrap();
        drop(place);
        remove_left();
        assert!(path.exists());
        std::fs::remove_dir(path.join("busy")).unwrap();
        // Somebody else may be at it.
        while path.exists() {
            remove_left();
            std::thread::yield_now();
        }
    }

    #[test]
    fn nothing_to_limit_needs_no_group() {
        assert!(Group::for_program(&Limits::default(), true).is_none());
        let limits = Limits { max_cpu_seconds: Some(1), ..Limits::default() };
        assert!(Group::for_program(&limits, true).is_none());
    }
}
