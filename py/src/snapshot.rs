//! `SnapshotManager`, and what it returns.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use nono_sandbox::snapshot::{
    Change, ChangeType, ContentHash, ExclusionConfig, FileState, Limits, NotAHash, Progress,
    SnapshotError, SnapshotManager, SnapshotManifest,
};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use crate::arguments::{OsArgument, os_paths, texts};
use crate::blocking::SIGNAL_INTERVAL;
use crate::error::{argument_error, snapshot_error};
use crate::int;
use crate::session::PySessionMetadata;
use crate::value::{Reduced, Remade, quoted, reduce, remake};

/// The SHA-256 of a content, or a root over several.
#[pyclass(name = "ContentHash", module = "nono_py", frozen, weakref, eq)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PyContentHash(ContentHash);

impl PyContentHash {
    pub(crate) fn parse(digits: &str) -> PyResult<Self> {
        digits.parse().map(Self).map_err(|error: NotAHash| argument_error(error.to_string()))
    }
}

#[pymethods]
impl PyContentHash {
    /// Return the 64 hexadecimal digits.
    pub(crate) fn hex(&self) -> String {
        self.0.to_string()
    }

    fn __str__(&self) -> String {
        self.hex()
    }

    fn __repr__(&self) -> String {
        let digits = self.hex();
        format!("ContentHash({}...)", digits.get(..16).unwrap_or_default())
    }

    #[staticmethod]
    fn _of(digits: &str) -> PyResult<Self> {
        Self::parse(digits)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Remade<'py, (String,)>> {
        remake(slf, (slf.get().hex(),))
    }

    fn __hash__(&self) -> u64 {
        let first = self.0.as_bytes().first_chunk().copied();
        u64::from_le_bytes(first.unwrap_or_default())
    }
}

/// A file in a snapshot.
///
/// `size` is in bytes, `mtime` in seconds since the epoch, `permissions` are `st_mode`.
#[pyclass(name = "FileState", module = "nono_py", frozen, weakref, eq)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PyFileState(FileState);

#[pymethods]
impl PyFileState {
    /// The SHA-256 of its content.
    #[getter]
    fn hash(&self) -> PyContentHash {
        PyContentHash(self.0.hash)
    }

    /// Its size in bytes.
    #[getter]
    fn size(&self) -> u64 {
        self.0.size
    }

    /// When its content last changed, in seconds since the epoch.
    #[getter]
    fn mtime(&self) -> i64 {
        self.0.mtime
    }

    /// Its type and mode: `st_mode`.
    #[getter]
    fn permissions(&self) -> u32 {
        self.0.permissions
    }

    #[staticmethod]
    fn _of(content: &Bound<'_, PyContentHash>, size: u64, mtime: i64, permissions: u32) -> Self {
        Self(FileState { hash: content.get().0, size, mtime, permissions })
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<Remade<'py, (PyContentHash, u64, i64, u32)>> {
        let FileState { hash, size, mtime, permissions } = slf.get().0;
        remake(slf, (PyContentHash(hash), size, mtime, permissions))
    }

    fn __hash__(&self) -> u64 {
        self.hash().__hash__()
    }

    fn __repr__(&self) -> String {
        format!("FileState(size={}, permissions={:o})", self.0.size, self.0.permissions)
    }
}

/// What was there when a snapshot was made.
///
/// It is not pickled, for it may be of very many files: `load_manifest(number)` reads it anywhere.
#[pyclass(name = "SnapshotManifest", module = "nono_py", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct PySnapshotManifest(Arc<SnapshotManifest>);

#[pymethods]
impl PySnapshotManifest {
    /// Its number in the session, from 0.
    #[getter]
    fn number(&self) -> u32 {
        self.0.number
    }

    /// When it was made: seconds since the epoch, in decimal digits.
    #[getter]
    fn timestamp(&self) -> &str {
        &self.0.timestamp
    }

    /// The number of the snapshot before; `None` for a baseline.
    #[getter]
    fn parent(&self) -> Option<u32> {
        self.0.parent
    }

    /// The Merkle root over paths and contents of all files.
    #[getter]
    fn merkle_root(&self) -> PyContentHash {
        PyContentHash(self.0.merkle_root)
    }

