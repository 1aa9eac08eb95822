//! Contents, each under its hash.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{OFlags, ioctl_ficlone};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::error::SnapshotError;
use super::hash::ContentHash;

/// What is read at once; files up to this size are stored with one write.
const CHUNK: usize = 128 * 1024;

/// How the files begin that are being written.
const TEMPORARY: &str = ".nono-object-";

/// The `objects` directory of a session.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    /// Numbers the files that are being written.
    counter: AtomicU64,
    /// Whether files may share their blocks with their copies here, as far as is known.
    can_clone: AtomicBool,
}

/// Is told of bytes that were read or written when there are more to come; an error ends that.
pub(super) type Ask<'a> = &'a dyn Fn(u64) -> io::Result<()>;

/// What a file was when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) hash: ContentHash,
    pub(super) size: u64,
}

/// What reading a file failed with that is tracked: that is no fault of the session.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct Unread(#[from] Errno);

impl Unread {
    /// An error of the kernel's, as one of reading what is tracked.
    pub(super) fn or_own(error: io::Error) -> io::Error {
        match Errno::from_io_error(&error) {
            Some(errno) => io::Error::other(Self(errno)),
            None => error,
        }
    }

    pub(super) fn reason(error: &io::Error) -> Option<Errno> {
        Some(error.get_ref()?.downcast_ref::<Self>()?.0)
    }
}

impl Store {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, counter: AtomicU64::new(0), can_clone: AtomicBool::new(true) }
    }

    /// Removes what an interrupted call has left.
    pub(super) fn sweep(&self) -> Result<(), SnapshotError> {
        let fault = SnapshotError::io("read the directory", &self.root);
        for entry in fs::read_dir(&self.root).map_err(fault)?.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
                let path = entry.path();
                fs::remove_file(&path).map_err(SnapshotError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Where the content of `hash` stands, or would.
    pub(super) fn path(&self, hash: &ContentHash) -> PathBuf {
        let name = hash.to_string();
        let (directory, file) = name.split_at(2);
        self.root.join(directory).join(file)
    }

    /// Reads all of `file` and keeps what is not kept yet. What is stored is what was hashed,
    /// also if the file changes meanwhile.
    pub(super) fn keep(
        &self,
        file: &mut File,
        buffer: &mut Vec<u8>,
        ask: Ask<'_>,
    ) -> io::Result<Content> {
        buffer.resize(CHUNK, 0);
        let length = fill(file, buffer).map_err(Unread::or_own)?;
        let start = buffer.get(..length).unwrap_or_default();
        if length < CHUNK {
            return self.keep_text(start);
        }
        let temporary = self.create()?;
        self.keep_large(file, buffer, temporary, ask)
    }

    /// Keeps a text that is in memory.
    pub(super) fn keep_text(&self, text: &[u8]) -> io::Result<Content> {
        let content = Content { hash: ContentHash::of(&[text]), size: text.len() as u64 };
        self.keep_small(content, text).map(|()| content)
    }

    fn keep_small(&self, content: Content, bytes: &[u8]) -> io::Result<()> {
        if self.has(content, bytes) {
            return Ok(());
        }
        let mut temporary = self.create()?;
        temporary.file.write_all(bytes)?;
        self.place(temporary, content)
    }

    /// `buffer` is full of the beginning of `file`.
    fn keep_large(
        &self,
        file: &mut File,
        buffer: &mut [u8],
        mut temporary: Temporary,
        ask: Ask<'_>,
    ) -> io::Result<Content> {
        if self.clone_into(file, &temporary) {
            // What was cloned cannot change any more, so it is what is hashed.
            let content = digest(&mut File::open(&temporary.path)?, buffer, ask)?;
            return self.place(temporary, content).map(|()| content);
        }
        let (mut hasher, mut size, mut length) = (Sha256::new(), 0, buffer.len());
        while length > 0 {
            let part = buffer.get(..length).unwrap_or_default();
            hasher.update(part);
            temporary.file.write_all(part)?;
            size += length as u64;
            ask(length as u64)?;
            length = fill(file, buffer).map_err(Unread::or_own)?;
        }
        let content = Content { hash: ContentHash::finish(hasher), size };
        self.place(temporary, content).map(|()| content)
    }

    /// Whether the new file shares its blocks with `file` now.
    fn clone_into(&self, file: &File, temporary: &Temporary) -> bool {
        if !self.can_clone() {
            return false;
        }
        let is_cloned = ioctl_ficlone(&temporary.file, file).is_ok();
        self.can_clone.store(is_cloned, Ordering::Relaxed);
        is_cloned
    }

    /// Whether a content is kept already. One that is damaged, as by a power cut, is not.
    fn has(&self, content: Content, bytes: &[u8]) -> bool {
        let Ok(file) = self.open(&content.hash) else { return false };
        let is_as_long = file.metadata().is_ok_and(|found| found.len() == content.size);
        let mut kept = Vec::with_capacity(bytes.len() + 1);
        let most = content.size + 1;
        is_as_long && file.take(most).read_to_end(&mut kept).is_ok() && kept == bytes
    }

    fn create(&self) -> io::Result<Temporary> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Temporary { file, path, is_placed: false })
    }

    fn place(&self, mut temporary: Temporary, content: Content) -> io::Result<()> {
        let path = self.path(&content.hash);
        let moved = match fs::rename(&temporary.path, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = path.parent().unwrap_or(&self.root);
                fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
                fs::rename(&temporary.path, &path)
            }
            moved => moved,
        };
        temporary.is_placed = moved.is_ok();
        moved
    }

    /// What is wrong with a stored content, if anything is. Reads all of it.
    pub(super) fn fault(
        &self,
        wanted: Content,
        buffer: &mut Vec<u8>,
        ask: Ask<'_>,
    ) -> Result<Option<String>, SnapshotError> {
        let read = self.open(&wanted.hash).and_then(|mut file| digest_in(&mut file, buffer, ask));
        match read {
            Ok(found) if found == wanted => Ok(None),
            Ok(_) => Ok(Some("its content is not what its name says".to_owned())),
            Err(error) => error.downcast().map_or_else(|error| Ok(Some(error.to_string())), Err),
        }
    }

    /// Whether files may share their blocks with their copies here, as far as is known.
    pub(super) fn can_clone(&self) -> bool {
        self.can_clone.load(Ordering::Relaxed)
    }

    /// Opens a stored content.
    pub(super) fn open(&self, hash: &ContentHash) -> io::Result<File> {
        open_plain(&self.path(hash))
    }

    /// A small content, whole.
    pub(super) fn read(&self, wanted: Content) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(&wanted.hash)?.read_to_end(&mut bytes)?;
        if ContentHash::of(&[&bytes]) != wanted.hash {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the object is damaged"));
        }
        Ok(bytes)
    }
}

