//! Opening files that anybody may have put there, and reading them whole. What is no regular file
//! could keep a reader waiting, or never end: it is refused.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// How long a text that is read whole may be.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Opens the file at `path` for reading.
///
/// # Errors
/// What the operating system says; [`io::ErrorKind::InvalidInput`] if it is no regular file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    open_with(path, OFlag::empty())
}

fn open_with(path: &Path, more: OFlag) -> io::Result<File> {
    // The open of a FIFO would wait for a writer, and that of a terminal could take it over.
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY | more).bits();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    // The open file is judged, not the path: the path may change meanwhile.
    if file.metadata()?.is_file() { Ok(file) } else { Err(irregular()) }
}

fn irregular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")
}

/// Reads the text at `path`.
///
/// # Errors
/// As [`open`]; [`io::ErrorKind::InvalidData`] if it is no UTF-8, and
/// [`io::ErrorKind::FileTooLarge`] if it is longer than 256 MiB.
pub(crate) fn read_to_string(path: &Path) -> io::Result<String> {
    read_within(path, MAX_BYTES)
}

/// As [`read_to_string`], with another bound in bytes.
pub(crate) fn read_within(path: &Path, most: u64) -> io::Result<String> {
    text_of(open(path)?, most)
}

/// As [`read_to_string`], but of no more than `most` bytes, and of no link to a file elsewhere.
pub(crate) fn read_unlinked(path: &Path, most: u64) -> io::Result<String> {
    let is_link = |error: &io::Error| error.raw_os_error() == Some(Errno::ELOOP as i32);
    let opened = open_with(path, OFlag::O_NOFOLLOW);
    let file = opened.map_err(|error| if is_link(&error) { irregular() } else { error })?;
    text_of(file, most)
}

fn text_of(file: File, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    // Before it is looked into: where it is cut there may be half a character.
    if bytes.len() as u64 > most {
        let said = format!("it is longer than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, said));
    }
    String::from_utf8(bytes).map_err(|error| {
        let said = format!("it is no UTF-8 behind byte {}", error.utf8_error().valid_up_to());
        io::Error::new(io::ErrorKind::InvalidData, said)
    })
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn only_regular_files_are_read_and_no_more_than_the_bound() {
        let place = tempfile::tempdir().unwrap();
        let (fifo, zero) = (place.path().join("fifo"), place.path().join("zero"));
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &zero).unwrap();
        for path in [&*fifo, &*zero, place.path()] {
            assert_eq!(open(path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            assert_eq!(read_to_string(path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        let text = place.path().join("text");
        std::fs::write(&text, "abc").unwrap();
        assert_eq!(read_unlinked(&text, 3).unwrap(), "abc");
        assert_eq!(read_unlinked(&text, 2).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_text_that_is_too_long_is_called_so_wherever_it_is_cut() {
        let place = tempfile::tempdir().unwrap();
        let text = place.path().join("text");
        std::fs::write(&text, "éé").unwrap();
        assert_eq!(read_unlinked(&text, 2).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        std::fs::write(&text, b"a\xff").unwrap();
        let refused = read_unlinked(&text, 9).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert!(refused.to_string().contains("behind byte 1"), "{refused}");
    }

    #[test]
    fn a_link_is_followed_only_by_those_who_may() {
        let place = tempfile::tempdir().unwrap();
        let (text, link) = (place.path().join("text"), place.path().join("link"));
        std::fs::write(&text, "abc").unwrap();
        std::os::unix::fs::symlink(&text, &link).unwrap();
        assert_eq!(read_to_string(&link).unwrap(), "abc");
        assert_eq!(read_unlinked(&link, 3).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
