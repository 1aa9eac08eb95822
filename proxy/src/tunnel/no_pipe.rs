//! Where the kernel cannot move bytes from one socket to another: there are no such pipes.

use std::io;
use std::task::{Context, Poll};

use tokio::net::TcpStream;

/// There is none.
pub(super) enum Pipe {}

impl Pipe {
    pub(super) fn take() -> Option<Self> {
        None
    }

    pub(super) fn is_empty(&self) -> bool {
        match *self {}
    }

    pub(super) fn poll_fill(
        &mut self,
        _: &mut Context<'_>,
        _: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        match *self {}
    }

    pub(super) fn poll_drain(
        &mut self,
        _: &mut Context<'_>,
        _: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        match *self {}
    }
}
