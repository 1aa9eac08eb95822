//! Lays a filter out as a search tree over the numbers of calls.
//!
//! When a filter is installed the kernel translates all of it into machine code, and follows it for
//! every number that a call can have: calls that it sees pass whatever their arguments are never
//! filtered again. Both take time in the start of every program, by the length of the filter and
//! the depth of the tree. So what is equal is written once, and `search.rs` says how to search.

use std::collections::HashMap;

use seccompiler::{BpfProgram, TargetArch, sock_filter};

use super::X32_BIT;
use super::rule::Rule;
use super::search::{Search, Span, Step, spans};

/// What a filter answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Allow,
    /// The call waits for the supervisor.
    Ask,
    /// It fails with this error number.
    Refuse(libc::c_int),
    /// The process ends.
    Kill,
}

impl Answer {
    /// As the kernel takes it.
    pub(super) fn code(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Ask => libc::SECCOMP_RET_USER_NOTIF,
            Self::Refuse(errno) => libc::SECCOMP_RET_ERRNO | errno.unsigned_abs(),
            Self::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Always this.
    Give(Answer),
    /// Refused with `EPERM` if one of the rules is met, else this.
    Judge(Vec<Rule>, Answer),
}

/// The filter that gives each call its verdict, and lets all others pass.
pub(super) fn lay_out(verdicts: &[(u32, Verdict)], arch: TargetArch) -> BpfProgram {
    let mut spans = spans(verdicts);
    let first = spans.last().map_or(0, |span| span.last + 1);
    let is_x86 = arch == TargetArch::x86_64;
    let last = if is_x86 { X32_BIT - 1 } else { u32::MAX };
    spans.push(Span { first, last, verdict: Verdict::Give(Answer::Allow) });
    if is_x86 {
        let verdict = Verdict::Give(Answer::Refuse(libc::ENOSYS));
        spans.push(Span { first: X32_BIT, last: u32::MAX, verdict });
    }
    let last = spans.len() - 1;
    let mut writer = Writer::default();
    let begin = writer.search(&Search::new(spans), 0, last);
    let begin = writer.load(NUMBER, begin);
    let kill = writer.give(Answer::Kill);
    let begin = writer.jump_if(libc::BPF_JEQ, name(arch), begin, kill);
    writer.load(ARCHITECTURE, begin);
    writer.finish()
}

/// A statement, by how many stand behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place(usize);

/// What a statement does, with its number, and where it goes on.
type Statement = (u32, u32, [Place; 2]);

/// A program that is written from its end, so that every jump knows where it leads.
#[derive(Debug, Default)]
pub(super) struct Writer {
    reversed: Vec<sock_filter>,
    /// What has been written already.
    known: Vec<(Verdict, Place)>,
    /// The same by the statement: what says the same and leads to the same is written once.
    written: HashMap<Statement, Place>,
}

impl Writer {
    /// A search for the span that has the number which is loaded, from a first to a last.
    fn search(&mut self, search: &Search, first: usize, last: usize) -> Place {
        match search.step(first, last) {
            Step::Found => self.verdict(&search.spans()[first].verdict),
            Step::From(middle) => {
                let number = search.spans()[middle].first;
                // What is written last is nearest, and a verdict may be far anyway.
                let (below, above) = if search.step(middle, last) == Step::Found {
                    let above = self.search(search, middle, last);
                    (self.search(search, first, middle - 1), above)
                } else {
                    let below = self.search(search, first, middle - 1);
                    (below, self.search(search, middle, last))
                };
                self.jump_if(libc::BPF_JGE, number, above, below)
            }
            Step::Singles => self.singles(search, first, last),
        }
    }

    fn singles(&mut self, search: &Search, first: usize, last: usize) -> Place {
        let Some((singles, other)) = search.singles(first, last) else {
            // Not where the search said so.
            return self.give(Answer::Kill);
        };
        let mut next = self.verdict(&other.verdict);
        for single in singles.iter().rev() {
            let found = self.verdict(&single.verdict);
            next = self.jump_if(libc::BPF_JEQ, single.first, found, next);
        }
        next
    }

