//! What a sealed network reaches: the proxy at its address, granted ports and sockets, and the
//! sandbox's own. As root and as an ordinary user.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read as _, Write as _, pipe};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr as Name, UnixListener};
use std::thread;

use nono_sandbox::{Access, Command};
use support::isolated;
use support::sandboxed::{User, allow, run_as, system, text};
use tempfile::{TempDir, tempdir};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const DENIED: &str = "13\nok";
const OK: &str = "ok\nok";

/// Who is in a sandbox, and by what way: as a child of another process, by itself, or as a child
/// of a process that is in it by itself.
#[derive(Clone, Copy, Debug)]
struct Case(User, &'static str);

const CASES: [Case; 6] = [
    Case(User::Own, "inside"),
    Case(User::Own, "held"),
    Case(User::Own, "held-child"),
    Case(User::Nobody, "inside"),
    Case(User::Nobody, "held"),
    Case(User::Nobody, "held-child"),
];

/// What a probe says in a sandbox of these grants.
fn inside(Case(user, way): Case, grants: &[&str], probe: &[&str]) -> String {
    let said = run_as(user, PROBE, &[&[way], grants, &["then"], probe].concat());
    // Each process says how it fared; how the one between did is of no interest.
    if way == "held-child" { said.strip_suffix("\nok").unwrap_or(&said).to_owned() } else { said }
}

fn server(ip: [u8; 4]) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::from(ip), 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn is_reached(listener: &TcpListener) -> bool {
    match listener.accept() {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            false
        }
    }
}

/// A directory that every user can use.
fn open_directory() -> TempDir {
    let dir = tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    dir
}

fn path(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_owned()
}

/// A server at a path, whom every user may connect to.
fn unix_server(path: &str) -> UnixListener {
    let listener = UnixListener::bind(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

#[test]
fn the_proxys_port_is_closed_at_other_addresses() {
    isolated("the_proxys_port_is_closed_at_other_addresses", || {
        let (proxy, address) = server([127, 0, 0, 1]);
        let elsewhere = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), address.port())).unwrap();
        elsewhere.set_nonblocking(true).unwrap();
        let grant = format!("proxy={address}");
        let port = address.port();
        for case in CASES {
            for connect in ["connect", "quick-connect"] {
                let other = format!("127.0.0.2:{port}");
                assert_eq!(inside(case, &[&grant], &[connect, &other]), DENIED, "{case:?}");
                let any = format!("0.0.0.0:{port}");
                assert_eq!(inside(case, &[&grant], &[connect, &any]), DENIED, "{case:?}");
                assert!(!is_reached(&elsewhere));
                let said = inside(case, &[&grant], &[connect, &address.to_string()]);
                assert!(said.ends_with(OK), "{case:?} {connect}: {said}");
                assert!(is_reached(&proxy));
            }
            let mapped = format!("[::ffff:127.0.0.1]:{port}");
            assert_eq!(inside(case, &[&grant], &["connect", &mapped]), OK);
            assert!(is_reached(&proxy));
            let six = format!("[::1]:{port}");
            assert_eq!(inside(case, &[&grant], &["connect", &six]), DENIED);
        }
    });
}

#[test]
fn a_granted_port_of_loopback_is_none_elsewhere() {
    isolated("a_granted_port_of_loopback_is_none_elsewhere", || {
        let (listener, address) = server([127, 0, 0, 1]);
        let (_, free) = server([127, 0, 0, 1]);
        let grants = [
            &*format!("localhost={}", address.port()),
            "block=",
            &*format!("localhost={}", free.port()),
        ];
        for case in CASES {
            assert_eq!(inside(case, &grants, &["connect", &address.to_string()]), OK);
            assert!(is_reached(&listener));
            assert_eq!(inside(case, &grants, &["bind", &free.to_string()]), OK, "{case:?}");
            let everywhere = format!("0.0.0.0:{}", free.port());
            assert_eq!(inside(case, &grants, &["bind", &everywhere]), DENIED);
            assert_eq!(inside(case, &grants, &["bind", "127.0.0.1:0"]), DENIED);
            assert_eq!(inside(case, &grants, &["listen-unbound"]), DENIED);
            let any = format!("10.0.0.1:{}", address.port());
            assert_eq!(inside(case, &grants, &["connect", &any]), DENIED);
        }
    });
}

