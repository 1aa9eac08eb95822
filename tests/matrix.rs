//! Tables: every right that the kernel's Landlock knows, and every call by which a process could
//! reach the network, another process, or the kernel. Each as root and as an ordinary user.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use nono_sandbox::{Access, support};
use support::sandboxed::{User, command_as, run_as, shell, system, text};
use tempfile::{TempDir, tempdir};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");

fn inside(user: User, grants: &[&str], probe: &[&str]) -> String {
    run_as(user, PROBE, &[&["inside"], grants, &["then"], probe].concat())
}

/// A directory that everybody may change, with a file, a program, and a directory in it.
fn furnished() -> TempDir {
    let dir = tempdir().unwrap();
    let everybody = |path: &str| {
        fs::set_permissions(dir.path().join(path), Permissions::from_mode(0o777)).unwrap();
    };
    fs::write(dir.path().join("file"), "x").unwrap();
    fs::copy("/bin/true", dir.path().join("program")).unwrap();
    for directory in ["empty", "other"] {
        fs::create_dir(dir.path().join(directory)).unwrap();
    }
    for path in ["", "file", "program", "empty", "other"] {
        everybody(path);
    }
    dir
}

#[test]
fn each_right_over_files_comes_with_its_grant_and_no_other() {
    // Grants: none, read, write, both, both without execution.
    const READ: [bool; 5] = [false, true, false, true, true];
    const WRITE: [bool; 5] = [false, false, true, true, true];
    const EXECUTE: [bool; 5] = [false, true, false, true, false];
    const NOBODY: [bool; 5] = [false; 5];
    // The right, the first ABI that has it, an operation that needs it, who may.
    let table: [(&str, u32, &[&str], [bool; 5]); 18] = [
        ("EXECUTE", 1, &["execute", "@program"], EXECUTE),
        ("WRITE_FILE", 1, &["write", "@file"], WRITE),
        ("READ_FILE", 1, &["read", "@file"], READ),
        ("READ_DIR", 1, &["list", "@"], READ),
        ("REMOVE_DIR", 1, &["rmdir", "@empty"], WRITE),
        ("REMOVE_FILE", 1, &["remove", "@file"], WRITE),
        ("MAKE_CHAR", 1, &["make", "character", "@new"], NOBODY),
        ("MAKE_DIR", 1, &["mkdir", "@new"], WRITE),
        ("MAKE_REG", 1, &["make", "regular", "@new"], WRITE),
        ("MAKE_SOCK", 1, &["make", "socket", "@new"], WRITE),
        ("MAKE_FIFO", 1, &["make", "fifo", "@new"], WRITE),
        ("MAKE_BLOCK", 1, &["make", "block", "@new"], NOBODY),
        ("MAKE_SYM", 1, &["symlink", "x", "@new"], WRITE),
        ("REFER", 2, &["rename", "@file", "@other/file"], WRITE),
        ("REFER", 2, &["link", "@file", "@other/file"], WRITE),
        ("TRUNCATE", 3, &["truncate", "@file"], WRITE),
        ("BIND_TCP", 4, &["bind", "127.0.0.1:0"], NOBODY),
        ("CONNECT_TCP", 4, &["connect", "127.0.0.1:9"], NOBODY),
    ];
    let abi = abi();
    for user in User::ALL {
        for (right, since, operation, expected) in table {
            for (grant, is_allowed) in
                ["none", "read", "only-write", "write", "no-exec"].into_iter().zip(expected)
            {
                if since > abi {
                    continue;
                }
                let dir = furnished();
                let root = dir.path().to_str().unwrap();
                let place = |arg: &&str| arg.replace('@', &format!("{root}/"));
                let operation: Vec<String> = operation.iter().map(place).collect();
                let operation: Vec<&str> = operation.iter().map(String::as_str).collect();
                // Sealed, with an open port, so that sockets can be made for the last two.
                let directory = format!("{grant}={root}");
                let grants = ["block=", "connect=1", directory.as_str()];
                let grants = if grant == "none" { &grants[..2] } else { &grants[..] };
                let said = inside(user, grants, &operation);
                let is_done = said.ends_with("ok\nok");
                assert_eq!(is_done, is_allowed, "{right} with {grant} as {user:?}: {said}");
            }
        }
    }
}

