//! What a supervisor judges by: a view of a set, of which copies can be made without memory.

use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::capability::CapabilitySet;
use crate::rules::Rules;

/// A file or directory that is granted for something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'a> {
    /// Held open, so that no other takes its number.
    pub handle: BorrowedFd<'a>,
    /// Whether all beneath it is granted.
    pub is_directory: bool,
}

/// What is granted of all that a supervisor judges.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Granted<'a> {
    /// The network.
    pub rules: Rules<'a>,
    /// Unix sockets to connect to.
    pub sockets: &'a [Object<'a>],
    /// Paths beneath which none are.
    pub denied: &'a [&'a [u8]],
    /// Files of which more can be changed than their content.
    pub writable: &'a [Object<'a>],
}

/// The parts of a [`Granted`] that are made for it.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    caps: &'a CapabilitySet,
    sockets: Vec<Object<'a>>,
    denied: Vec<&'a [u8]>,
    writable: Vec<Object<'a>>,
}

impl<'a> Parts<'a> {
    /// Those of a set, of which all is denied that has one of the names `denied`.
    pub(crate) fn new(caps: &'a CapabilitySet, denied: &'a [PathBuf]) -> Self {
        let sockets = caps.unix_sockets().iter().map(|granted| Object {
            handle: granted.handle(),
            is_directory: granted.is_directory(),
        });
        let files = caps.fs_capabilities().iter().filter(|granted| granted.access().is_write());
        Self {
            caps,
            sockets: sockets.collect(),
            denied: denied.iter().map(|denied| denied.as_os_str().as_bytes()).collect(),
            writable: files
                .map(|file| Object { handle: file.handle(), is_directory: !file.is_file() })
                .collect(),
        }
    }

    pub(crate) fn granted(&self) -> Granted<'_> {
        Granted {
            rules: Rules::new(self.caps),
            sockets: &self.sockets,
            denied: &self.denied,
            writable: &self.writable,
        }
    }
}
