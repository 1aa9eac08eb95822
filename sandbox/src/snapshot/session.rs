//! The directory of a session: one manifest for each snapshot, what changed between them, and the
//! session's metadata. Managers and processes that use it wait for each other here.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use rayon::ThreadPoolBuilder;
use serde::Serialize;

use super::error::SnapshotError;
use super::hash::ContentHash;
use super::key::Key;
use super::lock::{calling, lock};
use super::manifest::SnapshotManifest;
use super::progress::Callback;
use super::record;
use super::seal::Body;
use super::store::{open_plain, write_whole};
use super::values::Change;

#[derive(Debug)]
pub(super) struct Session {
    directory: PathBuf,
    /// The manifest that was made or read last.
    latest: Mutex<Option<Kept>>,
}

/// A manifest, and what is known of its file.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) manifest: Arc<SnapshotManifest>,
    mark: Mark,
    /// What another manifest of the same tree may copy.
    body: Option<Body>,
    /// Whether its root is known to be that of its files.
    is_proved: bool,
}

/// What a file is: device, inode, size, and when that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark(u64, u64, u64, i64, i64);

impl Mark {
    fn of(path: &Path) -> Result<Self, SnapshotError> {
        fs::metadata(path).map(Self::from).map_err(SnapshotError::io("look at", path))
    }
}

impl From<fs::Metadata> for Mark {
    fn from(data: fs::Metadata) -> Self {
        Self(data.dev(), data.ino(), data.size(), data.ctime(), data.ctime_nsec())
    }
}

/// A line of `changes/NNN.json`.
#[derive(Serialize)]
struct ChangeRecord {
    path: Key,
    change_type: &'static str,
    size_delta: Option<i64>,
    old_hash: Option<ContentHash>,
    new_hash: Option<ContentHash>,
}

impl Session {
    /// The session at `directory`, which is made if it is not there.
    pub(super) fn open(directory: &Path) -> Result<Self, SnapshotError> {
        for part in ["objects", "snapshots", "changes"] {
            let path = directory.join(part);
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(SnapshotError::io("make", &path))?;
        }
        let found = fs::canonicalize(directory);
        let directory = found.map_err(SnapshotError::io("resolve", directory))?;
        Ok(Self { directory, latest: Mutex::default() })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// How many snapshots there are.
    pub(super) fn count(&self) -> Result<u32, SnapshotError> {
        let path = self.directory.join("snapshots");
        let entries = fs::read_dir(&path).map_err(SnapshotError::io("read", &path))?;
        let number = |name: &str| {
            let number = name.strip_suffix(".json")?.parse().ok()?;
            // There are other ways to write a number, and none of them is a snapshot's name.
            (name == file_name(number)).then_some(number)
        };
        let numbers = entries.flatten().filter_map(|entry| number(entry.file_name().to_str()?));
        let full = || io::Error::other("there is no higher number");
        let count = numbers.max().map_or(Some(0), |highest: u32| highest.checked_add(1));
        count.ok_or_else(full).map_err(SnapshotError::io("count the snapshots in", &path))
    }

    /// The latest of `count` snapshots, for comparing what is there now with: its digest is right,
    /// which is over its root too.
    pub(super) fn latest(&self, count: u32) -> Result<Option<Kept>, SnapshotError> {
        count.checked_sub(1).map(|number| self.load(number)).transpose()
    }

    /// A snapshot whose root is that of its files.
    pub(super) fn proved(&self, number: u32) -> Result<Arc<SnapshotManifest>, SnapshotError> {
        let kept = self.load(number)?;
        if !kept.is_proved {
            record::prove(&kept.manifest, &self.manifest(number))?;
        }
        Ok(self.keep(Kept { is_proved: true, ..kept }).manifest)
    }

    /// A snapshot: the one that was made or read last, if its file is still the same, or else
    /// from its file.
    fn load(&self, number: u32) -> Result<Kept, SnapshotError> {
        let mark = Mark::of(&self.manifest(number));
        let kept = self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Some(kept), Ok(now)) = (kept, &mark)
            && (kept.manifest.number, &kept.mark) == (number, now)
        {
            return Ok(kept);
        }
        let (manifest, body) = self.read(number)?;
        let (manifest, mark) = (Arc::new(manifest), mark?);
        Ok(self.keep(Kept { manifest, mark, body, is_proved: false }))
    }

    /// A manifest as it stands in its file now, with its sums compared.
    pub(super) fn reread(&self, number: u32) -> Result<SnapshotManifest, SnapshotError> {
        let (manifest, _) = self.read(number)?;
        record::prove(&manifest, &self.manifest(number))?;
        Ok(manifest)
    }

