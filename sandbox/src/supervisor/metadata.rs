//! Changes of a file's mode, owner, times and attributes, which Landlock does not judge: made
//! here, on files that are granted to be written, and on no others.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, FsWord, Gid, MemfdFlags, Mode, Timespec, Timestamps, Uid, XattrFlags, chmod,
    chownat, fstat, fstatfs, memfd_create, open, removexattr, setxattr, utimensat,
};
use rustix::io::Errno;

use super::proc::{HANDLE, Name, PATH, Place, is_like_us, is_same};
use super::walk::follow;
use super::{Calls, Object, errno};
use crate::filter::FCHMODAT2;
use crate::sys::{Answer, Notification, read_memory};

/// Bytes of the longest name of an attribute, with its NUL.
const NAME: usize = 256;
/// Bytes of the largest attribute.
const VALUE: usize = 64 << 10;
/// What flags may say of how a path is followed.
const FOLLOWING: u64 = (libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) as u64;

/// The kernel's numbers for the file systems of pipes and sockets (`linux/magic.h`).
const PIPES: FsWord = 0x5049_5045;
const SOCKETS: FsWord = 0x534F_434B;

/// What is to be changed.
enum Change {
    Mode(u64),
    Owner(u64, u64),
    Times(Timestamps),
    /// The name's address, the value's, its length, and flags.
    Attribute(u64, u64, usize, u64),
    /// The name's address.
    NoAttribute(u64),
}

/// How the file is named, by the place of its arguments.
enum Named {
    /// By its descriptor.
    Descriptor,
    /// By a path from the working directory, followed to its end or not.
    Path(bool),
    /// By a path from a directory, with flags.
    PathFrom(u64),
}

