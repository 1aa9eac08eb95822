//! Finds the program to execute. The path is never resolved beyond the search: a virtual
//! environment's `python` is a symbolic link, and knows its environment by the link's place.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::error::Error;

/// Where a program is searched if neither the child nor the parent has a `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A program that can be executed.
#[derive(Debug)]
pub(crate) struct Program {
    /// The path for `execve`, relative to the child's working directory if it is relative.
    pub path: PathBuf,
    /// The program's own name for itself.
    pub argv0: OsString,
}

/// Finds `program` as the child would, from the working directory `cwd`: by its path if it has a
/// slash, else in `child_path`, else in the parent's `PATH`.
///
/// # Errors
///
/// [`Error::EmptyCommand`], [`Error::ProgramNotFound`] or [`Error::ProgramNotExecutable`].
pub(crate) fn find(
    program: &OsStr,
    cwd: Option<&Path>,
    child_path: Option<&OsStr>,
) -> Result<Program, Error> {
    if program.is_empty() {
        return Err(Error::EmptyCommand);
    }
    let base = cwd.unwrap_or_else(|| Path::new(""));
    if program.as_bytes().contains(&b'/') {
        return by_path(program, base);
    }
    if let Some(path) = child_path {
        let found = search(program, path, base)?;
        return Ok(Program { path: found, argv0: program.to_owned() });
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let found = search(program, &path, Path::new(""))?;
    // A relative entry of the parent's `PATH` counts from the parent's directory.
    let found = std::path::absolute(&found).unwrap_or(found);
    // The child has no `PATH` in which it could look itself up, as Python does to find its
    // environment: tell it where it is.
    Ok(Program { argv0: found.clone().into_os_string(), path: found })
}

fn by_path(program: &OsStr, base: &Path) -> Result<Program, Error> {
    let seen = base.join(program);
    if is_executable(&seen) {
        return Ok(Program { path: program.into(), argv0: program.to_owned() });
    }
    // A link that leads nowhere is there, and is no program.
    if seen.symlink_metadata().is_ok() {
        return Err(Error::ProgramNotExecutable { path: seen });
    }
    Err(Error::ProgramNotFound { program: program.to_owned() })
}

/// The first executable file of that name in a search path. Files that cannot be executed are
/// passed over, as shells do.
fn search(program: &OsStr, path: &OsStr, base: &Path) -> Result<PathBuf, Error> {
    std::env::split_paths(path)
        // An empty entry is the working directory.
        .map(|entry| Path::new(".").join(entry).join(program))
        .find(|candidate| is_executable(&base.join(candidate)))
        .ok_or_else(|| Error::ProgramNotFound { program: program.to_owned() })
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}
