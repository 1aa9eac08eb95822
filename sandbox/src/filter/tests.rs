//! The compiled filter, run on calls that this machine's kernel would not let a test make.

#![cfg(target_arch = "x86_64")]

use super::*;

/// `AUDIT_ARCH_` numbers of `linux/audit.h`.
const X86_64: u32 = 0xC000_003E;
const I386: u32 = 0x4000_0003;

/// What the filter answers to a call: the kernel's machine, as far as filters use it.
fn answer(program: &[sock_filter], arch: u32, call: u32, arguments: [u32; 6]) -> u32 {
    let mut accumulator = 0;
    let mut at = 0;
    loop {
        let sock_filter { code, jt, jf, k } = program[at].clone();
        let jump = |condition| usize::from(if condition { jt } else { jf });
        at += 1;
        match code {
            0x06 => return k,
            0x20 => {
                accumulator = match k {
                    0 => call,
                    4 => arch,
                    // Each argument has a low word and then a high one, of zero here.
                    k if k % 8 == 0 => arguments[(k as usize - 16) / 8],
                    _ => 0,
                };
            }
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(accumulator == k),
            0x25 => at += jump(accumulator > k),
            0x35 => at += jump(accumulator >= k),
            code => unreachable!("unknown code {code:#x}"),
        }
    }
}

fn errno(number: libc::c_int) -> u32 {
    libc::SECCOMP_RET_ERRNO | number.unsigned_abs()
}

#[test]
fn other_interfaces_of_the_processor_are_closed() {
    for seal in [Seal::Open, Seal::Ports, Seal::Local, Seal::Tcp] {
        let program = compile(seal, TargetArch::x86_64).unwrap();
        let answer = |arch, call| answer(&program, arch, call, [0; 6]);
        let getpid = 39;
        assert_eq!(answer(X86_64, getpid), libc::SECCOMP_RET_ALLOW);
        assert_eq!(answer(X86_64, X32_BIT + getpid), errno(libc::ENOSYS));
        assert_eq!(answer(X86_64, u32::MAX), errno(libc::ENOSYS));
        // The same number, but of another table of calls.
        assert_eq!(answer(I386, getpid), libc::SECCOMP_RET_KILL_PROCESS);
    }
}

#[test]
fn every_type_of_socket_but_streams_is_refused() {
    let program = compile(Seal::Tcp, TargetArch::x86_64).unwrap();
    let socket = 41;
    for kind in 0..16 {
        for flags in [0, libc::SOCK_CLOEXEC.unsigned_abs()] {
            let expected = if kind == 1 { libc::SECCOMP_RET_ALLOW } else { errno(libc::EPERM) };
            let said = answer(&program, X86_64, socket, [2, kind | flags, 0, 0, 0, 0]);
            assert_eq!(said, expected, "type {kind}");
        }
    }
    for family in (0..64).filter(|family| ![1, 2, 10, 16].contains(family)) {
        let said = answer(&program, X86_64, socket, [family, 1, 0, 0, 0, 0]);
        assert_eq!(said, errno(libc::EPERM), "family {family}");
    }
}

#[test]
fn ports_alone_leave_datagrams_and_close_other_streams() {
    let program = compile(Seal::Ports, TargetArch::x86_64).unwrap();
    let socket = 41;
    let said = |kind, protocol| answer(&program, X86_64, socket, [2, kind, protocol, 0, 0, 0]);
    for kind in 0..16 {
        let expected = if [1, 2].contains(&kind) { libc::SECCOMP_RET_ALLOW } else { errno(1) };
        assert_eq!(said(kind, 0), expected, "type {kind}");
    }
    for (kind, protocol) in [(1, 6), (2, 17)] {
        assert_eq!(said(kind, protocol), libc::SECCOMP_RET_ALLOW);
    }
    for (kind, protocol) in [(1, 132), (1, 262), (2, 136), (2, 1)] {
        assert_eq!(said(kind, protocol), errno(1), "{kind} {protocol}");
    }
}
