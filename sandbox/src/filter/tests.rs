//! The compiled filter, run on calls that this machine's kernel would not let a test make.

#![cfg(target_arch = "x86_64")]

use seccompiler::sock_filter;

use super::*;

/// `AUDIT_ARCH_` numbers of `linux/audit.h`.
const X86_64: u32 = 0xC000_003E;
const I386: u32 = 0x4000_0003;

/// An outline without a supervisor.
fn plain(seal: Seal, writes_files: bool) -> Outline {
    Outline { seal, writes_files, has_localhost_ports: false, asks: Asks::Nobody }
}

/// Every outline that there is.
fn outlines() -> Vec<Outline> {
    let mut all = Vec::new();
    for seal in [Seal::Open, Seal::Ports, Seal::Local, Seal::Tcp] {
        for [writes_files, has_localhost_ports] in
            [[false, false], [false, true], [true, false], [true, true]]
        {
            for asks in [Asks::Nobody, Asks::Supervisor, Asks::Observer] {
                all.push(Outline { seal, writes_files, has_localhost_ports, asks });
            }
        }
    }
    all
}

/// What the filter answers to a call: the kernel's machine, as far as filters use it.
fn answer(program: &[sock_filter], arch: u32, call: u32, arguments: [u32; 6]) -> u32 {
    run(program, arch, call, arguments.map(u64::from))
}

#[expect(clippy::cast_possible_truncation, reason = "halves of arguments")]
fn run(program: &[sock_filter], arch: u32, call: u32, arguments: [u64; 6]) -> u32 {
    let mut accumulator = 0;
    let mut at = 0;
    loop {
        let sock_filter { code, jt, jf, k } = program[at].clone();
        let jump = |condition| usize::from(if condition { jt } else { jf });
        at += 1;
        match code {
            0x06 => return k,
            0x20 => {
                accumulator = match k {
                    0 => call,
                    4 => arch,
                    // Each argument has a low word and then a high one.
                    k if k % 8 == 0 => arguments[(k as usize - 16) / 8] as u32,
                    k => (arguments[(k as usize - 20) / 8] >> 32) as u32,
                };
            }
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(accumulator == k),
            0x25 => at += jump(accumulator > k),
            0x35 => at += jump(accumulator >= k),
            0x45 => at += jump(accumulator & k != 0),
            code => unreachable!("unknown code {code:#x}"),
        }
    }
}

fn errno(number: libc::c_int) -> u32 {
    libc::SECCOMP_RET_ERRNO | number.unsigned_abs()
}

#[test]
fn other_interfaces_of_the_processor_are_closed() {
    for seal in [Seal::Open, Seal::Ports, Seal::Local, Seal::Tcp] {
        let program = compile(plain(seal, true), TargetArch::x86_64);
        let answer = |arch, call| answer(&program, arch, call, [0; 6]);
        let getpid = 39;
        assert_eq!(answer(X86_64, getpid), libc::SECCOMP_RET_ALLOW);
        assert_eq!(answer(X86_64, X32_BIT + getpid), errno(libc::ENOSYS));
        assert_eq!(answer(X86_64, u32::MAX), errno(libc::ENOSYS));
        // The same number, but of another table of calls.
        assert_eq!(answer(I386, getpid), libc::SECCOMP_RET_KILL_PROCESS);
    }
}

#[test]
fn every_type_of_socket_but_streams_is_refused() {
    let program = compile(plain(Seal::Tcp, true), TargetArch::x86_64);
    let socket = 41;
    for kind in 0..16 {
        for flags in [0, libc::SOCK_CLOEXEC.unsigned_abs()] {
            let expected = if kind == 1 { libc::SECCOMP_RET_ALLOW } else { errno(libc::EPERM) };
            let said = answer(&program, X86_64, socket, [2, kind | flags, 0, 0, 0, 0]);
            assert_eq!(said, expected, "type {kind}");
        }
    }
    for family in (0..64).filter(|family| ![1, 2, 10, 16].contains(family)) {
        let said = answer(&program, X86_64, socket, [family, 1, 0, 0, 0, 0]);
        assert_eq!(said, errno(libc::EPERM), "family {family}");
    }
}

