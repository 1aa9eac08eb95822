"""Who judges addresses after `apply`: a process beside this one, of which programs see nothing."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nono_py
import pytest
from users import interpreter

#: What each program begins with: a proxy, a server at another address with the same port, and
#: `reach()`, which tells what came of a connection. Nothing is confined as yet.
BEGIN = """
import errno, os, socket, subprocess, sys, threading
import nono_py
from nono_py import AccessMode, CapabilitySet, apply
place = sys.argv[1]
proxy = nono_py.start_proxy(nono_py.ProxyConfig())
port = int(proxy.address.rpartition(":")[2])
elsewhere = socket.create_server(("127.0.0.2", port))
caps = CapabilitySet()
caps.allow_interpreter()
caps.allow_system()
caps.allow_path(place, AccessMode.READ_WRITE)
caps.proxy_only(proxy)

def reach(host):
    try:
        socket.create_connection((host, port), timeout=20).close()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "reached"

def both():
    return reach("127.0.0.1"), reach("127.0.0.2")

assert both() == ("reached", "reached")
elsewhere.accept()[0].close()
elsewhere.setblocking(False)
expected = ("reached", "EACCES")
"""

#: A program that tells when it is confined, and connects whenever it is told to.
WAITING = """
apply(caps)
print("confined", flush=True)
for line in sys.stdin:
    print(*both(), flush=True)
"""

ROOT = os.geteuid() == 0


@pytest.fixture(params=["own", "ordinary"])
def user(request: pytest.FixtureRequest) -> int | None:
    """Whom programs run as, if not as whoever runs the tests."""
    if request.param == "own":
        return None
    if not ROOT:
        pytest.skip("whoever runs the tests is an ordinary user already")
    return 65534


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A directory that every user can write."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory)


def start(program: str, place: Path, user: int | None) -> "subprocess.Popen[str]":
    """Start a program as a user, with its own pipes."""
    return subprocess.Popen(
        [interpreter(user), "-c", BEGIN + program, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(Path(nono_py.__file__).parent.parent)},
    )


def run(program: str, place: Path, user: int | None) -> str:
    """Run a program and give what it printed."""
    process = start(program, place, user)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip()


def supervisor_of(pid: int) -> int | None:
    """Find the process that judges for another."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
        except (OSError, ValueError):
            continue
        if lines["Name"] == "nono-supervisor" and lines["PPid"] == str(pid):
            return int(status.parent.name)
    return None


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that takes no time worth speaking of."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    """Tell whether a process has not ended, waited for or not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_the_proxy_is_reached_and_its_port_elsewhere_is_not(
    everybodys: Path, user: int | None
) -> None:
    program = """
report = apply(caps)
assert report.complete, report
assert both() == expected, both()
# Nothing has arrived, not even for a moment.
try:
    elsewhere.accept()
except BlockingIOError:
    print("nobody")
"""
    assert run(program, everybodys, user) == "nobody"


def test_whoever_is_started_later_is_judged_too(everybodys: Path, user: int | None) -> None:
    program = """
import multiprocessing
apply(caps)
said = []
threads = [threading.Thread(target=lambda: said.append(both())) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("threads", said == [expected] * 8)

child = os.fork()
if child == 0:
    os._exit(0 if both() == expected else 1)
print("fork", os.waitpid(child, 0)[1])

def child():
    os._exit(0 if both() == expected else 1)
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
print("process", process.exitcode)

source = f'''
import socket
def reach(host):
    try:
        socket.create_connection((host, {port})).close()
    except PermissionError:
        return "EACCES"
    return "reached"
print(reach("127.0.0.1"), reach("127.0.0.2"))
'''
command = [sys.executable, "-c", source]
print("exec", subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
command = ["setsid", "--fork", "--wait", *command]
print("daemon", subprocess.run(command, capture_output=True, text=True).stdout.strip())
"""
    assert run(program, everybodys, user).splitlines() == [
        "threads True",
        "fork 0",
        "process 0",
        "exec reached EACCES",
        "daemon reached EACCES",
    ]


def test_an_event_loop_connects_without_being_held_up(everybodys: Path, user: int | None) -> None:
    program = """
import asyncio
async def ask():
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
    said = await reader.readline()
    writer.close()
    return said.split()[1]
async def main():
    apply(caps)
    said = await asyncio.gather(*(ask() for _ in range(50)))
    print(len(said), {*said} <= {b"401", b"404", b"400", b"407"}, *{*said})
    try:
        await asyncio.open_connection("127.0.0.2", port)
    except PermissionError as error:
        print(error.errno)
    # As the kernel would have it, a connection takes its time.
    with socket.socket() as quick:
        quick.setblocking(False)
        print(quick.connect_ex(("127.0.0.1", port)) in (0, errno.EINPROGRESS), quick.getblocking())
asyncio.run(main())
"""
    said = run(program, everybodys, user).splitlines()
    assert said[0].startswith("50 True"), said
    assert said[1:] == ["13", "True False"]


