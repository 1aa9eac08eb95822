//! What a call's arguments must be like for the call to be refused, and the statements that find
//! that out.

use seccompiler::sock_filter;

use super::layout::{Answer, Place, Writer};

/// Refuses a call that meets all of its conditions.
pub(super) type Rule = Vec<Condition>;

/// Something about one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    argument: u8,
    test: Test,
}

/// All but the last are about the low 32 bits: all the kernel looks at where it takes an `int`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Writer {
    /// Refuses a call that meets one of the rules.
    pub(super) fn judge(&mut self, rules: &[Rule], otherwise: Answer) -> Place {
        let refuse = self.give(Answer::Refuse(libc::EPERM));
        let mut next = self.give(otherwise);
        for rule in rules.iter().rev() {
            next = self.rule(rule, refuse, next);
        }
        next
    }

    fn rule(&mut self, rule: &Rule, met: Place, unmet: Place) -> Place {
        let mut next = met;
        for (at, Condition { argument, test }) in rule.iter().enumerate().rev() {
            next = self.test(*argument, *test, next, unmet);
            let before = at.checked_sub(1).and_then(|before| rule.get(before));
            let is_loaded =
                before.is_some_and(|it| it.argument == *argument && it.test.keeps_what_is_loaded());
            if !is_loaded {
                next = self.load(low(*argument), next);
            }
        }
        next
    }

    fn test(&mut self, argument: u8, test: Test, met: Place, unmet: Place) -> Place {
        match test {
            Test::Is(value) => self.jump_if(libc::BPF_JEQ, value, met, unmet),
            Test::IsNot(value) => self.jump_if(libc::BPF_JEQ, value, unmet, met),
            Test::HasAny(bits) => self.jump_if(libc::BPF_JSET, bits, met, unmet),
            Test::Differs(bits, value) => {
                let compared = self.jump_if(libc::BPF_JEQ, value, unmet, met);
                self.mask(bits, compared)
            }
            Test::IsThere => {
                let high = self.jump_if(libc::BPF_JEQ, 0, unmet, met);
                let high = self.load(low(argument) + 4, high);
                self.jump_if(libc::BPF_JEQ, 0, high, met)
            }
        }
    }
}

impl Test {
    /// Whether what was loaded for it is still there afterwards.
    fn keeps_what_is_loaded(self) -> bool {
        !matches!(self, Self::Differs(..) | Self::IsThere)
    }
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