#[test]
fn ports_alone_leave_datagrams_and_close_other_streams() {
    let program = compile(plain(Seal::Ports, true), TargetArch::x86_64);
    let socket = 41;
    let said = |kind, protocol| answer(&program, X86_64, socket, [2, kind, protocol, 0, 0, 0]);
    for kind in 0..16 {
        let expected = if [1, 2].contains(&kind) { libc::SECCOMP_RET_ALLOW } else { errno(1) };
        assert_eq!(said(kind, 0), expected, "type {kind}");
    }
    for (kind, protocol) in [(1, 6), (2, 17)] {
        assert_eq!(said(kind, protocol), libc::SECCOMP_RET_ALLOW);
    }
    for (kind, protocol) in [(1, 132), (1, 262), (2, 136), (2, 1)] {
        assert_eq!(said(kind, protocol), errno(1), "{kind} {protocol}");
    }
}

#[test]
fn a_socket_of_a_limited_network_stays_what_it_is() {
    let (fast_open, upper, no_delay) = (30, 31, 1);
    for (seal, expected) in
        [(Seal::Open, libc::SECCOMP_RET_ALLOW), (Seal::Ports, errno(1)), (Seal::Tcp, errno(1))]
    {
        let program = compile(plain(seal, true), TargetArch::x86_64);
        let said = |level, option| answer(&program, X86_64, 54, [3, level, option, 0, 0, 0]);
        assert_eq!([said(6, fast_open), said(6, upper)], [expected; 2], "{seal:?}");
        let others = [said(6, no_delay), said(1, fast_open), said(41, upper)];
        assert_eq!(others, [libc::SECCOMP_RET_ALLOW; 3], "{seal:?}");
    }
}

