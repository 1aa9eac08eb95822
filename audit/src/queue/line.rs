//! A line of a queue: a check sum, and what it is of.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crc32fast::hash;

use crate::record::hexadecimal;

/// The check sum's digits, and the space behind them.
const PREFIX: usize = 9;

/// Appends a line with `text`.
pub(super) fn put(lines: &mut Vec<u8>, text: &[u8]) {
    let begin = begin(lines);
    lines.extend_from_slice(text);
    end(lines, begin);
}

/// Begins a line, and returns where. Its text is to be appended, and then it is to be ended.
pub(super) fn begin(lines: &mut Vec<u8>) -> usize {
    let begin = lines.len();
    lines.extend_from_slice(b"00000000 ");
    begin
}

/// Ends the line that begins there.
pub(super) fn end(lines: &mut Vec<u8>, begin: usize) {
    let line = lines.get_mut(begin..).and_then(|line| line.split_at_mut_checked(PREFIX));
    if let Some((prefix, text)) = line {
        hexadecimal(&hash(text).to_be_bytes(), prefix);
    }
    lines.push(b'\n');
}

/// The text of a line, if it is whole and as it was written.
pub(super) fn text(line: &[u8]) -> Result<&[u8], &'static str> {
    let line = line.strip_suffix(b"\n").ok_or("it is cut off")?;
    let (prefix, text) = line.split_at_checked(PREFIX).ok_or("it is too short")?;
    let mut expected = *b"00000000 ";
    hexadecimal(&hash(text).to_be_bytes(), &mut expected);
    if prefix == expected { Ok(text) } else { Err("it is not as it was written") }
}

/// A place between two lines of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) file: u64,
    pub(super) offset: u64,
}

impl Position {
    /// Reads what [`Position::write`] has written; `None` if nothing was.
    pub(super) fn read(file: &File) -> io::Result<Option<Result<Self, ()>>> {
        let mut line = vec![0; 100];
        let len = file.read_at(&mut line, 0)?;
        line.truncate(len);
        Ok((len > 0).then(|| {
            let text = text(&line).ok().and_then(|text| str::from_utf8(text).ok());
            let (number, offset) = text.and_then(|text| text.split_once(' ')).ok_or(())?;
            let parse = |digits: &str| digits.parse().map_err(|_| ());
            Ok(Self { file: parse(number)?, offset: parse(offset)? })
        }))
    }

    /// Writes it over what was there, which has the same length: a process that is killed leaves
    /// the one or the other.
    pub(super) fn write(self, file: &File) -> io::Result<()> {
        let mut line = Vec::new();
        let Self { file: number, offset } = self;
        put(&mut line, format!("{number:020} {offset:020}").as_bytes());
        file.write_all_at(&line, 0)
    }
}
