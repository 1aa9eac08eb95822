//! What a sandboxed child tries in place of a program, to show that it is refused.
//!
//! It runs where the program would begin, with everything in force, in memory that it shares with
//! the caller: so it makes system calls and writes to the atomics of its attempts, nothing else.
//! Each attempt is made so that it does no harm should it be let through.

use std::ffi::{CString, c_int, c_long};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicI32, Ordering};

use super::raw::call;

/// Says that an attempt has not been made.
const UNTRIED: c_int = -1;

/// Something a sandboxed process might try.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// To open a path with these flags. Nothing is created: `O_TMPFILE` has no name.
    Open(CString, c_int),
    /// To make a device node, which is removed at once.
    Device(CString),
    /// To make a socket of this family, type and protocol.
    Socket([c_int; 3]),
    /// To make a pair of sockets of this family and type.
    Pair([c_int; 2]),
    /// To connect to an address.
    Connect(SocketAddrV4),
    /// To send with the first packet to an address, without connecting.
    FastOpen(SocketAddrV4),
    /// To bind to a loopback port of the kernel's choice.
    Bind,
    /// To serve on all addresses, without binding: where a connection to this address was made from.
    Listen(SocketAddrV4),
    /// To connect to an abstract unix socket.
    Abstract(Vec<u8>),
    /// To signal a process through a descriptor of it.
    SignalByDescriptor(c_int),
    /// A call that takes numbers, or that fails for its null pointers when it is let through.
    Call(c_long, [usize; 4]),
}

/// Attempts, and what came of each.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    attempts: Vec<(Attempt, AtomicI32)>,
}

impl Probe {
    pub(crate) fn new(attempts: impl IntoIterator<Item = Attempt>) -> Self {
        let untried = |attempt| (attempt, AtomicI32::new(UNTRIED));
        Self { attempts: attempts.into_iter().map(untried).collect() }
    }

    /// What came of the attempts, in order: an error number, or zero if one succeeded. None for
    /// one that was not made.
    pub(crate) fn results(&self) -> impl Iterator<Item = Option<c_int>> {
        self.attempts
            .iter()
            .map(|(_, result)| Some(result.load(Ordering::Acquire)).filter(|said| *said != UNTRIED))
    }

    /// Makes all attempts, in the calling process.
    pub(crate) fn run(&self) {
        for (attempt, result) in &self.attempts {
            let errno = attempt.make().err().unwrap_or(0);
            result.store(errno, Ordering::Release);
        }
    }
}

impl Attempt {
    fn make(&self) -> Result<(), c_int> {
        match self {
            Self::Open(path, flags) => open(path, *flags),
            Self::Device(path) => make_device(path),
            Self::Socket(kind) => socket(*kind).map(close),
            Self::Pair([family, kind]) => pair(*family, *kind),
            Self::Connect(address) => on_stream(|fd| addressed(libc::SYS_connect, fd, *address)),
            Self::FastOpen(address) => on_stream(|fd| fast_open(fd, *address)),
            Self::Bind => {
                let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
                on_stream(|fd| addressed(libc::SYS_bind, fd, any))
            }
            Self::Listen(address) => on_stream(|fd| listen_from(fd, *address)),
            Self::Abstract(name) => connect_abstract(name),
            Self::SignalByDescriptor(process) => signal_by_descriptor(*process),
            Self::Call(number, arguments) => {
                // SAFETY: the tables of `verify.rs` have calls that take numbers, or null or an
                // address that is nobody's where a pointer belongs.
                unsafe { call(*number, *arguments) }.map(drop)
            }
        }
    }
}

fn open(path: &CString, flags: c_int) -> Result<(), c_int> {
    let flags = (flags | libc::O_CLOEXEC).unsigned_abs() as usize;
    let here = libc::AT_FDCWD.cast_unsigned() as usize;
    // SAFETY: the path is a C string that lives as long as the attempt.
    unsafe { call(libc::SYS_openat, [here, path.as_ptr() as usize, flags, 0o600]) }.map(close)
}

fn socket(kind: [c_int; 3]) -> Result<usize, c_int> {
    let arguments = kind.map(|number| number.unsigned_abs() as usize);
    // SAFETY: takes numbers only.
    unsafe { call(libc::SYS_socket, arguments) }
}

/// Does something with a TCP socket.
fn on_stream(act: impl FnOnce(usize) -> Result<(), c_int>) -> Result<(), c_int> {
    let fd = socket([libc::AF_INET, libc::SOCK_STREAM, 0])?;
    let result = act(fd);
    close(fd);
    result
}

