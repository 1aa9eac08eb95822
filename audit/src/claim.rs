//! Files that one log alone writes to.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::{Deref, DerefMut};
use std::process;

/// A file that is locked until this is dropped. A child that was forked meanwhile has the same
/// lock, and would otherwise keep it for as long as it runs.
#[derive(Debug)]
pub(crate) struct Claim {
    file: File,
    /// Who took it, and may let go of it.
    process: u32,
}

impl Claim {
    /// Sees to it that no other log writes to `file`: two chains in one file would be none.
    ///
    /// # Errors
    /// Another one does, or the lock fails.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "a log is being written there already; each needs a place of its own",
                ));
            }
            // There are file systems without locks.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(Self { file, process: process::id() })
    }
}

impl Deref for Claim {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl DerefMut for Claim {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.file
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.process == process::id() {
            // Where there are no locks there is none to let go of.
            let _ = self.file.unlock();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::Claim;

    #[test]
    fn a_copy_of_the_descriptor_does_not_keep_the_lock_for_another_process_does() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let open = || std::fs::File::options().append(true).open(&path).unwrap();
        let claim = Claim::new(open()).unwrap();
        let refused = Claim::new(open()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        // What a forked child has.
        let copy = claim.try_clone().unwrap();
        drop(Claim { file: claim.try_clone().unwrap(), process: claim.process + 1 });
        assert!(Claim::new(open()).is_err(), "its end there is not its end here");
        drop(claim);
        Claim::new(open()).unwrap();
        drop(copy);
    }
}
