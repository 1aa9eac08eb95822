//! Where else the same can be had: the other places at which a file system, or a part of it, is
//! mounted. From `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`), as it is when it is read.

#[cfg(target_os = "linux")]
use std::ffi::OsString;
#[cfg(target_os = "linux")]
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// All that is mounted within the caller's reach.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    #[cfg(target_os = "linux")]
    all: Vec<Mount>,
}

#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Mount {
    id: u64,
    device: String,
    /// What of the file system is mounted, as a path from its own root on.
    root: PathBuf,
    place: PathBuf,
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "as on Linux")]
impl Mounts {
    /// Nothing is known of them here.
    pub(crate) fn read() -> Result<Self, Error> {
        Ok(Self::default())
    }

    /// None that are known.
    pub(crate) fn other_names(&self, _: &Path) -> Vec<PathBuf> {
        Vec::new()
    }
}

#[cfg(target_os = "linux")]
impl Mounts {
    /// Asks the kernel. Who is kept from asking is in a sandbox already, or has no `/proc`, and knows
    /// of no mounts.
    ///
    /// # Errors
    ///
    /// [`Error::Resolve`] if it does not say.
    pub(crate) fn read() -> Result<Self, Error> {
        use io::ErrorKind::{NotFound, PermissionDenied};

        const TABLE: &str = "/proc/self/mountinfo";
        let table = match std::fs::read(TABLE) {
            Err(error) if matches!(error.kind(), NotFound | PermissionDenied) => Vec::new(),
            Err(source) => return Err(Error::Resolve { path: TABLE.into(), source }),
            Ok(table) => table,
        };
        let lines = table.split(|byte| *byte == b'\n');
        Ok(Self { all: lines.filter_map(Mount::parse).collect() })
    }

    /// The other places of what is at a path without links, or will be, and of what is beneath: as
    /// far as one comes there and finds the same.
    pub(crate) fn other_names(&self, path: &Path) -> Vec<PathBuf> {
        let Some(own) = self.at(path) else { return Vec::new() };
        let itself = own.inside(path).map(|inside| (own, inside));
        let beneath = self.all.iter().filter(|mount| mount.place.starts_with(path));
        let parts = itself.into_iter().chain(beneath.map(|mount| (mount, mount.root.clone())));
        let mut names = Vec::new();
        for (whole, inside) in parts {
            for mount in self.all.iter().filter(|mount| mount.device == whole.device) {
                let Some(name) = mount.name_of(&inside) else { continue };
                let is_other = !name.starts_with(path) && !names.contains(&name);
                if is_other && self.at(&name).is_some_and(|found| found.id == mount.id) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// The mount that a path leads to, as far as it exists.
    fn at(&self, path: &Path) -> Option<&Mount> {
        let id = path.ancestors().find_map(mount_id)?;
        self.all.iter().find(|mount| mount.id == id)
    }
}

#[cfg(target_os = "linux")]
fn mount_id(path: &Path) -> Option<u64> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let status = statx(CWD, path, flags, StatxFlags::MNT_ID).ok()?;
    Some(status.stx_mnt_id)
}

#[cfg(target_os = "linux")]
impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        // Number, that of the mount around, device, root, place.
        let mut fields = line.split(|byte| *byte == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let device = String::from_utf8(fields.nth(1)?.to_vec()).ok()?;
        Some(Self { id, device, root: unescaped(fields.next()?), place: unescaped(fields.next()?) })
    }

    /// A path as one from the file system's own root on.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.place).ok().map(|rest| joined(&self.root, rest))
    }

    /// Where something of the file system is by this mount, or this mount is within that.
    fn name_of(&self, inside: &Path) -> Option<PathBuf> {
        if self.root.starts_with(inside) {
            return Some(self.place.clone());
        }
        inside.strip_prefix(&self.root).ok().map(|rest| joined(&self.place, rest))
    }
}

/// A path with no slash at its end.
#[cfg(target_os = "linux")]
fn joined(path: &Path, rest: &Path) -> PathBuf {
    path.components().chain(rest.components()).collect()
}

/// A path of the table, in which some characters are written as octal numbers.
#[cfg(target_os = "linux")]
fn unescaped(mut text: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;

    let mut path = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        let number = rest.get(..3).filter(|_| *first == b'\\');
        let number = number.and_then(|digits| std::str::from_utf8(digits).ok());
        let number = number.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        text = if number.is_some() { rest.get(3..).unwrap_or_default() } else { rest };
        path.push(number.unwrap_or(*first));
    }
    OsString::from_vec(path).into()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_is_read_with_its_escapes() {
        let line = br"36 35 98:0 /a\040b /mnt\134x\0 rw,noatime master:1 - ext3 /dev/root rw";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.id, mount.device.as_str()), (36, "98:0"));
        assert_eq!((mount.root, mount.place), ("/a b".into(), r"/mnt\x\0".into()));
        assert!(Mount::parse(b"").is_none());
    }

    #[test]
    fn a_mount_shows_what_it_is_of_or_is_a_part_of_it() {
        let mount = |root: &str, place: &str| Mount {
            id: 1,
            device: "8:1".to_owned(),
            root: root.into(),
            place: place.into(),
        };
        let home = mount("/data/home", "/home");
        assert_eq!(home.inside(Path::new("/home/keys")), Some("/data/home/keys".into()));
        assert_eq!(home.inside(Path::new("/other")), None);
        let inside = Path::new("/data/home/keys");
        let whole = mount("/", "/").name_of(inside).unwrap();
        assert_eq!(whole.as_os_str(), "/data/home/keys");
        assert_eq!(mount("/data/home/keys/deep", "/x").name_of(inside), Some("/x".into()));
        assert_eq!(mount("/data/home/key", "/x").name_of(inside), None);
        let same = mount("/data/home/keys", "/x").name_of(inside).unwrap();
        assert_eq!(same.as_os_str(), "/x");
    }

    #[test]
    fn the_table_can_be_read() {
        let mounts = Mounts::read().unwrap();
        assert!(mounts.at(Path::new("/proc/self")).is_some_and(|mount| mount.place == *"/proc"));
    }
}
