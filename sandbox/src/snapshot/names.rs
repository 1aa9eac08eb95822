//! The names in a directory.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::RawDir;

/// How much the kernel tells of a directory at once.
const ROOM: usize = 32 * 1024;

/// The names in a directory, in order.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: Vec<u8>,
    /// Where each of them is in the text.
    places: Vec<Range<usize>>,
}

impl Names {
    /// What is in the directory `handle`, which nothing has been read from yet.
    pub(super) fn read(handle: impl AsFd) -> rustix::io::Result<Self> {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(ROOM));
        }
        BUFFER.with_borrow_mut(|buffer| {
            let mut names = Self::default();
            let mut entries = RawDir::new(handle, buffer.spare_capacity_mut());
            while let Some(entry) = entries.next() {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    let begin = names.text.len();
                    names.text.extend_from_slice(name);
                    names.places.push(begin..names.text.len());
                }
            }
            let text = &names.text;
            let name = |place: &Range<usize>| text.get(place.clone());
            names.places.sort_unstable_by(|a, b| name(a).cmp(&name(b)));
            // A directory that changes meanwhile may tell of one twice.
            names.places.dedup_by(|a, b| name(a) == name(b));
            Ok(names)
        })
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Some of them, by their numbers.
    pub(super) fn some(&self, numbers: Range<usize>) -> impl Iterator<Item = &OsStr> {
        let places = self.places.get(numbers).unwrap_or_default();
        places.iter().map(|place| self.at(place))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.places.binary_search_by(|place| self.at(place).cmp(OsStr::new(name))).is_ok()
    }

    fn at(&self, place: &Range<usize>) -> &OsStr {
        OsStr::from_bytes(self.text.get(place.clone()).unwrap_or_default())
    }
}
