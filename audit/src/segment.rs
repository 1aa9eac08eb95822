//! Groups of records that are held until all consumers have them, the oldest ones on disk.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::DerefMut;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use crate::Record;
use crate::log::State;

/// Records in their order, without a gap.
pub(crate) struct Segment {
    pub(crate) first: u64,
    pub(crate) len: usize,
    /// How many are of clients without the session token.
    pub(crate) strangers: usize,
    pub(crate) place: Place,
}

/// Where they are.
#[derive(Clone)]
pub(crate) enum Place {
    Memory(Arc<Vec<Record>>),
    Disk(Arc<File>, Extent),
}

/// What a segment holds: records, or the JSON Lines that the disk has of them.
#[derive(Debug)]
pub(crate) enum Held {
    Records(Arc<Vec<Record>>),
    Lines(Vec<u8>),
}

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    offset: u64,
    len: u64,
}

impl Segment {
    /// The sequence number behind its last.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.len as u64
    }
}

impl Place {
    /// The records; reads them if they are on disk.
    pub(crate) fn load(self) -> io::Result<Arc<Vec<Record>>> {
        Ok(match self.read()? {
            Held::Records(records) => records,
            Held::Lines(lines) => {
                let records = serde_json::Deserializer::from_slice(&lines).into_iter();
                Arc::new(records.collect::<Result<_, _>>()?)
            }
        })
    }

    /// The records, in the form in which they are held.
    pub(crate) fn read(self) -> io::Result<Held> {
        Ok(match self {
            Self::Memory(records) => Held::Records(records),
            Self::Disk(file, extent) => {
                let len = usize::try_from(extent.len).map_err(io::Error::other)?;
                let mut lines = vec![0; len];
                file.read_exact_at(&mut lines, extent.offset)?;
                Held::Lines(lines)
            }
        })
    }
}

/// All segments, oldest first; those on disk are the oldest.
pub(crate) struct Segments {
    all: VecDeque<Segment>,
    ring: Option<Ring>,
    /// Records in those that are in memory.
    pub(crate) in_memory: usize,
}

impl Segments {
    pub(crate) fn new(ring: Option<Ring>) -> Self {
        Self { all: VecDeque::new(), ring, in_memory: 0 }
    }

    pub(crate) fn push(&mut self, first: u64, records: Vec<Record>, strangers: usize) {
        let len = records.len();
        self.in_memory += len;
        let place = Place::Memory(Arc::new(records));
        self.all.push_back(Segment { first, len, strangers, place });
    }

    /// The first sequence number.
    pub(crate) fn first(&self) -> Option<u64> {
        self.all.front().map(|segment| segment.first)
    }

    /// The segment that begins at `at`.
    pub(crate) fn get(&self, at: u64) -> Option<&Segment> {
        self.all.get(self.all.partition_point(|segment| segment.end() <= at))
    }

    /// Takes out the segments that end at `oldest` or before.
    pub(crate) fn release(&mut self, oldest: u64) -> Vec<Segment> {
        let count = self.all.partition_point(|segment| segment.end() <= oldest);
        let released: Vec<_> = self.all.drain(..count).collect();
        for segment in &released {
            match (&segment.place, &mut self.ring) {
                (Place::Memory(_), _) => self.in_memory -= segment.len,
                (Place::Disk(_, extent), Some(ring)) => ring.free(*extent),
                (Place::Disk(..), None) => {}
            }
        }
        if let Some(ring) = self.ring.as_mut().filter(|ring| ring.parts == 0 && count > 0) {
            // What did not even fit into an empty one may be gone.
            ring.is_full = false;
        }
        released
    }

    /// Whether the disk takes more.
    pub(crate) fn has_room(&self) -> bool {
        self.ring.as_ref().is_some_and(|ring| !ring.is_full && !ring.has_failed)
    }

    /// Has records written to another file than they were.
    #[cfg(test)]
    pub(crate) fn change_disk(&mut self, file: Arc<File>) -> Arc<File> {
        std::mem::replace(&mut self.ring.as_mut().unwrap().file, file)
    }

    /// Forgets that the disk failed.
    pub(crate) fn try_disk_again(&mut self) {
        self.ring.iter_mut().for_each(|ring| ring.has_failed = false);
    }

    /// The sequence number behind the oldest segment.
    pub(crate) fn oldest_end(&self) -> Option<u64> {
        self.all.front().map(Segment::end)
    }

    /// How much of the disk's room is used, from 0 to 1; `None` without a disk.
    pub(crate) fn used(&self) -> Option<f64> {
        self.ring.as_ref().map(Ring::used)
    }

    /// The records to move to disk next, and the first one's sequence number.
    pub(crate) fn oldest_in_memory(&self) -> Option<(u64, Arc<Vec<Record>>)> {
        self.all.iter().find_map(|segment| match &segment.place {
            Place::Memory(records) => Some((segment.first, Arc::clone(records))),
            Place::Disk(..) => None,
        })
    }