    /// The state of each file, by its path. Made anew each time it is asked for.
    #[getter]
    fn files<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let files = PyDict::new(py);
        for (path, state) in self.0.files() {
            files.set_item(path.as_os_str(), PyFileState(state))?;
        }
        Ok(files)
    }

    /// What is not in it, or not for certain as it was: paths, and why.
    #[getter]
    fn skipped(&self) -> Vec<(&OsStr, &'static str)> {
        self.0.skipped.iter().map(|one| (one.path.as_os_str(), one.reason.as_str())).collect()
    }

    fn __repr__(&self) -> String {
        format!("SnapshotManifest(number={}, files={})", self.0.number, self.0.files().count())
    }
}

/// One path that is not the same in two snapshots, or in a snapshot and now.
#[pyclass(name = "Change", module = "nono_py", frozen, weakref, eq)]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PyChange(Change);

/// Its fields.
type ChangeParts =
    (OsString, &'static str, Option<i64>, Option<PyContentHash>, Option<PyContentHash>);

#[pymethods]
impl PyChange {
    /// The path, beneath the tracked path as it was given.
    #[getter]
    fn path(&self) -> &OsStr {
        self.0.path.as_os_str()
    }

    /// What became of it; `permissions_changed` is of the mode alone.
    #[getter]
    fn change_type(&self) -> &'static str {
        self.0.change_type.as_str()
    }

    /// By how many bytes its content grew; `None` in what a restore tells.
    #[getter]
    fn size_delta(&self) -> Option<i64> {
        self.0.size_delta
    }

    /// Its content before, if it was a file; `None` for a large one that is not read.
    #[getter]
    fn old_hash(&self) -> Option<PyContentHash> {
        self.0.old_hash.map(PyContentHash)
    }

    /// Its content after, if it is a file.
    #[getter]
    fn new_hash(&self) -> Option<PyContentHash> {
        self.0.new_hash.map(PyContentHash)
    }

    #[staticmethod]
    fn _of(
        path: OsArgument,
        change_type: &str,
        size_delta: Option<i64>,
        old_hash: Option<PyRef<'_, PyContentHash>>,
        new_hash: Option<PyRef<'_, PyContentHash>>,
    ) -> PyResult<Self> {
        let change_type = ChangeType::parse(change_type)
            .ok_or_else(|| argument_error(format!("'{change_type}' is no type of a change")))?;
        let hash = |hash: Option<PyRef<'_, PyContentHash>>| hash.map(|hash| hash.0);
        let (old_hash, new_hash) = (hash(old_hash), hash(new_hash));
        Ok(Self(Change { path: path.0.into(), change_type, size_delta, old_hash, new_hash }))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Remade<'py, ChangeParts>> {
        let Change { path, change_type, size_delta, old_hash, new_hash } = slf.get().0.clone();
        let hash = |hash: Option<ContentHash>| hash.map(PyContentHash);
        let (old, new) = (hash(old_hash), hash(new_hash));
        remake(slf, (path.into_os_string(), change_type.as_str(), size_delta, old, new))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let path = quoted(py, &self.0.path.to_string_lossy())?;
        Ok(format!("Change(path={path}, type={})", self.change_type()))
    }
}

/// What snapshots leave out.
///
/// A pattern without `/` is the name of a file or directory beneath a tracked path, one with `/` a
/// part of the whole path. Globs are for such names. What `force_include` names, by patterns as
/// above, is tracked whatever else says not to. `.gitignore` files count at every level of a
/// tracked directory, unless `use_gitignore` is false; all of them may have 2 MiB.
#[pyclass(name = "ExclusionConfig", module = "nono_py", frozen, weakref, eq)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PyExclusionConfig(ExclusionConfig);

#[pymethods]
impl PyExclusionConfig {
    #[new]
    #[pyo3(signature = (use_gitignore=true, exclude_patterns=vec![], exclude_globs=vec![],
        force_include=vec![]))]
    fn new(
        use_gitignore: bool,
        #[pyo3(from_py_with = texts)] exclude_patterns: Vec<String>,
        #[pyo3(from_py_with = texts)] exclude_globs: Vec<String>,
        #[pyo3(from_py_with = texts)] force_include: Vec<String>,
    ) -> Self {
        Self(ExclusionConfig { use_gitignore, exclude_patterns, exclude_globs, force_include })
    }

    /// Whether `.gitignore` files count, at every level of a tracked directory.
    #[getter]
    fn use_gitignore(&self) -> bool {
        self.0.use_gitignore
    }

    /// Names, or parts of paths, that are left out.
    #[getter]
    fn exclude_patterns(&self) -> Vec<String> {
        self.0.exclude_patterns.clone()
    }

    /// Globs of the names of files and directories that are left out.
    #[getter]
    fn exclude_globs(&self) -> Vec<String> {
        self.0.exclude_globs.clone()
    }

    /// Names, or parts of paths, that are tracked whatever else says not to.
    #[getter]
    fn force_include(&self) -> Vec<String> {
        self.0.force_include.clone()
    }

    fn __repr__(&self) -> String {
        let (patterns, globs) = (self.0.exclude_patterns.len(), self.0.exclude_globs.len());
        let gitignore = self.0.use_gitignore;
        format!("ExclusionConfig(gitignore={gitignore}, patterns={patterns}, globs={globs})")
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        reduce(slf, &["use_gitignore", "exclude_patterns", "exclude_globs", "force_include"])
    }
}

