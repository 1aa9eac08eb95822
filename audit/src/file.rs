//! A log as a file: hash-chained JSON Lines, in files of bounded size.
//!
//! `audit-events.ndjson` is the file that grows. When it is full, and when a new run finds it, it
//! is renamed: `audit-events.1.ndjson`, `audit-events.2.ndjson`, … Every file is a chain of its own,
//! whose first line says with which hash the one before it ended.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use crate::chain::{Chain, Event, Hash, Previous};
use crate::recorder::unix_ms;
use crate::{Record, Sink};

/// Where a log is written, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOptions {
    /// The file that grows. Its directory must be there.
    pub path: PathBuf,
    /// How many bytes it may have before the next one is begun; a single batch may exceed it.
    pub max_bytes: u64,
    /// How many renamed files are kept; 0 is all of them.
    pub keep: usize,
}

/// See the module.
#[derive(Debug)]
pub struct FileSink {
    options: FileOptions,
    file: File,
    chain: Chain,
    /// Up to here it is whole.
    len: u64,
}

impl FileSink {
    /// Begins a file; one that is there is renamed.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn open(options: FileOptions) -> io::Result<Self> {
        let previous = match fs::metadata(&options.path) {
            Ok(found) if found.len() > 0 => {
                let (chain, _) = follow(&options.path, Chain::default(), |_, _| Ok(()))?;
                Some(chain)
            }
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let (file, chain, len) = begin(&options, previous)?;
        Ok(Self { options, file, chain, len })
    }

    fn append(&mut self, bytes: &[u8], chain: Chain) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // Half a line must not be followed by others. If this fails too, the file shows it.
            let _ = self.file.set_len(self.len);
            return Err(error);
        }
        self.chain = chain;
        self.len += bytes.len() as u64;
        Ok(())
    }
}

impl Sink for FileSink {
    fn write(&mut self, records: &[Record]) -> io::Result<()> {
        if self.len >= self.options.max_bytes {
            self.file.sync_data()?;
            (self.file, self.chain, self.len) = begin(&self.options, Some(self.chain))?;
        }
        let (mut bytes, mut chain) = (Vec::new(), self.chain);
        for event in records {
            chain.append(&Event::Network { event }, &mut bytes)?;
        }
        self.append(&bytes, chain)
    }

    fn end(&mut self) {
        // What the disk does not take here it has refused before.
        let _ = self.file.sync_data();
    }
}

/// Begins the file that grows; what is there is renamed, and ends with the hash of `previous`.
fn begin(options: &FileOptions, previous: Option<Chain>) -> io::Result<(File, Chain, u64)> {
    let path = &options.path;
    let previous = match previous {
        None => None,
        Some(chain) => {
            let numbers = numbers(path)?;
            let renamed = numbered(path, numbers.last().map_or(1, |last| last + 1));
            fs::rename(path, &renamed)?;
            let surplus = (numbers.len() + 1).saturating_sub(options.keep);
            if options.keep > 0 {
                for number in numbers.iter().take(surplus) {
                    fs::remove_file(numbered(path, *number))?;
                }
            }
            let file = renamed.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Some(Previous { file, records: chain.lines, chain_head: chain.head })
        }
    };
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    // It tells who asked for what: that is its owner's alone.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let (mut chain, mut line) = (Chain::default(), Vec::new());
    chain.append(&Event::LogOpened { timestamp_unix_ms: unix_ms(), previous }, &mut line)?;
    file.write_all(&line)?;
    Ok((file, chain, line.len() as u64))
}

/// `audit-events.7.ndjson` for `audit-events.ndjson` and 7.
fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// The numbers of the renamed files, in order.
fn numbers(path: &Path) -> io::Result<Vec<u64>> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let stem = path.file_stem().unwrap_or_default();
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = Path::new(&name).file_stem().and_then(|name| Path::new(name).extension());
        let number = number.and_then(|number| number.to_str()?.parse().ok());
        if let Some(number) = number
            && numbered(path, number).file_name() == Some(&*name)
            && Path::new(&name).file_stem().map(Path::new).and_then(Path::file_stem) == Some(stem)
        {
            found.push(number);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The files that were read, in their order.
    pub files: Vec<PathBuf>,
    /// The lines of all of them that are as they were written.
    pub lines: u64,
    /// The last line's `chain_hash`: kept elsewhere, it shows whether lines are missing at the end.
    pub head: Option<Hash>,
    /// What is wrong first, and where; nothing behind it was read.
    pub fault: Option<Fault>,
}

/// Where a log is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// In which file.
    pub file: PathBuf,
    /// In which line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads the log at `path`, renamed files first, and checks every hash. If a file before the
/// first that is kept was removed for want of room, the log is checked from there.
///
/// # Errors
/// A file cannot be read.
pub fn verify(path: &Path) -> io::Result<Verified> {
    // A file that a killed process left ends anywhere; the next one says which line was its last.
    let mut files: Vec<_> = numbers(path)?.into_iter().map(|n| numbered(path, n)).collect();
    files.push(path.to_owned());
    let mut verified = Verified { files: Vec::new(), lines: 0, head: None, fault: None };
    let mut before: Option<Previous> = None;
    for file in files {
        let is_linked = |sequence, event: &str| match (sequence, &before) {
            (0, Some(before)) => linked(event, before),
            _ => Ok(()),
        };
        let (chain, fault) = follow(&file, Chain::default(), is_linked)?;
        verified.lines += chain.lines;
        verified.head = chain.head;
        verified.files.push(file.clone());
        if let Some(fault) = fault
            && !(fault.is_cut && file != path)
        {
            verified.fault = Some(Fault { file, line: fault.line, reason: fault.reason });
            break;
        }
        let name = file.file_name().map(OsString::from).unwrap_or_default();
        before = Some(Previous {
            file: name.to_string_lossy().into_owned(),
            records: chain.lines,
            chain_head: chain.head,
        });
    }
    Ok(verified)
}

/// Whether a file whose first event is `event` goes on from `before`.
fn linked(event: &str, before: &Previous) -> Result<(), String> {
    #[derive(serde::Deserialize)]
    struct Opening {
        previous: Option<Previous>,
    }
    let opening: Opening =
        serde_json::from_str(event).map_err(|error| format!("it opens no file: {error}"))?;
    match opening.previous {
        Some(named) if named == *before => Ok(()),
        _ => Err(format!("it does not go on from {} as that file ends", before.file)),
    }
}

/// What is wrong with a line of a file.
struct Broken {
    line: u64,
    reason: String,
    /// Whether it is only not whole, and the last.
    is_cut: bool,
}

/// Follows the lines of a file, and says which one is wrong; `judge` is given each one's number in the chain and its event.
fn follow(
    path: &Path,
    mut chain: Chain,
    judge: impl Fn(u64, &str) -> Result<(), String>,
) -> io::Result<(Chain, Option<Broken>)> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let before = chain;
        let is_cut = line.last() != Some(&b'\n');
        let followed = match line.split_last() {
            Some((b'\n', text)) => std::str::from_utf8(text)
                .map_err(|_| "it is no text".to_owned())
                .and_then(|text| chain.follow(text))
                .and_then(|event| judge(before.lines, &event)),
            _ => Err("it is cut off".into()),
        };
        if let Err(reason) = followed {
            return Ok((before, Some(Broken { line: number, reason, is_cut })));
        }
    }
    Ok((chain, None))
}

#[cfg(test)]
mod tests;
