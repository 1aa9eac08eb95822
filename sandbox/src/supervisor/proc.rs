//! What `/proc` tells of a process. Nothing here takes memory from the allocator: see `mod.rs`.

use std::ffi::CStr;
use std::fmt::{Arguments, Write as _};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use arrayvec::ArrayString;
use rustix::fs::{CWD, Mode, OFlags, Stat, open, readlinkat_raw, stat};
use rustix::io::{Errno, read, retry_on_intr};

/// Bytes of the longest path, with its NUL.
pub(super) const PATH: usize = 4096;
/// Flags to take hold of a file by, without opening it.
pub(super) const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
/// Bytes of `status` that are looked at. A list of groups that goes beyond is like no other.
const STATUS: usize = 8 << 10;

/// The name of a file under `/proc`.
#[derive(Debug)]
pub(super) struct Name(ArrayString<64>);

impl Name {
    fn new(text: Arguments<'_>) -> Self {
        let mut name = ArrayString::new();
        // Two numbers and a word are never too long.
        let _ = name.write_fmt(text);
        let _ = name.try_push('\0');
        Self(name)
    }

    /// A file of a thread, or of `self` and `thread-self`.
    pub(super) fn of(thread: impl std::fmt::Display, file: &str) -> Self {
        Self::new(format_args!("/proc/{thread}/{file}"))
    }

    /// By which a thread's descriptor can be opened again.
    pub(super) fn of_descriptor(thread: i32, number: impl std::fmt::Display) -> Self {
        Self::new(format_args!("/proc/{thread}/fd/{number}"))
    }

    /// What there is to know of a thread's descriptor.
    pub(super) fn of_description(thread: i32, number: u32) -> Self {
        Self::new(format_args!("/proc/{thread}/fdinfo/{number}"))
    }

    /// A name that leads to an open file of the calling thread's, wherever its path leads by now.
    /// The thread may have descriptors of its own.
    pub(super) fn of_own(file: &OwnedFd) -> Self {
        Self::new(format_args!("/proc/thread-self/fd/{}", file.as_raw_fd()))
    }
}

impl Deref for Name {
    type Target = CStr;

    fn deref(&self) -> &CStr {
        CStr::from_bytes_until_nul(self.0.as_bytes()).unwrap_or(c"")
    }
}

/// A path, as the kernel gives it.
#[derive(Debug)]
pub(super) struct Place {
    /// Ends with NUL.
    bytes: [u8; PATH + 1],
    length: usize,
}

impl Place {
    /// What a link of `/proc` leads to.
    pub(super) fn of(link: &CStr) -> Result<Self, Errno> {
        Self::at(CWD, link)
    }

    /// What a link leads to, by its path from a directory, or as it is held if that is empty.
    pub(super) fn at(from: impl AsFd, link: &CStr) -> Result<Self, Errno> {
        let mut bytes = [0; PATH + 1];
        let room = bytes.get_mut(..PATH).unwrap_or_default();
        let length = readlinkat_raw(from, link, room)?;
        // One that fills the room may have been cut off.
        if length < PATH { Ok(Self { bytes, length }) } else { Err(Errno::NAMETOOLONG) }
    }