def test_a_socket_keeps_what_was_set_for_it(everybodys: Path, user: int | None) -> None:
    program = """
apply(caps)
with socket.socket() as one:
    one.settimeout(None)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, (7).to_bytes(8, "little") + bytes(8))
    one.connect(("127.0.0.1", port))
    print(os.get_blocking(one.fileno()), one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
    seconds = one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16)[0]
    print(seconds, one.connect_ex(("127.0.0.1", port)) == errno.EISCONN)
"""
    assert run(program, everybodys, user).splitlines() == ["True 1", "7 True"]


def test_a_program_does_not_see_it_among_its_children(everybodys: Path, user: int | None) -> None:
    program = """
import signal
heard = []
signal.signal(signal.SIGCHLD, lambda *_: heard.append(1))
apply(caps)
try:
    os.wait()
except ChildProcessError:
    print("no child", heard)
child = os.fork()
if child == 0:
    os._exit(3)
print(os.wait() == (child, 3 << 8), heard)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")
def kind(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""
print([fd for fd in range(256) if "seccomp" in kind(fd)], both() == expected)
"""
    assert run(program, everybodys, user).splitlines() == [
        "no child []",
        "True [1]",
        "no child",
        "[] True",
    ]


def test_it_cannot_be_touched_and_without_it_all_is_refused(
    everybodys: Path, user: int | None
) -> None:
    program = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
apply(caps)
print("confined", flush=True)
pid = int(sys.stdin.readline())
try:
    os.kill(pid, 9)
except PermissionError:
    print("not killed")
print(libc.ptrace(16, pid, 0, 0), ctypes.get_errno())  # PTRACE_ATTACH
for file in "mem", "environ", "maps", "fd/0":
    try:
        open(f"/proc/{pid}/{file}").close()
        print(file)
    except OSError:
        pass
print(*both(), flush=True)
sys.stdin.readline()
print(*both(), flush=True)
"""
    process = start(program, everybodys, user)
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "confined\n"
    judge = supervisor_of(process.pid)
    assert judge
    print(judge, file=process.stdin, flush=True)
    said = [process.stdout.readline().strip() for _ in range(3)]
    if nono_py.detect_abi().has_scoping:
        assert said[0] == "not killed"
    assert said[1:] == ["-1 1", "reached EACCES"]
    os.kill(judge, signal.SIGKILL)
    until(lambda: not is_running(judge), "it was killed")
    out, err = process.communicate("\n", timeout=60)
    assert out.split() == ["ENOSYS", "ENOSYS"], err


def test_it_ends_with_the_last_process_of_the_sandbox(everybodys: Path, user: int | None) -> None:
    program = """
apply(caps)
child = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.readline()
"""
    process = start(program, everybodys, user)
    assert process.stdout
    sleeper = int(process.stdout.readline())
    judge = supervisor_of(process.pid)
    assert judge
    process.communicate(timeout=60)
    # A child goes on, and so does who judges for it.
    assert is_running(judge)
    os.kill(sleeper, signal.SIGKILL)
    until(lambda: not is_running(judge), "nobody is left")


def test_it_outlives_what_is_done_to_groups_and_terminals(
    everybodys: Path, user: int | None
) -> None:
    process = start(WAITING, everybodys, user)
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "confined\n"
    judge = supervisor_of(process.pid)
    assert judge
    assert os.getpgid(judge) == os.getsid(judge) == judge
    for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1:
        os.kill(judge, number)
    print(file=process.stdin, flush=True)
    assert process.stdout.readline() == "reached EACCES\n"
    process.communicate(timeout=60)
    until(lambda: not is_running(judge), "it has ended")


def test_it_keeps_nothing_of_the_programs_memory(everybodys: Path, user: int | None) -> None:
    program = (
        """
ballast = bytearray(b"x" * (200 << 20))
secret = "-".join(["a", "secret", "that", "is", "made", "here"])
"""
        + WAITING
    )
    process = start(program, everybodys, user)
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "confined\n"
    print(file=process.stdin, flush=True)
    assert process.stdout.readline() == "reached EACCES\n"
    judge = supervisor_of(process.pid)
    assert judge
    status = Path(f"/proc/{judge}/status").read_text()
    sizes = dict(line.split(":\t", 1) for line in status.splitlines())
    # The variables of the interpreter and its libraries, and no more.
    assert int(sizes["RssAnon"].split()[0]) < 16 << 10, status
    assert int(sizes["RssAnon"].split()[0]) + int(sizes["VmSwap"].split()[0]) < 16 << 10
    if ROOT:
        with Path(f"/proc/{judge}/mem").open("rb") as memory:
            for line in Path(f"/proc/{judge}/maps").read_text().splitlines():
                if "rw-p" not in line:
                    continue
                begin, end = (int(number, 16) for number in line.split()[0].split("-"))
                memory.seek(begin)
                assert b"-".join([b"a", b"secret", b"that"]) not in memory.read(end - begin)
        open_files = [str(fd.readlink()) for fd in Path(f"/proc/{judge}/fd").iterdir()]
        # What can be written, its line, the place where calls wait, and the process that connects.
        others = [name for name in open_files if not name.startswith("/dev/")]
        assert [name.partition(":")[0] for name in sorted(others)] == sorted(
            [str(everybodys), "anon_inode", "anon_inode", "socket"]
        ), open_files
    process.communicate(timeout=60)


def test_many_connections_in_a_row(everybodys: Path, user: int | None) -> None:
    program = """
