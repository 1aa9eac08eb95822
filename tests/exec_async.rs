//! Sandboxed commands on a tokio runtime.

use std::time::Duration;

use futures_util::future::join_all;
use nono_sandbox::{CapabilitySet, Error, Stdio, Step};
use support::sandboxed::{shell, system, text};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

/// Far longer than anything here takes, far shorter than what must not be waited for.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn output_of_several_at_once_is_theirs() {
    let caps = system();
    let runs = (0..100).map(|number| {
        let caps = &caps;
        async move { text(&shell(&format!("echo {number}")).run_async(caps).await.unwrap()) }
    });
    let said = join_all(runs).await;
    assert_eq!(said, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn more_than_pipes_hold_is_read_and_the_time_is_kept() {
    let script = "yes | head -c 3000000 >&2 & yes | head -c 3000000; wait";
    let output = shell(script).run_async(&system()).await.unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len()), (3_000_000, 3_000_000));
    let mut late = shell("setsid sleep 60");
    let output = late.timeout(Duration::from_millis(200)).run_async(&system()).await.unwrap();
    assert!(output.timed_out);
}

#[tokio::test]
async fn dropped_it_ends_with_all_that_it_started() {
    let (mut ours, theirs) =
        tokio::net::unix::pipe::pipe().map(|(sender, receiver)| (receiver, sender)).unwrap();
    let mut command = shell("(setsid sleep 60 &); echo up; sleep 60");
    command.stdout(theirs.into_blocking_fd().unwrap());
    let caps = system();
    let mut run = Box::pin(command.run_async(&caps));
    let mut first = [0; 3];
    tokio::select! {
        _ = &mut run => panic!("it sleeps"),
        read = ours.read_exact(&mut first) => assert_eq!(read.unwrap(), 3),
    }
    drop(run);
    // The command itself holds a copy of the other end.
    drop(command);
    let rest = tokio::time::timeout(SOON, ours.read_to_end(&mut Vec::new())).await;
    assert_eq!(rest.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn it_can_be_cancelled_from_elsewhere() {
    let (receiver, sender) = std::io::pipe().unwrap();
    let (caps, mut command) = (system(), shell("sleep 100000"));
    let mut run = std::pin::pin!(command.cancel_on(receiver).run_async(&caps));
    // It waits.
    tokio::select! {
        biased;
        _ = &mut run => panic!("it sleeps"),
        () = std::future::ready(()) => {}
    }
    drop(sender);
    assert!(matches!(run.await, Err(Error::Cancelled)));
}

#[tokio::test]
async fn a_process_is_talked_to() {
    let mut command = shell("while read line; do echo got $line; done; exit 5");
    command.stdin(Stdio::Pipe);
    let mut process = command.spawn_async(&system()).await.unwrap();
    assert!(process.number() > 0);
    let mut stdin = process.stdin.take().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    for word in ["one", "two"] {
        stdin.write_all(format!("{word}\n").as_bytes()).await.unwrap();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), format!("got {word}"));
    }
    drop(stdin);
    assert_eq!(process.wait().await.unwrap().exit_code, 5);

    let mut process = shell("sleep 60").spawn_async(&system()).await.unwrap();
    process.kill();
    let output = tokio::time::timeout(SOON, process.wait()).await.unwrap().unwrap();
    assert_eq!(output.signal, Some(libc::SIGKILL));

    let failed = shell("true").spawn_async(&CapabilitySet::new()).await;
    assert!(matches!(failed, Err(Error::Spawn { step: Step::Execute, .. })));
}

/// The shim, which keeps the program's time, is stopped before that is up.
#[tokio::test]
async fn a_tree_that_does_not_answer_is_given_up() {
    let caps = system();
    let outcome = loop {
        let (mut ours, theirs) =
            tokio::net::unix::pipe::pipe().map(|(sender, receiver)| (receiver, sender)).unwrap();
        let mut command = shell("echo $PPID; exec sleep 60");
        command.stdout(theirs.into_blocking_fd().unwrap()).timeout(Duration::from_secs(1));
        let mut run = Box::pin(command.run_async(&caps));
        let mut said = [0; 16];
        let length = tokio::select! {
            outcome = &mut run => {
                assert!(outcome.unwrap().timed_out);
                continue;
            }
            length = ours.read(&mut said) => length.unwrap(),
        };
        let shim = std::str::from_utf8(&said[..length]).unwrap().trim().parse().unwrap();
        let shim = rustix::process::Pid::from_raw(shim).unwrap();
        rustix::process::kill_process(shim, rustix::process::Signal::STOP).unwrap();
        let outcome = tokio::time::timeout(SOON, run).await.unwrap();
        // The machine may have been slower than the program's time.
        if !matches!(&outcome, Ok(output) if output.timed_out) {
            break outcome;
        }
    };
    let error = outcome.unwrap_err();
    assert!(error.to_string().starts_with("failed to watch"), "{error}");
}
