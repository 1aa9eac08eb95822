//! Memory for secrets: not in core dumps, not swapped out, and overwritten after use.
//!
//! It is mapped in pages of its own, which the kernel is told to leave out of dumps
//! (`MADV_DONTDUMP` of madvise(2)) and, as far as `RLIMIT_MEMLOCK` reaches, to keep from the swap
//! (mlock(2)). Where a system has no such maps, or no more of them, it is the heap's; overwritten
//! it is in either.
//!
//! Each thread keeps some pages for its next secrets: a request takes one for its head, and asks
//! the system for none.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read};
use std::mem;
use std::ops::Deref;

use bytes::Bytes;
use memmap2::MmapMut;
use zeroize::optimization_barrier;

/// The size of what is kept for reuse: a page of most machines, and more than most heads.
const PAGE: usize = 4096;

/// How many pages a thread keeps.
const KEPT: usize = 8;

thread_local! {
    /// Pages that hold nothing.
    static FREE: RefCell<Vec<MmapMut>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that are a secret or hold one; see the module. When it grows, it moves, and what was
/// there is overwritten.
#[derive(Default)]
pub struct SecretBuf {
    pages: Pages,
    length: usize,
    /// How far it was written to before it became shorter.
    touched: usize,
}

#[derive(Default)]
enum Pages {
    #[default]
    None,
    Mapped(MmapMut),
    Heap(Box<[u8]>),
}

impl SecretBuf {
    /// An empty one with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { pages: Pages::new(capacity), length: 0, touched: 0 }
    }

    /// All of `parts`, one behind the other.
    pub fn concat(parts: &[&[u8]]) -> Self {
        let mut whole = Self::with_capacity(parts.iter().map(|part| part.len()).sum());
        for part in parts {
            whole.extend_from_slice(part);
        }
        whole
    }

    /// Adds `bytes` at the end.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(room) = self.pages.get_mut().get_mut(self.length..end) {
            room.copy_from_slice(bytes);
            self.length = end;
        } else {
            self.reserve(end);
            self.extend_from_slice(bytes);
        }
    }

    /// Drops what is behind the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.touched = self.touched.max(self.length);
        self.length = self.length.min(length);
    }

    /// Adds what one read from `source` brings, up to `most` bytes, and returns how many that is.
    pub(crate) fn read_from(&mut self, source: &mut impl Read, most: usize) -> io::Result<usize> {
        let before = self.length;
        self.write_with(most, |room| source.read(room))?;
        Ok(self.length - before)
    }

    /// Adds `most` bytes, of which `write` says how many it has written.
    pub(crate) fn write_with<E>(
        &mut self,
        most: usize,
        write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let end = self.length + most;
        self.reserve(end);
        self.touched = self.touched.max(end);
        let written = write(&mut self.pages.get_mut()[self.length..end])?;
        self.length += written.min(most);
        Ok(())
    }

    /// Makes room for `capacity` bytes in all.
    fn reserve(&mut self, capacity: usize) {
        if self.pages.get().len() < capacity {
            let mut larger = Self::with_capacity(capacity.max(2 * self.pages.get().len()));
            larger.extend_from_slice(self);
            *self = larger;
        }
    }
}

impl Pages {
    fn new(capacity: usize) -> Self {
        if capacity == 0 {
            return Self::None;
        }
        let free = || FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
        let mapped = if capacity <= PAGE { free() } else { None };
        match mapped.map_or_else(|| map(capacity.next_multiple_of(PAGE)), Ok) {
            Ok(map) => Self::Mapped(map),
            Err(_) => Self::Heap(vec![0; capacity].into()),
        }
    }

    fn get(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Mapped(map) => map,
            Self::Heap(bytes) => bytes,
        }
    }

    fn get_mut(&mut self) -> &mut [u8] {
        match self {
            Self::None => &mut [],
            Self::Mapped(map) => map,
            Self::Heap(bytes) => bytes,
        }
    }
}

/// A map that dumps leave out.
fn map(length: usize) -> io::Result<MmapMut> {
    let map = MmapMut::map_anon(length)?;
    #[cfg(target_os = "linux")]
    map.advise(memmap2::Advice::DontDump)?;
    #[cfg(unix)]
    // More than the limit allows is swapped like all memory.
    let _ = map.lock();
    Ok(map)
}

