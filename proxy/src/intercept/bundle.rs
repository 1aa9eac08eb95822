//! The files that tell clients whom to trust. They hold certificates and no key.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::config::ConfigError;
use crate::own_directory;
use crate::route::show;

/// The files, for as long as the proxy runs.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The authority, its certificate alone: for variables that add to what a client trusts.
    pub(super) alone: Written,
    /// All that the client would trust without the proxy, and the authority: for variables that
    /// replace it.
    pub(super) whole: Written,
    /// The same as a key store, for Java.
    pub(super) store: Written,
}

/// A file that this process wrote.
#[derive(Debug)]
pub(super) struct Written {
    path: PathBuf,
    /// Device and inode, since another file may have taken its name.
    identity: (u64, u64),
    process: u32,
}

impl Bundle {
    /// Writes the files into `dir`, under names that hold `mark`.
    ///
    /// # Errors
    /// The directory cannot be trusted or written to.
    pub(super) fn write(
        dir: &Path,
        mark: &str,
        [alone, whole, store]: [&[u8]; 3],
    ) -> Result<Self, ConfigError> {
        let wrong = |reason: String| ConfigError::new("intercept_ca_dir", show(dir), reason);
        let dir = own_directory::check(dir).map_err(wrong)?;
        let write = |name: &str, content: &[u8]| {
            let path = dir.join(format!("nono-{mark}-{name}"));
            Written::new(path, content).map_err(|error| wrong(format!("cannot write: {error}")))
        };
        Ok(Self {
            alone: write("ca.pem", alone)?,
            whole: write("bundle.pem", whole)?,
            store: write("store.p12", store)?,
        })
    }

    /// Removes the files, if they are still this proxy's own.
    pub(crate) fn remove(&self) {
        for file in self.files() {
            file.remove();
        }
    }

    /// The paths of the files.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files().into_iter().map(Written::path)
    }

    fn files(&self) -> [&Written; 3] {
        [&self.alone, &self.whole, &self.store]
    }
}

impl Written {
    fn new(path: PathBuf, content: &[u8]) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path)?;
        let identity = identity(&file.metadata()?);
        let written = Self { path, identity, process: std::process::id() };
        file.write_all(content)?;
        // Whatever the process's mask is; and only now that there is something to read.
        file.set_permissions(fs::Permissions::from_mode(0o444))?;
        Ok(written)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn remove(&self) {
        // A forked child has a copy of this, but the files are its parent's.
        if self.process != std::process::id() {
            return;
        }
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| identity(&found) == self.identity) {
            // Nothing else can be done about it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        self.remove();
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
