//! What the kernel opens to execute a program, besides the program.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Bytes of a program that are looked at: as many as the longest path has.
const HEAD: usize = 4096;
/// What a script may begin with.
const SCRIPT: &[u8] = b"#!";
/// How many interpreters may have interpreters, as the kernel has it.
const MOST_INTERPRETERS: usize = 5;

/// A program, and what the kernel opens to execute it: the interpreter of a script, the loader of
/// a dynamic program, and theirs.
pub(crate) fn programs(program: &Path) -> Vec<PathBuf> {
    let mut found = vec![program.to_owned()];
    while found.len() <= MOST_INTERPRETERS {
        let next = found.last().and_then(|program| interpreter(program));
        let Some(next) = next.and_then(|path| fs::canonicalize(path).ok()) else { break };
        if found.contains(&next) {
            break;
        }
        found.push(next);
    }
    found
}

/// Opens a file, and never waits for the other end of a pipe.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(nonblock).open(path)
}

fn interpreter(program: &Path) -> Option<PathBuf> {
    let mut head = vec![0; HEAD];
    let mut program = open(program).ok()?;
    // Whoever wrote a script may have named a pipe or a device in it.
    program.metadata().ok().filter(Metadata::is_file)?;
    let read = program.read(&mut head).ok()?;
    let head = head.get(..read)?;
    if let Some(line) = head.strip_prefix(SCRIPT) {
        return Some(OsString::from_vec(named(line)?.to_vec()).into());
    }
    loader(head)
}

/// The interpreter that a script's first line names, as the kernel reads it: blanks and tabs set
/// words apart and nothing else does, and a NUL ends all.
fn named(line: &[u8]) -> Option<&[u8]> {
    let line = line.split(|byte| matches!(byte, b'\n' | b'\0')).next()?;
    line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())
}

/// The loader that an ELF program of 64 bits asks for (`PT_INTERP`, `elf(5)`): in what is read of
/// it, if it stands there, as it does with every usual linker.
fn loader(head: &[u8]) -> Option<PathBuf> {
    const INTERPRETER: u32 = 3;
    let number = |at: usize, size: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = usize::try_from(number(32, 8)?).ok()?;
    let (size, count) = (usize::try_from(number(54, 2)?).ok()?, number(56, 2)?);
    for index in 0..usize::try_from(count).ok()? {
        let entry = table.checked_add(size.checked_mul(index)?)?;
        if number(entry, 4)? == u64::from(INTERPRETER) {
            let at = usize::try_from(number(entry.checked_add(8)?, 8)?).ok()?;
            let path = head.get(at..)?.split(|byte| *byte == 0).next()?;
            return Some(Path::new(OsStr::from_bytes(path)).to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_comes_with_its_interpreters_and_loader() {
        let place = tempfile::tempdir().unwrap();
        let script = place.path().join("script");
        fs::write(&script, "#! /bin/sh -e\n").unwrap();
        let shell = fs::canonicalize("/bin/sh").unwrap();
        let found = programs(&script);
        assert_eq!(found[..2], [script, shell]);
        assert!(found[2].to_str().unwrap().contains("ld-"), "{found:?}");
    }

    #[test]
    fn an_interpreter_is_found_as_the_kernel_finds_it() {
        for (line, name) in [
            (&b" \t/bin/sh\t-e\nrest"[..], &b"/bin/sh"[..]),
            (b"/bin/a\x0bb\x0cc\r\n", b"/bin/a\x0bb\x0cc\r"),
            (b"/bin/sh\0 x", b"/bin/sh"),
            (b"\x0b/bin/sh", b"\x0b/bin/sh"),
        ] {
            assert_eq!(named(line), Some(name), "{line:?}");
        }
        assert_eq!(named(b" \n/bin/sh"), None);
    }

    #[test]
    fn nobody_waits_for_an_interpreter_that_is_none() {
        let place = tempfile::tempdir().unwrap();
        let (script, pipe) = (place.path().join("script"), place.path().join("pipe"));
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        fs::write(&script, format!("#!{}\n", pipe.display())).unwrap();
        assert_eq!(programs(&script), [script, pipe]);
        let own = place.path().join("own");
        fs::write(&own, format!("#!{}\n", own.display())).unwrap();
        assert_eq!(programs(&own), [own]);
    }
}