    fn verdict(&mut self, verdict: &Verdict) -> Place {
        if let Some((_, place)) = self.known.iter().find(|(known, _)| known == verdict) {
            return *place;
        }
        let place = match verdict {
            Verdict::Give(answer) => self.write(libc::BPF_RET | libc::BPF_K, 0, 0, answer.code()),
            Verdict::Judge(rules, otherwise) => self.judge(rules, *otherwise),
        };
        self.known.push((verdict.clone(), place));
        place
    }

    pub(super) fn give(&mut self, answer: Answer) -> Place {
        self.verdict(&Verdict::Give(answer))
    }

    /// Loads a word of what a filter sees, and goes on there.
    pub(super) fn load(&mut self, offset: u32, then: Place) -> Place {
        self.once(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, [then; 2])
    }

    /// Keeps these bits alone of what is loaded, and goes on there.
    pub(super) fn mask(&mut self, bits: u32, then: Place) -> Place {
        self.once(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, bits, [then; 2])
    }

    /// Goes on at one place if a comparison with `value` holds, and at another if it does not.
    pub(super) fn jump_if(
        &mut self,
        comparison: u32,
        value: u32,
        holds: Place,
        fails: Place,
    ) -> Place {
        self.once(libc::BPF_JMP | comparison | libc::BPF_K, value, [holds, fails])
    }

    /// Writes a statement, unless there is one that does the same.
    fn once(&mut self, code: u32, k: u32, then: [Place; 2]) -> Place {
        let statement = (code, k, then);
        if let Some(place) = self.written.get(&statement) {
            return *place;
        }
        let place = if then[0] == then[1] {
            self.go_on(then[0]);
            self.write(code, 0, 0, k)
        } else {
            self.branch(code, k, then)
        };
        self.written.insert(statement, place);
        place
    }

    fn branch(&mut self, code: u32, k: u32, then: [Place; 2]) -> Place {
        // The way to the one may need a statement, which the other is then farther away by.
        const NEAR: usize = u8::MAX as usize - 2;
        let then = then.map(|to| {
            let is_near = self.distance(to) <= NEAR;
            if is_near { to } else { self.jump(to) }
        });
        let [jt, jf] = then.map(|to| u8::try_from(self.distance(to)).unwrap_or(u8::MAX));
        self.write(code, jt, jf, k)
    }

    /// Makes a place the next one.
    fn go_on(&mut self, then: Place) {
        if self.distance(then) > 0 {
            self.jump(then);
        }
    }

    fn jump(&mut self, to: Place) -> Place {
        // The kernel takes programs of 4096 statements.
        let over = u32::try_from(self.distance(to)).unwrap_or(u32::MAX);
        self.write(libc::BPF_JMP | libc::BPF_JA, 0, 0, over)
    }

    /// How many statements are between a place and the one to be written next.
    fn distance(&self, to: Place) -> usize {
        self.reversed.len() - to.0 - 1
    }

    fn write(&mut self, code: u32, jt: u8, jf: u8, k: u32) -> Place {
        let place = Place(self.reversed.len());
        // Operation codes are all below 256.
        self.reversed.push(sock_filter {
            code: u16::try_from(code).unwrap_or_default(),
            jt,
            jf,
            k,
        });
        place
    }

    fn finish(mut self) -> BpfProgram {
        self.reversed.reverse();
        self.reversed
    }
}

/// Where the call's number and the processor's interface stand in what a filter sees.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// The processor's `AUDIT_ARCH_` number of `linux/audit.h`.
fn name(arch: TargetArch) -> u32 {
    match arch {
        TargetArch::x86_64 => 0xC000_003E,
        TargetArch::aarch64 => 0xC000_00B7,
        TargetArch::riscv64 => 0xC000_00F3,
    }
}
