//! A process that makes system calls for a thread, on sockets that somebody hostile has too. Their
//! flags and time-outs are everybody's who has them, and can be changed between any look at them
//! and the call, which waits for ever then. A thread that waits is called back by a signal only if
//! that has a handler, and the handlers are the program's; a process can be ended.
//!
//! It shares the memory of its maker, whose thread goes on beside it. So it makes system calls by
//! the processor's own instruction, and touches nothing but its stack, its desk, and what the
//! calls that it is asked for point to.

use std::ffi::{c_int, c_long, c_void};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::net::SocketAddrAny;
use rustix::process::{Signal, pidfd_send_signal};

use super::process::{exit, monotonic, own_number, reap};
use super::raw::{call, clone_onto};
use super::round::{futex_wait, futex_wake};
use super::shim::set;
use super::signal::{SignalSet, set_signal_mask};
use super::stack::{Mapping, STACK};

/// How long a call may take that is asked for as one that does not wait. One that is given up
/// early is only made again.
const CONNECT: Duration = Duration::from_millis(if cfg!(test) { 2000 } else { 100 });
/// The same where it is not made again.
const ACCEPT: Duration = Duration::from_secs(1);

/// States of a desk.
const ASKED: u32 = 1;
const DONE: u32 = 2;

/// What lies between a deputy and its maker. Without an errand it is all zeroes.
#[derive(Debug)]
#[repr(align(64))]
struct Desk {
    state: AtomicU32,
    /// The maker's process.
    maker: AtomicI32,
    number: AtomicUsize,
    arguments: [AtomicUsize; 4],
    value: AtomicUsize,
    error: AtomicI32,
}

/// Who connects sockets. Its process is made when it is needed first, and again when one had to be
/// ended.
#[derive(Debug, Default)]
pub(crate) struct Deputy(Option<Process>);

impl Deputy {
    /// Connects a socket that is not to wait; none if it does, and then what has become of the
    /// connection is told by the next attempt.
    pub(crate) fn connect(
        &mut self,
        socket: BorrowedFd<'_>,
        to: &SocketAddrAny,
    ) -> Option<Result<(), c_int>> {
        let process = match self.0.take().map_or_else(|| Process::start(libc::CLONE_FILES), Ok) {
            Ok(process) => process,
            Err(error) => return Some(Err(error)),
        };
        let socket = socket.as_raw_fd().unsigned_abs() as usize;
        let arguments = [socket, to.as_ptr() as usize, to.addr_len() as usize, 0];
        // SAFETY: the address has this length, and is only read. It lives until the call has
        // ended, or the process has, which is dropped below if there is no answer.
        let made = unsafe { process.make(libc::SYS_connect, arguments, CONNECT) };
        if made.is_some() {
            self.0 = Some(process);
        }
        made.map(|made| made.map(drop))
    }
}

/// Takes a connection out of a listening socket's queue and closes it. Gives how long the address
/// is of whom it was from, which is written to `peer`; none if there is no connection, and the
/// socket waits for one.
pub(crate) fn turn_away(
    listening: BorrowedFd<'_>,
    peer: &mut [u8; 128],
) -> Option<Result<usize, c_int>> {
    // With descriptors of its own: what it accepts is closed by its end, whenever that is.
    let process = match Process::start(0) {
        Ok(process) => process,
        Err(error) => return Some(Err(error)),
    };
    let mut length = libc::socklen_t::try_from(peer.len()).unwrap_or(0);
    let listening = listening.as_raw_fd().unsigned_abs() as usize;
    let length_at = ptr::from_mut(&mut length);
    let arguments = [listening, peer.as_mut_ptr() as usize, length_at as usize, 0];
    // SAFETY: the call writes as much to `peer` as `length` says, and the length. Both live until
    // the process has ended, and nobody looks at them before.
    let made = unsafe { process.make(libc::SYS_accept4, arguments, ACCEPT) };
    drop(process);
    Some(made?.map(|_| usize::try_from(length).unwrap_or(usize::MAX)))
}

/// The process of a deputy. Dropped, it is ended, in the middle of whatever it does.
#[derive(Debug)]
struct Process {
    pidfd: OwnedFd,
    /// Its stack, and then the desk.
    memory: Mapping,
}

