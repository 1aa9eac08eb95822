//! Memory for a shim and its child to run on.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::ptr;
use std::sync::Mutex;

use super::last_errno;

/// Bytes of a stack. What runs on it is a few call frames deep.
pub(super) const STACK: usize = 64 << 10;
/// Bytes below a stack that fault; a multiple of every page size in use.
const GUARD: usize = 64 << 10;
/// How many pairs are kept for the next to come. Making one takes longer than all else that is
/// made for a program.
const MOST_KEPT: usize = 16;

/// Pairs that nobody runs on.
static KEPT: Mutex<Vec<Mapping>> = Mutex::new(Vec::new());

/// Two stacks, with a guard below each. To be dropped when nobody runs on them any more.
#[derive(Debug)]
pub(super) struct Stacks {
    /// None while it is dropped.
    mapping: Option<Mapping>,
}

impl Stacks {
    /// Takes a pair that nobody runs on.
    ///
    /// # Errors
    ///
    /// That of `mmap` or `mprotect`.
    pub(super) fn take() -> Result<Self, c_int> {
        // Somebody else is at it, or was when this process was copied from another by `fork`.
        let kept = KEPT.try_lock().ok().and_then(|mut kept| kept.pop());
        let mapping = kept.map_or_else(|| Mapping::new(2, STACK), Ok)?;
        Ok(Self { mapping: Some(mapping) })
    }

    /// The ends of the two: stacks grow down.
    pub(super) fn tops(&self) -> [*mut c_void; 2] {
        let tops = |mapping: &Mapping| [mapping.top(0), mapping.top(1)];
        self.mapping.as_ref().map_or([ptr::null_mut(); 2], tops)
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        if let (Some(mapping), Ok(mut kept)) = (self.mapping.take(), KEPT.try_lock())
            && kept.len() < MOST_KEPT
        {
            kept.push(mapping);
        }
    }
}

/// The memory of stacks, each with a guard below it.
#[derive(Debug)]
pub(super) struct Mapping {
    base: *mut c_void,
    count: usize,
    /// Bytes of each stack with its guard.
    size: usize,
}

// SAFETY: memory belongs to no thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Makes so many stacks of so many bytes.
    pub(super) fn new(count: usize, bytes: usize) -> Result<Self, c_int> {
        const FLAGS: c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        let size = GUARD + bytes;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), count * size, libc::PROT_NONE, FLAGS, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(last_errno());
        }
        let mapping = Self { base, count, size };
        for index in 0..count {
            let usable = mapping.top(index).wrapping_byte_sub(bytes);
            // SAFETY: the range is a part of the mapping made above, which nobody uses yet.
            let status =
                unsafe { libc::mprotect(usable, bytes, libc::PROT_READ | libc::PROT_WRITE) };
            if status != 0 {
                return Err(last_errno());
            }
        }
        Ok(mapping)
    }

    /// The end of one: stacks grow down.
    pub(super) fn top(&self, index: usize) -> *mut c_void {
        self.base.wrapping_byte_add((index + 1) * self.size)
    }

    /// Where all of it is.
    pub(super) fn range(&self) -> Range<usize> {
        let start = self.base as usize;
        start..start + self.count * self.size
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's own, and nobody runs on it.
        let _ = unsafe { libc::munmap(self.base, self.count * self.size) };
    }
}
