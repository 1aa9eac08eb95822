//! What a call's arguments must be like for the call to be refused, and the statements that find
//! that out.

use seccompiler::{BpfProgram, sock_filter};

use super::layout::{give, jump_if, load, mask};

/// Refuses a call that meets all of its conditions.
pub(super) type Rule = Vec<Condition>;

/// Something about one argument.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condition {
    argument: u8,
    test: Test,
}

/// All but the last are about the low 32 bits: all the kernel looks at where it takes an `int`.
#[derive(Clone, Copy, Debug)]
enum Test {
    Is(u32),
    IsNot(u32),
    /// At least one of these bits is set.
    HasAny(u32),
    /// The bits of the first number are not as in the second.
    Differs(u32, u32),
    /// No null pointer: a condition on all 64 bits.
    IsThere,
}

pub(super) fn is(argument: u8, value: libc::c_int) -> Condition {
    Condition { argument, test: Test::Is(value.cast_unsigned()) }
}

pub(super) fn is_not(argument: u8, value: libc::c_int) -> Condition {
    Condition { argument, test: Test::IsNot(value.cast_unsigned()) }
}

pub(super) fn has_any(argument: u8, bits: libc::c_int) -> Condition {
    Condition { argument, test: Test::HasAny(bits.cast_unsigned()) }
}

pub(super) fn differs(argument: u8, bits: libc::c_int, value: libc::c_int) -> Condition {
    Condition { argument, test: Test::Differs(bits.cast_unsigned(), value.cast_unsigned()) }
}

pub(super) fn is_there(argument: u8) -> Condition {
    Condition { argument, test: Test::IsThere }
}

/// Gives `refusal` if one of the rules is met, and lets the call pass otherwise.
pub(super) fn compile(rules: &[Rule], refusal: u32) -> BpfProgram {
    let mut program = Vec::new();
    for rule in rules {
        program.extend(one(rule, refusal));
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program
}

/// Where a jump goes that leaves the rule; its length is known when the rule is.
const OUT: u8 = u8::MAX;

fn one(rule: &Rule, refusal: u32) -> BpfProgram {
    let mut program = Vec::new();
    let mut loaded = None;
    for Condition { argument, test } in rule {
        if loaded != Some(argument) {
            program.push(load(low(*argument)));
        }
        loaded = Some(argument);
        match *test {
            Test::Is(value) => program.push(jump_if(libc::BPF_JEQ, value, 0, OUT)),
            Test::IsNot(value) => program.push(jump_if(libc::BPF_JEQ, value, OUT, 0)),
            Test::HasAny(bits) => program.push(jump_if(libc::BPF_JSET, bits, 0, OUT)),
            Test::Differs(bits, value) => {
                program.extend([mask(bits), jump_if(libc::BPF_JEQ, value, OUT, 0)]);
                loaded = None;
            }
            Test::IsThere => {
                program.push(jump_if(libc::BPF_JEQ, 0, 0, 2));
                program.push(load(low(*argument) + 4));
                program.push(jump_if(libc::BPF_JEQ, 0, OUT, 0));
                loaded = None;
            }
        }
    }
    program.push(give(refusal));
    let end = program.len();
    for (at, statement) in program.iter_mut().enumerate() {
        // Rules have a few conditions.
        let out = u8::try_from(end - at - 1).unwrap_or(OUT);
        for way in [&mut statement.jt, &mut statement.jf] {
            if *way == OUT {
                *way = out;
            }
        }
    }
    program
}

/// Where the low half of an argument is in what a filter sees. All processors that are known here
/// put it first.
fn low(argument: u8) -> u32 {
    16 + 8 * u32::from(argument)
}

#[cfg(test)]
impl Condition {
    /// Whether these arguments meet it.
    #[expect(clippy::cast_possible_truncation, reason = "the low half")]
    pub(super) fn is_met(self, arguments: [u64; 6]) -> bool {
        let whole = arguments[usize::from(self.argument)];
        let low = whole as u32;
        match self.test {
            Test::Is(value) => low == value,
            Test::IsNot(value) => low != value,
            Test::HasAny(bits) => low & bits != 0,
            Test::Differs(bits, value) => low & bits != value,
            Test::IsThere => whole != 0,
        }
    }
}

const _: () = assert!(cfg!(target_endian = "little"), "see `low`");
const _: () = assert!(size_of::<sock_filter>() == 8, "as the kernel's");