impl Drop for SecretBuf {
    fn drop(&mut self) {
        let bytes = &mut self.pages.get_mut()[..self.touched.max(self.length)];
        bytes.fill(0);
        // Nobody may conclude that what is never read need not be written.
        optimization_barrier(bytes);
        if let Pages::Mapped(map) = mem::take(&mut self.pages)
            && map.len() == PAGE
        {
            // A thread that ends keeps none.
            let _ = FREE.try_with(|free| {
                let mut free = free.borrow_mut();
                if free.len() < KEPT {
                    free.push(map);
                }
            });
        }
    }
}

impl Deref for SecretBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.pages.get()[..self.length]
    }
}

impl AsRef<[u8]> for SecretBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for SecretBuf {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SecretBuf {}

impl From<&[u8]> for SecretBuf {
    fn from(bytes: &[u8]) -> Self {
        Self::concat(&[bytes])
    }
}

impl From<SecretBuf> for Bytes {
    /// The same memory, overwritten with the last copy's drop.
    fn from(buf: SecretBuf) -> Self {
        Self::from_owner(buf)
    }
}

impl fmt::Debug for SecretBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBuf([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::{FREE, KEPT, PAGE, SecretBuf};

    fn is_free_memory_empty() -> bool {
        FREE.with_borrow(|free| free.iter().all(|page| page.iter().all(|byte| *byte == 0)))
    }

    #[test]
    fn it_grows_and_shrinks_as_a_vec_does_and_leaves_nothing() {
        let mut buf = SecretBuf::default();
        let mut whole = Vec::new();
        for n in 0..2000_u32 {
            buf.extend_from_slice(&n.to_be_bytes());
            whole.extend_from_slice(&n.to_be_bytes());
            assert_eq!(*buf, *whole);
        }
        buf.truncate(7);
        assert_eq!(*buf, whole[..7]);
        buf.truncate(70);
        assert_eq!(buf.len(), 7);
        drop(buf);
        assert!(is_free_memory_empty());
    }

    #[test]
    fn what_is_read_or_written_in_place_is_overwritten_too() {
        let mut buf = SecretBuf::with_capacity(8);
        let mut source: &[u8] = b"from a pipe";
        assert_eq!(buf.read_from(&mut source, 4).unwrap(), 4);
        buf.write_with(100, |room| {
            room.fill(b'x');
            Ok::<_, Infallible>(2)
        })
        .unwrap();
        assert_eq!(*buf, *b"fromxx");
        buf.write_with(100, |room| {
            room.fill(b'y');
            Err("no")
        })
        .unwrap_err();
        assert_eq!(*buf, *b"fromxx");
        drop(buf);
        assert!(is_free_memory_empty());
    }

    #[test]
    fn a_thread_keeps_few_pages() {
        let some = vec![1; PAGE];
        let many: Vec<_> = (0..3 * KEPT).map(|_| SecretBuf::from(&*some)).collect();
        drop(many);
        assert_eq!(FREE.with_borrow(Vec::len), KEPT);
        assert!(is_free_memory_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn its_pages_are_left_out_of_dumps() {
        let secret = SecretBuf::from(&b"key"[..]);
        let ordinary = b"key".to_vec();
        assert!(is_left_out(&secret));
        assert!(!is_left_out(&ordinary));
    }

    /// Whether the kernel leaves the memory of `bytes` out of dumps: the flag `dd` of proc(5).
    #[cfg(target_os = "linux")]
    fn is_left_out(bytes: &[u8]) -> bool {
        let at = bytes.as_ptr().addr();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_inside = false;
        for line in maps.lines() {
            let word = line.split_whitespace().next().unwrap_or_default();
            if let Some((from, to)) = word.split_once('-') {
                let number = |text| usize::from_str_radix(text, 16).unwrap();
                is_inside = (number(from)..number(to)).contains(&at);
            } else if is_inside && word == "VmFlags:" {
                return line.split_whitespace().any(|flag| flag == "dd");
            }
        }
        panic!("it is in no map");
    }
}
