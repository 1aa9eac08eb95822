//! What the targets share: a way to run without a fuzzer, on mutations of given inputs.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

/// Declares a target: under a fuzzer its entry, otherwise a program that runs it on random input.
#[macro_export]
macro_rules! fuzz {
    ($check:ident, $seeds:expr) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $check(data));

        #[cfg(not(fuzzing))]
        fn main() {
            $crate::run($check, &$seeds);
        }
    };
}

/// Runs `check` on mutations of `seeds`, for as many seconds as the first argument says. A failure
/// prints the input that led to it.
pub fn run(check: fn(&[u8]), seeds: &[&[u8]]) {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut random = Random(RandomState::new().build_hasher().finish() | 1);
    let mut runs = 0_u64;
    while Instant::now() < end {
        for _ in 0..1000 {
            let input = random.mutation(seeds);
            let show = Show(&input);
            check(&input);
            std::mem::forget(show);
            runs += 1;
        }
    }
    let name = std::env::args().next().unwrap_or_default();
    println!("{name}: {runs} inputs");
}

/// Prints the input while a panic unwinds.
struct Show<'input>(&'input [u8]);

impl Drop for Show<'_> {
    fn drop(&mut self) {
        eprintln!("input: {:?}", String::from_utf8_lossy(self.0));
    }
}

/// Xorshift: enough to choose mutations.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// A seed, or two of them joined, with up to eight bytes changed, put in, taken out or said
    /// twice.
    fn mutation(&mut self, seeds: &[&[u8]]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].to_vec();
        if self.below(3) == 0 {
            let other = seeds[self.below(seeds.len())];
            let (at, from) = (self.below(bytes.len() + 1), self.below(other.len() + 1));
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        for _ in 0..self.below(9) {
            let at = self.below(bytes.len() + 1);
            match self.below(4) {
                0 => bytes.insert(at, self.byte()),
                1 if at < bytes.len() => bytes[at] = self.byte(),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.extend_from_within(at..),
            }
            bytes.truncate(4096);
        }
        bytes
    }

    /// Any byte; more often one that means something to a parser.
    fn byte(&mut self) -> u8 {
        let special = b"\r\n\0 :/.%@[]*#?;\\0123456789abcdefxXGPO\xc0\xff";
        if self.below(3) == 0 { self.below(256) as u8 } else { special[self.below(special.len())] }
    }
}
