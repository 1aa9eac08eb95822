//! What stands in a directory, told by means of the standard library's own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{lgetxattr, llistxattr};

/// Every entry in words, with the names that share its file.
pub(crate) fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut names: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    collect(root, root, &mut all, &mut names);
    for shared in names.values().filter(|shared| shared.len() > 1) {
        for name in shared {
            write!(all.get_mut(name).unwrap(), " names={shared:?}").unwrap();
        }
    }
    all
}

fn collect(
    root: &Path,
    path: &Path,
    all: &mut BTreeMap<PathBuf, String>,
    names: &mut BTreeMap<u64, Vec<PathBuf>>,
) {
    let data = fs::symlink_metadata(path).unwrap();
    let kind = data.file_type();
    let name = path.strip_prefix(root).unwrap().to_owned();
    let mut text = format!("mtime={}.{:09}", data.mtime(), data.mtime_nsec());
    if kind.is_symlink() {
        write!(text, " -> {}", fs::read_link(path).unwrap().display()).unwrap();
    } else {
        let owner = (data.uid(), data.gid());
        write!(text, " mode={:o} owner={owner:?} {}", data.mode(), attributes(path)).unwrap();
    }
    if kind.is_file() {
        let content = fs::read(path).unwrap();
        write!(text, " content={:?}", String::from_utf8_lossy(&content)).unwrap();
        names.entry(data.ino()).or_default().push(name.clone());
    }
    all.insert(name, text);
    if kind.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(root, &entry.unwrap().path(), all, names);
        }
    }
}

fn attributes(path: &Path) -> String {
    let mut room = [0; 4096];
    let length = llistxattr(path, &mut room[..]).unwrap_or(0);
    let names = room[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut all: Vec<_> = names
        .map(|name| {
            let mut value = [0; 4096];
            let length = lgetxattr(path, name, &mut value[..]).unwrap();
            format!("{}={:?}", String::from_utf8_lossy(name), &value[..length])
        })
        .collect();
    all.sort();
    all.join(",")
}
