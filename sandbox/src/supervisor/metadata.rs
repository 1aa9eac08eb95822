//! Changes of a file's mode, owner, times and attributes, which Landlock does not judge: made
//! here, on files that are granted to be written, and on no others.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmod, chownat,
    fstat, open, openat, removexattr, setxattr, stat, utimensat,
};
use rustix::io::Errno;

use super::unix::is_like_us;
use super::{Supervisor, errno};
use crate::capability::{CapabilitySet, FsCapability};
use crate::filter::FCHMODAT2;
use crate::sys::{Answer, Notification, read_memory};

/// Bytes of the longest path, with its NUL.
const PATH: usize = 4096;
/// Bytes of the longest name of an attribute, with its NUL.
const NAME: usize = 256;
/// Bytes of the largest attribute.
const VALUE: u64 = 64 << 10;
/// What flags may say of how a path is followed.
const FOLLOWING: u64 = (libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) as u64;

/// The files that may be written.
#[derive(Debug)]
pub(super) struct Writable(Vec<FsCapability>);

impl Writable {
    pub(super) fn new(caps: &CapabilitySet) -> Self {
        let grants = caps.fs_capabilities().iter();
        Self(grants.filter(|grant| grant.access().is_write()).cloned().collect())
    }

    /// Whether an open file is granted, or beneath a directory that is, where it is now.
    fn includes(&self, file: &OwnedFd) -> bool {
        let Ok(path) = fs::read_link(name_of(file)) else { return false };
        let Ok(own) = fstat(file) else { return false };
        self.0.iter().any(|grant| {
            let Ok(granted) = fstat(grant.handle()) else { return false };
            let is = |(device, inode)| (granted.st_dev, granted.st_ino) == (device, inode);
            is((own.st_dev, own.st_ino))
                || (!grant.is_file()
                    && path.ancestors().skip(1).any(|ancestor| {
                        stat(ancestor).is_ok_and(|status| is((status.st_dev, status.st_ino)))
                    }))
        })
    }
}

/// What is to be changed.
enum Change {
    Mode(u64),
    Owner(u64, u64),
    Times(Timestamps),
    Attribute(CString, Vec<u8>, u64),
    NoAttribute(CString),
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

impl Supervisor {
    /// Makes the change that a call asks for.
    pub(super) fn change(&self, call: &Notification) -> Result<Answer, Errno> {
        if !is_like_us(call.thread) {
            return Err(Errno::ACCESS);
        }
        let (named, change) = Self::asked(call)?;
        let file = Self::file(call, &named)?;
        if !self.holds(call) {
            return Err(Errno::INTR);
        }
        if !self.writable.includes(&file) {
            return Err(Errno::ACCESS);
        }
        apply(&file, change).map(|()| Answer::Done)
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
            libc::SYS_utimensat => {
                (Named::PathFrom(fourth), Change::Times(times(call.thread, third)?))
            }
            libc::SYS_setxattr | libc::SYS_lsetxattr => {
                (path(call.number == libc::SYS_setxattr), attribute(call)?)
            }
            libc::SYS_fsetxattr => (Named::Descriptor, attribute(call)?),
            libc::SYS_removexattr | libc::SYS_lremovexattr => {
                let name = string(call.thread, second, NAME)?;
                (path(call.number == libc::SYS_removexattr), Change::NoAttribute(name))
            }
            libc::SYS_fremovexattr => {
                (Named::Descriptor, Change::NoAttribute(string(call.thread, second, NAME)?))
            }
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
        let [first, second, ..] = call.arguments;
        let handle = |follow: bool| {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            if follow { flags } else { flags | OFlags::NOFOLLOW }
        };
        match *named {
            Named::Descriptor => {
                // The kernel takes the low half.
                let number = first & u64::from(u32::MAX);
                open(format!("/proc/{thread}/fd/{number}"), handle(true), Mode::empty())
            }
            Named::Path(follow) => {
                let path = string(thread, first, PATH)?;
                let base = open(format!("/proc/{thread}/cwd"), handle(true), Mode::empty())?;
                openat(base, path, handle(follow), Mode::empty())
            }
            Named::PathFrom(flags) => {
                if flags & !FOLLOWING & u64::from(u32::MAX) != 0 {
                    return Err(Errno::INVAL);
                }
                let has = |flag: libc::c_int| flags & u64::from(flag.unsigned_abs()) != 0;
                let path = string(thread, second, PATH)?;
                // The kernel takes the low half, as a signed number.
                #[expect(clippy::cast_possible_truncation, reason = "as the kernel does")]
                let base = (first as u32).cast_signed();
                let base = match base {
                    libc::AT_FDCWD => format!("/proc/{thread}/cwd"),
                    number => format!("/proc/{thread}/fd/{number}"),
                };
                if path.is_empty() && !has(libc::AT_EMPTY_PATH) {
                    return Err(Errno::NOENT);
                }
                let base = open(base, handle(true), Mode::empty())?;
                if path.is_empty() {
                    return Ok(base);
                }
                openat(base, path, handle(!has(libc::AT_SYMLINK_NOFOLLOW)), Mode::empty())
            }
        }
    }
}

fn apply(file: &OwnedFd, change: Change) -> Result<(), Errno> {
    let is_link =
        || fstat(file).map(|status| FileType::from_raw_mode(status.st_mode) == FileType::Symlink);
    // By a name that leads to the open file, wherever its path leads by now.
    let name = name_of(file);
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
            chmod(name, Mode::from_raw_mode(u32::try_from(mode & 0o7777).unwrap_or(0)))
        }
        Change::Attribute(key, value, flags) => {
            let flags = XattrFlags::from_bits_retain(u32::try_from(flags).unwrap_or(u32::MAX));
            setxattr(name, key, &value, flags)
        }
        Change::NoAttribute(key) => removexattr(name, key),
    }
}