/// What is closed, with arguments that matter and the answers: closed, or open with others.
#[test]
fn calls_are_closed_by_what_they_do() {
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    let program = compile(plain(Seal::Open, true), TargetArch::x86_64);
    let answer =
        |call: i64, arguments| answer(&program, X86_64, u32::try_from(call).unwrap(), arguments);
    let (create, temporary) = (0o100, 0o20_200_000);
    let table: &[(i64, [u32; 6], u32)] = &[
        (libc::SYS_unshare, [0x1000_0000, 0, 0, 0, 0, 0], errno(1)),
        (libc::SYS_unshare, [0x80, 0, 0, 0, 0, 0], errno(1)),
        (libc::SYS_unshare, [0x400, 0, 0, 0, 0, 0], ALLOW),
        (libc::SYS_clone, [0x4000_0011, 0, 0, 0, 0, 0], errno(1)),
        // A thread, as the C library makes it, and a process.
        (libc::SYS_clone, [0x003D_0F00, 0, 0, 0, 0, 0], ALLOW),
        (libc::SYS_clone, [0x0120_0011, 0, 0, 0, 0, 0], ALLOW),
        (libc::SYS_clone3, [0; 6], errno(libc::ENOSYS)),
        (libc::SYS_openat2, [0; 6], errno(libc::ENOSYS)),
        (libc::SYS_inotify_init, [0; 6], errno(libc::ENOSYS)),
        (libc::SYS_inotify_init1, [0; 6], errno(libc::ENOSYS)),
        (libc::SYS_inotify_add_watch, [3, 1, 0xFFF, 0, 0, 0], errno(libc::ENOSYS)),
        (libc::SYS_inotify_rm_watch, [3, 1, 0, 0, 0, 0], ALLOW),
        // Getting rid of what is one's own.
        (libc::SYS_shmdt, [1, 0, 0, 0, 0, 0], ALLOW),
        (libc::SYS_prlimit64, [7, 7, 1, 0, 0, 0], errno(1)),
        (libc::SYS_prlimit64, [7, 7, 0, 1, 0, 0], ALLOW),
        (libc::SYS_prlimit64, [0, 7, 1, 0, 0, 0], ALLOW),
        (libc::SYS_sched_setaffinity, [1, 8, 1, 0, 0, 0], errno(1)),
        (libc::SYS_sched_setaffinity, [0, 8, 1, 0, 0, 0], ALLOW),
        (libc::SYS_move_pages, [1, 0, 0, 0, 0, 0], errno(1)),
        (libc::SYS_setpriority, [2, 0, 5, 0, 0, 0], errno(1)),
        (libc::SYS_setpriority, [0, 1, 5, 0, 0, 0], errno(1)),
        (libc::SYS_setpriority, [0, 0, 5, 0, 0, 0], ALLOW),
        (libc::SYS_chmod, [1, 0o4755, 0, 0, 0, 0], errno(1)),
        (libc::SYS_chmod, [1, 0o755, 0, 0, 0, 0], ALLOW),
        (libc::SYS_fchmod, [1, 0o2755, 0, 0, 0, 0], errno(1)),
        (libc::SYS_fchmodat, [3, 1, 0o6755, 0, 0, 0], errno(1)),
        (FCHMODAT2, [3, 1, 0o4000, 0, 0, 0], errno(1)),
        (libc::SYS_mknodat, [3, 1, 0o104_755, 0, 0, 0], errno(1)),
        (libc::SYS_creat, [1, 0o4755, 0, 0, 0, 0], errno(1)),
        (libc::SYS_open, [1, create, 0o4755, 0, 0, 0], errno(1)),
        (libc::SYS_open, [1, 0, 0o4755, 0, 0, 0], ALLOW),
        (libc::SYS_openat, [3, 1, create, 0o2755, 0, 0], errno(1)),
        (libc::SYS_openat, [3, 1, temporary, 0o4755, 0, 0], errno(1)),
        (libc::SYS_openat, [3, 1, create, 0o755, 0, 0], ALLOW),
        // Opening a directory is not making a file without a name.
        (libc::SYS_openat, [3, 1, 0o200_000, 0o4755, 0, 0], ALLOW),
        (libc::SYS_ioctl, [0, 0x5412, 0, 0, 0, 0], errno(1)),
        (libc::SYS_ioctl, [0, 0x540E, 1, 0, 0, 0], errno(1)),
        (libc::SYS_ioctl, [0, 0x540E, 0, 0, 0, 0], ALLOW),
        // What `chattr` does; its question; and a copy that shares its blocks.
        (libc::SYS_ioctl, [3, 0x4008_6602, 1, 0, 0, 0], errno(1)),
        (libc::SYS_ioctl, [3, 0x401C_5820, 1, 0, 0, 0], errno(1)),
        (libc::SYS_ioctl, [3, 0x4080_6685, 1, 0, 0, 0], errno(1)),
        // Numbers of versions, and who a subvolume was received from; their questions.
        (libc::SYS_ioctl, [3, 0x4008_7602, 1, 0, 0, 0], errno(1)),
        (libc::SYS_ioctl, [3, 0x4008_6604, 1, 0, 0, 0], errno(1)),
        (libc::SYS_ioctl, [3, 0xC0C8_9425, 1, 0, 0, 0], errno(1)),
        (libc::SYS_ioctl, [3, 0x8008_7601, 1, 0, 0, 0], ALLOW),
        (libc::SYS_ioctl, [3, 0x8008_6603, 1, 0, 0, 0], ALLOW),
        // Atomic writes of f2fs; what it can do.
        (libc::SYS_ioctl, [3, 0xF501, 0, 0, 0, 0], errno(1)),
        (libc::SYS_ioctl, [3, 0xF502, 0, 0, 0, 0], errno(1)),
        (libc::SYS_ioctl, [3, 0xF503, 0, 0, 0, 0], errno(1)),
        (libc::SYS_ioctl, [3, 0xF504, 0, 0, 0, 0], errno(1)),
        (libc::SYS_ioctl, [3, 0xF505, 0, 0, 0, 0], errno(1)),
        (libc::SYS_ioctl, [3, 0xF519, 0, 0, 0, 0], errno(1)),
        (libc::SYS_ioctl, [3, 0x8004_F50C, 1, 0, 0, 0], ALLOW),
        (libc::SYS_ioctl, [3, 0x5000_940F, 1, 0, 0, 0], errno(1)),
        (libc::SYS_ioctl, [3, 0x5000_943F, 1, 0, 0, 0], errno(1)),
        (libc::SYS_ioctl, [3, 0x5001_940F, 1, 0, 0, 0], ALLOW),
        (libc::SYS_ioctl, [3, 0x8008_6601, 1, 0, 0, 0], ALLOW),
        (libc::SYS_ioctl, [3, 0x4004_9409, 4, 0, 0, 0], ALLOW),
    ];
    for (call, arguments, expected) in table {
        // What is 32 bits wide here is the low half of its argument; 64-bit ones are split.
        assert_eq!(answer(*call, *arguments), *expected, "call {call} with {arguments:x?}");
    }
}

