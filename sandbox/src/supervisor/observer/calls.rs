//! The calls that are looked at: what each does, and where its arguments say to what.

use libc::c_long;

/// What a call does to its paths.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    /// Opens, as flags say.
    Open(Flags),
    /// Executes.
    Execute,
    /// Makes what is not there yet.
    Make,
    /// Removes what is there, or gives it another name.
    Move,
    /// Changes what is there, by its name.
    Change,
    /// Connects a socket to an address.
    Connect,
    /// Gives a socket an address.
    Bind,
}

/// Where the flags of an opening are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flags {
    /// They are this argument.
    In(usize),
    /// They are the first number that this argument points to (`struct open_how`).
    Behind(usize),
    /// They are these: `creat`, which newer processors do not have.
    #[cfg(target_arch = "x86_64")]
    Are(i32),
}

/// A path in a call: the arguments that have the directory where it begins, and the path.
pub(super) type Place = (Option<usize>, usize);

/// A call that is looked at.
pub(super) struct Call {
    pub(super) number: c_long,
    pub(super) deed: Deed,
    pub(super) paths: &'static [Place],
}

const fn call(number: c_long, deed: Deed, paths: &'static [Place]) -> Call {
    Call { number, deed, paths }
}

const AT: &[Place] = &[(Some(0), 1)];
#[cfg(target_arch = "x86_64")]
const HERE: &[Place] = &[(None, 0)];

/// All of them, on every processor.
const COMMON: &[Call] = &[
    call(libc::SYS_openat, Deed::Open(Flags::In(2)), AT),
    call(libc::SYS_openat2, Deed::Open(Flags::Behind(2)), AT),
    call(libc::SYS_execve, Deed::Execute, &[(None, 0)]),
    call(libc::SYS_execveat, Deed::Execute, AT),
    call(libc::SYS_mkdirat, Deed::Make, AT),
    call(libc::SYS_mknodat, Deed::Make, AT),
    call(libc::SYS_symlinkat, Deed::Make, &[(Some(1), 2)]),
    call(libc::SYS_unlinkat, Deed::Move, AT),
    call(libc::SYS_renameat2, Deed::Move, &[(Some(0), 1), (Some(2), 3)]),
    call(libc::SYS_linkat, Deed::Move, &[(Some(0), 1), (Some(2), 3)]),
    call(libc::SYS_truncate, Deed::Change, &[(None, 0)]),
    call(libc::SYS_fchmodat, Deed::Change, AT),
    call(libc::SYS_fchownat, Deed::Change, AT),
    call(libc::SYS_utimensat, Deed::Change, AT),
    call(libc::SYS_setxattr, Deed::Change, &[(None, 0)]),
    call(libc::SYS_connect, Deed::Connect, &[]),
    call(libc::SYS_bind, Deed::Bind, &[]),
];

/// Those that newer processors no longer have.
#[cfg(target_arch = "x86_64")]
const OLD: &[Call] = &[
    call(libc::SYS_open, Deed::Open(Flags::In(1)), HERE),
    call(
        libc::SYS_creat,
        Deed::Open(Flags::Are(libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC)),
        HERE,
    ),
    call(libc::SYS_mkdir, Deed::Make, HERE),
    call(libc::SYS_mknod, Deed::Make, HERE),
    call(libc::SYS_symlink, Deed::Make, &[(None, 1)]),
    call(libc::SYS_unlink, Deed::Move, HERE),
    call(libc::SYS_rmdir, Deed::Move, HERE),
    call(libc::SYS_rename, Deed::Move, &[(None, 0), (None, 1)]),
    call(libc::SYS_renameat, Deed::Move, &[(Some(0), 1), (Some(2), 3)]),
    call(libc::SYS_link, Deed::Move, &[(None, 0), (None, 1)]),
    call(libc::SYS_chmod, Deed::Change, HERE),
    call(libc::SYS_chown, Deed::Change, HERE),
    call(libc::SYS_utime, Deed::Change, HERE),
    call(libc::SYS_utimes, Deed::Change, HERE),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[Call] = &[];

/// All calls that are looked at.
pub(super) fn all() -> impl Iterator<Item = &'static Call> {
    COMMON.iter().chain(OLD)
}