    /// One that is made up; numbers and words are never too long.
    pub(super) fn new(text: Arguments<'_>) -> Self {
        let name = Name::new(text);
        let (mut bytes, text) = ([0; PATH + 1], name.to_bytes());
        bytes.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
        Self { bytes, length: text.len() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Whether it is a path, or beneath it.
    pub(super) fn is_within(&self, path: &[u8]) -> bool {
        let rest = self.bytes().strip_prefix(path);
        rest.is_some_and(|rest| path.ends_with(b"/") || matches!(rest.first(), None | Some(b'/')))
    }

    /// Whether it is beneath a directory that is like this.
    pub(super) fn lies_beneath(mut self, is_like: impl Fn(&Stat) -> bool) -> bool {
        let is_like = |path: &CStr| stat(path).is_ok_and(|status| is_like(&status));
        while let Some(slash @ 1..) = self.bytes().iter().rposition(|byte| *byte == b'/') {
            if let Some(byte) = self.bytes.get_mut(slash) {
                *byte = 0;
            }
            self.length = slash;
            if CStr::from_bytes_until_nul(&self.bytes).is_ok_and(is_like) {
                return true;
            }
        }
        self.bytes().starts_with(b"/") && is_like(c"/")
    }
}

/// Reads the beginning of a file, as much as there is room for.
pub(super) fn read_into<'a>(name: &CStr, memory: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let file = open(name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut end = 0;
    while let Some(rest @ [_, ..]) = memory.get_mut(end..) {
        match retry_on_intr(|| read(&file, &mut *rest))? {
            0 => break,
            length => end += length,
        }
    }
    Ok(memory.get(..end).unwrap_or_default())
}

/// What stands behind a word at the beginning of a line, which must be there to its end.
pub(super) fn line<'a>(text: &'a [u8], word: &str) -> Option<&'a [u8]> {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    lines.find_map(|line| line.strip_prefix(word.as_bytes())?.strip_suffix(b"\n"))
}

/// A number in what stands in a line.
pub(super) fn number(text: Option<&[u8]>, radix: u32) -> Option<u32> {
    let text = std::str::from_utf8(text?.trim_ascii()).ok()?;
    u32::from_str_radix(text, radix).ok()
}

/// The number of a thread's process.
pub(super) fn process_of(thread: i32) -> Result<i32, Errno> {
    let mut memory = [0; 1024];
    let status = read_into(&Name::of(thread, "status"), &mut memory)?;
    let process = number(line(status, "Tgid:"), 10).and_then(|number| number.try_into().ok());
    process.ok_or(Errno::SRCH)
}

/// Whether a thread acts as the same user and groups as we do.
pub(super) fn is_like_us(thread: i32) -> bool {
    let (mut theirs, mut ours) = ([0; STATUS], [0; STATUS]);
    let Ok(theirs) = read_into(&Name::of(thread, "status"), &mut theirs) else { return false };
    let Ok(ours) = read_into(&Name::of("thread-self", "status"), &mut ours) else { return false };
    ["Uid:", "Gid:", "Groups:"].into_iter().all(|word| {
        let (theirs, ours) = (line(theirs, word), line(ours, word));
        theirs.is_some() && theirs == ours
    })
}

/// Whether this is the same file as another.
pub(super) fn is_same(file: impl AsFd, other: &Stat) -> bool {
    rustix::fs::fstat(file)
        .is_ok_and(|own| (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Place {
        let mut bytes = [0; PATH + 1];
        bytes[..path.len()].copy_from_slice(path.as_bytes());
        Place { bytes, length: path.len() }
    }

    #[test]
    fn a_path_is_within_itself_and_what_is_above_it() {
        for above in ["/", "/a", "/a/b"] {
            assert!(place("/a/b").is_within(above.as_bytes()), "{above}");
        }
        for other in ["/a/b/c", "/a/bc", "/b"] {
            assert!(!place("/a/b").is_within(other.as_bytes()), "{other}");
        }
        assert!(!place("/ab").is_within(b"/a"));
    }

    #[test]
    fn what_is_above_a_path_is_looked_at_and_the_path_is_not() {
        let root = stat(c"/").unwrap();
        let bin = stat(c"/usr/bin").unwrap();
        let is = |wanted: Stat| {
            move |found: &Stat| (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)
        };
        assert!(place("/usr/bin/env").lies_beneath(is(root)));
        assert!(place("/usr/bin/env").lies_beneath(is(bin)));
        assert!(!place("/usr/bin").lies_beneath(is(bin)));
        assert!(!place("socket:[1]").lies_beneath(|_| true));
    }

    #[test]
    fn lines_are_whole_or_none() {
        let text = b"Tgid:\t7\nUid:\t0\t0\nGroups:\t1 2";
        assert_eq!(number(line(text, "Tgid:"), 10), Some(7));
        assert_eq!(line(text, "Uid:"), Some(&b"\t0\t0"[..]));
        assert_eq!(line(text, "Groups:"), None);
        assert!(is_like_us(rustix::thread::gettid().as_raw_nonzero().get()));
    }
}
