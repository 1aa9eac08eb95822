//! Memory for a child to run on.

use std::ffi::{c_int, c_void};
use std::ptr;

use super::last_errno;

/// Bytes of the child's stack. It is a few call frames deep.
const STACK: usize = 64 << 10;
/// Bytes below the stack that fault; a multiple of every page size in use.
const GUARD: usize = 64 << 10;

/// Memory for the child to run on, with a guard below it.
#[derive(Debug)]
pub(super) struct Stack {
    base: *mut c_void,
}

impl Stack {
    pub(super) fn new() -> Result<Self, c_int> {
        const FLAGS: c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), GUARD + STACK, libc::PROT_NONE, FLAGS, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(last_errno());
        }
        let stack = Self { base };
        let usable = base.wrapping_byte_add(GUARD);
        // SAFETY: the range is the upper part of the mapping made above, which nobody uses yet.
        let status = unsafe { libc::mprotect(usable, STACK, libc::PROT_READ | libc::PROT_WRITE) };
        if status == 0 { Ok(stack) } else { Err(last_errno()) }
    }

    /// The end of the memory: stacks grow down.
    pub(super) fn top(&self) -> *mut c_void {
        self.base.wrapping_byte_add(GUARD + STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's own, and the child has left it by now.
        let _ = unsafe { libc::munmap(self.base, GUARD + STACK) };
    }
}