/// Makes the change that a call asks for, if the file may be written.
pub(super) fn change(
    calls: &Calls,
    call: &Notification,
    writable: &[Object<'_>],
) -> Result<Answer, Errno> {
    if !is_like_us(call.thread) {
        return Err(Errno::ACCESS);
    }
    let (named, change) = asked(call)?;
    let file = file(call, &named)?;
    if !calls.holds(call) {
        return Err(Errno::INTR);
    }
    if !is_nameless(&file) && !is_writable(&file, writable) {
        return Err(Errno::ACCESS);
    }
    apply(calls, call, &file, change).map(|()| Answer::Done)
}

/// Whether an open file is in no file system that has names: a pipe, a socket, or memory. Only those
/// who have it open can change it: the process, and who gave it to the process.
fn is_nameless(file: &OwnedFd) -> bool {
    let is_pipe = fstatfs(file).is_ok_and(|system| [PIPES, SOCKETS].contains(&system.f_type));
    let device = |file: &OwnedFd| fstat(file).map(|status| status.st_dev);
    // All memory of that kind is in one file system, which is the kernel's own.
    let is_memory = || {
        let memory = memfd_create(c"", MemfdFlags::CLOEXEC);
        memory.and_then(|memory| device(&memory)).is_ok_and(|own| device(file) == Ok(own))
    };
    is_pipe || is_memory()
}

/// Whether an open file is granted, or beneath a directory that is, where it is now. A device is
/// everybody's: what is granted of `/dev/null` is to write to it.
fn is_writable(file: &OwnedFd, writable: &[Object<'_>]) -> bool {
    let Ok(place) = Place::of(&Name::of_own(file)) else { return false };
    let Ok(own) = fstat(file) else { return false };
    let kind = FileType::from_raw_mode(own.st_mode);
    if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
        return false;
    }
    writable.iter().any(|granted| is_same(granted.handle, &own))
        || place.lies_beneath(|above| {
            let mut directories = writable.iter().filter(|granted| granted.is_directory);
            directories.any(|granted| is_same(granted.handle, above))
        })
}

fn asked(call: &Notification) -> Result<(Named, Change), Errno> {
    let [_, second, third, fourth, fifth, _] = call.arguments;
    let path = Named::Path;
    Ok(match call.number {
        libc::SYS_fchmod => (Named::Descriptor, Change::Mode(second)),
        libc::SYS_fchmodat => (Named::PathFrom(0), Change::Mode(third)),
        FCHMODAT2 => (Named::PathFrom(fourth), Change::Mode(third)),
        libc::SYS_fchown => (Named::Descriptor, Change::Owner(second, third)),
        libc::SYS_fchownat => (Named::PathFrom(fifth), Change::Owner(third, fourth)),
        libc::SYS_utimensat if second == 0 => {
            (Named::Descriptor, Change::Times(times(call.thread, third)?))
        }
        libc::SYS_utimensat => (Named::PathFrom(fourth), Change::Times(times(call.thread, third)?)),
        libc::SYS_setxattr | libc::SYS_lsetxattr => {
            (path(call.number == libc::SYS_setxattr), attribute(call)?)
        }
        libc::SYS_fsetxattr => (Named::Descriptor, attribute(call)?),
        libc::SYS_removexattr | libc::SYS_lremovexattr => {
            (path(call.number == libc::SYS_removexattr), Change::NoAttribute(second))
        }
        libc::SYS_fremovexattr => (Named::Descriptor, Change::NoAttribute(second)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chmod => (path(true), Change::Mode(second)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chown => (path(true), Change::Owner(second, third)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_lchown => (path(false), Change::Owner(second, third)),
        _ => return Err(Errno::NOSYS),
    })
}

/// Takes hold of the file that a call names.
fn file(call: &Notification, named: &Named) -> Result<OwnedFd, Errno> {
    let thread = call.thread;
    let mut memory = [0; PATH];
    let [first, second, ..] = call.arguments;
    match *named {
        Named::Descriptor => {
            // The kernel takes the low half.
            descriptor(thread, first & u64::from(u32::MAX))
        }
        Named::Path(to_end) => {
            let path = string(thread, first, &mut memory)?;
            follow(thread, &Name::of(thread, "cwd"), path, to_end)
        }
        Named::PathFrom(flags) => {
            if flags & !FOLLOWING & u64::from(u32::MAX) != 0 {
                return Err(Errno::INVAL);
            }
            let has = |flag: libc::c_int| flags & u64::from(flag.unsigned_abs()) != 0;
            let path = string(thread, second, &mut memory)?;
            let is_itself = path.is_empty() && has(libc::AT_EMPTY_PATH);
            let is_beside = !path.is_empty() && !path.to_bytes().starts_with(b"/");
            // The kernel takes the low half, as a signed number.
            #[expect(clippy::cast_possible_truncation, reason = "as the kernel does")]
            let base = (first as u32).cast_signed();
            let held;
            let start = if base != libc::AT_FDCWD && (is_itself || is_beside) {
                held = descriptor(thread, base)?;
                Name::of_own(&held)
            } else {
                Name::of(thread, "cwd")
            };
            if is_itself {
                return open(&*start, HANDLE, Mode::empty());
            }
            follow(thread, &start, path, !has(libc::AT_SYMLINK_NOFOLLOW))
        }
    }
}

/// Takes hold of what a thread has open.
fn descriptor(thread: i32, number: impl std::fmt::Display) -> Result<OwnedFd, Errno> {
    let opened = open(&*Name::of_descriptor(thread, number), HANDLE, Mode::empty());
    opened.map_err(|error| if error == Errno::NOENT { Errno::BADF } else { error })
}

fn apply(calls: &Calls, call: &Notification, file: &OwnedFd, change: Change) -> Result<(), Errno> {
    let thread = call.thread;
    // What was read is another process's if the number has been given away.
    let check = || if calls.holds(call) { Ok(()) } else { Err(Errno::INTR) };
    let is_link =
        || fstat(file).map(|status| FileType::from_raw_mode(status.st_mode) == FileType::Symlink);
    // By a name that leads to the open file, wherever its path leads by now.
    let name = Name::of_own(file);
    let mut key = [0; NAME];
    match change {
        Change::Times(times) => utimensat(file.as_fd(), c"", &times, AtFlags::EMPTY_PATH),
        Change::Owner(user, group) => {
            let [user, group] = [user, group].map(|id| u32::try_from(id & 0xFFFF_FFFF).ok());
            let kept = |id: &u32| *id != u32::MAX;
            let user = user.filter(kept).map(Uid::from_raw);
            chownat(
                file.as_fd(),
                c"",
                user,
                group.filter(kept).map(Gid::from_raw),
                AtFlags::EMPTY_PATH,
            )
        }
        _ if is_link()? => Err(Errno::OPNOTSUPP),
        Change::Mode(mode) => {
            chmod(&*name, Mode::from_raw_mode(u32::try_from(mode & 0o7777).unwrap_or(0)))
        }
        Change::Attribute(key_at, value_at, length, flags) => {
            let key = string(thread, key_at, &mut key)?;
            #[expect(clippy::large_stack_arrays, reason = "there is no heap")]
            let mut value = [0; VALUE];
            let value = value.get_mut(..length).ok_or(Errno::TOOBIG)?;
            fill(thread, value_at, value)?;
            check()?;
            let flags = XattrFlags::from_bits_retain(u32::try_from(flags).unwrap_or(u32::MAX));
            setxattr(&*name, key, value, flags)
        }
        Change::NoAttribute(key_at) => {
            let key = string(thread, key_at, &mut key)?;
            check()?;
            removexattr(&*name, key)
        }
    }
}

/// Reads two times; those of a null pointer are both now.
fn times(thread: i32, address: u64) -> Result<Timestamps, Errno> {
    let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    if address == 0 {
        return Ok(Timestamps { last_access: now, last_modification: now });
    }
    let mut bytes = [0; 32];
    fill(thread, address, &mut bytes)?;
    let (words, _) = bytes.as_chunks::<8>();
    let mut words = words.iter().map(|word| i64::from_ne_bytes(*word));
    let mut next =
        || Timespec { tv_sec: words.next().unwrap_or(0), tv_nsec: words.next().unwrap_or(0) };
    Ok(Timestamps { last_access: next(), last_modification: next() })
}

fn attribute(call: &Notification) -> Result<Change, Errno> {
    let [_, name, value, length, flags, _] = call.arguments;
    let length = usize::try_from(length).ok().filter(|length| *length <= VALUE);
    Ok(Change::Attribute(name, value, length.ok_or(Errno::TOOBIG)?, flags))
}

/// Reads as much as there is room for.
fn fill(thread: i32, address: u64, into: &mut [u8]) -> Result<(), Errno> {
    if into.is_empty() {
        return Ok(());
    }
    let copied = read_memory(thread, address, into).map_err(|error| errno(&error))?;
    if copied < into.len() { Err(Errno::FAULT) } else { Ok(()) }
}

/// Reads a string that ends with NUL within the room there is. It may end just before memory
/// does, so what is read at a time does not go beyond a page.
fn string(thread: i32, address: u64, memory: &mut [u8]) -> Result<&CStr, Errno> {
    const PAGE: u64 = 4096;
    let mut end = 0;
    while end < memory.len() {
        let at = address.wrapping_add(end as u64);
        let page = usize::try_from(PAGE - at % PAGE).unwrap_or(1);
        let next = memory.len().min(end + page);
        let part = memory.get_mut(end..next).unwrap_or_default();
        fill(thread, at, part)?;
        if part.contains(&0) {
            break;
        }
        end = next;
    }
    CStr::from_bytes_until_nul(memory).map_err(|_| Errno::NAMETOOLONG)
}
