//! What a sandbox lets through and what not: files, network, other processes, `apply`.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::{fs, io};

use nono_sandbox::{Access, CapabilitySet, Error, Feature, Network, support};
use support::sandboxed::{allow, run_probe, system, text};
use tempfile::{TempDir, tempdir};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");

/// Numbers of the errors that a refusal shows as.
const DENIED: &str = "13";
const NOT_PERMITTED: &str = "1";
const CROSS_DEVICE: &str = "18";

/// Runs a probe in a sandbox of the system's directories and `caps`, and gives what it printed.
fn probe(args: &[&str], caps: &CapabilitySet) -> String {
    text(&run_probe(PROBE, args, caps).unwrap())
}

fn blocked() -> CapabilitySet {
    let mut caps = system();
    caps.block_network();
    caps
}

fn proxied(address: SocketAddr) -> CapabilitySet {
    let mut caps = system();
    caps.proxy_only(address);
    caps
}

fn path(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_missing_path_is_told_from_other_faults() {
    let mut caps = CapabilitySet::new();
    let Err(Error::PathMissing { path, source }) = caps.allow_path("/no/such", Access::Read) else {
        panic!("expected `PathMissing`");
    };
    assert_eq!(path, Path::new("/no/such"));
    assert_eq!(source.raw_os_error(), Some(libc::ENOENT));

    let beneath_a_file = caps.allow_file("/etc/passwd/x", Access::Read);
    assert!(matches!(beneath_a_file, Err(Error::Resolve { source, .. })
        if source.raw_os_error() == Some(libc::ENOTDIR)));
    assert!(matches!(caps.allow_path("a\0b", Access::Read), Err(Error::Resolve { .. })));
    assert!(matches!(caps.allow_path("", Access::Read), Err(Error::PathMissing { .. })));
    assert!(caps.fs_capabilities().is_empty());
}

#[test]
fn directories_and_files_are_granted_by_their_own_methods() {
    let mut caps = CapabilitySet::new();
    let file = caps.allow_path("/etc/passwd", Access::Read);
    assert!(matches!(file, Err(Error::ExpectedDirectory { .. })));
    let dir = caps.allow_file("/etc", Access::Read);
    assert!(matches!(dir, Err(Error::ExpectedFile { .. })));
    caps.allow_file("/dev/null", Access::ReadWrite).unwrap();
    assert!(caps.fs_capabilities()[0].is_file());
}

#[test]
fn a_set_describes_itself() {
    let dir = tempdir().unwrap();
    let (real, link) = (dir.path().join("real"), dir.path().join("link"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    let mut caps = CapabilitySet::new();
    assert_eq!(caps.to_string(), "CapabilitySet(fs=0, network=allowed)");
    assert_eq!(caps.summary(), "(no capabilities granted)\nNetwork:\n  outbound: allowed");

    caps.allow_path(&link, Access::ReadWrite).unwrap();
    caps.proxy_only(([127, 0, 0, 1], 4180).into());
    let granted = &caps.fs_capabilities()[0];
    assert_eq!((granted.original(), granted.resolved()), (link.as_path(), real.as_path()));
    assert_eq!(caps.to_string(), "CapabilitySet(fs=1, network=proxy-only (localhost:4180))");
    let expected = format!("Filesystem:\n  {} [read+write] (dir)\n", real.display());
    assert!(caps.summary().starts_with(&expected), "{}", caps.summary());
    assert!(caps.is_network_blocked());
    caps.block_network();
    assert_eq!(caps.network(), Network::Blocked);
}

#[test]
fn each_access_lets_through_its_own_operations() {
    // Columns: nothing granted, read, write, both.
    let table: [(&str, [bool; 4]); 11] = [
        ("read", [false, true, false, true]),
        ("list", [false, true, false, true]),
        ("execute", [false, true, false, true]),
        ("write", [false, false, true, true]),
        ("truncate", [false, false, true, true]),
        ("create", [false, false, true, true]),
        ("remove", [false, false, true, true]),
        ("mkdir", [false, false, true, true]),
        ("rename", [false, false, true, true]),
        ("symlink", [false, false, true, true]),
        // Nobody may make a device, whatever is granted.
        ("device", [false; 4]),
    ];
    let accesses = [None, Some(Access::Read), Some(Access::Write), Some(Access::ReadWrite)];
    for (operation, expected) in table {
        for (access, is_allowed) in accesses.into_iter().zip(expected) {
            let dir = tempdir().unwrap();
            fs::write(dir.path().join("file"), "").unwrap();
            fs::copy("/bin/true", dir.path().join("true")).unwrap();
            let mut caps = system();
            if let Some(access) = access {
                caps.allow_path(dir.path(), access).unwrap();
            }
            let (file, new) = (path(&dir, "file"), path(&dir, "new"));
            let (program, whole) = (path(&dir, "true"), path(&dir, ""));
            let args: Vec<&str> = match operation {
                "list" => vec![operation, &whole],
                "execute" => vec![operation, &program],
                "create" | "mkdir" | "device" => vec![operation, &new],
                "rename" => vec![operation, &file, &new],
                "symlink" => vec![operation, "x", &new],
                _ => vec![operation, &file],
            };
            let said = probe(&args, &caps);
            assert_eq!(said == "ok", is_allowed, "{operation} with {access:?}: {said}");
        }
    }
}

#[test]
fn a_granted_file_can_be_changed_but_not_replaced() {
    let dir = tempdir().unwrap();
    let (file, other) = (path(&dir, "file"), path(&dir, "other"));
    fs::write(&file, "secret").unwrap();
    fs::write(&other, "").unwrap();
    let mut caps = system();
    caps.allow_file(&file, Access::ReadWrite).unwrap();
    assert_eq!(probe(&["read", &file], &caps), "secretok");
    assert_eq!(probe(&["write", &file], &caps), "ok");
    assert_eq!(probe(&["truncate", &file], &caps), "ok");
    assert_eq!(probe(&["remove", &file], &caps), DENIED);
    assert_eq!(probe(&["rename", &other, &file], &caps), DENIED);
    assert_eq!(probe(&["read", &other], &caps), DENIED);

    let mut caps = system();
    caps.allow_file(&file, Access::Read).unwrap();
    assert_eq!(probe(&["read", &file], &caps), "ok");
    assert_eq!(probe(&["write", &file], &caps), DENIED);
}

#[test]
fn links_are_judged_by_what_they_point_to() {
    let (inside, outside) = (tempdir().unwrap(), tempdir().unwrap());
    let (secret, plain) = (path(&outside, "secret"), path(&inside, "plain"));
    fs::write(&secret, "s").unwrap();
    fs::write(&plain, "p").unwrap();
    symlink(&secret, inside.path().join("out")).unwrap();
    symlink(&plain, outside.path().join("in")).unwrap();
    let mut caps = system();
    caps.allow_path(inside.path(), Access::ReadWrite).unwrap();
    assert_eq!(probe(&["read", &path(&inside, "out")], &caps), DENIED);
    assert_eq!(probe(&["read", &path(&outside, "in")], &caps), "pok");
    let name = outside.path().file_name().unwrap().display().to_string();
    let around = path(&inside, &format!("../{name}/secret"));
    assert_eq!(probe(&["read", &around], &caps), DENIED);
    assert_eq!(probe(&["link", &secret, &path(&inside, "hard")], &caps), CROSS_DEVICE);
}

#[test]
fn files_move_between_two_writable_grants() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    fs::write(one.path().join("file"), "").unwrap();
    let mut caps = system();
    caps.allow_path(one.path(), Access::ReadWrite).unwrap();
    caps.allow_path(two.path(), Access::ReadWrite).unwrap();
    assert_eq!(probe(&["rename", &path(&one, "file"), &path(&two, "file")], &caps), "ok");
}

#[test]
fn a_path_swapped_after_the_grant_takes_no_grant_with_it() {
    let dir = tempdir().unwrap();
    let (granted, secret) = (dir.path().join("granted"), dir.path().join("secret"));
    for (directory, content) in [(&granted, "mine"), (&secret, "secret")] {
        fs::create_dir(directory).unwrap();
        fs::write(directory.join("file"), content).unwrap();
    }
    let mut caps = system();
    caps.allow_path(&granted, Access::Read).unwrap();
    fs::rename(&granted, dir.path().join("moved")).unwrap();
    symlink(&secret, &granted).unwrap();
    assert_eq!(probe(&["read", &path(&dir, "granted/file")], &caps), DENIED);
    assert_eq!(probe(&["read", &path(&dir, "secret/file")], &caps), DENIED);
    // The grant stayed with the directory that it was given for.
    assert_eq!(probe(&["read", &path(&dir, "moved/file")], &caps), "mineok");
}

#[test]
fn what_is_granted_of_proc_self_is_the_childs_own() {
    let secret = format!("/proc/{}/environ", std::process::id());
    let mut caps = system();
    caps.allow_path("/proc/self", Access::Read).unwrap();
    assert!(probe(&["read", "/proc/self/status"], &caps).contains("Name:\tprobe"));
    assert_eq!(probe(&["list", "/proc/self/fd"], &caps), "ok");
    assert_eq!(probe(&["read", &secret], &caps), DENIED);
    assert_eq!(probe(&["list", "/proc"], &caps), DENIED);

    let mut caps = system();
    caps.allow_file("/proc/self/status", Access::Read).unwrap();
    caps.allow_path("/proc/thread-self/fd", Access::Read).unwrap();
    let status = probe(&["read", "/proc/self/status"], &caps);
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    assert_eq!(probe(&["list", "/proc/thread-self/fd"], &caps), "ok");
    assert_eq!(probe(&["list", "/proc/self/fd"], &caps), DENIED);
}

#[test]
fn a_grant_of_all_of_proc_shows_no_environment_of_others() {
    let own = format!("/proc/{}", std::process::id());
    let mut caps = system();
    caps.allow_path("/proc", Access::Read).unwrap();
    assert!(probe(&["read", &format!("{own}/status")], &caps).ends_with("ok"));
    for secret in ["environ", "maps"] {
        assert_eq!(probe(&["read", &format!("{own}/{secret}")], &caps), DENIED);
    }
    assert!(probe(&["read", "/proc/self/environ"], &caps).ends_with("ok"));
}

/// The lines of `/proc/self/status` that tell capabilities, in order, as numbers.
fn capabilities(status: &str) -> Vec<u64> {
    let number = |line: &str| u64::from_str_radix(line.split_once('\t')?.1, 16).ok();
    let lines = status.lines().filter(|line| line.starts_with("Cap"));
    lines.map(|line| number(line).unwrap()).collect()
}

#[test]
fn root_keeps_only_the_capabilities_that_its_grants_need() {
    let (override_, bind) = (1 << 1, 1 << 10);
    let ownership = 1 | 1 << 3 | 1 << 4;
    let dir = tempdir().unwrap();
    let mut writable = blocked();
    writable.allow_path(dir.path(), Access::Write).unwrap();
    let mut low = blocked();
    low.allow_bind_port(80).unwrap();
    let table = [
        (system(), override_ | bind),
        (blocked(), override_),
        (writable, override_ | ownership),
        (low, override_ | bind),
    ];
    let own = capabilities(&fs::read_to_string("/proc/self/status").unwrap());
    for (mut caps, kept) in table {
        let expected: Vec<u64> = own[..3].iter().map(|set| set & kept).collect();
        caps.allow_file("/proc/self/status", Access::Read).unwrap();
        let child = capabilities(&probe(&["read", "/proc/self/status"], &caps));
        assert_eq!(child[..3], expected, "{caps}");
    }

    let dir = tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    // Without its magic numbers the call does nothing, but it asks for the capability first.
    let reboot = libc::SYS_reboot.to_string();
    let said = unsandboxed(&["apply", "open", root, "1", "then", "call", &reboot]);
    assert!(said.ends_with("\n1"), "{said}");
}

#[test]
fn abstract_sockets_outside_cannot_be_reached() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};

    let name = format!("nono-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(probe(&["abstract-connect", &name], &system()), NOT_PERMITTED);
    assert!(listener.accept().is_err());
    assert_eq!(unsandboxed(&["abstract-connect", &name]), "ok");
    assert!(listener.accept().is_ok());
}

/// A server that nobody should reach, or everybody.
fn server() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn a_blocked_network_is_closed_to_every_kind_of_socket() {
    let (listener, address) = server();
    let caps = blocked();
    assert_eq!(probe(&["connect", &address], &system()), "ok");
    assert!(listener.accept().is_ok());
    for args in [&["connect", address.as_str()][..], &["bind", "127.0.0.1:0"], &["listen-unbound"]]
    {
        assert_eq!(probe(args, &caps), NOT_PERMITTED, "{args:?}");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn only_the_port_of_the_proxy_is_open() {
    let ((proxy, proxy_address), (other, other_address)) = (server(), server());
    let caps = proxied(proxy.local_addr().unwrap());
    assert_eq!(probe(&["connect", &proxy_address], &caps), "ok");
    assert!(proxy.accept().is_ok());
    assert_eq!(probe(&["connect", &other_address], &caps), DENIED);
    assert_eq!(probe(&["bind", "127.0.0.1:0"], &caps), DENIED);
    assert_eq!(other.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn ports_are_granted_one_by_one() {
    let ((open, address), (closed, other)) = (server(), server());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    for is_blocked in [false, true] {
        let mut caps = if is_blocked { blocked() } else { system() };
        caps.allow_tcp_connect_port(port(&open)).unwrap();
        assert_eq!(probe(&["connect", &address], &caps), "ok");
        assert!(open.accept().is_ok());
        assert_eq!(probe(&["connect", &other], &caps), DENIED);
        assert_eq!(probe(&["bind", "127.0.0.1:0"], &caps), DENIED);
        assert!(closed.accept().is_err());
        // Other carriers of streams are closed; datagrams only with the network.
        assert_eq!(probe(&["fastopen", "sendto", &other], &caps), NOT_PERMITTED);
        assert_eq!(probe(&["socket", "2", "1", "262"], &caps), NOT_PERMITTED);
        let datagram = if is_blocked { NOT_PERMITTED } else { "ok" };
        assert_eq!(probe(&["socket", "2", "2", "0"], &caps), datagram);
    }
    drop(closed);
    let mut caps = blocked();
    caps.allow_bind_port(other.rsplit_once(':').unwrap().1.parse().unwrap()).unwrap();
    assert_eq!(probe(&["bind", &other], &caps), "ok");
    assert_eq!(probe(&["connect", &address], &caps), DENIED);
    assert!(matches!(caps.allow_bind_port(0), Err(Error::PortZero)));
}

#[test]
fn reading_can_be_granted_without_executing() {
    let dir = tempdir().unwrap();
    fs::copy("/bin/true", dir.path().join("true")).unwrap();
    let program = path(&dir, "true");
    let mut caps = system();
    caps.allow_path_no_exec(dir.path(), Access::ReadWrite).unwrap();
    assert!(!caps.fs_capabilities().last().unwrap().is_executable());
    assert_eq!(probe(&["execute", &program], &caps), DENIED);
    assert_eq!(probe(&["list", dir.path().to_str().unwrap()], &caps), "ok");
    let mut caps = system();
    caps.allow_file_no_exec(&program, Access::Read).unwrap();
    assert_eq!(probe(&["execute", &program], &caps), DENIED);
    caps.allow_file(&program, Access::Read).unwrap();
    assert_eq!(probe(&["execute", &program], &caps), "ok");
}

#[test]
fn fast_open_does_not_get_around_the_rules() {
    let (listener, address) = server();
    let caps = proxied(([127, 0, 0, 1], 9).into());
    for call in ["sendto", "sendmsg", "sendmmsg"] {
        assert_eq!(probe(&["fastopen", call, &address], &caps), NOT_PERMITTED, "{call}");
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // The same call does reach the server when nothing is in its way.
        assert_eq!(probe(&["fastopen", call, &address], &system()), "ok", "{call}");
        let mut received = String::new();
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_to_string(&mut received).unwrap();
        assert_eq!(received, "leak");
    }
    assert_eq!(probe(&["fastopen-option"], &caps), NOT_PERMITTED);
    assert_eq!(probe(&["fastopen-option"], &system()), "ok");
}

#[test]
fn only_plain_tcp_and_unix_streams_can_be_made() {
    let stream = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Family, type, protocol; allowed with the network blocked, and with a proxy.
    let table = [
        (libc::AF_INET, stream, 0, [false, true]),
        (libc::AF_INET6, stream, libc::IPPROTO_TCP, [false, true]),
        (libc::AF_UNIX, stream, 0, [true, true]),
        (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE, [true, true]),
        (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT, [false, false]),
        (libc::AF_INET, libc::SOCK_DGRAM, 0, [false, false]),
        (libc::AF_INET6, libc::SOCK_DGRAM, 0, [false, false]),
        (libc::AF_INET, stream, libc::IPPROTO_MPTCP, [false, false]),
        (libc::AF_INET6, stream, libc::IPPROTO_MPTCP, [false, false]),
        (libc::AF_INET, stream, libc::IPPROTO_SCTP, [false, false]),
        (libc::AF_INET, libc::SOCK_SEQPACKET, libc::IPPROTO_SCTP, [false, false]),
        (libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP, [false, false]),
        (libc::AF_PACKET, libc::SOCK_RAW, 0, [false, false]),
        (libc::AF_VSOCK, libc::SOCK_STREAM, 0, [false, false]),
        (libc::AF_ALG, libc::SOCK_SEQPACKET, 0, [false, false]),
        (libc::AF_UNIX, libc::SOCK_DGRAM, 0, [false, false]),
        (libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, [false, false]),
    ];
    let sets = [blocked(), proxied(([127, 0, 0, 1], 9).into())];
    for (family, kind, protocol, expected) in table {
        let numbers = [family, kind, protocol].map(|n| n.to_string());
        let args = ["socket", &numbers[0], &numbers[1], &numbers[2]];
        for (caps, is_allowed) in sets.iter().zip(expected) {
            let wanted = if is_allowed { "ok" } else { NOT_PERMITTED };
            assert_eq!(probe(&args, caps), wanted, "{args:?} with {caps}");
        }
    }
    // The kernel takes 32 bits of each: others that are set must not hide a value.
    let hidden = (1_i64 << 32 | i64::from(libc::SOCK_DGRAM)).to_string();
    assert_eq!(probe(&["socket", "2", &hidden, "0"], &sets[1]), NOT_PERMITTED);
    assert_eq!(probe(&["socket", "2", &libc::SOCK_DGRAM.to_string(), "0"], &system()), "ok");
}

#[test]
fn pairs_of_sockets_are_streams() {
    for caps in [blocked(), proxied(([127, 0, 0, 1], 9).into())] {
        assert_eq!(probe(&["socketpair", "1", "1"], &caps), "ok");
        assert_eq!(probe(&["socketpair", "1", "2"], &caps), NOT_PERMITTED);
        assert_eq!(probe(&["socketpair", "1", "5"], &caps), NOT_PERMITTED);
    }
    assert_eq!(probe(&["socketpair", "1", "2"], &system()), "ok");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_of_the_x32_interface_do_not_exist() {
    let socket = (0x4000_0000 + libc::SYS_socket).to_string();
    assert_eq!(probe(&["call", &socket], &blocked()), libc::ENOSYS.to_string());
}

#[test]
fn processes_outside_cannot_be_touched() {
    for action in ["signal-parent", "limit-parent", "nice-parent"] {
        assert_eq!(probe(&[action], &system()), NOT_PERMITTED, "{action}");
    }
}

#[test]
fn keystrokes_cannot_be_pushed_nor_terminals_stolen() {
    let no_terminal = libc::ENOTTY.to_string();
    for (request, argument) in [(0x5412_i64, 0), (0x541C, 0), (0x540E, 1)] {
        let refused = ["ioctl", &request.to_string(), &argument.to_string()];
        assert_eq!(probe(&refused, &system()), NOT_PERMITTED);
        // The kernel takes the low half; one more bit must change nothing.
        let disguised = (request | 1 << 32).to_string();
        let refused = ["ioctl", &disguised, &argument.to_string()];
        assert_eq!(probe(&refused, &system()), NOT_PERMITTED);
    }
    // Input is `/dev/null`, so any other request fails for that reason.
    assert_eq!(probe(&["ioctl", &0x5413.to_string(), "0"], &system()), no_terminal);
}

/// Runs a probe that applies a sandbox to itself: outside of any.
fn unsandboxed(args: &[&str]) -> String {
    let output = std::process::Command::new(PROBE).args(args).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn apply_restricts_the_process_itself() {
    let (dir, outside) = (tempdir().unwrap(), tempdir().unwrap());
    let (file, secret) = (path(&dir, "file"), path(&outside, "secret"));
    fs::write(&file, "").unwrap();
    fs::write(&secret, "").unwrap();
    let (listener, address) = server();
    let root = dir.path().to_str().unwrap();
    let run = |network, probe: &[&str]| {
        let said = unsandboxed(&[&["apply", network, root, "1", "then"], probe].concat());
        let (report, result) = said.rsplit_once('\n').unwrap();
        assert!(report.contains("Landlock ABI"), "{report}");
        result.to_owned()
    };
    assert_eq!(run("open", &["write", &file]), "ok");
    assert_eq!(run("open", &["read", &secret]), DENIED);
    assert_eq!(run("open", &["connect", &address]), "ok");
    assert!(listener.accept().is_ok());
    assert_eq!(run("block", &["connect", &address]), NOT_PERMITTED);
    assert_eq!(run("block", &["socketpair", "1", "2"]), NOT_PERMITTED);
}

#[test]
fn apply_can_be_repeated_without_sight_of_proc() {
    let dir = tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    let said = unsandboxed(&["apply", "block", root, "3", "then", "list", root]);
    assert_eq!(said.lines().count(), 4, "{said}");
    assert!(said.ends_with("\nok"), "{said}");
}

#[test]
fn a_sandboxed_process_can_sandbox_commands_of_its_own() {
    // `/usr` has neither `/dev/null` nor `/proc`.
    let said = unsandboxed(&["apply", "block", "/usr", "1", "then", "nested"]);
    let (_, said) = said.split_once('\n').unwrap();
    assert_eq!(said, "0 0 nested\n124\nok");
}

#[test]
fn attributes_of_files_that_can_be_read_are_not_changed_by_requests() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let path = file.to_str().unwrap();
    for access in [Access::Read, Access::ReadWrite] {
        let mut caps = system();
        caps.allow_path(dir.path(), access).unwrap();
        // Flags, the extended ones, and verity.
        for request in [0x4008_6602_u32, 0x401C_5820, 0x4080_6685] {
            let request = request.to_string();
            let probe = ["request", &request, path];
            assert_eq!(text(&run_probe(PROBE, &probe, &caps).unwrap()), NOT_PERMITTED);
            assert_ne!(unsandboxed(&probe), NOT_PERMITTED);
        }
    }
}

#[test]
fn what_is_enforced_is_reported() {
    let mut caps = blocked();
    allow(&mut caps, PROBE, Access::Read);
    let enforcement = run_probe(PROBE, &["list", "/usr"], &caps).unwrap().enforcement;
    assert!(enforcement.landlock_abi() >= 4);
    assert_eq!(enforcement.network(), Network::Blocked);
    assert!(enforcement.is_no_new_privileges() && enforcement.is_filtered());
    let abi = enforcement.landlock_abi();
    assert!(enforcement.to_string().starts_with(&format!("Landlock ABI {abi}, system call")));
    assert_eq!(enforcement.is_complete(), abi >= 6);
    let open = run_probe(PROBE, &["list", "/usr"], &system()).unwrap().enforcement;
    // They are open as well, whatever the kernel could do.
    assert!(!open.missing().contains(&"unix sockets by path"));

    let support = support();
    assert!(support.is_supported);
    assert_eq!(support.platform, "linux");
    assert!(support.details.contains(&format!("ABI {abi}")), "{}", support.details);
    assert!(Feature::LandlockNetwork { abi: 3 }.to_string().contains("ABI 4"));
    let only = Feature::OfLinux { what: "snapshots" }.to_string();
    assert_eq!(only, format!("snapshots (on Linux only; this is {})", std::env::consts::OS));
}
