//! All threads of the process, restricted together: the leader's side of a [`Round`].
//!
//! Threads may be made while they are being listed. The list is read again until it holds nobody
//! who does not stand still, and as many as the kernel counts: somebody who stands still makes no
//! thread, so the list is then whole, and stays so.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, fstat, open, openat, seek};
use rustix::io::Errno;
use rustix::process::getpid;
use rustix::thread::gettid;

use crate::error::Error;
use crate::sys::{self, MOST, Round};

/// How long all threads together may take to stand still.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest the leader waits before it looks again.
const LOOK: Duration = Duration::from_millis(1);
/// When a thread that has not come is called again: its number may belong to another by now.
const CALL_AGAIN: Duration = Duration::from_millis(50);
/// What the kernel's own threads in the process are called: they hear no signal.
const RING_THREAD: &[u8] = b"iou-";

/// The list of threads, opened once and kept: a second sandbox has to find it, and the first may
/// have closed the way there. The number is of the process that it belongs to.
static TASKS: Mutex<Option<(i32, OwnedFd)>> = Mutex::new(None);

/// The threads of the process.
#[derive(Debug)]
pub(crate) enum Threads {
    /// The calling thread is alone.
    Alone,
    /// There may be others, to be found in this directory.
    Listed(OwnedFd),
}

impl Threads {
    /// Finds the list of threads. In a process that is sandboxed already it may be out of reach;
    /// the kernel can still be asked whether the calling thread is alone.
    ///
    /// # Errors
    ///
    /// [`Error::CountThreads`] if neither is to be had.
    pub(crate) fn find() -> Result<Self, Error> {
        match Self::list() {
            Ok(list) => Ok(Self::Listed(list)),
            Err(_) if sys::is_only_thread() => Ok(Self::Alone),
            Err(source) => Err(Error::CountThreads { source }),
        }
    }

    fn list() -> io::Result<OwnedFd> {
        let own = getpid().as_raw_nonzero().get();
        let mut kept = TASKS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((process, list)) = &*kept
            && *process == own
        {
            return list.try_clone();
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let list = open("/proc/self/task", flags, Mode::empty())?;
        let copy = list.try_clone()?;
        *kept = Some((own, list));
        Ok(copy)
    }
}

/// Why not all threads could be brought to stand still.
#[derive(Clone, Copy, Debug)]
enum Absent {
    /// This one does not answer.
    Silent(i32),
    /// This one is the kernel's and cannot answer.
    Ring(i32),
    /// There are more than a round has room for.
    TooMany,
    /// The list cannot be read.
    List(Errno),
    /// A thread cannot be called.
    Call(i32),
}

/// Brings all other threads to stand still, runs `lead` in the calling one, and if it succeeds
/// lets them do to themselves what `round` is about. Gives the number of the others.
///
/// Nothing in `lead` may allocate or wait for another thread.
///
/// # Errors
///
/// [`Error::ThreadSilent`] and the like if not all stand still: none has been changed then. What
/// `lead` says. [`Error::ThreadsDiffer`] if some could not restrict themselves at the end.
pub(crate) fn together<E: Into<Error>>(
    list: BorrowedFd<'_>,
    mut round: Round,
    lead: impl FnOnce() -> Result<(), E>,
) -> Result<usize, Error> {
    let mut roll = Roll::new();
    if let Err(absent) = roll.call(list, &round) {
        drop(round);
        return Err(explain(absent, list));
    }
    if let Err(error) = lead() {
        drop(round);
        return Err(error.into());
    }
    round.release();
    let (restricted, failure) = roll.results(&round);
    drop(round);
    match failure {
        None => Ok(restricted),
        Some((failed, errno)) => {
            Err(Error::ThreadsDiffer { failed, source: io::Error::from_raw_os_error(errno) })
        }
    }
}

/// The other threads by number, each at its place in the round.
struct Roll {
    threads: Vec<i32>,
}

/// One reading of the list.
struct Reading {
    listed: usize,
    absent: Option<i32>,
}

impl Roll {
    fn new() -> Self {
        Self { threads: Vec::with_capacity(MOST) }
    }

    /// Calls everybody until all have come. From here on nothing is allocated.
    fn call(&mut self, list: BorrowedFd<'_>, round: &Round) -> Result<(), Absent> {
        let start = Instant::now();
        let mut called = start;
        loop {
            let bell = Round::bell();
            let is_again = called.elapsed() >= CALL_AGAIN;
            if is_again {
                called = Instant::now();
            }
            let reading = self.read(list, round, is_again)?;
            // The directory has two links besides one for each thread.
            let links = fstat(list).map_err(Absent::List)?.st_nlink;
            let counted = usize::try_from(links).unwrap_or(usize::MAX).saturating_sub(2);
            let is_late = start.elapsed() > PATIENCE;
            match reading.absent {
                None if counted == reading.listed => return Ok(()),
                None if is_late => return Err(Absent::List(Errno::AGAIN)),
                Some(absent) if is_again && is_ring(list, absent) => {
                    return Err(Absent::Ring(absent));
                }
                Some(absent) if is_late => return Err(Absent::Silent(absent)),
                _ => Round::wait(bell, LOOK),
            }
        }
    }