#[test]
fn nothing_listens_that_was_not_bound() {
    for case in CASES {
        for grants in [["proxy=127.0.0.1:9"], ["connect=443"], ["bind=4180"]] {
            assert_eq!(inside(case, &grants, &["listen-unbound"]), DENIED, "{grants:?}");
        }
    }
}

#[test]
fn a_unix_socket_is_reached_if_it_was_granted() {
    for case in CASES {
        let dir = open_directory();
        let (granted, other) = (path(&dir, "granted"), path(&dir, "other"));
        let (one, two) = (unix_server(&granted), unix_server(&other));
        let whole = dir.path().to_str().unwrap();
        // Neither reading nor writing a directory is a grant of the sockets in it.
        for network in ["block=", "proxy=127.0.0.1:9"] {
            let grants = [network, &*format!("write={whole}"), &*format!("unix={granted}")];
            assert_eq!(inside(case, &grants, &["unix-connect", &granted]), OK);
            assert!(one.accept().is_ok());
            assert_eq!(inside(case, &grants, &["unix-connect", &other]), DENIED, "{case:?}");
            assert!(two.accept().is_err());
            let grants = [network, &*format!("unix={whole}")];
            assert_eq!(inside(case, &grants, &["unix-connect", &other]), OK, "{case:?}");
            assert!(two.accept().is_ok());
            let grants = [network, &*format!("unix={whole}"), &*format!("deny={other}")];
            assert_eq!(inside(case, &grants, &["unix-connect", &other]), DENIED, "{case:?}");
        }
        // The grant is of the socket that was there: not of one that has taken its place.
        let grants = ["block=", &*format!("unix={granted}")];
        assert_eq!(inside(case, &grants, &["unix-connect", &path(&dir, "none")]), "2\nok");
    }
}

#[test]
fn a_denied_unix_socket_is_not_reached_where_it_is_mounted_again() {
    isolated("a_denied_unix_socket_is_not_reached_where_it_is_mounted_again", || {
        let (dir, again) = (open_directory(), open_directory());
        let [below, place] = [path(&dir, "below"), path(&again, "place")];
        fs::create_dir_all(&below).unwrap();
        fs::create_dir_all(&place).unwrap();
        let socket = format!("{place}/socket");
        let _listener = unix_server(&format!("{below}/socket"));
        let mut mount = std::process::Command::new("mount");
        assert!(mount.args(["--bind", &below, &place]).status().unwrap().success());
        for case in CASES {
            let grants = ["block=", &*format!("unix={}", again.path().display())];
            assert_eq!(inside(case, &grants, &["unix-connect", &socket]), OK, "{case:?}");
            let denied = format!("deny={below}");
            let grants = [grants[0], grants[1], &*denied];
            assert_eq!(inside(case, &grants, &["unix-connect", &socket]), DENIED, "{case:?}");
        }
    });
}

/// Whoever is connected to is told who the child is, not who its parent is.
#[test]
fn a_child_of_another_user_connects_as_that_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = open_directory();
    let socket = path(&dir, "socket");
    let listener = unix_server(&socket);
    let (proxy, address) = server([127, 0, 0, 1]);
    let mut caps = system();
    allow(&mut caps, PROBE, Access::Read);
    caps.proxy_only(address);
    caps.allow_unix_socket(&socket).unwrap();
    let run = |args: [&str; 2]| {
        text(&Command::new(PROBE).args(args).ids(65534, 65534).run(&caps).unwrap())
    };
    assert_eq!(run(["unix-connect", &socket]), "ok");
    let peer = rustix::net::sockopt::socket_peercred(listener.accept().unwrap().0).unwrap();
    assert_eq!((peer.uid.as_raw(), peer.gid.as_raw()), (65534, 65534));
    assert_eq!(run(["connect", &address.to_string()]), "ok");
    assert!(is_reached(&proxy));
    // The file's mode counts as that user's own call would count.
    fs::set_permissions(&socket, Permissions::from_mode(0o700)).unwrap();
    assert_eq!(run(["unix-connect", &socket]), "13");
}

