//! What is set on sockets whose bytes stay on this machine.

use std::net::IpAddr;
use std::os::fd::AsFd;

/// Has a socket at `ip`, or the connections that a listener there takes, send as fast as they are
/// read, if that is on the loopback.
///
/// A machine may have chosen a congestion control for the networks outside. BBR sends by a timer, and
/// by what it has measured, which holds bulk back where nothing is ever lost, and it works at every
/// acknowledgement. Reno does neither, is in every kernel, and anyone may choose it
/// (`Documentation/networking/ip-sysctl.rst`, `tcp_allowed_congestion_control`).
pub(crate) fn send_at_once(socket: impl AsFd, ip: IpAddr) {
    #[cfg(target_os = "linux")]
    if ip.to_canonical().is_loopback() {
        // Failing costs only time.
        let _ = rustix::net::sockopt::set_tcp_congestion(socket, "reno");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, ip);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use rustix::net::sockopt::tcp_congestion;

    use super::send_at_once;

    #[test]
    fn connections_on_the_loopback_have_it_from_their_listener() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let of_the_machine = tcp_congestion(&listener).unwrap();
        send_at_once(&listener, Ipv4Addr::new(192, 0, 2, 1).into());
        assert_eq!(tcp_congestion(&listener).unwrap(), of_the_machine);
        send_at_once(&listener, Ipv4Addr::LOCALHOST.into());
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(tcp_congestion(&accepted).unwrap(), "reno");
    }
}
