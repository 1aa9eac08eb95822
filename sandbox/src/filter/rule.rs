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
    /// They are.
    Agrees(u32, u32),
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

pub(super) fn agrees(argument: u8, bits: libc::c_int, value: libc::c_int) -> Condition {
    Condition { argument, test: Test::Agrees(bits.cast_unsigned(), value.cast_unsigned()) }
}

pub(super) fn is_there(argument: u8) -> Condition {
    Condition { argument, test: Test::IsThere }
}

/// Where it goes on to look at an argument.
#[derive(Clone, Copy, Debug)]
enum Entry {
    /// Here, whatever is loaded.
    At(Place),
    /// Here, once this argument is loaded.
    Loaded(u8, Place),
}

impl Writer {
    /// Refuses a call that meets one of the rules.
    pub(super) fn judge(&mut self, rules: &[Rule], otherwise: Answer) -> Place {
        let refuse = self.give(Answer::Refuse(libc::EPERM));
        let mut next = Entry::At(self.give(otherwise));
        for rule in rules.iter().rev() {
            next = self.rule(rule, refuse, next);
        }
        self.enter(next, None)
    }

    fn rule(&mut self, rule: &Rule, met: Place, unmet: Entry) -> Entry {
        if let Entry::Loaded(argument, _) = unmet
            && rule.iter().any(|condition| condition.leaves_loaded() != Some(argument))
        {
            // Where nothing is yet between the loading and what it is for.
            self.enter(unmet, None);
        }
        let mut next = Entry::At(met);
        for condition in rule.iter().rev() {
            let loaded = condition.leaves_loaded();
            let [met, unmet] = [next, unmet].map(|entry| self.enter(entry, loaded));
            let Condition { argument, test } = *condition;
            next = Entry::Loaded(argument, self.test(argument, test, met, unmet));
        }
        next
    }

    /// The way to an entry, if this argument is loaded.
    fn enter(&mut self, entry: Entry, loaded: Option<u8>) -> Place {
        match entry {
            Entry::At(place) => place,
            Entry::Loaded(argument, place) if loaded == Some(argument) => place,
            Entry::Loaded(argument, place) => self.load(low(argument), place),
        }
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
            Test::Agrees(bits, value) => {
                let compared = self.jump_if(libc::BPF_JEQ, value, met, unmet);
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

impl Condition {
    /// The argument whose low half is still loaded when it has been looked at.
    fn leaves_loaded(self) -> Option<u8> {
        let leaves = !matches!(self.test, Test::Differs(..) | Test::Agrees(..) | Test::IsThere);
        leaves.then_some(self.argument)
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
            Test::Agrees(bits, value) => low & bits == value,
            Test::IsThere => whole != 0,
        }
    }
}

const _: () = assert!(cfg!(target_endian = "little"), "see `low`");
const _: () = assert!(size_of::<sock_filter>() == 8, "as the kernel's");
