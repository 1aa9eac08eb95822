"""`python -m nono_py`: keys are kept and tried without being shown, what is amiss is one line, and
who ends a command ends all of it."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Desktop

NONO = [sys.executable, "-m", "nono_py"]
COMMAND = [*NONO, "credential"]


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_key_that_is_there_is_not_shown(key: str) -> None:
    done = run("check", "env://REAL_KEY")
    assert (done.returncode, done.stderr) == (0, "")
    assert key not in done.stdout
    assert "env://REAL_KEY" in done.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("env://NONO_NOT_SET", "set NONO_NOT_SET in the environment"),
        ("file:///nonexistent/key", "create /nonexistent/key"),
        ("nope://x", "unknown credential source"),
        ("env://SPLIT_KEY", "line ending"),
    ],
)
def test_what_is_amiss_is_said(name: str, said: str) -> None:
    done = run("check", name, SPLIT_KEY="sk-split\nX: y")
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "sk-split" not in done.stderr


@pytest.mark.parametrize("action", ["check", "set"])
def test_a_name_that_is_no_text_is_called_that(action: str) -> None:
    done = run(action, "caf\udce9")
    assert (done.returncode, done.stderr) == (1, "error: the name is not valid UTF-8\n")


def test_a_key_in_the_place_of_a_name_is_refused_and_not_shown() -> None:
    done = run("check", "sk-proj-0123456789")
    assert done.returncode == 1
    assert "looks like a key" in done.stderr
    assert "0123456789" not in done.stderr


def test_a_file_that_others_may_read_is_refused_with_the_command_to_run(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-1")
    file.chmod(0o644)
    done = run("check", f"file://{file}")
    assert done.returncode == 1
    assert f"chmod 600 {file}" in done.stderr


def test_only_the_keyring_can_be_written() -> None:
    done = subprocess.run(
        [*COMMAND, "set", "env://X"], input="sk-1\n", capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "keyring" in done.stderr


def test_set_check_and_list_in_the_keyring(desktop: Desktop, key: str) -> None:
    script = """
    set -e
    printf "%s\\n" "$KEY" | "$@" set openai
    printf "%s\\n" "$KEY" | "$@" set keyring://work/me
    "$@" check openai
    "$@" list
    ! printf "\\n" | "$@" set empty
    ! printf "%s\\nsecond\\n" "$KEY" | "$@" set two-lines
    ! head -c 2000000 /dev/zero | "$@" set long
    """
    done = desktop.run(["sh", "-c", script, "sh", *COMMAND], KEY=key)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "stored openai",
        "stored keyring://work/me",
        "openai is there and can be sent",
        "openai",
    ]
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    empty, two_lines, long = said
    assert "empty" in empty
    assert "a control character, as a line ending within it" in two_lines
    assert "more than 1048576 bytes" in long
    assert key not in done.stdout + done.stderr


def test_a_key_that_nobody_gives_is_none() -> None:
    command = ["sh", "-c", '"$@" <&-', "sh", *COMMAND, "set", "name"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: standard input is closed")


def test_a_terminal_does_not_echo_the_key() -> None:
    """What is typed is not shown, whatever becomes of the key."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "set", "env://X"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_own_terminal,
    )
    os.close(theirs)
    shown = b""
    while b"key: " not in shown:
        shown += os.read(ours, 1000)
    os.write(ours, b"sk-typed-by-hand\n")
    while True:
        try:
            shown += os.read(ours, 1000)
        except OSError:  # The program has ended, and its terminal with it.
            break
    os.close(ours)
    assert process.wait(timeout=60) == 1
    assert b"keyring" in shown
    assert b"sk-typed" not in shown


def _own_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        ("explain --host x:99999", "a port from 1 to 65535, not x:99999", 125),
        ("explain --host :80", "takes a host and a port", 125),
        ("run --max-processes -1 -- true", "max_processes must be at least 1, got -1", 125),
        (f"run --max-processes {10**30} -- true", "more than the kernel can count", 125),
        ("run --memory 0 -- true", "memory limit must be positive, got 0", 125),
        ("run --timeout nan -- true", "timeout_secs must be a non-negative number", 125),
        (
            "audit verify /nonexistent",
            "error: [Errno 2] No such file or directory: '/nonexistent'",
            2,
        ),
        (
            "audit stats /nonexistent",
            "error: [Errno 2] No such file or directory: '/nonexistent'",
            2,
        ),
        (
            "audit tail /nonexistent",
            "error: [Errno 2] No such file or directory: '/nonexistent'",
            2,
        ),
        ("audit verify /dev/null", "no regular file: /dev/null", 2),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_line(words: str, said: str, code: int) -> None:
    done = subprocess.run([*NONO, *words.split()], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", ["run -- true", "run --bare -- true"])
def test_a_command_that_nothing_grants_is_an_error_that_says_what_does(words: str) -> None:
    done = subprocess.run([*NONO, *words.split()], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (125, "")
    failed, helps = done.stderr.splitlines()
    assert failed.startswith("error: ")
    assert failed.endswith("/true` is not granted")
    # A bare one takes no group.
    assert ("`-g system_read_linux` has the system's own" in helps) != ("--bare" in words)
    assert "by `--read`" in helps
    command = [*NONO, "run", "-g", "system_read_linux", "--", "true"]
    assert subprocess.run(command, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("text", "said"), [("", "there is no line in it"), ("hello\n", "line 1: malformed JSON")]
)
def test_a_file_that_is_no_log_is_not_said_to_be_one(text: str, said: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(text)
    command = [*NONO, "audit", "verify", str(log)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert str(log) in done.stderr
    assert said in done.stderr


@pytest.fixture
def hangup_is_heeded() -> Iterator[None]:
    """Under nohup(1) it is ignored, by what is started too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup_is_heeded")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("words", ["run -g system_read_linux", "learn"])
def test_who_ends_a_command_ends_all_of_it(
    words: str, number: signal.Signals, tmp_path: Path
) -> None:
    program = ["sh", "-c", "echo up >&2; exec sleep 60"]
    process = subprocess.Popen(
        [*NONO, *words.split(), "--", *program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stderr is not None
    said = []
    while "up\n" not in said:
        said.append(process.stderr.readline())
    process.send_signal(number)
    # The program has the same pipes: they end when it does.
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 128 + number
    assert list(tmp_path.iterdir()) == []


#: A command that is ended, and again while it leaves.
LEAVING = """
import signal, sys
from nono_py import __main__

def run(_):
    try:
        signal.raise_signal(int(sys.argv[2]))
        print("it goes on")
    finally:
        for number in signal.SIGHUP, signal.SIGTERM, signal.SIGINT:
            signal.raise_signal(number)
        print("left")

__main__._run = run
__main__._parse = lambda: None
sys.exit(__main__.main())
"""


@pytest.mark.usefixtures("hangup_is_heeded")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_ends_a_command_twice_does_not_keep_it_from_clearing_up(number: signal.Signals) -> None:
    command = [sys.executable, "-c", LEAVING, "it", str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("left\n", "", 128 + number)