#[test]
fn own_unix_sockets_work_in_writable_directories() {
    for case in CASES {
        for network in ["block=", "proxy=127.0.0.1:9"] {
            let dir = open_directory();
            let grants = [network, &*format!("write={}", dir.path().display())];
            let said = inside(case, &grants, &["unix-own", &path(&dir, "own")]);
            assert_eq!(said, OK, "{case:?} {network}");
        }
    }
}

#[test]
fn who_waits_at_a_server_is_kept_when_it_listens_again() {
    for case in CASES {
        let dir = open_directory();
        let grants = ["block=", &*format!("write={}", dir.path().display())];
        assert_eq!(inside(case, &grants, &["unix-again", &path(&dir, "own")]), OK, "{case:?}");
    }
}

#[test]
fn abstract_sockets_are_reached_within_the_sandbox_only() {
    for case in CASES {
        for network in ["block=", "proxy=127.0.0.1:9"] {
            let name = format!("nono-seal-{}-{case:?}", std::process::id());
            let said = inside(case, &[network], &["abstract-own", &name]);
            assert_eq!(said, OK, "{case:?} {network}");
            let address = Name::from_abstract_name(&name).unwrap();
            let _listener = UnixListener::bind_addr(&address).unwrap();
            let said = inside(case, &[network], &["abstract-connect", &name]);
            // Where there is no supervisor it is Landlock that refuses, with another number.
            assert!([DENIED, "1\nok"].contains(&&*said), "{case:?} {network}: {said}");
        }
    }
}

#[test]
fn a_name_that_was_given_up_is_anybodys() {
    let name = format!("nono-lost-{}", std::process::id());
    let ((their_in, mut tell), (mut told, their_out)) = (pipe().unwrap(), pipe().unwrap());
    let run = thread::spawn({
        let name = name.clone();
        move || {
            let mut caps = system();
            caps.block_network();
            allow(&mut caps, PROBE, Access::Read);
            let mut command = Command::new(PROBE);
            command.args(["abstract-lost", &name]);
            command.stdin(OwnedFd::from(their_in)).stdout(OwnedFd::from(their_out));
            command.run(&caps).unwrap()
        }
    });
    let mut line = [0; 5];
    told.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"free\n");
    let address = Name::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    tell.write_all(b"\n").unwrap();
    assert_eq!(run.join().unwrap().exit_code, 0);
    let mut said = String::new();
    told.read_to_string(&mut said).unwrap();
    assert!(["13\n", "1\n"].contains(&&*said), "{said}");
}

#[test]
fn a_connection_that_waits_holds_up_nobody_nor_the_end() {
    // It waits for ever.
    for case in CASES {
        let dir = open_directory();
        let full = path(&dir, "full");
        let listener = unix_server(&full);
        rustix::net::listen(&listener, 1).unwrap();
        let grants =
            ["block=", &*format!("unix={full}"), &*format!("write={}", dir.path().display())];
        let root = dir.path().to_str().unwrap();
        assert_eq!(inside(case, &grants, &["slow-connect", &full, root]), OK, "{case:?}");
    }
}