impl Process {
    /// Starts one that shares memory, and what else `flags` say.
    ///
    /// # Errors
    ///
    /// Those of `mmap` and `clone`.
    fn start(flags: c_int) -> Result<Self, c_int> {
        let memory = Mapping::new(2, STACK)?;
        desk(&memory).maker.store(own_number()?, Ordering::Relaxed);
        // No signal tells of its end, so to the rest of the program it is as if it were not there.
        let flags = flags | libc::CLONE_VM | libc::CLONE_PIDFD;
        let mut pidfd: c_int = -1;
        let told = [ptr::from_mut(&mut pidfd), ptr::null_mut()];
        let argument = ptr::from_ref(desk(&memory)).cast_mut().cast::<c_void>();
        // No handler of ours may run in it.
        let before = set_signal_mask(SignalSet::MAX)?;
        // SAFETY: the stack is for the process alone; it and the desk stay until it has been
        // waited for. `main` keeps to the rules of this module.
        let cloned = unsafe { clone_onto(flags, memory.top(0), told, main, argument) };
        // Cannot fail: the set is valid. The thread would be left with all signals blocked.
        let _ = set_signal_mask(before);
        cloned?;
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
        Ok(Self { pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) }, memory })
    }

    /// Has it make a call, and gives the result; none if that takes longer than `patience`.
    ///
    /// # Safety
    ///
    /// The arguments must be valid for the call until it has an answer, or this has been dropped.
    unsafe fn make(
        &self,
        number: c_long,
        arguments: [usize; 4],
        patience: Duration,
    ) -> Option<Result<usize, c_int>> {
        let desk = desk(&self.memory);
        desk.number.store(usize::try_from(number).unwrap_or(usize::MAX), Ordering::Relaxed);
        for (place, argument) in desk.arguments.iter().zip(arguments) {
            place.store(argument, Ordering::Relaxed);
        }
        desk.state.store(ASKED, Ordering::Release);
        futex_wake(&desk.state);
        let end = Duration::from_nanos(monotonic()) + patience;
        while desk.state.load(Ordering::Acquire) != DONE {
            let left = end.checked_sub(Duration::from_nanos(monotonic()))?;
            futex_wait(&desk.state, ASKED, Some(left));
        }
        Some(match desk.error.load(Ordering::Relaxed) {
            0 => Ok(desk.value.load(Ordering::Relaxed)),
            error => Err(error),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        // Fails only when somebody else has waited for it.
        let _ = reap(self.pidfd.as_raw_fd(), libc::WEXITED);
    }
}

/// The desk, in the second half of a deputy's memory.
fn desk(memory: &Mapping) -> &Desk {
    let desk = memory.top(1).wrapping_byte_sub(STACK).cast::<Desk>();
    // SAFETY: there are as many bytes, at the beginning of a page, that nobody uses otherwise and
    // that live as long as `memory`. They were all zero, which is a desk, and are changed by
    // atomic stores alone.
    unsafe { &*desk }
}

/// The first function on the deputy's stack.
extern "C" fn main(desk: *mut c_void) -> ! {
    // SAFETY: `Process::start` passes a desk, which stays until this process has ended.
    let desk = unsafe { &*desk.cast::<Desk>() };
    if desk.is_with_maker() {
        loop {
            desk.serve();
        }
    }
    exit(1)
}

impl Desk {
    /// Binds the calling process to its maker's life; false if that has ended.
    fn is_with_maker(&self) -> bool {
        let bound = set(libc::PR_SET_PDEATHSIG, libc::SIGKILL.unsigned_abs() as usize);
        // SAFETY: takes nothing.
        let parent = unsafe { call(libc::SYS_getppid, []) };
        let maker = usize::try_from(self.maker.load(Ordering::Relaxed));
        bound.is_ok() && maker.is_ok_and(|maker| parent == Ok(maker))
    }

    /// Waits for one errand and does it.
    fn serve(&self) {
        let state = self.state.load(Ordering::Acquire);
        if state != ASKED {
            return futex_wait(&self.state, state, None);
        }
        // All there are fit.
        let number = c_long::try_from(self.number.load(Ordering::Relaxed)).unwrap_or(-1);
        let arguments = self.arguments.each_ref().map(|place| place.load(Ordering::Relaxed));
        // SAFETY: whoever asked upholds it, until there is an answer or this process has ended.
        let (value, error) = match unsafe { call(number, arguments) } {
            Ok(value) => (value, 0),
            Err(error) => (0, error),
        };
        self.value.store(value, Ordering::Relaxed);
        self.error.store(error, Ordering::Relaxed);
        self.state.store(DONE, Ordering::Release);
        futex_wake(&self.state);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::net::{
        AddressFamily, SocketAddrUnix, SocketType, accept, bind, getsockname, listen, socket,
    };

    use super::*;

    fn unix() -> OwnedFd {
        socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap()
    }

    /// A socket that listens under a name of the kernel's choice, with room for one client.
    fn server() -> (OwnedFd, SocketAddrAny) {
        let server = unix();
        bind(&server, &SocketAddrUnix::new_unnamed()).unwrap();
        listen(&server, 0).unwrap();
        let name = getsockname(&server).unwrap();
        (server, name)
    }

    #[test]
    fn a_connection_that_waits_is_given_up_and_another_is_made_after_it() {
        let ((server, name), (_other, other_name)) = (server(), server());
        let mut deputy = Deputy::default();
        let [first, second, third] = [unix(), unix(), unix()];
        assert_eq!(deputy.connect(first.as_fd(), &name), Some(Ok(())));
        // They block, as if somebody had taken their flag away.
        assert_eq!(deputy.connect(second.as_fd(), &name), None);
        assert_eq!(deputy.connect(third.as_fd(), &other_name), Some(Ok(())));
        accept(&server).unwrap();
        assert_eq!(deputy.connect(second.as_fd(), &name), Some(Ok(())));
    }

    #[test]
    fn a_listener_without_clients_is_given_up() {
        let (server, name) = server();
        let mut peer = [0; 128];
        assert_eq!(turn_away(server.as_fd(), &mut peer), None);
        let client = unix();
        bind(&client, &SocketAddrUnix::new_unnamed()).unwrap();
        rustix::net::connect(&client, &name).unwrap();
        let length = turn_away(server.as_fd(), &mut peer).unwrap().unwrap();
        let own = SocketAddrUnix::try_from(getsockname(&client).unwrap()).unwrap();
        // After the family and the NUL that begins a name.
        assert_eq!(peer.get(3..length), own.abstract_name());
        // It was closed.
        assert_eq!(rustix::io::read(&client, &mut [0; 1]), Ok(0));
    }
}
