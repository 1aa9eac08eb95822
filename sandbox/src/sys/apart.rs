//! A process that starts as a copy of the calling one and goes its own way.
//!
//! It is made by `clone` without `CLONE_VM`: what the caller does to its memory later is not seen
//! there, nor the other way around. No signal tells of its end, so to the rest of the program it
//! is as if it were not there: "wait for any child" neither finds it nor waits for it.
//!
//! Of the caller's threads only the one that makes the copy goes on in it. The others may have
//! held any lock, which nobody gives back. So the copy makes system calls, and touches what was
//! laid out for it in [`Pages`], and nothing else: it neither allocates, nor locks, nor panics.
//! What it does not need of the caller's it gives up: descriptors, and memory, in which there may
//! be secrets, and which would have to be stored twice when the caller changes it.

use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr;

use rustix::process::{Signal, pidfd_send_signal};

use super::last_errno;
use super::process::{exit, new_session, reap};
use super::raw::{call, clone_onto};
use super::shim::{close, set};
use super::signal::{SignalSet, reset_signal_actions, set_signal_mask};
use super::stack::Mapping;
use crate::memory::ranges_beside;

/// Bytes of the copy's stack.
const STACK: usize = 512 << 10;
/// Bytes that are left of the memory around the calling thread's own variables.
const OWN: usize = 16 << 10;
/// How many ranges of memory are given up, the largest first.
const MOST_FOREIGN: usize = 512;

/// A copy of some values in memory of its own, where a process that is a copy finds it too.
#[derive(Debug)]
pub(crate) struct Pages<'a, T> {
    base: *mut c_void,
    count: usize,
    _values: PhantomData<&'a T>,
}

impl<T: Copy> Pages<'_, T> {
    /// Copies these.
    ///
    /// # Errors
    ///
    /// That of `mmap`.
    pub(crate) fn new(values: &[T]) -> Result<Self, c_int> {
        const FLAGS: c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let length = size_of_val(values).max(1);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other.
        let base = unsafe { libc::mmap(ptr::null_mut(), length, access, FLAGS, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(last_errno());
        }
        // SAFETY: the mapping is as large as the values, is at the beginning of a page, and
        // nobody else knows it.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), base.cast::<T>(), values.len()) };
        Ok(Self { base, count: values.len(), _values: PhantomData })
    }
}

impl<T> Pages<'_, T> {
    /// Where they are.
    pub(crate) fn range(&self) -> Range<usize> {
        let start = self.base as usize;
        start..start + (self.count * size_of::<T>()).max(1)
    }
}

impl<T> Deref for Pages<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds as many values.
        unsafe { std::slice::from_raw_parts(self.base.cast::<T>(), self.count) }
    }
}

impl<T> DerefMut for Pages<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; nobody else has a borrow of it.
        unsafe { std::slice::from_raw_parts_mut(self.base.cast::<T>(), self.count) }
    }
}

impl<T> Drop for Pages<'_, T> {
    fn drop(&mut self) {
        let range = self.range();
        // SAFETY: the mapping is this object's own, and no borrow of it is left.
        let _ = unsafe { libc::munmap(self.base, range.len()) };
    }
}

/// A process that was made apart, as its maker holds it.
#[derive(Debug)]
pub(crate) struct Copied {
    pidfd: OwnedFd,
    number: c_int,
}

/// What the copy begins with.
#[derive(Clone, Copy)]
struct Start<'a, T> {
    run: fn(&T),
    task: &'a T,
    /// The descriptors that it keeps, in their order.
    fds: &'a [c_int],
    /// Where memory begins and ends that it does not need.
    foreign: [[usize; 2]; MOST_FOREIGN],
}

impl Copied {
    /// Starts a process that does `run` with the first of `task`, and ends. It keeps the
    /// descriptors `fds`, and of the memory that is no program's the pages of `task` and the
    /// ranges `kept`.
    ///
    /// `run` must keep to the rules of this module.
    ///
    /// # Errors
    ///
    /// Those of `mmap` and `clone`.
    pub(crate) fn start<T: Copy>(
        task: &Pages<'_, T>,
        fds: &[c_int],
        kept: &[Range<usize>],
        run: fn(&T),
    ) -> Result<Self, c_int> {
        let first = task.first().ok_or(libc::EINVAL)?;
        let mut fds = fds.to_vec();
        fds.sort_unstable();
        let fds = Pages::new(&fds)?;
        let stack = Mapping::new(1, STACK)?;
        let foreign = [[0; 2]; MOST_FOREIGN];
        let mut start = Pages::new(&[Start { run, task: first, fds: &fds, foreign }])?;
        let mut needed =
            vec![task.range(), fds.range(), stack.range(), start.range(), own_variables()];
        needed.extend_from_slice(kept);
        needed.extend(loaded());
        // From here on nothing is laid out any more: it could be where something foreign was.
        let mut foreign = ranges_beside(&needed);
        foreign.sort_by_key(|range| std::cmp::Reverse(range.len()));
        if let Some(start) = start.first_mut() {
            for (place, range) in start.foreign.iter_mut().zip(foreign) {
                *place = [range.start, range.end];
            }
        }
        Self::clone_onto(&stack, &start)
    }

