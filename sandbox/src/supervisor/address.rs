//! Socket addresses as the kernel takes them, read from bytes that somebody hostile wrote.

use std::ffi::CStr;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Deref;

use arrayvec::ArrayVec;

/// Bytes of the largest address there is (`struct sockaddr_storage`).
pub(super) const LARGEST: usize = 128;

/// The path or name of a unix socket, without its NUL.
pub(super) type SocketName = ArrayVec<u8, LARGEST>;

/// A path as the kernel takes it.
#[derive(Debug)]
pub(super) struct CPath([u8; LARGEST + 1]);

/// Ends a path with a NUL.
pub(super) fn c_path(path: &SocketName) -> CPath {
    let mut bytes = [0; LARGEST + 1];
    bytes.iter_mut().zip(path).for_each(|(place, byte)| *place = *byte);
    CPath(bytes)
}

impl Deref for CPath {
    type Target = CStr;

    fn deref(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"")
    }
}

/// To whom a socket is to be connected, or where it is to be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A host and port.
    Internet(SocketAddr),
    /// A unix socket with a path.
    Path(SocketName),
    /// A unix socket with a name that is no path.
    Abstract(SocketName),
    /// None: the socket's association is to be dissolved.
    Unspecified,
    /// Of a family that has no place here, or a unix socket without a name.
    Other,
}

/// Reads an address; none if there are too few bytes for its family, which the kernel would not
/// take either.
pub(super) fn parse(bytes: &[u8]) -> Option<Address> {
    let (family, rest) = bytes.split_first_chunk()?;
    Some(match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let (port, rest) = rest.split_first_chunk()?;
            let (ip, _) = rest.split_first_chunk::<4>()?;
            // The kernel wants the padding to be there.
            (bytes.len() >= 16).then_some(())?;
            let address = SocketAddrV4::new(Ipv4Addr::from(*ip), u16::from_be_bytes(*port));
            Address::Internet(address.into())
        }
        libc::AF_INET6 => Address::Internet(internet6(rest)?.into()),
        libc::AF_UNIX => unix(rest),
        libc::AF_UNSPEC => Address::Unspecified,
        _ => Address::Other,
    })
}

fn internet6(rest: &[u8]) -> Option<SocketAddrV6> {
    let (port, rest) = rest.split_first_chunk()?;
    let (flow, rest) = rest.split_first_chunk()?;
    let (ip, rest) = rest.split_first_chunk::<16>()?;
    let (scope, _) = rest.split_first_chunk()?;
    let (port, flow) = (u16::from_be_bytes(*port), u32::from_ne_bytes(*flow));
    Some(SocketAddrV6::new(Ipv6Addr::from(*ip), port, flow, u32::from_ne_bytes(*scope)))
}

/// A path ends at its first NUL; what begins with one is a name, and all the rest belongs to it.
fn unix(bytes: &[u8]) -> Address {
    match bytes.split_first() {
        None => Address::Other,
        Some((0, name)) => named(name).map_or(Address::Other, Address::Abstract),
        Some(_) => {
            let path = bytes.split(|byte| *byte == 0).next().unwrap_or(bytes);
            named(path).map_or(Address::Other, Address::Path)
        }
    }
}

fn named(bytes: &[u8]) -> Option<SocketName> {
    SocketName::try_from(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(family: i32, rest: &[u8]) -> Vec<u8> {
        [&u16::try_from(family).unwrap().to_ne_bytes()[..], rest].concat()
    }

    #[test]
    fn addresses_are_read_as_the_kernel_reads_them() {
        let four = bytes(libc::AF_INET, &[0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(parse(&four), Some(Address::Internet("127.0.0.1:80".parse().unwrap())));
        assert_eq!(parse(&four[..15]), None);

        let mut six = vec![1, 187, 0, 0, 0, 0];
        six.extend([0; 15]);
        six.extend([1, 0, 0, 0, 0]);
        let six = bytes(libc::AF_INET6, &six);
        assert_eq!(parse(&six), Some(Address::Internet("[::1]:443".parse().unwrap())));
        assert_eq!(parse(&six[..27]), None);

        let path = |path: &[u8]| Some(Address::Path(path.try_into().unwrap()));
        assert_eq!(parse(&bytes(libc::AF_UNIX, b"/a\0b")), path(b"/a"));
        assert_eq!(parse(&bytes(libc::AF_UNIX, b"a")), path(b"a"));
        let name = |name: &[u8]| Some(Address::Abstract(name.try_into().unwrap()));
        assert_eq!(parse(&bytes(libc::AF_UNIX, b"\0name")), name(b"name"));
        assert_eq!(parse(&bytes(libc::AF_UNIX, b"\0a\0b\0")), name(b"a\0b\0"));
        assert_eq!(parse(&bytes(libc::AF_UNIX, b"")), Some(Address::Other));
        assert_eq!(parse(&bytes(libc::AF_UNSPEC, b"")), Some(Address::Unspecified));
        assert_eq!(parse(&bytes(libc::AF_NETLINK, &[0; 10])), Some(Address::Other));
        assert_eq!(parse(&[1]), None);
    }
}
