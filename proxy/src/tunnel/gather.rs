//! Has a direction that carries bulk be woken for much at once, and not for each piece that comes:
//! every time costs a change of process, and takes the processor from those who send.
//!
//! The kernel waits with it until so many bytes are there (`SO_RCVLOWAT`, socket(7)), or the other
//! end closes, or cannot send any more (`tcp_epollin_ready`). Who waits for an answer before more is
//! sent must not wait for that: when nothing has come for [`REST`], what is there is passed on, and
//! as much again as has passed until then has to come before the direction is taken for bulk again.
//! So all such rests of a tunnel together take a few milliseconds.

use std::task::Context;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::idle::Idle;

/// How much has to pass before a direction is one that carries bulk.
const BULK: u64 = 256 * 1024;

/// How much it is then woken for.
const MUCH: usize = 256 * 1024;

/// How long nothing may come meanwhile. Below this, a network that is slower would be waited for.
const REST: Duration = Duration::from_millis(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Gather {
    /// How much has to pass before it is done.
    after: u64,
    /// While it is.
    rest: Option<Idle>,
}

impl Gather {
    pub(super) fn new() -> Self {
        Self { after: BULK, rest: None }
    }

    /// Whether what passed is more than small exchanges are.
    pub(super) fn is_bulk(passed: u64) -> bool {
        passed > BULK
    }

    /// Something came from `socket`; `passed` is what has until now.
    pub(super) fn come(&mut self, socket: &TcpStream, passed: u64) {
        if let Some(rest) = &mut self.rest {
            rest.progress();
        } else if passed > self.after {
            let is_done = wake_for(socket, MUCH);
            self.rest = is_done.then(|| Idle::new(REST));
            if !is_done {
                self.after = u64::MAX;
            }
        }
    }

    /// The direction waits for `socket`.
    pub(super) fn wait(&mut self, cx: &mut Context<'_>, socket: &TcpStream, passed: u64) {
        if self.rest.as_mut().is_some_and(|rest| rest.poll(cx).is_ready()) {
            self.rest = None;
            self.after = passed.saturating_mul(2);
            // What is there already wakes it now.
            wake_for(socket, 1);
        }
    }
}

#[cfg(target_os = "linux")]
use low::wake_for;

/// Its own, for what the library's macros name.
#[cfg(target_os = "linux")]
mod low {
    use nix::sys::socket::setsockopt;
    use nix::{libc, setsockopt_impl, sockopt_impl};
    use tokio::net::TcpStream;

    sockopt_impl!(RcvLowat, SetOnly, libc::SOL_SOCKET, libc::SO_RCVLOWAT, usize);

    /// Has `socket` be readable once it has so many bytes; whether that was done.
    pub(super) fn wake_for(socket: &TcpStream, bytes: usize) -> bool {
        setsockopt(socket, RcvLowat, &bytes).is_ok()
    }
}

/// Others have it too, but do not tell then of what is there already.
#[cfg(not(target_os = "linux"))]
fn wake_for(_: &TcpStream, _: usize) -> bool {
    false
}