    /// Writes `lines`, which are the records of the segment that begins at `first`, to disk, with
    /// the lock held only before and after. Says whether the segment left the memory by it.
    ///
    /// # Errors
    /// The disk fails; it has no room then until it is [tried again](Self::try_disk_again).
    pub(crate) fn move_to_disk<G>(
        lock: impl Fn() -> G,
        first: u64,
        lines: &[u8],
    ) -> io::Result<bool>
    where
        G: DerefMut<Target = State>,
    {
        let room = lock().segments.ring.as_mut().and_then(|ring| {
            let extent = ring.allocate(lines.len() as u64)?;
            Some((Arc::clone(&ring.file), extent))
        });
        let Some((file, extent)) = room else { return Ok(false) };
        let written = file.write_all_at(lines, extent.offset);
        let mut state = lock();
        let Self { all, ring, in_memory } = &mut state.segments;
        let Some(ring) = ring else { return Ok(false) };
        let at = all.partition_point(|segment| segment.first < first);
        let segment = all.get_mut(at).filter(|segment| segment.first == first && written.is_ok());
        let is_moved = segment.is_some();
        if let Some(segment) = segment {
            segment.place = Place::Disk(file, extent);
            *in_memory -= segment.len;
        } else {
            // All have it meanwhile, or the disk fails.
            ring.undo(extent);
            ring.has_failed |= written.is_err();
        }
        written.map(|()| is_moved)
    }
}

/// A file of bounded size whose parts are taken and freed in the same order.
pub(crate) struct Ring {
    file: Arc<File>,
    size: u64,
    /// Where the oldest part begins, or some place before it that is free.
    head: u64,
    /// Where the newest one ends.
    tail: u64,
    parts: usize,
    /// Whether a part was refused since one was freed, or, in an empty one, since what was refused
    /// may have gone.
    is_full: bool,
    /// Whether the last write failed.
    has_failed: bool,
}

impl Ring {
    /// A ring of at most `size` bytes in a file without a name; `None` for 0, and where no such
    /// file can be made: in a sandbox, or on a disk that is only to be read.
    pub(crate) fn create(size: u64) -> io::Result<Option<Self>> {
        if size == 0 {
            return Ok(None);
        }
        let file = match tempfile::tempfile() {
            Err(error) if has_no_place(&error) => return Ok(None),
            made => Arc::new(made?),
        };
        let (head, tail, parts) = (0, 0, 0);
        Ok(Some(Self { file, size, head, tail, parts, is_full: false, has_failed: false }))
    }

    /// How much of it is in use, with what lies unused at its end.
    #[expect(clippy::cast_precision_loss, reason = "about as much is enough")]
    fn used(&self) -> f64 {
        let used = match self.tail.checked_sub(self.head) {
            _ if self.parts == 0 => 0,
            _ if self.is_full => self.size,
            Some(used) => used,
            None => self.size - (self.head - self.tail),
        };
        used as f64 / self.size as f64
    }

    fn allocate(&mut self, len: u64) -> Option<Extent> {
        let offset = if self.tail < self.head {
            (self.head - self.tail > len).then_some(self.tail)
        } else if self.size - self.tail >= len {
            Some(self.tail)
        } else {
            (self.head > len).then_some(0)
        };
        let Some(offset) = offset else {
            self.is_full = true;
            return None;
        };
        self.tail = offset + len;
        self.parts += 1;
        Some(Extent { offset, len })
    }

    /// Frees the oldest part.
    fn free(&mut self, oldest: Extent) {
        self.head = oldest.offset + oldest.len;
        self.forget_one();
    }

    /// Takes back the newest part.
    fn undo(&mut self, newest: Extent) {
        self.tail = newest.offset;
        self.forget_one();
    }

    fn forget_one(&mut self) {
        self.parts -= 1;
        self.is_full = false;
        if self.parts == 0 {
            (self.head, self.tail) = (0, 0);
            // What was written is of no use; failing leaves it to be written over.
            let _ = self.file.set_len(0);
        }
    }
}

/// Whether there is no place for files, and never will be.
fn has_no_place(error: &io::Error) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), NotFound | PermissionDenied | ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::os::unix::fs::MetadataExt as _;

    use proptest::prelude::*;

    use super::{Extent, Ring, Segments};
    use crate::{Mode, Record, RecordId, Session};

    #[test]
    fn the_file_of_a_ring_has_no_name() {
        let ring = Ring::create(100).unwrap().unwrap();
        assert_eq!(ring.file.metadata().unwrap().nlink(), 0);
    }

    #[test]
    fn what_is_larger_than_the_disk_is_in_the_way_of_others_only_while_it_is_there() {
        let mut segments = Segments::new(Ring::create(100).unwrap());
        let id = RecordId { session: Session(7), number: 0 };
        segments.push(0, vec![Record::new(id, 1, Mode::Reverse)], 0);
        assert_eq!(segments.ring.as_mut().unwrap().allocate(101), None);
        assert_eq!(segments.release(0).len(), 0);
        assert!(!segments.has_room(), "or it would be tried without end");
        assert_eq!(segments.release(1).len(), 1);
        assert!(segments.has_room());
    }

    proptest! {
        #[test]
        fn parts_of_a_ring_never_overlap(steps in prop::collection::vec(0_u64..60, 1..300)) {
            let mut ring = Ring::create(100).unwrap().unwrap();
            let mut parts: VecDeque<Extent> = VecDeque::new();
            for step in steps {
                if step < 20 {
                    parts.pop_front().into_iter().for_each(|part| ring.free(part));
                } else if let Some(part) = ring.allocate(step - 15) {
                    prop_assert!(part.offset + part.len <= 100);
                    for other in &parts {
                        let apart = part.offset + part.len <= other.offset
                            || other.offset + other.len <= part.offset;
                        prop_assert!(apart, "{part:?} {other:?}");
                    }
                    parts.push_back(part);
                } else {
                    prop_assert!(!parts.is_empty(), "an empty ring takes a part");
                }
            }
        }
    }
}
