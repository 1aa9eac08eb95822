//! What a sandboxed program may use up, and by what the kernel holds it to that.

/// What a sandboxed program may use up. A limit above the parent's own leaves the parent's.
///
/// Where a control group (cgroup v2) is delegated to the caller, memory and processes are limited
/// for the program and all that it starts together. Elsewhere, and for all else, the limits are the
/// kernel's resource limits, which are each process's own (but for `max_processes`): a program that
/// starts ten others may use ten times as much. [`Output::limits`](crate::Output::limits) says which
/// it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Processes and threads, the program's own among them (`pids.max`). Without a control group
    /// it is those of the child's **user**, all of them together (`RLIMIT_NPROC`), to which the
    /// kernel does not hold the machine's root. (Root of a user namespace is held to it.)
    pub max_processes: Option<u64>,
    /// Seconds of processor time of each process; it is killed after that.
    pub max_cpu_seconds: Option<u64>,
    /// Bytes of memory in use, without swap (`memory.max`); beyond that everything is killed, and
    /// [`Output::oom_killed`](crate::Output::oom_killed) says so. Without a control group it is
    /// bytes of address space of each process (`RLIMIT_AS`); it is refused more.
    pub max_memory_bytes: Option<u64>,
    /// Bytes of the largest file a process may write; a write beyond raises `SIGXFSZ`.
    pub max_file_size_bytes: Option<u64>,
    /// Descriptors each process may have.
    pub max_open_files: Option<u64>,
    /// Bytes kept of standard output and of standard error, each. The rest is read and dropped,
    /// so that the program does not block, and [`Output::truncated`](crate::Output::truncated)
    /// says so.
    pub max_output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_processes: None,
            max_cpu_seconds: None,
            max_memory_bytes: None,
            max_file_size_bytes: None,
            max_open_files: None,
            max_output_bytes: 64 << 20,
        }
    }
}

/// By what a limit is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mechanism {
    /// A control group that the program and all that it starts are in.
    ControlGroup,
    /// A resource limit of each process (`setrlimit`), or of the user for `max_processes`.
    ResourceLimit,
    /// A resource limit that the kernel does not apply to the machine's root.
    IgnoredForRoot,
    /// The reading end of the pipe.
    Pipe,
}

impl Mechanism {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ControlGroup => "cgroup",
            Self::ResourceLimit => "rlimit",
            Self::IgnoredForRoot => "ignored for root",
            Self::Pipe => "pipe",
        }
    }
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{enforced, resource_limits};

#[cfg(target_os = "linux")]
mod linux {
    use rustix::process::{Resource, geteuid, getrlimit};

    use super::{Limits, Mechanism};
    use crate::cgroup::Group;
    use crate::sys::{Ids, ResourceLimit};

    /// A limit's name, its number for the kernel, its name for `rustix`, and its value.
    type Row = (&'static str, libc::__rlimit_resource_t, Resource, Option<u64>);

    fn rows(limits: &Limits) -> [Row; 5] {
        let Limits { max_processes, max_cpu_seconds, max_memory_bytes, .. } = *limits;
        let Limits { max_file_size_bytes, max_open_files, .. } = *limits;
        [
            ("max_processes", libc::RLIMIT_NPROC, Resource::Nproc, max_processes),
            ("max_cpu_seconds", libc::RLIMIT_CPU, Resource::Cpu, max_cpu_seconds),
            ("max_memory_bytes", libc::RLIMIT_AS, Resource::As, max_memory_bytes),
            ("max_file_size_bytes", libc::RLIMIT_FSIZE, Resource::Fsize, max_file_size_bytes),
            ("max_open_files", libc::RLIMIT_NOFILE, Resource::Nofile, max_open_files),
        ]
    }

    /// Whether a group holds the program to the limit of this name.
    fn limits_by(group: Option<&Group>, name: &str) -> bool {
        group.is_some_and(|group| match name {
            "max_memory_bytes" => group.limits_memory(),
            "max_processes" => group.limits_processes(),
            _ => false,
        })
    }

    /// The limits as the kernel takes them: never above what the parent has, which an ordinary
    /// user could not set anyway.
    pub(crate) fn resource_limits(limits: &Limits, group: Option<&Group>) -> Vec<ResourceLimit> {
        let limit = |(_, resource, which, value): Row| {
            let value = value?;
            let most = getrlimit(which).maximum.unwrap_or(u64::MAX);
            Some(ResourceLimit { resource, value: value.min(most) })
        };
        let rows = rows(limits).into_iter().filter(|(name, ..)| !limits_by(group, name));
        rows.filter_map(limit).collect()
    }

    /// Whether a user is root to the kernel: not to a namespace alone.
    fn is_machines_root(uid: u32) -> bool {
        let map = std::fs::read_to_string("/proc/self/uid_map");
        // Of a namespace within one it tells what the user is in the outer one: that its root is
        // held to a limit may stay unknown, not the other way around.
        outside(uid, &map.unwrap_or_default()).unwrap_or(uid) == 0
    }

    /// Who a user is outside of the namespace that has this map (`user_namespaces(7)`).
    fn outside(uid: u32, map: &str) -> Option<u32> {
        map.lines().find_map(|line| {
            let mut numbers = line.split_ascii_whitespace().map_while(|text| text.parse().ok());
            let (inside, outside, count): (u32, u32, u32) =
                (numbers.next()?, numbers.next()?, numbers.next()?);
            let offset = uid.checked_sub(inside).filter(|offset| *offset < count)?;
            outside.checked_add(offset)
        })
    }

    /// By what each limit that was asked for is enforced.
    pub(crate) fn enforced(
        limits: &Limits,
        ids: Option<Ids>,
        group: Option<&Group>,
    ) -> Vec<(&'static str, Mechanism)> {
        let uid = ids.map_or_else(|| geteuid().as_raw(), |ids| ids.uid);
        let asked = rows(limits).into_iter().filter(|(.., value)| value.is_some());
        let mechanism = |name| match name {
            _ if limits_by(group, name) => Mechanism::ControlGroup,
            "max_processes" if is_machines_root(uid) => Mechanism::IgnoredForRoot,
            _ => Mechanism::ResourceLimit,
        };
        asked
            .map(|(name, ..)| (name, mechanism(name)))
            .chain([("max_output_bytes", Mechanism::Pipe)])
            .collect()
    }

    #[cfg(test)]
    mod tests {
        use super::outside;

        #[test]
        fn root_of_a_namespace_is_whoever_it_is_outside() {
            let machine = "         0          0 4294967295\n";
            assert_eq!([0, 1000].map(|uid| outside(uid, machine)), [Some(0), Some(1000)]);
            let single = "         0       1000          1\n";
            assert_eq!([0, 1].map(|uid| outside(uid, single)), [Some(1000), None]);
            let swapped = "0 1000 1\n1 100000 999\n1000 0 1\n";
            let users = [0, 2, 1000].map(|uid| outside(uid, swapped));
            assert_eq!(users, [Some(1000), Some(100_001), Some(0)]);
        }
    }
}