/// A file that is being written. It goes if it is not placed.
#[derive(Debug)]
struct Temporary {
    file: File,
    path: PathBuf,
    is_placed: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_placed {
            // The next call sweeps up what cannot be removed now.
            let _swept_later = fs::remove_file(&self.path);
        }
    }
}

/// What a whole file holds.
fn digest(file: &mut File, buffer: &mut [u8], ask: Ask<'_>) -> io::Result<Content> {
    let (mut hasher, mut size) = (Sha256::new(), 0);
    loop {
        let length = fill(file, buffer)?;
        hasher.update(buffer.get(..length).unwrap_or_default());
        size += length as u64;
        if length < buffer.len() {
            return Ok(Content { hash: ContentHash::finish(hasher), size });
        }
        ask(length as u64)?;
    }
}

/// What a whole file holds, in a buffer of the usual size.
pub(super) fn digest_in(
    file: &mut File,
    buffer: &mut Vec<u8>,
    ask: Ask<'_>,
) -> io::Result<Content> {
    buffer.resize(CHUNK, 0);
    digest(file, buffer, ask)
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(room) = buffer.get_mut(length..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Opens a file that is no link, and does not wait for what is a pipe.
pub(super) fn open_plain(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Writes a file beside its place and moves it there, so that it is there whole or not at all. What
/// is there already, from a call that was interrupted or as a link to elsewhere, is removed.
pub(super) fn write_whole<T>(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut io::BufWriter<&File>) -> io::Result<T>,
) -> io::Result<T> {
    let mut name = OsString::from(path);
    name.push(".new");
    let beside = PathBuf::from(name);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    let mut buffered = io::BufWriter::with_capacity(CHUNK, &file);
    let written = write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    fs::rename(&beside, path)?;
    Ok(written)
}
