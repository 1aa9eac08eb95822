//! A log as a file: hash-chained JSON Lines, in files of bounded size.
//!
//! `audit-events.ndjson` is the file that grows. When it is full, and when a new run finds it, it
//! is renamed: `audit-events.1.ndjson`, `audit-events.2.ndjson`, … Every file is a chain of its own,
//! whose first line says with which hash the one before it ended.

mod ahead;
mod group;
mod names;
mod opening;
mod verify;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::chain::Chain;
use crate::claim::Claim;
use crate::{Record, Sink, hash, regular};

use ahead::Ahead;
use group::{GROUP, Group};
use names::set_aside;
use opening::{Before, Previous, create, go_on};
pub use verify::{Fault, Verified, verify};

/// Where a log is written, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOptions {
    /// The file that grows. Its directory must be there.
    pub path: PathBuf,
    /// How many bytes it may have before the next one is begun; a single batch may exceed it. While it
    /// grows, up to 16 MiB of the disk are held for it besides.
    pub max_bytes: u64,
    /// How many renamed files are kept; 0 is all of them.
    pub keep: usize,
}

/// So many bytes of lines are made before they are written. A batch at full speed has fewer: one write
/// costs less than several.
const LINES: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub struct FileSink {
    options: FileOptions,
    file: Claim,
    chain: Chain,
    /// Up to here it is whole.
    len: u64,
    ahead: Ahead,
    /// Room for lines and what they are made of, used again with each batch.
    group: Group,
    lines: Vec<u8>,
    /// What it became, if it was renamed and the next one could not yet be made.
    aside: Option<Previous>,
}

impl FileSink {
    /// Begins a file. One that is there is renamed, unless it has no record: then it is gone on with,
    /// so that starts of which nothing comes do not push out what is kept.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn open(options: FileOptions) -> io::Result<Self> {
        hash::check(tape_sha256::hash_many_prefixed)?;
        // Kept until it is renamed, so that nobody else writes to it meanwhile.
        let found = match regular::open(&options.path) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let found = found.map(Claim::new).transpose()?;
        let is_begun =
            found.as_deref().map(File::metadata).transpose()?.is_some_and(|is| is.len() > 0);
        let before = is_begun.then(|| Before::read(&options.path)).transpose()?;
        let previous = match &before {
            Some(Before::Records(chain)) => {
                ahead::give_back(&options.path);
                Some(set_aside(&options, *chain)?)
            }
            Some(Before::Opening(_)) | None => None,
        };
        // What is still in place is claimed again.
        drop(found);
        let (file, chain, len) = match before {
            Some(Before::Opening(opened)) => go_on(&options.path, opened)?,
            Some(Before::Records(_)) | None => create(&options.path, previous)?,
        };
        let (group, lines) = (Group::default(), Vec::new());
        let ahead = Ahead::default();
        Ok(Self { options, file, chain, len, ahead, group, lines, aside: None })
    }

    /// Whether the file is where it was made: not removed, and not renamed by somebody.
    fn is_in_place(&self) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        Ok(match fs::metadata(&self.options.path) {
            Ok(there) => (there.dev(), there.ino()) == (ours.dev(), ours.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        })
    }

    /// Begins the next file if this one is full, or gone.
    fn renew(&mut self) -> io::Result<()> {
        let is_in_place = self.is_in_place()?;
        if is_in_place && self.len < self.options.max_bytes {
            return Ok(());
        }
        // Before the next file names its last line: a file that lost its end when the machine stopped
        // could not be told from one that was cut. The file that grows has nothing behind its end.
        self.ahead.give_back(&self.file);
        self.file.sync_data()?;
        if is_in_place {
            self.aside = Some(set_aside(&self.options, self.chain)?);
        }
        let path = &self.options.path;
        // What was removed or renamed by somebody is named as it was.
        let previous = self.aside.clone().unwrap_or_else(|| Previous::new(path, self.chain));
        (self.file, self.chain, self.len) = create(path, Some(previous))?;
        self.aside = None;
        Ok(())
    }

    /// Adds the lines of `records`: all, or none.
    fn add(&mut self, records: &[Record]) -> io::Result<()> {
        self.renew()?;
        let (whole, chain) = (self.len, self.chain);
        let done = self.put(records);
        if done.is_err() {
            // Half a line must not be followed by others. If this fails too, the file shows it.
            let _ = self.file.set_len(whole);
            (self.len, self.chain) = (whole, chain);
        }
        self.lines.clear();
        done
    }

    fn put(&mut self, records: &[Record]) -> io::Result<()> {
        for records in records.chunks(GROUP) {
            self.group.put_lines(records, &mut self.chain, &mut self.lines)?;
            if self.lines.len() > LINES {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let end = self.len + self.lines.len() as u64;
        self.ahead.reach(&self.file, self.len, end);
        self.file.write_all(&self.lines)?;
        self.len = end;
        self.lines.clear();
        Ok(())
    }
}

impl Sink for FileSink {
    fn name(&self) -> &'static str {
        "audit_file"
    }

    fn write(&mut self, records: &[Record]) -> io::Result<()> {
        self.add(records).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.options.path.display()))
        })
    }

    fn keeps(&self) -> Option<String> {
        Some(format!("the file {}", self.options.path.display()))
    }

    fn end(&mut self) {
        self.ahead.give_back(&self.file);
        // What the disk does not take here it has refused before.
        let _ = self.file.sync_data();
    }
}

#[cfg(test)]
mod tests;