#[test]
fn calls_are_closed_whatever_their_arguments() {
    let program = compile(plain(Seal::Open, true), TargetArch::x86_64);
    for call in [
        libc::SYS_mount,
        libc::SYS_chroot,
        libc::SYS_pivot_root,
        libc::SYS_setns,
        libc::SYS_bpf,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_kexec_load,
        libc::SYS_reboot,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_open_by_handle_at,
        libc::SYS_process_madvise,
        libc::SYS_fanotify_init,
        libc::SYS_swapon,
        libc::SYS_acct,
        libc::SYS_move_mount,
        libc::SYS_shmget,
        libc::SYS_shmat,
        libc::SYS_shmctl,
        libc::SYS_semget,
        libc::SYS_semop,
        libc::SYS_semtimedop,
        libc::SYS_semctl,
        libc::SYS_msgget,
        libc::SYS_msgsnd,
        libc::SYS_msgrcv,
        libc::SYS_msgctl,
        libc::SYS_mq_open,
        libc::SYS_mq_unlink,
    ] {
        let number = u32::try_from(call).unwrap();
        assert_eq!(answer(&program, X86_64, number, [0; 6]), errno(1), "call {call}");
    }
}

#[test]
fn metadata_is_closed_where_nothing_is_written() {
    for writes_files in [false, true] {
        let program = compile(plain(Seal::Open, writes_files), TargetArch::x86_64);
        for call in [
            libc::SYS_chmod,
            libc::SYS_fchmod,
            libc::SYS_fchownat,
            libc::SYS_utimensat,
            libc::SYS_lsetxattr,
            libc::SYS_fremovexattr,
            // `file_setattr`.
            469,
        ] {
            let expected = if writes_files { libc::SECCOMP_RET_ALLOW } else { errno(1) };
            let number = u32::try_from(call).unwrap();
            assert_eq!(answer(&program, X86_64, number, [0; 6]), expected, "call {call}");
        }
    }
}