    fn clone_onto<T: Copy>(
        stack: &Mapping,
        start: &Pages<'_, Start<'_, T>>,
    ) -> Result<Self, c_int> {
        const FLAGS: c_int = libc::CLONE_PIDFD;
        let mut pidfd: c_int = -1;
        // No handler of ours may run in the copy.
        let before = set_signal_mask(SignalSet::MAX)?;
        let told = [ptr::from_mut(&mut pidfd), ptr::null_mut()];
        // SAFETY: the stack is for the copy alone, which has all memory for itself; what `start`
        // leads to stays mapped there. `main` is for this type of task, and keeps to the rules of
        // this module.
        let cloned = unsafe { clone_onto(FLAGS, stack.top(0), told, main::<T>, start.base) };
        // Cannot fail: the set is valid. The thread would be left with all signals blocked.
        let _ = set_signal_mask(before);
        let number = cloned?;
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
        Ok(Self { pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) }, number })
    }

    /// Lets the process look into this one, where the kernel lets only ancestors do that (Yama).
    pub(crate) fn let_look(&self) {
        // Fails where there is no such rule.
        let _ = set(libc::PR_SET_PTRACER, self.number.unsigned_abs() as usize);
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        // Fails only when it has ended.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = reap(self.pidfd.as_raw_fd(), libc::WEXITED);
    }
}

/// Where the program and its libraries are, with their variables.
pub(crate) fn loaded() -> Vec<Range<usize>> {
    let mut found = Vec::<Range<usize>>::new();
    let found_at = ptr::from_mut(&mut found).cast::<c_void>();
    // SAFETY: `note` takes what it is given here, and `found` lives through the call.
    let _ = unsafe { libc::dl_iterate_phdr(Some(note), found_at) };
    found
}

/// Adds the parts of one program or library.
extern "C" fn note(info: *mut libc::dl_phdr_info, _size: usize, found: *mut c_void) -> c_int {
    // SAFETY: the C library passes a description that lives through this call.
    let info = unsafe { &*info };
    // SAFETY: `loaded` passes this, and has no other borrow of it meanwhile.
    let found = unsafe { &mut *found.cast::<Vec<Range<usize>>>() };
    // SAFETY: there are as many headers as it says, and they stay where they are.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD) {
        // Addresses, on the processors that this is for.
        let [base, offset, length] = [info.dlpi_addr, header.p_vaddr, header.p_memsz]
            .map(|number| usize::try_from(number).unwrap_or(0));
        let start = base.wrapping_add(offset);
        found.push(start..start.saturating_add(length));
    }
    0
}

/// Where the calling thread keeps its own variables, the library of C's among them.
fn own_variables() -> Range<usize> {
    // SAFETY: gives an address.
    let address = unsafe { libc::__errno_location() } as usize;
    address.saturating_sub(OWN)..address.saturating_add(OWN)
}

/// The first function on the copy's stack.
extern "C" fn main<T: Copy>(start: *mut c_void) -> ! {
    // SAFETY: `start` passes pages that hold this and stay mapped.
    let start = unsafe { &*start.cast::<Start<'_, T>>() };
    if start.settle().is_ok() {
        (start.run)(start.task);
    }
    exit(0)
}

impl<T> Start<'_, T> {
    /// Parts with the caller.
    fn settle(&self) -> Result<(), c_int> {
        // With no handler left, no code of the caller's runs here; all signals stay blocked.
        reset_signal_actions();
        // A signal to the caller's group or from its terminal is none of this process's.
        new_session()?;
        self.close_others()?;
        // SAFETY: a C string; the call keeps nothing of it.
        unsafe { call(libc::SYS_chdir, [c"/".as_ptr() as usize]) }?;
        self.give_up_memory();
        set(libc::PR_SET_NAME, c"nono-supervisor".as_ptr() as usize)?;
        // Nobody of the same user may look into it, whatever sandbox they are in.
        set(libc::PR_SET_DUMPABLE, 0)
    }

    fn close_others(&self) -> Result<(), c_int> {
        let mut next = 0;
        for fd in self.fds {
            if next < *fd {
                close(next, *fd - 1)?;
            }
            next = next.max(*fd + 1);
        }
        close(next, c_int::MAX)
    }

    fn give_up_memory(&self) {
        for [start, end] in &self.foreign {
            // SAFETY: nothing in these ranges is used by this process: they are neither a
            // program's nor a library's, and hold nothing of what was laid out for it. A range
            // of no length is refused.
            let _ = unsafe { call(libc::SYS_munmap, [*start, end - start]) };
        }
    }
}