fn pair(family: c_int, kind: c_int) -> Result<(), c_int> {
    let mut pair = [0_u32; 2];
    let [family, kind] = [family, kind].map(|number| number.unsigned_abs() as usize);
    // SAFETY: `pair` has room for the two descriptors.
    unsafe { call(libc::SYS_socketpair, [family, kind, 0, pair.as_mut_ptr() as usize]) }?;
    for fd in pair {
        close(fd as usize);
    }
    Ok(())
}

fn close(fd: usize) {
    // SAFETY: the descriptor was made by an attempt, and nobody else knows it.
    let _ = unsafe { call(libc::SYS_close, [fd]) };
}

/// The kernel's `struct sockaddr_in`, on processors that have the low byte first.
fn internet(address: SocketAddrV4) -> [u8; 16] {
    const INTERNET: u8 = 2;
    let [high, low] = address.port().to_be_bytes();
    let [a, b, c, d] = address.ip().octets();
    [INTERNET, 0, high, low, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0]
}

fn addressed(number: c_long, fd: usize, address: SocketAddrV4) -> Result<(), c_int> {
    let raw = internet(address);
    // SAFETY: `raw` is an address of the length given and lives through the call.
    unsafe { call(number, [fd, raw.as_ptr() as usize, raw.len()]) }.map(drop)
}

fn fast_open(fd: usize, address: SocketAddrV4) -> Result<(), c_int> {
    let (raw, byte) = (internet(address), [0_u8]);
    let flag = libc::MSG_FASTOPEN.unsigned_abs() as usize;
    let arguments = [fd, byte.as_ptr() as usize, 1, flag, raw.as_ptr() as usize, raw.len()];
    // SAFETY: both pointers are to memory of the lengths given that lives through the call.
    unsafe { call(libc::SYS_sendto, arguments) }.map(drop)
}

fn listen_from(fd: usize, address: SocketAddrV4) -> Result<(), c_int> {
    // Whatever comes of it, the socket has a port from then on.
    let _ = addressed(libc::SYS_connect, fd, address);
    let nowhere = [0_u8; 16];
    // SAFETY: the address is of the length given and lives through the call. Its family is none, by
    // which a socket is disconnected and keeps its port.
    let _ = unsafe { call(libc::SYS_connect, [fd, nowhere.as_ptr() as usize, nowhere.len()]) };
    // SAFETY: takes numbers only.
    unsafe { call(libc::SYS_listen, [fd, 1]) }.map(drop)
}

fn connect_abstract(name: &[u8]) -> Result<(), c_int> {
    const UNIX: u8 = 1;
    let fd = socket([libc::AF_UNIX, libc::SOCK_STREAM, 0])?;
    // The kernel's `struct sockaddr_un`: the family, then a zero, then the name.
    let mut raw = [0_u8; 110];
    let mut length = 0;
    for (to, from) in raw.iter_mut().zip([UNIX, 0, 0].iter().chain(name)) {
        *to = *from;
        length += 1;
    }
    // SAFETY: `raw` is at least as long as the length given and lives through the call.
    let connected = unsafe { call(libc::SYS_connect, [fd, raw.as_ptr() as usize, length]) };
    close(fd);
    connected.map(drop)
}

fn make_device(path: &CString) -> Result<(), c_int> {
    let (here, path) = (libc::AT_FDCWD.cast_unsigned() as usize, path.as_ptr() as usize);
    let kind = (libc::S_IFCHR | 0o600) as usize;
    // Device 1, 3: the null device.
    // SAFETY: the path is a C string that lives as long as the attempt.
    unsafe { call(libc::SYS_mknodat, [here, path, kind, 0x103]) }?;
    // SAFETY: as above.
    let _ = unsafe { call(libc::SYS_unlinkat, [here, path, 0]) };
    Ok(())
}

fn signal_by_descriptor(process: c_int) -> Result<(), c_int> {
    let process = process.unsigned_abs() as usize;
    // SAFETY: takes numbers only.
    let fd = unsafe { call(libc::SYS_pidfd_open, [process, 0]) }?;
    // SAFETY: signal zero is none, and its details are optional.
    let sent = unsafe { call(libc::SYS_pidfd_send_signal, [fd, 0, 0, 0]) };
    close(fd);
    sent.map(drop)
}
