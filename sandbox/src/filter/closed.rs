//! Calls that no sandboxed process has, root's or not: each is a way around the rules, or a large
//! part of the kernel that programs do without.

use super::Rules;
use super::rule::{agrees, has_any, is, is_not, is_there};

/// Closed whatever their arguments are.
const ALWAYS: &[i64] = &[
    // What there is beneath a path, and where paths begin.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    OPEN_TREE_ATTR,
    libc::SYS_setns,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    // Files by number and not by path; the goings-on at files of all paths.
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // The kernel itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_syslog,
    libc::SYS_acct,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    // The machine's clock and names, and the terminal's line.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    // The kernel's store of keys belongs to the user and may hold his passwords.
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    // A ring opens files, makes sockets and sends without any call that a filter could see.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Memory of other processes.
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    // Shared memory, semaphores and message queues of the System V kind, which are all of the
    // user's: they are had by number, and no path is judged. Whoever has them attached already may
    // detach them (`shmdt`).
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    // Those of the POSIX kind: Landlock judges the opening, when one that was not there is made
    // already, and not the removing.
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
];

/// `open_tree_attr`, younger than `libc`'s table.
const OPEN_TREE_ATTR: i64 = 467;

/// `CLONE_NEW` flags: namespaces, in which a user has root's rights over much of the kernel.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;
/// `CLONE_NEWTIME`; in the flags of `clone` the bit is part of a signal's number.
const NEW_TIME: libc::c_int = 0x80;

/// `asm-generic/ioctls.h`.
const TIOCSTI: libc::c_int = 0x5412;
const TIOCLINUX: libc::c_int = 0x541C;
const TIOCSCTTY: libc::c_int = 0x540E;

/// Requests that change files, or make and remove them, by a descriptor that may only be read: the
/// kernel asks for the file's owner, and neither Landlock nor how it was opened. From `linux/fs.h`,
/// `fsverity.h`, `fscrypt.h`, `msdos_fs.h`, `btrfs.h` and `f2fs.h`, and `fs/ext4/ext4.h`.
const FILE_REQUESTS: [u32; 10] = [
    // FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR, FS_IOC_SETVERSION, EXT4_IOC_SETVERSION: what `chattr` sets.
    0x4008_6602,
    0x401C_5820,
    0x4008_7602,
    0x4008_6604,
    // FS_IOC_ENABLE_VERITY.
    0x4080_6685,
    // FS_IOC_SET_ENCRYPTION_POLICY, FS_IOC_REMOVE_ENCRYPTION_KEY: for all who use it.
    0x800C_6613,
    0xC040_6618,
    // FAT_IOCTL_SET_ATTRIBUTES.
    0x4004_7211,
    // BTRFS_IOC_SUBVOL_SETFLAGS, BTRFS_IOC_SET_RECEIVED_SUBVOL.
    0x4008_941A,
    0xC0C8_9425,
];
/// Groups of such requests. In the low byte is which one it is.
const GROUPS: [u32; 2] = [
    // Those of btrfs that are about something by its name: they make and remove subvolumes, or need
    // privileges.
    0x5000_9400,
    // Those of f2fs without an argument: atomic writes, which truncate a file, are begun and ended by
    // them. The others of these need privileges or a file to be written, or are of no account.
    0x0000_F500,
];
const BUT_WHICH: u32 = 0xFFFF_FF00;

/// Bits of a mode that lend a program its file's user and group.
const SET_IDS: libc::c_int = 0o6000;

/// Calls by number that the kernel is made to look too old for: their arguments are in memory,
/// where a filter sees nothing, and programs know how to do without them.
pub(super) const UNKNOWN: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_openat2,
    // What happens at files that were not granted, names included: Landlock does not judge it, and
    // the path to watch is in memory too. Programs poll where there is none of it.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_inotify_init,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
];

/// Calls that change a file's owner, mode, times and attributes, which Landlock does not judge.
/// They are closed where no file can be written.
pub(super) const METADATA: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    SETXATTRAT,
    REMOVEXATTRAT,
    FILE_SETATTR,
];
/// Younger than some of `libc`'s tables; from here on numbers are the same everywhere.
pub(crate) const FCHMODAT2: i64 = 452;
const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;
const FILE_SETATTR: i64 = 469;

pub(super) fn add_metadata(rules: &mut Rules) {
    for call in METADATA {
        rules.insert(*call, Vec::new());
    }
}

pub(super) fn add(rules: &mut Rules) {
    for call in ALWAYS {
        rules.insert(*call, Vec::new());
    }
    requests(rules);
    namespaces(rules);
    other_processes(rules);
    set_ids(rules);
}

fn namespaces(rules: &mut Rules) {
    rules.insert(libc::SYS_clone, vec![vec![has_any(0, NAMESPACES)]]);
    rules.insert(libc::SYS_unshare, vec![vec![has_any(0, NAMESPACES | NEW_TIME)]]);
}

/// Limits, priorities, processors and memory of other processes stay as they are. Landlock does
/// not judge these calls and the kernel allows them among processes of one user. Those on the
/// calling thread itself (identifier zero) pass.
fn other_processes(rules: &mut Rules) {
    // Setting limits, not reading them.
    rules.insert(libc::SYS_prlimit64, vec![vec![is_not(0, 0), is_there(2)]]);
    for call in [
        libc::SYS_sched_setaffinity,
        libc::SYS_sched_setattr,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setscheduler,
        libc::SYS_migrate_pages,
        libc::SYS_move_pages,
    ] {
        rules.insert(call, vec![vec![is_not(0, 0)]]);
    }
    let process = [
        (libc::SYS_setpriority, libc::PRIO_PROCESS.cast_signed()),
        // `IOPRIO_WHO_PROCESS` of `linux/ioprio.h`.
        (libc::SYS_ioprio_set, 1),
    ];
    for (call, own) in process {
        // A whole user or group, or somebody.
        rules.insert(call, vec![vec![is_not(0, own)], vec![is_not(1, 0)]]);
    }
}

/// No file becomes one that runs with its owner's rights: it would go on doing so outside.
fn set_ids(rules: &mut Rules) {
    let changes = [
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_chmod, 1),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_creat, 1),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_mknod, 1),
        (libc::SYS_fchmod, 1),
        (libc::SYS_fchmodat, 2),
        (FCHMODAT2, 2),
        (libc::SYS_mknodat, 2),
    ];
    for (call, mode) in changes {
        rules.insert(call, vec![vec![has_any(mode, SET_IDS)]]);
    }
    let opens = [
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_open, 1),
        (libc::SYS_openat, 2),
    ];
    // The mode says nothing if no file is made.
    let making = libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY);
    for (call, flags) in opens {
        rules.insert(call, vec![vec![has_any(flags, making), has_any(flags + 1, SET_IDS)]]);
    }
}

/// Keystrokes cannot be pushed into a terminal, nor can a terminal be stolen from its session; and
/// files stay as they are.
///
/// The kernel takes the request as 32 bits: a comparison of all 64 would be evaded by setting one
/// of the others.
fn requests(rules: &mut Rules) {
    let steal = vec![is(1, TIOCSCTTY), is(2, 1)];
    let mut requests = vec![vec![is(1, TIOCSTI)], vec![is(1, TIOCLINUX)], steal];
    requests.extend(FILE_REQUESTS.map(|request| vec![is(1, request.cast_signed())]));
    requests
        .extend(GROUPS.map(|group| vec![agrees(1, BUT_WHICH.cast_signed(), group.cast_signed())]));
    rules.insert(libc::SYS_ioctl, requests);
}
