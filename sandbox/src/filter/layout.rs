//! Lays a filter out as a search tree over the numbers of calls.
//!
//! When a filter is installed the kernel translates all of it into machine code, and follows it for
//! every number that a call can have. Both take time in the start of every program, by the length
//! of the filter and the depth of the tree. So what is equal is written once, and whole groups of
//! numbers share a leaf.

use seccompiler::{BpfProgram, TargetArch, sock_filter};

use super::X32_BIT;
use super::rule::Rule;

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
    let mut writer = Writer::default();
    let mut begin = writer.search(&spans(verdicts));
    if arch == TargetArch::x86_64 {
        let unknown = writer.give(Answer::Refuse(libc::ENOSYS));
        begin = writer.jump_if(libc::BPF_JGE, X32_BIT, unknown, begin);
    }
    begin = writer.load(NUMBER, begin);
    let kill = writer.give(Answer::Kill);
    begin = writer.jump_if(libc::BPF_JEQ, name(arch), begin, kill);
    writer.load(ARCHITECTURE, begin);
    writer.finish()
}

/// Numbers in a row whose calls have the same verdict.
struct Span {
    first: u32,
    last: u32,
    verdict: Verdict,
}

fn spans(verdicts: &[(u32, Verdict)]) -> Vec<Span> {
    let mut sorted: Vec<_> = verdicts.iter().collect();
    sorted.sort_by_key(|(number, _)| *number);
    let mut spans: Vec<Span> = Vec::new();
    for (number, verdict) in sorted {
        match spans.last_mut() {
            Some(span) if span.last + 1 == *number && span.verdict == *verdict => {
                span.last = *number;
            }
            _ => spans.push(Span { first: *number, last: *number, verdict: verdict.clone() }),
        }
    }
    spans
}

/// A statement, by how many stand behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

/// A program that is written from its end, so that every jump knows where it leads.
#[derive(Debug, Default)]
pub(super) struct Writer {
    reversed: Vec<sock_filter>,
    /// What has been written already.
    known: Vec<(Verdict, Place)>,
}

impl Writer {
    /// A search for the span that has the number which is loaded.
    fn search(&mut self, spans: &[Span]) -> Place {
        /// Spans that are compared one after the other.
        const LEAF: usize = 4;
        if let (below, [middle, ..]) = spans.split_at(spans.len() / 2)
            && spans.len() > LEAF
        {
            let above = spans.get(below.len()..).unwrap_or_default();
            let (first, above) = (middle.first, self.search(above));
            let below = self.search(below);
            return self.jump_if(libc::BPF_JGE, first, above, below);
        }
        let mut next = self.give(Answer::Allow);
        for span in spans.iter().rev() {
            let found = self.verdict(&span.verdict);
            next = if span.first == span.last {
                self.jump_if(libc::BPF_JEQ, span.first, found, next)
            } else {
                let from_first = self.jump_if(libc::BPF_JGT, span.last, next, found);
                let allow = self.give(Answer::Allow);
                self.jump_if(libc::BPF_JGE, span.first, from_first, allow)
            };
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
        self.go_on(then);
        self.write(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
    }

    /// Keeps these bits alone of what is loaded, and goes on there.
    pub(super) fn mask(&mut self, bits: u32, then: Place) -> Place {
        self.go_on(then);
        self.write(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, bits)
    }

    /// Goes on at one place if a comparison with `value` holds, and at another if it does not.
    pub(super) fn jump_if(
        &mut self,
        comparison: u32,
        value: u32,
        holds: Place,
        fails: Place,
    ) -> Place {
        // The way to the one may need a statement, which the other is then farther away by.
        const NEAR: usize = u8::MAX as usize - 2;
        let [holds, fails] = [holds, fails].map(|to| {
            let is_near = self.distance(to) <= NEAR;
            if is_near { to } else { self.jump(to) }
        });
        let [holds, fails] = [holds, fails].map(|to| self.distance(to));
        let [jt, jf] = [holds, fails].map(|over| u8::try_from(over).unwrap_or(u8::MAX));
        self.write(libc::BPF_JMP | comparison | libc::BPF_K, jt, jf, value)
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