    fn read(&self, number: u32) -> Result<(SnapshotManifest, Option<Body>), SnapshotError> {
        let count = self.count()?;
        let path = self.manifest(number);
        if number >= count || !path.exists() {
            return Err(SnapshotError::NoSuchSnapshot { number, count });
        }
        record::read(&path)
    }

    /// Adds a snapshot, and what has changed in it since the one before. `earlier` is any that
    /// may be of the same tree.
    pub(super) fn add(
        &self,
        manifest: SnapshotManifest,
        changes: &[Change],
        earlier: Option<&Kept>,
    ) -> Result<Arc<SnapshotManifest>, SnapshotError> {
        let path = self.manifest(manifest.number);
        self.write_changes(manifest.number, changes)?;
        let same = earlier.and_then(|earlier| self.same(&manifest, earlier));
        let same = same.as_ref().map(|(file, body)| (file, *body));
        let body = Some(record::write(&manifest, same, &path)?);
        let (manifest, mark) = (Arc::new(manifest), Mark::of(&path)?);
        // Its root may be the earlier one's.
        let is_proved = earlier.is_none_or(|earlier| earlier.is_proved);
        Ok(self.keep(Kept { manifest, mark, body, is_proved }).manifest)
    }

    /// The file of an earlier manifest, if its body is that of `manifest` too.
    fn same<'k>(&self, manifest: &SnapshotManifest, earlier: &'k Kept) -> Option<(File, &'k Body)> {
        let body = earlier.body.as_ref().filter(|_| manifest.is_as(&earlier.manifest))?;
        let file = open_plain(&self.manifest(earlier.manifest.number)).ok()?;
        let is_still = file.metadata().is_ok_and(|data| Mark::from(data) == earlier.mark);
        is_still.then_some((file, body))
    }

    fn keep(&self, kept: Kept) -> Kept {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = Some(kept.clone());
        kept
    }

    fn write_changes(&self, number: u32, changes: &[Change]) -> Result<(), SnapshotError> {
        let path = self.file("changes", number);
        if changes.is_empty() {
            // One that came to nothing may have left some.
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(SnapshotError::io("remove", &path)(error))
                }
                _ => Ok(()),
            };
        }
        let records: Vec<_> = changes.iter().map(ChangeRecord::new).collect();
        write_whole(&path, 0o600, |file| {
            serde_json::to_writer_pretty(file, &records).map_err(Into::into)
        })
        .map_err(SnapshotError::io("write", &path))
    }

    pub(super) fn save_metadata(
        &self,
        json: &str,
        callback: Callback<'_>,
    ) -> Result<(), SnapshotError> {
        let callback = |progress| calling(&self.directory, || callback(progress));
        let _until_done = lock(&self.directory, &callback)?;
        let path = metadata(&self.directory);
        write_whole(&path, 0o600, |file| io::Write::write_all(file, json.as_bytes()))
            .map_err(SnapshotError::io("write", &path))
    }

    pub(super) fn load_metadata(directory: &Path) -> Result<String, SnapshotError> {
        let path = metadata(directory);
        let text = open_plain(&path).and_then(io::read_to_string);
        text.map_err(|source| SnapshotError::SessionNotFound { path, source })
    }

    fn manifest(&self, number: u32) -> PathBuf {
        self.file("snapshots", number)
    }

    fn file(&self, part: &str, number: u32) -> PathBuf {
        self.directory.join(part).join(file_name(number))
    }

    /// Runs `work` on threads of its own while no other manager of the session works.
    pub(super) fn alone<T: Send>(
        &self,
        callback: Callback<'_>,
        work: impl FnOnce(Callback<'_>) -> Result<T, SnapshotError> + Send,
    ) -> Result<T, SnapshotError> {
        let callback = |progress| calling(&self.directory, || callback(progress));
        let _until_done = lock(&self.directory, &callback)?;
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|number| format!("nono-snapshot-{number}"))
            .build()
            .map_err(io::Error::other)
            .map_err(SnapshotError::io("start threads for", &self.directory))?;
        pool.install(|| work(&callback))
    }
}

fn file_name(number: u32) -> String {
    format!("{number:03}.json")
}

fn metadata(directory: &Path) -> PathBuf {
    directory.join("session.json")
}

impl ChangeRecord {
    fn new(change: &Change) -> Self {
        Self {
            path: Key::new(&change.path),
            change_type: change.change_type.as_recorded(),
            size_delta: change.size_delta,
            old_hash: change.old_hash,
            new_hash: change.new_hash,
        }
    }
}

#[cfg(test)]
mod tests;
