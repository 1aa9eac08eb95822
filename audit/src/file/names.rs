//! The names of a log's files: the one that grows, and those that it was, by number.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::FileOptions;
use super::opening::Previous;
use crate::chain::Chain;

/// Renames the file that grows, which has this `chain`, and removes what is not to be kept.
pub(super) fn set_aside(options: &FileOptions, chain: Chain) -> io::Result<Previous> {
    let path = &options.path;
    let numbers = numbers(path)?;
    let renamed = numbered(path, numbers.last().map_or(1, |last| last + 1));
    fs::rename(path, &renamed)?;
    let surplus = (numbers.len() + 1).saturating_sub(options.keep);
    if options.keep > 0 {
        for number in numbers.iter().take(surplus) {
            // One that cannot be removed is tried again with the next.
            let _ = fs::remove_file(numbered(path, *number));
        }
    }
    Ok(Previous::new(&renamed, chain))
}

/// `audit-events.7.ndjson` for `audit-events.ndjson` and 7.
pub(super) fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// The numbers of the renamed files, in order.
pub(super) fn numbers(path: &Path) -> io::Result<Vec<u64>> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let stem = path.file_stem().unwrap_or_default().as_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let rest = name.as_bytes().strip_prefix(stem).and_then(|rest| rest.strip_prefix(b"."));
        let digits = rest.and_then(|rest| rest.split(|byte| *byte == b'.').next());
        let number = digits.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
        // What else begins so is no file of this log.
        found.extend(number.filter(|number| numbered(path, *number).file_name() == Some(&*name)));
    }
    found.sort_unstable();
    Ok(found)
}