apply(caps)
print({reach("127.0.0.1") for _ in range(1000)}, {reach("127.0.0.2") for _ in range(1000)})
"""
    assert run(program, everybodys, user) == "{'reached'} {'EACCES'}"


def test_a_crowd_of_processes_does_not_hold_it_up(everybodys: Path, user: int | None) -> None:
    program = """
apply(caps)
import signal
children = []
for _ in range(40):
    child = os.fork()
    if child == 0:
        while True:
            for host in "127.0.0.2", "127.0.0.3", "10.0.0.1":
                with socket.socket() as one:
                    one.connect_ex((host, port))
            if os.fork() == 0:
                os._exit(0)
            os.wait()
    children.append(child)
said = {both() for _ in range(20)}
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print(said == {expected}, both() == expected)
"""
    assert run(program, everybodys, user) == "True True"


def test_files_and_sockets_by_path_are_judged_too(everybodys: Path, user: int | None) -> None:
    outside = everybodys / "outside"
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    inside = everybodys / "inside"
    inside.mkdir()
    inside.chmod(0o777)
    program = """
import pathlib
outside = pathlib.Path(place).parent / "outside" / "file"
outside.touch()
server = socket.socket(socket.AF_UNIX)
server.bind(str(outside) + ".sock")
server.listen()
apply(caps)
def attempt(what):
    try:
        what()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
def connect(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)
own = pathlib.Path(place) / "file"
own.touch()
with socket.socket(socket.AF_UNIX) as own_server:
    own_server.bind(f"{place}/sock")
    own_server.listen()
    print(attempt(lambda: own.chmod(0o600)), attempt(lambda: outside.chmod(0o600)))
    print(attempt(lambda: os.utime(own)), attempt(lambda: os.utime(outside)))
    print(attempt(lambda: connect(f"{place}/sock")), attempt(lambda: connect(f"{outside}.sock")))
"""
    assert run(program, inside, user).splitlines() == ["done EACCES"] * 3


def test_a_command_is_judged_by_the_sandbox_around_it(everybodys: Path, user: int | None) -> None:
    program = """
from nono_py import sandboxed_exec
narrower = CapabilitySet()
narrower.allow_system()
narrower.proxy_only(proxy)
other = nono_py.start_proxy(nono_py.ProxyConfig())
elsewise = CapabilitySet()
elsewise.allow_system()
elsewise.proxy_only(other)
# One begun before, so that nothing that was found out then is taken for true.
assert sandboxed_exec(narrower, ["/bin/true"]).exit_code == 0
apply(caps)
source = f'''exec 3<>/dev/tcp/127.0.0.1/{port} && echo reached
(exec 3<>/dev/tcp/127.0.0.2/{port}) 2>/dev/null || echo refused'''
result = sandboxed_exec(narrower, ["/bin/bash", "-c", source])
print(result.stdout.decode().split(), "addresses (ports only)" in result.enforcement.missing)
try:
    sandboxed_exec(elsewise, ["/bin/true"])
except RuntimeError as error:
    print("surrounding sandbox" in str(error))
elsewise.accept_less()
result = sandboxed_exec(elsewise, ["/bin/true"])
print(result.exit_code, "addresses (ports only)" in result.enforcement.missing)
# A second time, and the same.
print(apply(caps).complete, both() == expected)
"""
    said = run(program, everybodys, user).splitlines()
    assert said == ["['reached', 'refused'] False", "True", "0 True", "False True"]


def test_a_set_within_another_sandbox_says_what_is_missing(everybodys: Path) -> None:
    source = """
from nono_py import CapabilitySet, apply, start_proxy, ProxyConfig
caps = CapabilitySet()
caps.allow_interpreter()
caps.allow_localhost_port(1)
caps.block_network()
try:
    apply(caps)
except Exception as error:
    print(type(error).__name__, "surrounding sandbox" in str(error))
caps.accept_less()
report = apply(caps)
print("addresses (ports only)" in report.missing)
"""
    caps = nono_py.CapabilitySet()
    caps.allow_interpreter()
    caps.block_network()
    result = nono_py.sandboxed_exec(caps, [sys.executable, "-c", source])
    assert result.stdout.decode().splitlines()[-1:] == ["True"], result.stderr
    assert "True" in result.stdout.decode().splitlines()[0]