/// Makes snapshots of directories and files, and restores them whole.
///
/// They are kept in `session_dir`, which is made if it is not there. Several managers may use one
/// session: they wait for each other. `max_entries` and `max_bytes` bound what is tracked; 0 is no
/// bound. What is changed through a shared mapping that was there before may not be seen.
///
/// What makes or restores takes a `progress`, which is called now and then with what is being done,
/// how many entries are done, and of how many, if that is known: from threads of the call, one at a
/// time. What it raises ends the call; a restore that had begun is completed by calling it again.
/// It cannot use the session itself.
///
/// Raises `SnapshotError`; its `diagnostic_code` is `rollback_budget_exceeded`, `no_snapshot`,
/// `session_not_found`, `object_damaged`, `manifest_damaged`, `restore_incomplete` or
/// `snapshot_failed`.
#[pyclass(name = "SnapshotManager", module = "nono_py", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct PySnapshotManager(SnapshotManager);

impl PySnapshotManager {
    pub(crate) fn inner(&self) -> &SnapshotManager {
        &self.0
    }
}

#[pymethods]
impl PySnapshotManager {
    #[new]
    #[pyo3(signature = (session_dir, tracked_paths, exclusion=None, max_entries=300_000,
        max_bytes=2_147_483_648))]
    #[expect(
        clippy::needless_pass_by_value,
        clippy::too_many_arguments,
        reason = "extracted from Python arguments"
    )]
    fn new(
        py: Python<'_>,
        session_dir: OsArgument,
        #[pyo3(from_py_with = os_paths)] tracked_paths: Vec<PathBuf>,
        exclusion: Option<&Bound<'_, PyExclusionConfig>>,
        #[pyo3(from_py_with = int::max_entries)] max_entries: u64,
        #[pyo3(from_py_with = int::max_bytes)] max_bytes: u64,
    ) -> PyResult<Self> {
        let exclusion = exclusion.map(|given| given.get().0.clone()).unwrap_or_default();
        let limits = Limits { max_entries, max_bytes };
        let directory = PathBuf::from(session_dir.0);
        py.detach(|| SnapshotManager::new(&directory, &tracked_paths, exclusion, limits))
            .map(Self)
            .map_err(snapshot_error)
    }

    /// Make a snapshot that stands for itself.
    ///
    /// The first of a session has the number 0; a later one never takes its place.
    #[pyo3(signature = (*, progress=None))]
    fn create_baseline(
        &self,
        py: Python<'_>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<PySnapshotManifest> {
        run(py, &self.0, progress, |callback| self.0.create_baseline(callback))
            .map(PySnapshotManifest)
    }

    /// Make a snapshot of what has changed since the one before; return it and the changes.
    #[pyo3(signature = (*, progress=None))]
    fn create_incremental(
        &self,
        py: Python<'_>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<(PySnapshotManifest, Vec<PyChange>)> {
        let made = run(py, &self.0, progress, |callback| self.0.create_incremental(callback));
        made.map(|(manifest, changes)| (PySnapshotManifest(manifest), wrap(changes)))
    }

    /// Return what restoring a snapshot would change, ordered by path. Change nothing.
    #[pyo3(signature = (snapshot_number, *, progress=None))]
    fn compute_restore_diff(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = int::snapshot_number)] snapshot_number: u32,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Vec<PyChange>> {
        run(py, &self.0, progress, |callback| {
            self.0.compute_restore_diff(snapshot_number, callback)
        })
        .map(wrap)
    }

    /// Make what is tracked what it was at a snapshot; return what was changed.
    ///
    /// What is tracked besides, and was not when the snapshot was made, is left alone. A tracked
    /// path that led elsewhere then is an error, and so is an object that is needed and is missing
    /// or damaged: nothing is changed in these cases. What cannot be restored is named in an error
    /// when all else is (`restore_incomplete`).
    #[pyo3(signature = (snapshot_number, *, progress=None))]
    fn restore_to(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = int::snapshot_number)] snapshot_number: u32,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Vec<PyChange>> {
        run(py, &self.0, progress, |callback| self.0.restore_to(snapshot_number, callback))
            .map(wrap)
    }

    /// Read a snapshot. One that was changed since it was made is refused.
    fn load_manifest(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = int::number)] number: u32,
    ) -> PyResult<PySnapshotManifest> {
        let manifest = py.detach(|| self.0.load_manifest(number));
        manifest.map(PySnapshotManifest).map_err(snapshot_error)
    }

    /// Return how many snapshots the session has.
    fn snapshot_count(&self, py: Python<'_>) -> PyResult<u32> {
        py.detach(|| self.0.snapshot_count()).map_err(snapshot_error)
    }

    /// Keep `meta` as the session's.
    fn save_session_metadata(
        &self,
        py: Python<'_>,
        meta: &Bound<'_, PySessionMetadata>,
    ) -> PyResult<()> {
        let text = meta.get().to_json()?;
        run(py, &self.0, None, |callback| self.0.save_session_metadata(&text, callback))
    }

    /// Read what is kept of the session in `session_dir`.
    #[staticmethod]
    fn load_session_metadata(
        py: Python<'_>,
        session_dir: OsArgument,
    ) -> PyResult<PySessionMetadata> {
        let directory = PathBuf::from(session_dir.0);
        let text = py.detach(|| SnapshotManager::load_session_metadata(&directory));
        PySessionMetadata::from_json(&text.map_err(snapshot_error)?)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Nothing is held between calls, so there is nothing to let go.
    #[expect(clippy::unused_self, reason = "a method of Python's")]
    fn __exit__(
        &self,
        _exception_type: Option<Bound<'_, PyType>>,
        _exception: Option<Bound<'_, PyAny>>,
        _traceback: Option<Bound<'_, PyAny>>,
    ) {
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        // Whatever is wrong with the session: this is seen where errors are looked into.
        let count = py.detach(|| self.0.snapshot_count());
        let count = count.map_or_else(|_| "unknown".to_owned(), |count| count.to_string());
        format!("SnapshotManager(snapshots={count})")
    }
}

