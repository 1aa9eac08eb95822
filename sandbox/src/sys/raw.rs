//! System calls by the processor's own instruction.
//!
//! The C library's functions write their error number to a variable of the thread. A process that
//! shares its parent's memory has that variable in common with a thread of its parent, and would
//! change it under that thread's hands. These functions keep everything in registers.

use std::arch::asm;
use std::ffi::{c_int, c_long, c_void};
use std::ptr;

/// The highest number that stands for an error, negated, in the result of a call.
const MAX_ERRNO: isize = 4095;

/// One system call.
///
/// # Safety
///
/// The arguments must be valid for the call, as its manual page demands.
pub(super) unsafe fn call<const N: usize>(
    number: c_long,
    arguments: [usize; N],
) -> Result<usize, c_int> {
    // Calls with fewer arguments ignore the rest, and `prctl` wants it zero.
    let mut six = [0; 6];
    for (place, argument) in six.iter_mut().zip(arguments) {
        *place = argument;
    }
    // SAFETY: upheld by the caller.
    result(unsafe { enter(number, six) })
}

/// Makes a process that begins with `entry(argument)` on the stack that ends at `top`, and gives
/// its number. What the flags ask for is written to the two places of `told`: to the first the
/// process's descriptor (`CLONE_PIDFD`) or number (`CLONE_PARENT_SETTID`), to the second a zero when
/// the process has left this memory (`CLONE_CHILD_CLEARTID`).
///
/// # Safety
///
/// `top` must be the end of memory that is nobody else's as long as the process lives, `argument`
/// what `entry` expects, and `told` what is written to, as far as something is. With `CLONE_VM` the
/// process must keep to what a process in somebody else's memory may do (see `shim.rs`).
pub(super) unsafe fn clone_onto(
    flags: c_int,
    top: *mut c_void,
    told: [*mut c_int; 2],
    entry: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> Result<c_int, c_int> {
    let [parent, child] = told.map(|place| place as usize);
    let arguments = [flags.cast_unsigned() as usize, top as usize, parent, child];
    // SAFETY: upheld by the caller.
    number(unsafe { enter_clone(libc::SYS_clone, arguments, entry, argument) })
}

/// The kernel's `struct clone_args` in its third version.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct CloneArguments {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    /// The lowest address of the stack.
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    /// The descriptor of the control group to begin in.
    pub cgroup: u64,
}

/// The same by `clone3`, which knows more, and which some containers do not have.
///
/// # Safety
///
/// As for [`clone_onto`], of the stack and the places that `arguments` has.
pub(super) unsafe fn clone_with(
    arguments: &CloneArguments,
    entry: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> Result<c_int, c_int> {
    let arguments = [ptr::from_ref(arguments) as usize, size_of::<CloneArguments>(), 0, 0];
    // SAFETY: upheld by the caller; the first two are a structure and its size.
    number(unsafe { enter_clone(libc::SYS_clone3, arguments, entry, argument) })
}

/// Whether a process can be made to begin in a control group.
pub(crate) fn can_begin_in_group() -> bool {
    // SAFETY: no structure has this size, which the kernel refuses before it reads any.
    let refused = unsafe { call(libc::SYS_clone3, [0, 0]) };
    refused == Err(libc::EINVAL)
}

fn number(value: isize) -> Result<c_int, c_int> {
    c_int::try_from(result(value)?).map_err(|_| libc::EOVERFLOW)
}

fn result(value: isize) -> Result<usize, c_int> {
    if (-MAX_ERRNO..0).contains(&value) {
        // At most 4095.
        return Err(c_int::try_from(-value).unwrap_or(libc::EINVAL));
    }
    Ok(value.cast_unsigned())
}

#[cfg(target_arch = "x86_64")]
unsafe fn enter(number: c_long, arguments: [usize; 6]) -> isize {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    let result;
    // SAFETY: upheld by the caller; the instruction changes no register but those named.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") first, in("rsi") second, in("rdx") third,
            in("r10") fourth, in("r8") fifth, in("r9") sixth,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(target_arch = "x86_64")]
unsafe fn enter_clone(
    number: c_long,
    arguments: [usize; 4],
    entry: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> isize {
    let [first, second, third, child] = arguments;
    let result;
    // SAFETY: upheld by the caller. Only the new process, which has a stack of its own, goes past
    // the jump, and never comes back.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") number => result,
            in("rdi") first, in("rsi") second, in("rdx") third, in("r10") child, in("r8") 0_usize,
            in("r12") argument, in("r13") entry,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn enter(number: c_long, arguments: [usize; 6]) -> isize {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    let result;
    // SAFETY: upheld by the caller; the instruction changes no register but the result's.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") first => result,
            in("x1") second, in("x2") third, in("x3") fourth, in("x4") fifth, in("x5") sixth,
            options(nostack),
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn enter_clone(
    number: c_long,
    arguments: [usize; 4],
    entry: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> isize {
    let [first, second, third, child] = arguments;
    let result;
    // SAFETY: upheld by the caller. Only the new process, which has a stack of its own, goes past
    // the jump, and never comes back.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x9",
            "blr x10",
            "brk 1",
            "2:",
            in("x8") number,
            inlateout("x0") first => result,
            in("x1") second, in("x2") third, in("x3") 0_usize, in("x4") child,
            in("x9") argument, in("x10") entry,
        );
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("system calls are written for x86-64 and AArch64");