#[test]
fn containers_that_keep_descriptors_apart_are_no_way_around() {
    let (proxy, address) = server([127, 0, 0, 1]);
    let (other, other_address) = server([127, 0, 0, 1]);
    for case in CASES {
        let grants = ["container=", &*format!("proxy={address}")];
        for connect in ["connect", "quick-connect"] {
            let said = inside(case, &grants, &[connect, &address.to_string()]);
            assert!(said.ends_with(OK), "{case:?} {connect}: {said}");
            assert!(is_reached(&proxy));
            assert_eq!(inside(case, &grants, &[connect, &other_address.to_string()]), DENIED);
            assert!(!is_reached(&other));
        }
        assert_eq!(inside(case, &grants, &["listen-unbound"]), DENIED);

        let dir = open_directory();
        let (granted, ungranted) = (path(&dir, "granted"), path(&dir, "ungranted"));
        let (one, two) = (unix_server(&granted), unix_server(&ungranted));
        let grants = ["container=", "block=", &*format!("unix={granted}")];
        assert_eq!(inside(case, &grants, &["unix-connect", &granted]), OK);
        assert!(one.accept().is_ok());
        assert_eq!(inside(case, &grants, &["unix-connect", &ungranted]), DENIED);
        assert!(two.accept().is_err());

        let grants = ["container=", "block=", &*format!("localhost={}", address.port())];
        let bind = |at: &str| {
            let at = format!("{at}:{}", address.port());
            inside(case, &grants, &["bind", &at])
        };
        // It is let pass, and finds the server that is there.
        assert_eq!(bind("127.0.0.1"), "98\nok");
        assert_eq!(bind("0.0.0.0"), DENIED);
    }
}

#[test]
fn a_surrounding_sandbox_judges_alone_and_says_so() {
    let nested = |inner: &[&str]| {
        let own = format!("read={}", std::path::Path::new(PROBE).parent().unwrap().display());
        let outer = ["proxy=127.0.0.1:9", own.as_str()];
        let probe = [&["inside"], inner, &["then", "list", "/usr"]].concat();
        inside(CASES[0], &outer, &probe)
    };
    let refused = nested(&["proxy=127.0.0.1:10"]);
    assert!(refused.contains("surrounding sandbox"), "{refused}");
    assert_eq!(nested(&["proxy=127.0.0.1:10", "less="]), "ok\nok\nok");
    assert_eq!(nested(&["block="]), "ok\nok\nok");
}

/// Makes an attempt in every case, without a network and with a directory to write to, which is its
/// last argument.
fn goes_well_blocked(attempt: &[&str]) {
    for case in CASES {
        let dir = open_directory();
        let root = dir.path().to_str().unwrap();
        let grants = ["block=", &*format!("write={root}")];
        assert_eq!(inside(case, &grants, &[attempt, &[root]].concat()), OK, "{case:?}");
    }
}

/// A supervisor shares the sandboxed process's sockets, whose flags and time-outs are anybody's to
/// change.
#[test]
fn a_supervisor_waits_for_nobody_whatever_becomes_of_a_sockets_flags() {
    goes_well_blocked(&["flag-taken"]);
    goes_well_blocked(&["time-out-taken"]);
}

#[test]
fn no_client_is_turned_away_because_many_wait() {
    goes_well_blocked(&["many-connect"]);
}

#[test]
fn changes_of_what_is_not_open_or_has_no_name_go_as_without_a_supervisor() {
    goes_well_blocked(&["own-errors"]);
}

#[test]
fn a_child_takes_no_descriptors_of_its_parents() {
    isolated("a_child_takes_no_descriptors_of_its_parents", || {
        let dir = open_directory();
        let ((their_in, mut tell), (mut told, their_out)) = (pipe().unwrap(), pipe().unwrap());
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        let mut caps = system();
        caps.block_network();
        allow(&mut caps, PROBE, Access::Read);
        allow(&mut caps, dir.path(), Access::ReadWrite);
        let mut command = Command::new(PROBE);
        command.args(["many-servers", dir.path().to_str().unwrap(), "600"]);
        command.stdin(OwnedFd::from(their_in)).stdout(OwnedFd::from(their_out));
        let run = thread::spawn(move || command.run(&caps).unwrap());
        let mut line = [0; 5];
        told.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"made\n");
        let during = open();
        tell.write_all(b"\n").unwrap();
        assert_eq!(run.join().unwrap().exit_code, 0);
        assert!(during < before + 50, "{before} before, {during} while it ran");
    });
}