fn wrap(changes: Vec<Change>) -> Vec<PyChange> {
    changes.into_iter().map(PyChange).collect()
}

/// Runs `work` on another thread, and gives way to the interpreter's signal handlers meanwhile.
fn run<T: Send>(
    py: Python<'_>,
    manager: &SnapshotManager,
    progress: Option<Bound<'_, PyAny>>,
    work: impl FnOnce(&(dyn Fn(Progress) -> bool + Sync)) -> Result<T, SnapshotError> + Send,
) -> PyResult<T> {
    // The thread of `work` is another one, and would not know.
    if manager.is_calling_back() {
        return Err(snapshot_error(SnapshotError::Nested));
    }
    let progress = progress.map(Bound::unbind);
    let (is_over, raised) = (AtomicBool::new(false), Mutex::new(None));
    let fail = |error: PyErr| {
        is_over.store(true, Ordering::Relaxed);
        raised.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    };
    let turn = Mutex::new(());
    let callback = |at: Progress| {
        // Several threads tell how far they are: what is called need not know that.
        let _one_at_a_time = turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = progress.as_ref().filter(|_| !is_over.load(Ordering::Relaxed)) {
            let said = (at.phase.as_str(), at.done, at.total);
            Python::attach(|py| progress.call1(py, said).map(drop)).unwrap_or_else(fail);
        }
        !is_over.load(Ordering::Relaxed)
    };
    let outcome = thread::scope(|scope| {
        let (sender, mut receiver) = mpsc::channel();
        let work = move || {
            let _nobody_waits_any_more = sender.send(work(&callback));
        };
        let thread = thread::Builder::new().name("nono-snapshot".to_owned());
        let thread = thread
            .spawn_scoped(scope, work)
            .map_err(|error| PyRuntimeError::new_err(format!("cannot start a thread: {error}")))?;
        loop {
            let receiver = &mut receiver;
            match py.detach(move || receiver.recv_timeout(SIGNAL_INTERVAL)) {
                Ok(outcome) => return Ok(outcome),
                Err(mpsc::RecvTimeoutError::Timeout) => py.check_signals().unwrap_or_else(fail),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        // It has ended without a word. The scope would panic too if nobody asked why.
        let _panicked = thread.join();
        Err(PyRuntimeError::new_err("the thread of a snapshot has panicked"))
    })?;
    match raised.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => outcome.map_err(snapshot_error),
    }
}