fn name_of(file: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Reads two times; those of a null pointer are both now.
fn times(thread: i32, address: u64) -> Result<Timestamps, Errno> {
    let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    if address == 0 {
        return Ok(Timestamps { last_access: now, last_modification: now });
    }
    let mut bytes = [0; 32];
    if read_memory(thread, address, &mut bytes).map_err(|error| errno(&error))? < bytes.len() {
        return Err(Errno::FAULT);
    }
    let (words, _) = bytes.as_chunks::<8>();
    let mut words = words.iter().map(|word| i64::from_ne_bytes(*word));
    let mut next =
        || Timespec { tv_sec: words.next().unwrap_or(0), tv_nsec: words.next().unwrap_or(0) };
    Ok(Timestamps { last_access: next(), last_modification: next() })
}

fn attribute(call: &Notification) -> Result<Change, Errno> {
    let [_, name, value, length, flags, _] = call.arguments;
    if length > VALUE {
        return Err(Errno::TOOBIG);
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| Errno::TOOBIG)?];
    if !bytes.is_empty() {
        let copied = read_memory(call.thread, value, &mut bytes).map_err(|error| errno(&error))?;
        if copied < bytes.len() {
            return Err(Errno::FAULT);
        }
    }
    Ok(Change::Attribute(string(call.thread, name, NAME)?, bytes, flags))
}

/// Reads a string that ends with NUL within `most` bytes. It may end just before memory does, so
/// what is read at a time does not go beyond a page.
fn string(thread: i32, address: u64, most: usize) -> Result<CString, Errno> {
    const PAGE: u64 = 4096;
    let mut bytes = Vec::new();
    let mut at = address;
    while bytes.len() < most {
        let page = usize::try_from(PAGE - at % PAGE).unwrap_or(1);
        let mut part = vec![0; page.min(most - bytes.len())];
        let copied = read_memory(thread, at, &mut part).map_err(|error| errno(&error))?;
        if copied < part.len() {
            return Err(Errno::FAULT);
        }
        bytes.append(&mut part);
        if let Ok(string) = CStr::from_bytes_until_nul(&bytes) {
            return Ok(string.to_owned());
        }
        at = address.wrapping_add(bytes.len() as u64);
    }
    Err(Errno::NAMETOOLONG)
}
