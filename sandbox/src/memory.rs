//! Which memory of this process belongs to no program or library: the stacks and heaps of its
//! threads, and what they share with others. From `/proc/self/maps` (`proc_pid_maps(5)`).

use std::fs;
use std::ops::Range;

/// Bytes of a page, or a multiple of them.
const PAGE: usize = if cfg!(target_arch = "x86_64") { 4 << 10 } else { 64 << 10 };

/// The memory of this process but for `needed`, and what the kernel put there. None if the table
/// cannot be read.
pub(crate) fn ranges_beside(needed: &[Range<usize>]) -> Vec<Range<usize>> {
    beside(&fs::read("/proc/self/maps").unwrap_or_default(), needed)
}

fn beside(table: &[u8], needed: &[Range<usize>]) -> Vec<Range<usize>> {
    // A file may have any name; what matters in a line is text.
    let table = String::from_utf8_lossy(table);
    let mappings = table.lines().filter_map(parse);
    mappings.flat_map(|mapping| without(mapping, needed)).collect()
}

/// The range of a line; none if it is the kernel's, for system calls that need not enter it.
fn parse(line: &str) -> Option<Range<usize>> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    // The path of a file begins with a slash.
    let name = line.split_ascii_whitespace().nth(5).unwrap_or_default();
    if name.starts_with("[v") || name == "[uprobes]" {
        return None;
    }
    Some(address(start)?..address(end)?)
}

/// A range but for the pages of others.
fn without(range: Range<usize>, others: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut left = vec![range];
    for other in others {
        let (from, to) = (other.start / PAGE * PAGE, other.end.next_multiple_of(PAGE));
        let around =
            |part: Range<usize>| [part.start..part.end.min(from), part.start.max(to)..part.end];
        left = left.into_iter().flat_map(around).filter(|part| !part.is_empty()).collect();
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::loaded;

    #[test]
    fn what_is_needed_stays_to_the_page() {
        let table = b"\
100000-200000 r-xp 00000000 08:01 7   /usr/bin/python3
400000-500000 rw-p 00000000 00:00 0   [heap]
500000-900000 rw-p 00000000 00:00 0
a00000-b00000 rw-s 00000000 00:01 11  /dev/shm/x (deleted)
b00000-c00000 r-xp 00000000 00:00 0   [vdso]
c00000-d00000 rw-s 00000000 00:01 12  /dev/shm/\xff [vdso]
not a line
";
        let found = beside(table, &[0x100_000..0x1ff_001, 0x620_000..0x620_001]);
        let after = 0x620_000 + PAGE;
        let shared = [0xa00_000..0xb00_000, 0xc00_000..0xd00_000];
        let own = [0x400_000..0x500_000, 0x500_000..0x620_000, after..0x900_000];
        assert_eq!(found, [&own[..], &shared[..]].concat());
    }

    #[test]
    fn this_programs_own_is_loaded() {
        static VARIABLE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let on_heap = vec![0_u8; 1 << 20];
        let found = ranges_beside(&loaded());
        let has = |address: usize| found.iter().any(|range| range.contains(&address));
        assert!(has(on_heap.as_ptr().addr()));
        assert!(!has(std::ptr::from_ref(&VARIABLE).addr()));
        assert!(!has("text".as_ptr().addr()));
    }
}