    fn read(
        &mut self,
        list: BorrowedFd<'_>,
        round: &Round,
        is_again: bool,
    ) -> Result<Reading, Absent> {
        let own = gettid().as_raw_nonzero().get();
        let mut reading = Reading { listed: 0, absent: None };
        seek(list, SeekFrom::Start(0)).map_err(Absent::List)?;
        let mut memory = [MaybeUninit::<u8>::uninit(); 4096];
        let mut entries = RawDir::new(list, &mut memory);
        // The list is in order of age, as ours is: look on where the last one was found.
        let mut next = 0;
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(Absent::List)?;
            let Some(thread) = number(entry.file_name().to_bytes()) else { continue };
            reading.listed += 1;
            if thread == own {
                continue;
            }
            let place = self.place(thread, next).map_or_else(|| self.add(thread, round), Ok)?;
            next = place + 1;
            if round.has_arrived(place) || has_ended(list, thread) {
                continue;
            }
            if is_again {
                summon(round, thread, place)?;
            }
            reading.absent = Some(thread);
        }
        Ok(reading)
    }

    fn place(&self, thread: i32, start: usize) -> Option<usize> {
        if self.threads.get(start) == Some(&thread) {
            return Some(start);
        }
        self.threads.iter().position(|known| *known == thread)
    }

    fn add(&mut self, thread: i32, round: &Round) -> Result<usize, Absent> {
        let place = self.threads.len();
        if place == MOST {
            return Err(Absent::TooMany);
        }
        self.threads.push(thread);
        summon(round, thread, place)?;
        Ok(place)
    }

    /// Waits for all that were released; gives how many there were, and how many failed by what.
    fn results(&self, round: &Round) -> (usize, Option<(usize, i32)>) {
        let (mut restricted, mut failure) = (0, None);
        for place in 0..self.threads.len() {
            if !round.has_arrived(place) {
                continue;
            }
            let result = loop {
                let bell = Round::bell();
                match round.result(place) {
                    Some(result) => break result,
                    None => Round::wait(bell, LOOK),
                }
            };
            match result {
                Ok(()) => restricted += 1,
                Err(errno) => failure = Some((failure.map_or(0, |(failed, _)| failed) + 1, errno)),
            }
        }
        (restricted, failure)
    }
}

fn summon(round: &Round, thread: i32, place: usize) -> Result<(), Absent> {
    match round.call(thread, place) {
        // It has ended since it was listed; the next reading does not have it.
        Ok(()) | Err(libc::ESRCH) => Ok(()),
        Err(_) => Err(Absent::Call(thread)),
    }
}

/// Whether a thread is only kept as the number of the process: the first thread may end before
/// the others, and stays listed.
fn has_ended(list: BorrowedFd<'_>, thread: i32) -> bool {
    if thread != getpid().as_raw_nonzero().get() {
        return false;
    }
    let mut memory = [0; 128];
    let stat = read_of(list, thread, b"/stat", &mut memory);
    // The name comes second, in parentheses, and may contain any of both.
    let name_end = stat.iter().rposition(|byte| *byte == b')');
    let state = name_end.and_then(|end| stat.get(end + 2));
    matches!(state, Some(b'Z' | b'X'))
}

fn is_ring(list: BorrowedFd<'_>, thread: i32) -> bool {
    read_of(list, thread, b"/comm", &mut [0; 64]).starts_with(RING_THREAD)
}

/// Reads a file of a thread's directory, as far as there is room; nothing if it cannot be read.
fn read_of<'a>(list: BorrowedFd<'_>, thread: i32, file: &[u8], memory: &'a mut [u8]) -> &'a [u8] {
    let mut path = [0; 32];
    let mut end = 0;
    let mut push = |byte: u8| {
        if let Some(at) = path.get_mut(end) {
            *at = byte;
            end += 1;
        }
    };
    let mut scale = 1_000_000_000;
    while scale > 0 {
        if thread >= scale {
            push(b'0' + u8::try_from(thread / scale % 10).unwrap_or(0));
        }
        scale /= 10;
    }
    file.iter().copied().for_each(&mut push);
    let Some(path) = path.get(..end) else { return &[] };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(file) = openat(list, path, flags, Mode::empty()) else { return &[] };
    let length = rustix::io::read(file.as_fd(), &mut *memory).unwrap_or(0);
    memory.get(..length).unwrap_or(&[])
}

fn number(name: &[u8]) -> Option<i32> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

fn explain(absent: Absent, list: BorrowedFd<'_>) -> Error {
    match absent {
        Absent::Silent(thread) | Absent::Ring(thread) | Absent::Call(thread) => {
            let mut memory = [0; 64];
            let name = read_of(list, thread, b"/comm", &mut memory);
            Error::ThreadSilent {
                thread,
                name: String::from_utf8_lossy(name).trim_end().to_owned(),
                is_ring: matches!(absent, Absent::Ring(_)),
            }
        }
        Absent::TooMany => Error::TooManyThreads { most: MOST },
        Absent::List(errno) => Error::CountThreads { source: errno.into() },
    }
}
