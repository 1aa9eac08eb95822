//! Lays a filter out as a search tree over the numbers of calls.
//!
//! When a filter is installed the kernel follows it for every number that a call can have, and
//! translates all of it into machine code. With the rules in a row, as libraries lay them out,
//! that takes longer than all else in the start of a program.

use seccompiler::{BpfProgram, TargetArch, sock_filter};

use super::X32_BIT;
use super::rule::{self, Rule};

/// What becomes of a call.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Allow,
    /// Refused with this error number.
    Refuse(libc::c_int),
    /// Refused if one of the rules is met.
    Judge(Vec<Rule>),
}

/// The filter that gives each call its verdict, and all others leave.
pub(super) fn lay_out(verdicts: &[(u32, Verdict)], arch: TargetArch) -> BpfProgram {
    let parts = partition(verdicts).into_iter();
    let mut leaves: Vec<_> = parts.map(|(begin, verdict)| (begin, leaf(&verdict))).collect();
    let mut program = vec![
        load(ARCHITECTURE),
        jump_if(libc::BPF_JEQ, name(arch), 1, 0),
        give(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
    ];
    if arch == TargetArch::x86_64 {
        leaves.push((X32_BIT, vec![give(refusal(libc::ENOSYS))]));
    }
    program.extend(tree(&leaves));
    program
}

/// Every number's verdict, as those from where on it holds.
fn partition(verdicts: &[(u32, Verdict)]) -> Vec<(u32, Verdict)> {
    let mut sorted: Vec<_> = verdicts.iter().collect();
    sorted.sort_by_key(|(number, _)| *number);
    let mut parts = vec![(0, Verdict::Allow)];
    for (number, verdict) in sorted {
        // What is only allowed since it lies behind another one ends here, or never began.
        parts.pop_if(|(begin, last)| begin == number && matches!(last, Verdict::Allow));
        let is_as_before = match (parts.last(), verdict) {
            (Some((_, Verdict::Refuse(before))), Verdict::Refuse(now)) => before == now,
            _ => false,
        };
        if !is_as_before {
            parts.push((*number, verdict.clone()));
        }
        parts.push((number + 1, Verdict::Allow));
    }
    parts
}

/// What is done with the calls of one part.
fn leaf(verdict: &Verdict) -> BpfProgram {
    match verdict {
        Verdict::Allow => vec![give(libc::SECCOMP_RET_ALLOW)],
        Verdict::Refuse(errno) => vec![give(refusal(*errno))],
        Verdict::Judge(rules) => rule::compile(rules, refusal(libc::EPERM)),
    }
}

/// A search for the last of `leaves` that begins at or below the number that is loaded.
fn tree(leaves: &[(u32, BpfProgram)]) -> BpfProgram {
    let (below, above) = leaves.split_at(leaves.len() / 2);
    let Some((middle, only)) = above.first() else { return Vec::new() };
    if below.is_empty() {
        return only.clone();
    }
    let (below, above) = (tree(below), tree(above));
    let mut program = match u8::try_from(below.len()) {
        Ok(over) => vec![jump_if(libc::BPF_JGE, *middle, over, 0)],
        Err(_) => vec![jump_if(libc::BPF_JGE, *middle, 0, 1), jump(below.len())],
    };
    program.extend(below);
    program.extend(above);
    program
}

/// Where the call's number and the processor's interface stand in what a filter sees.
pub(super) const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// The processor's `AUDIT_ARCH_` number of `linux/audit.h`.
fn name(arch: TargetArch) -> u32 {
    match arch {
        TargetArch::x86_64 => 0xC000_003E,
        TargetArch::aarch64 => 0xC000_00B7,
        TargetArch::riscv64 => 0xC000_00F3,
    }
}

fn refusal(errno: libc::c_int) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()
}

pub(super) fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

pub(super) fn give(answer: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, 0, 0, answer)
}

/// Goes on behind so many statements, if the comparison with `value` holds or if it does not.
pub(super) fn jump_if(comparison: u32, value: u32, holds: u8, fails: u8) -> sock_filter {
    statement(libc::BPF_JMP | comparison | libc::BPF_K, holds, fails, value)
}

/// Keeps these bits alone of what is loaded.
pub(super) fn mask(bits: u32) -> sock_filter {
    statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, bits)
}

fn jump(over: usize) -> sock_filter {
    // The kernel takes programs of 4096 statements.
    let over = u32::try_from(over).unwrap_or(u32::MAX);
    statement(libc::BPF_JMP | libc::BPF_JA, 0, 0, over)
}

fn statement(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    // Operation codes are all below 256.
    sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k }
}