#[test]
fn a_filter_says_what_its_rules_say() {
    let values = [0, 1, 2, 3, 6, 0x80, 0o100, 0o4755, 0x5412, 1 << 32, 1 << 41, u64::MAX];
    let sets = values.iter().enumerate().map(|(at, value)| {
        let others = [1, 5, 7, 8, 11].map(|step| values[(at * step) % values.len()]);
        [*value, others[0], others[1], others[2], others[3], others[4]]
    });
    let sets: Vec<_> = sets.chain([[0; 6], [16, 2, 0, 0, 0, 0], [10, 1, 262, 0, 0, 0]]).collect();
    for outline in outlines() {
        let program = compile(outline, TargetArch::x86_64);
        let (rules, asked) = (rules(outline.seal, outline.writes_files), outline.asked());
        for call in (0..1024).chain([X32_BIT - 1, X32_BIT, X32_BIT + 16, u32::MAX]) {
            for set in &sets {
                let is_met = |rule: &Rule| rule.iter().all(|condition| condition.is_met(*set));
                let is_refused = |rules: &Vec<Rule>| rules.is_empty() || rules.iter().any(is_met);
                let number = i64::from(call);
                let expected = if call >= X32_BIT || closed::UNKNOWN.contains(&number) {
                    errno(libc::ENOSYS)
                } else if rules.get(&number).is_some_and(is_refused) {
                    errno(libc::EPERM)
                } else if asked.contains(&number) {
                    libc::SECCOMP_RET_USER_NOTIF
                } else {
                    libc::SECCOMP_RET_ALLOW
                };
                assert_eq!(run(&program, X86_64, call, *set), expected, "{call} with {set:x?}");
            }
            assert_eq!(answer(&program, I386, call, [1; 6]), libc::SECCOMP_RET_KILL_PROCESS);
        }
    }
}

#[test]
fn every_outline_has_a_filter_of_its_own() {
    let mut numbers: Vec<_> = outlines().into_iter().map(Outline::number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..48).collect::<Vec<_>>());
}

/// What the kernel makes of a call when the filter is installed, by the number alone: whether it
/// always passes, for which it is never filtered again, and how many statements that took to see.
fn foreseen(program: &[sock_filter], call: u32) -> (bool, usize) {
    let (mut at, mut accumulator) = (0, 0);
    for followed in 1.. {
        let sock_filter { code, jt, jf, k } = program[at].clone();
        let jump = |condition| usize::from(if condition { jt } else { jf });
        at += 1;
        match (code, k) {
            (0x06, k) => return (k == libc::SECCOMP_RET_ALLOW, followed),
            (0x20, 0) => accumulator = call,
            (0x20, 4) => accumulator = X86_64,
            (0x54, k) => accumulator &= k,
            (0x05, k) => at += k as usize,
            (0x15, k) => at += jump(accumulator == k),
            (0x25, k) => at += jump(accumulator > k),
            (0x35, k) => at += jump(accumulator >= k),
            (0x45, k) => at += jump(accumulator & k != 0),
            // It is about arguments.
            _ => return (false, followed),
        }
    }
    unreachable!("a filter ends")
}

#[test]
fn the_kernel_sees_which_calls_always_pass() {
    for outline in outlines() {
        let program = compile(outline, TargetArch::x86_64);
        let (rules, asked) = (rules(outline.seal, outline.writes_files), outline.asked());
        for call in 0..512 {
            let number = i64::from(call);
            let passes = !rules.contains_key(&number)
                && !asked.contains(&number)
                && !closed::UNKNOWN.contains(&number);
            assert_eq!(foreseen(&program, call).0, passes, "{call} for {outline:?}");
        }
    }
}

/// Their length, and the way through them for every number that a call can have, are paid for at
/// every start of a program.
#[test]
fn filters_are_short() {
    for outline in outlines() {
        let program = compile(outline, TargetArch::x86_64);
        assert!(program.len() < 199, "{} statements for {outline:?}", program.len());
        let followed: usize = (0..470).map(|call| foreseen(&program, call).1).sum();
        assert!(followed < 5250, "{followed} statements followed for {outline:?}");
    }
}

/// Jumps over more than a jump can say.
#[test]
fn long_filters_are_right_too() {
    let verdicts: Vec<_> = (0..200_u32)
        .map(|call| (2 * call, Verdict::Give(Answer::Refuse(1 + (call % 7).cast_signed()))))
        .collect();
    let program = lay_out(&verdicts, TargetArch::x86_64);
    for (call, _) in &verdicts {
        let expected = errno(1 + (call / 2 % 7).cast_signed());
        assert_eq!(answer(&program, X86_64, *call, [0; 6]), expected, "{call}");
        let next = answer(&program, X86_64, call + 1, [0; 6]);
        assert_eq!(next, libc::SECCOMP_RET_ALLOW, "{call}");
    }
}