#[test]
fn metadata_changes_only_where_files_are_written() {
    for user in User::ALL {
        let dir = tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        // Made by that user, who may do everything to it but for the sandbox.
        let file = dir.path().join("file").to_str().unwrap().to_owned();
        run_as(user, PROBE, &["create", &file]);
        let read = format!("read={}", dir.path().display());
        let write = format!("write={}", dir.path().display());
        for what in ["mode", "owner", "times", "attribute"] {
            for grants in [&[][..], &[read.as_str()]] {
                let said = inside(user, grants, &["change", what, &file]);
                assert_eq!(said, "1\nok", "{what} with {grants:?} as {user:?}");
            }
            for grants in [&[write.as_str()][..], &[write.as_str(), "block="]] {
                let said = inside(user, grants, &["change", what, &file]);
                assert_eq!(said, "ok\nok", "{what} with {grants:?} as {user:?}");
            }
            // A grant of another directory is none of this file's, where somebody judges that.
            let other = tempdir().unwrap();
            fs::set_permissions(other.path(), Permissions::from_mode(0o777)).unwrap();
            let other = format!("write={}", other.path().display());
            for granted in [&[][..], &[read.as_str()]] {
                let grants = [&["block=", other.as_str()], granted].concat();
                let said = inside(user, &grants, &["change", what, &file]);
                assert_eq!(said, "13\nok", "{what} with {grants:?} as {user:?}");
            }
        }
    }
}

/// What a device looks like is for all processes to depend on: it is not changed by who may write
/// to it. (As they are tried here, the changes would do no harm.)
#[test]
fn devices_are_written_to_and_not_changed() {
    for user in User::ALL {
        for network in ["block=", "proxy=127.0.0.1:9"] {
            for what in ["times", "owner"] {
                for grant in ["write=/dev/full", "write=/dev"] {
                    let grants = [network, grant, "write=/tmp"];
                    let said = inside(user, &grants, &["change", what, "/dev/full"]);
                    assert_eq!(said, "13\nok", "{what} with {grants:?} as {user:?}");
                }
            }
        }
    }
}

fn abi() -> u32 {
    let details = support().details;
    let number = details.split_once("ABI ").unwrap().1;
    number.split(')').next().unwrap().parse().unwrap()
}

#[test]
fn devices_are_controlled_where_they_were_granted_one_by_one() {
    if abi() < 5 {
        return;
    }
    // The window size of what is no terminal: "not its kind of call" if it gets there.
    for user in User::ALL {
        let said = |grant: &str| inside(user, &[grant], &["control", "/dev/full"]);
        assert_eq!(said("write=/dev/full"), "25\nok");
        assert_eq!(said("write=/dev"), "13\nok");
    }
}

/// A process outside, of the same user, that ends with the test.
struct Outsider(Child);

