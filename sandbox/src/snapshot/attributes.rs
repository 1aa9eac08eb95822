//! Extended attributes of what is open.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{XattrFlags, flistxattr, getxattr, listxattr, removexattr, setxattr};
use rustix::io::Errno;

use super::tree::Attributes;
use crate::removal::reopened;

/// The kernel's limits for a list of names and for a value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const MOST: usize = 64 * 1024;

/// Room in which most lists fit, and values.
const USUAL: usize = 256;

/// The attributes of an open file; none where the file system has none.
pub(super) fn read(file: impl AsFd) -> rustix::io::Result<Attributes> {
    let mut names = [0_u8; USUAL];
    let names = match flistxattr(file.as_fd(), &mut names[..]) {
        Ok(0) | Err(Errno::NOTSUP | Errno::PERM | Errno::BADF) => return Ok(Attributes::new()),
        Ok(length) => names.get(..length).unwrap_or_default().to_vec(),
        Err(Errno::RANGE) => {
            let mut names = vec![0; MOST];
            let length = flistxattr(file.as_fd(), &mut names[..])?;
            names.truncate(length);
            names
        }
        Err(error) => return Err(error),
    };
    let names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    names.filter_map(|name| value(file.as_fd(), OsStr::from_bytes(name)).transpose()).collect()
}

/// One attribute, if it is still there and may be read.
fn value(file: impl AsFd, name: &OsStr) -> rustix::io::Result<Option<(OsString, Vec<u8>)>> {
    let path = reopened(file);
    let mut room = vec![0; USUAL];
    let length = match getxattr(&path, name, &mut room[..]) {
        Err(Errno::RANGE) => {
            room = vec![0; MOST];
            getxattr(&path, name, &mut room[..])
        }
        result => result,
    };
    match length {
        Ok(length) => {
            room.truncate(length);
            Ok(Some((name.to_owned(), room)))
        }
        Err(Errno::NODATA | Errno::ACCESS | Errno::PERM | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the attributes of what `file` holds (a descriptor with `O_PATH` will do) those wanted.
pub(super) fn write(file: impl AsFd, wanted: &Attributes) -> rustix::io::Result<()> {
    let path = reopened(&file);
    let mut names = vec![0; MOST];
    let length = match listxattr(&path, &mut names[..]) {
        Err(Errno::NOTSUP) if wanted.is_empty() => return Ok(()),
        length => length?,
    };
    names.truncate(length);
    for name in names.split(|&byte| byte == 0).map(OsStr::from_bytes) {
        if !name.is_empty() && !wanted.contains_key(name) {
            removexattr(&path, name)?;
        }
    }
    wanted.iter().try_for_each(|(name, value)| setxattr(&path, name, value, XattrFlags::empty()))
}
