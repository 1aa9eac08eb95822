//! The lines of a file that may hold anything: each with its number, and none of them without
//! bound in memory.

use std::io::{self, BufRead, Read as _};

/// How long a line may be. Those of a log have some kilobytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Reads them one by one.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    number: u64,
    bytes: Vec<u8>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// Its text, without the line feed, or why it has none.
    pub(crate) text: Result<&'a str, String>,
    /// Whether it has no line feed: the last, and perhaps not all of it.
    pub(crate) is_cut: bool,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, number: 0, bytes: Vec::new() }
    }

    /// The next one; behind one that is too long it cannot go on.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.bytes.clear();
        let mut limited = (&mut self.reader).take(MAX_BYTES + 1);
        if limited.read_until(b'\n', &mut self.bytes)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let bytes = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        let is_too_long = bytes.len() as u64 > MAX_BYTES;
        let is_cut = bytes.len() == self.bytes.len() && !is_too_long;
        let text = if is_too_long {
            Err(format!("it is longer than {MAX_BYTES} bytes"))
        } else {
            str::from_utf8(bytes)
                .map_err(|error| format!("it is no UTF-8 behind byte {}", error.valid_up_to()))
        };
        Ok(Some(Line { number: self.number, text, is_cut }))
    }
}