impl Outsider {
    fn new(user: User) -> Self {
        let mut command = command_as(user);
        let child = command.arg("cat").stdin(Stdio::piped()).stdout(Stdio::null());
        Self(child.spawn().unwrap())
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_call_reaches_another_process() {
    const EPERM: i32 = 1;
    for user in User::ALL {
        let outsider = Outsider::new(user);
        let pid = i64::from(outsider.0.id());
        let table: [(&str, Vec<i64>); 17] = [
            ("kill", vec![libc::SYS_kill, pid, 0]),
            ("kill its group", vec![libc::SYS_kill, -pid, 0]),
            ("tkill", vec![libc::SYS_tkill, pid, 15]),
            ("tgkill", vec![libc::SYS_tgkill, pid, pid, 15]),
            ("ptrace attach", vec![libc::SYS_ptrace, 16, pid]),
            ("ptrace seize", vec![libc::SYS_ptrace, 0x4206, pid]),
            ("kcmp", vec![libc::SYS_kcmp, pid, pid, 0, 0, 0]),
            ("prlimit", vec![libc::SYS_prlimit64, pid, 4, 1, 0]),
            ("setpriority", vec![libc::SYS_setpriority, 0, pid, 0]),
            ("setpriority of a group", vec![libc::SYS_setpriority, 1, pid, 0]),
            ("sched_setaffinity", vec![libc::SYS_sched_setaffinity, pid, 8, 1]),
            ("sched_setscheduler", vec![libc::SYS_sched_setscheduler, pid, 0, 1]),
            ("sched_setparam", vec![libc::SYS_sched_setparam, pid, 1]),
            ("sched_setattr", vec![libc::SYS_sched_setattr, pid, 1, 0]),
            ("ioprio_set", vec![libc::SYS_ioprio_set, 1, pid, 0]),
            ("move_pages", vec![libc::SYS_move_pages, pid, 0, 0, 0, 0, 0]),
            ("migrate_pages", vec![libc::SYS_migrate_pages, pid, 0, 0, 0]),
        ];
        let calls: Vec<String> = table
            .iter()
            .map(|(_, call)| call.iter().map(i64::to_string).collect::<Vec<_>>().join(","))
            .collect();
        let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
        let said = inside(user, &[], &[&["calls"], &calls[..]].concat());
        for ((name, _), error) in table.iter().zip(said.lines()) {
            // There may be no group of that number, and `kill` says so before it asks.
            let is_gone = *name == "kill its group" && error == "3";
            assert!(error == EPERM.to_string() || is_gone, "{name} as {user:?}: {error}");
        }
        for (what, expected) in [("environ", "13"), ("mem", "13"), ("maps", "13"), ("root", "13")] {
            let path = format!("/proc/{pid}/{what}");
            let operation = if what == "root" { "list" } else { "read" };
            let said = inside(user, &["read=/proc"], &[operation, &path]);
            assert!(said.starts_with(expected), "{what} as {user:?}: {said}");
        }
    }
}

/// Something of System V that a user's processes find by its number; removed with the test.
struct Shared {
    /// As programs that make and remove it say.
    kind: &'static str,
    id: String,
}

impl Shared {
    fn new(user: User, kind: &'static str, size: &[&str]) -> Self {
        let made = command_as(user).arg("ipcmk").arg(kind.to_uppercase()).args(size).output();
        let said = String::from_utf8(made.unwrap().stdout).unwrap();
        Self { kind, id: said.rsplit_once(' ').unwrap().1.trim().to_owned() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = Command::new("ipcrm").args([self.kind, &self.id]).status();
    }
}

#[test]
fn nothing_is_shared_with_other_processes_of_the_user() {
    const READ_ONLY: i32 = 0o10_000;
    const VALUE: i32 = 12;
    for user in User::ALL {
        let memory = Shared::new(user, "-m", &["4096"]);
        let semaphore = Shared::new(user, "-s", &["1"]);
        let queue = Shared::new(user, "-q", &[]);
        let [memory, semaphore, queue] = [&memory.id, &semaphore.id, &queue.id];
        // A call, and what it says outside of a sandbox.
        let table = [
            (format!("{},{memory},0,{READ_ONLY}", libc::SYS_shmat), "0"),
            (format!("{},{memory},{}", libc::SYS_shmctl, libc::IPC_STAT), "14"),
            // Of no size, so that none is made.
            (format!("{},0,0,0", libc::SYS_shmget), "22"),
            (format!("{},{semaphore},0,{VALUE}", libc::SYS_semctl), "0"),
            (format!("{},{semaphore},0,0", libc::SYS_semop), "22"),
            (format!("{},0,0,0", libc::SYS_semget), "22"),
            // There is no message, and nobody waits for one.
            (format!("{},{queue},0,0,0,{}", libc::SYS_msgrcv, libc::IPC_NOWAIT), "42"),
            (format!("{},{queue},0,0,0", libc::SYS_msgsnd), "14"),
            (format!("{},0", libc::SYS_mq_open), "14"),
            (format!("{},0", libc::SYS_mq_unlink), "14"),
        ];
        let calls: Vec<&str> = table.iter().map(|(call, _)| call.as_str()).collect();
        let outside = run_as(user, PROBE, &[&["calls"], &calls[..]].concat());
        for way in ["inside", "held", "held-child"] {
            for network in ["less=", "block=", "proxy=127.0.0.1:9", "connect=443"] {
                let said =
                    run_as(user, PROBE, &[&[way, network, "then", "calls"], &calls[..]].concat());
                assert_eq!(said.matches("1\n").count(), calls.len(), "{way} {network}: {said}");
            }
        }
        for ((call, expected), said) in table.iter().zip(outside.lines()) {
            assert_eq!(said, *expected, "{call} as {user:?}, outside");
        }
    }
}

#[test]
fn nobody_watches_files() {
    let calls = [libc::SYS_inotify_init1, libc::SYS_inotify_add_watch].map(|call| call.to_string());
    let calls = ["calls", &calls[0], &calls[1]];
    let absent = libc::ENOSYS;
    for user in User::ALL {
        for way in ["inside", "held"] {
            let said = run_as(user, PROBE, &[&[way, "read=/usr", "then"], &calls[..]].concat());
            assert!(
                said.starts_with(&format!("{absent}\n{absent}\n")),
                "{way} as {user:?}: {said}"
            );
        }
    }
}

/// Programs that watch find out that they cannot, and look themselves.
#[test]
fn a_file_is_followed_all_the_same() {
    let dir = tempdir().unwrap();
    let mut caps = system();
    caps.allow_path(dir.path(), Access::ReadWrite).unwrap();
    let script = "echo one > file; tail -f -s .01 file 2> said | \
                  { read one; echo two >> file; read two; echo $one $two; kill -TERM 0; }";
    let output = shell(script).cwd(dir.path()).run(&caps).unwrap();
    assert_eq!(text(&output), "one two");
}

#[test]
fn the_kernel_is_closed_for_everybody() {
    let calls = [
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsmount,
        libc::SYS_mount_setattr,
        libc::SYS_setns,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_kexec_load,
        libc::SYS_reboot,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_add_key,
        libc::SYS_keyctl,
        libc::SYS_request_key,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_open_by_handle_at,
        libc::SYS_fanotify_init,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_acct,
        libc::SYS_syslog,
        libc::SYS_sethostname,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_process_madvise,
    ];
    let unshare = format!("{},{}", libc::SYS_unshare, libc::CLONE_NEWUSER);
    let mut names: Vec<String> = calls.iter().map(i64::to_string).collect();
    names.push(unshare);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for user in User::ALL {
        let said = inside(user, &["write=/tmp"], &[&["calls"], &names[..]].concat());
        let lines: Vec<&str> = said.lines().collect();
        for (call, error) in names.iter().zip(&lines) {
            assert_eq!(*error, "1", "call {call} as {user:?}");
        }
        assert_eq!(lines.len(), names.len() + 2, "{said}");
    }
}

#[test]
fn no_socket_leaves_a_blocked_network() {
    // Every family and every kind of socket there could be.
    let mut calls = Vec::new();
    for family in 0..48 {
        for kind in 1..=10 {
            calls.push(format!("{},{family},{kind},0", libc::SYS_socket));
        }
    }
    for protocol in 1..=262 {
        calls.push(format!("{},2,1,{protocol}", libc::SYS_socket));
        calls.push(format!("{},16,3,{protocol}", libc::SYS_socket));
    }
    let arguments: Vec<&str> = calls.iter().map(String::as_str).collect();
    for user in User::ALL {
        for grant in ["block=", "proxy=127.0.0.1:9"] {
            let said = inside(user, &[grant], &[&["calls"], &arguments[..]].concat());
            let made = calls.iter().zip(said.lines()).filter(|(_, error)| *error == "0");
            let made: Vec<&str> = made.map(|(call, _)| call.split_once(',').unwrap().1).collect();
            let mut expected = vec!["1,1,0"];
            if grant != "block=" {
                expected.extend(["2,1,0", "10,1,0"]);
            }
            // Netlink, for the list of interfaces alone.
            expected.extend(["16,2,0", "16,3,0"]);
            if grant != "block=" {
                expected.push("2,1,6");
            }
            assert_eq!(made, expected, "{grant} as {user:?}");
        }
    }
}
