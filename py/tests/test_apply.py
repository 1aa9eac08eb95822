"""`apply` in processes as they are: with threads, event loops, proxies, test runners, notebooks."""

import pickle
import subprocess
import sys
from pathlib import Path

import nono_py
import pytest
from nono_py import CapabilitySet, apply_external, apply_unlink_overrides, detect_abi, support_info

#: What each program begins with: a set, and `denied()` to try a file that nothing grants.
BEGIN = """
import os, sys, threading
import nono_py
from nono_py import AccessMode, CapabilitySet, apply
place, secret = sys.argv[1:]
caps = CapabilitySet()
caps.allow_interpreter()
caps.allow_path(place, AccessMode.READ_WRITE)

def denied():
    try:
        open(secret).close()
    except PermissionError:
        return True
    return False

assert not denied()
"""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("secret")
    return file


def run(program: str, place: Path, secret: Path) -> str:
    """Run a program in a process of its own, since there is no way out of a sandbox."""
    command = [sys.executable, "-c", BEGIN + program, str(place), str(secret)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_process_and_its_children_are_confined(place: Path, secret: Path) -> None:
    program = """
report = apply(caps)
assert report
assert report.filtered and report.no_new_privileges and report.domains == 1
assert report.landlock_abi == int(nono_py.detect_abi().version[1:])
assert report.network == "allowed"
assert report.complete == (report.missing == [])
assert str(report.landlock_abi) in str(report)
open(f"{place}/made", "w").close()
print(denied(), os.spawnl(os.P_WAIT, "/bin/cat", "cat", secret))
"""
    assert run(program, place, secret) == "True 1"
    assert (place / "made").exists()


def test_what_is_not_judged_is_in_the_report(place: Path, secret: Path) -> None:
    program = """
report = apply(caps)
assert not report.complete
wanted = {"modes, owners, times and attributes of files"}
print(wanted == {*report.missing}, all(what in str(report) for what in wanted))
"""
    assert run(program, place, secret) == "True True"


def test_every_thread_is_confined_wherever_it_waits(place: Path, secret: Path) -> None:
    program = """
import queue, select, time
go, results = threading.Event(), []
reader, writer = os.pipe()
lock = threading.Lock()
lock.acquire()
items = queue.Queue()
def spin():
    while not go.is_set():
        pass
waits = [
    go.wait,
    lambda: os.read(reader, 1),
    lambda: select.select([reader], [], []),
    lambda: lock.acquire(),
    items.get,
    spin,
    lambda: [time.sleep(0.01) for _ in iter(go.is_set, True)],
]
def work(wait):
    wait()
    results.append(denied())
threads = [threading.Thread(target=work, args=(wait,)) for wait in waits * 3]
for thread in threads:
    thread.start()
report = apply(caps)
go.set()
os.close(writer)
items.put(1), items.put(1), items.put(1)
while any(thread.is_alive() for thread in threads):
    if lock.locked():
        lock.release()
    for thread in threads:
        thread.join(0.01)
print(len(results), all(results), denied(), report.domains in (1, 22))
"""
    assert run(program, place, secret) == "21 True True True"


def test_any_thread_can_apply(place: Path, secret: Path) -> None:
    program = """
thread = threading.Thread(target=apply, args=(caps,))
thread.start()
thread.join()
print(denied())
"""
    assert run(program, place, secret) == "True"


def test_an_event_loop_and_its_executor_go_on(place: Path, secret: Path) -> None:
    program = """
import asyncio
async def main():
    ticks = 0
    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)
    ticking = asyncio.create_task(tick())
    await asyncio.gather(*(asyncio.to_thread(os.getpid) for _ in range(8)))
    await asyncio.to_thread(apply, caps)
    before = ticks
    said = await asyncio.gather(*(asyncio.to_thread(denied) for _ in range(8)))
    while ticks == before:
        await asyncio.sleep(0.001)
    print(all(said), denied())
asyncio.run(main())
"""
    assert run(program, place, secret) == "True True"


def test_the_library_of_c_can_still_speak_to_all_threads(place: Path, secret: Path) -> None:
    program = """
go = threading.Event()
threads = [threading.Thread(target=go.wait) for _ in range(4)]
for thread in threads:
    thread.start()
apply(caps)
os.setresgid(*os.getresgid())
os.setresuid(*os.getresuid())
go.set()
print(denied())
"""
    assert run(program, place, secret) == "True"


def test_what_follows_an_apply_works_within_its_limits(place: Path, secret: Path) -> None:
    program = """
from nono_py import ProxyConfig, sandboxed_exec, start_proxy
import urllib.request, urllib.error
before = start_proxy(ProxyConfig())
apply(caps)
result = sandboxed_exec(caps, ["/bin/sh", "-c", "cat " + secret])
assert b"Permission denied" in result.stderr, result
narrow = CapabilitySet()
narrow.allow_system()
assert sandboxed_exec(narrow, ["/bin/sh", "-c", f"ls {place}"]).exit_code != 0
with start_proxy(ProxyConfig()) as after, before:
    for proxy in before, after:
        try:
            urllib.request.urlopen(f"http://{proxy.address}/nothing", timeout=10)
        except urllib.error.HTTPError as error:
            print(error.code, end=" ")
apply(caps)
print(denied())
"""
    assert run(program, place, secret) == "401 401 True"


def test_a_later_report_says_what_holds_of_all(place: Path, secret: Path) -> None:
    program = """
from nono_py import sandboxed_exec
assert apply(caps).network == "allowed"
inner = CapabilitySet()
inner.allow_system()
run = lambda: sandboxed_exec(inner, ["/bin/true"]).enforcement.network
assert run() == "allowed"
caps.block_network()
print(apply(caps).network, run(), end=" ")
caps = CapabilitySet()
caps.allow_path("/", AccessMode.READ)
print(apply(caps).network, run())
"""
    assert run(program, place, secret) == "blocked blocked blocked blocked"


def test_imports_and_tracebacks_work_after_apply(place: Path, secret: Path) -> None:
    program = """
apply(caps)
import decimal, email.mime.text, json, sqlite3, ssl, traceback, xml.dom.minidom, zoneinfo
import requests
try:
    json.loads("{")
except ValueError:
    text = traceback.format_exc()
    assert "obj, end = self.raw_decode" in text, text
try:
    open(secret)
except PermissionError as error:
    assert (error.errno, error.filename) == (13, secret)
ssl.create_default_context()
print(denied())
"""
    assert run(program, place, secret) == "True"


def test_a_thread_that_cannot_answer_keeps_all_free(place: Path, secret: Path) -> None:
    program = """
import ctypes
libc = ctypes.CDLL(None)
ready, go = threading.Event(), threading.Event()
def deaf():
    mask = ctypes.c_uint64(2**64 - 1)
    libc.syscall(14, 2, ctypes.byref(mask), None, 8)  # rt_sigprocmask, past the C library
    ready.set()
    go.wait()
thread = threading.Thread(target=deaf)
thread.start()
ready.wait()
try:
    apply(caps)
except RuntimeError as error:
    print("nothing was applied" in str(error), denied())
go.set()
"""
    assert run(program, place, secret) == "True False"


@pytest.mark.parametrize(
    "call",
    [
        "nono_py.apply_landlock(caps)",
        "nono_py.apply_seccomp(caps)",
        "nono_py.apply_auto_with_abi(caps, nono_py.detect_abi())",
        "nono_py.apply_landlock_with_abi(caps, nono_py.detect_abi())",
        "nono_py.apply_seccomp_with_abi(caps, nono_py.detect_abi())",
    ],
)
def test_the_whole_family_confines(place: Path, secret: Path, call: str) -> None:
    program = f"""
import socket
caps.block_network()
assert {call}.network == "blocked"
try:
    socket.socket()
except PermissionError:
    print(denied())
"""
    assert run(program, place, secret) == "True"


def test_the_network_can_be_left_to_others(place: Path, secret: Path) -> None:
    program = """
import socket
caps.block_network()
assert nono_py.apply_seccomp(caps, external_tcp=True).network == "allowed"
socket.socket().close()
print(denied(), caps.is_network_blocked)
"""
    assert run(program, place, secret) == "True True"


def test_some_do_nothing() -> None:
    assert apply_external() is None  # type: ignore[func-returns-value]
    assert apply_unlink_overrides(CapabilitySet()) is None  # type: ignore[func-returns-value]
    assert Path(__file__).read_text()


def test_the_abi_is_told() -> None:
    abi = detect_abi()
    number = int(abi.version[1:])
    assert abi == detect_abi()
    assert hash(abi) == hash(detect_abi())
    assert repr(abi) == str(abi) == f"DetectedAbi(version='V{number}')"
    assert abi.has_execute
    flags = [abi.has_refer, abi.has_truncate, abi.has_network, abi.has_ioctl_dev, abi.has_scoping]
    assert flags == [number >= needed for needed in (2, 3, 4, 5, 6)]
    assert abi.feature_names[0] == "Basic filesystem access control"
    assert f"ABI {number}" in support_info().details
    for kept in (abi, support_info()):
        assert pickle.loads(pickle.dumps(kept)) == kept


def test_under_pytest(place: Path, secret: Path) -> None:
    test = place / "test_inside.py"
    test.write_text(f"""
from nono_py import AccessMode, CapabilitySet, apply
import pytest

def test_before():
    open({str(secret)!r}).close()

def test_apply():
    caps = CapabilitySet()
    caps.allow_interpreter()
    caps.allow_path({str(place)!r}, AccessMode.READ_WRITE)
    apply(caps)

def test_after(tmp_path_factory):
    with pytest.raises(PermissionError):
        open({str(secret)!r})
""")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=place)
    assert "3 passed" in done.stdout, done.stdout


def test_in_a_notebook(place: Path, secret: Path) -> None:
    kernel = pytest.importorskip("jupyter_client.manager")
    pytest.importorskip("ipykernel")
    manager, client = kernel.start_new_kernel(
        kernel_name="python3", extra_arguments=["--HistoryManager.enabled=False"]
    )
    try:

        def ask(source: str) -> str:
            said: list[str] = []
            hook = lambda message: said.append(  # noqa: E731
                message["content"].get("text", "")
                or "\n".join(message["content"].get("traceback", []))
            )
            client.execute_interactive(source, timeout=60, output_hook=hook)
            return "".join(said)

        begin = BEGIN.replace("sys.argv[1:]", f"{str(place)!r}, {str(secret)!r}")
        assert ask(begin) == ""
        assert ask("print(apply(caps).domains >= 1)") == "True\n"
        assert ask("print(denied())") == "True\n"
        assert "ZeroDivisionError" in ask("1 / 0")
        assert ask("import fractions; print(fractions.Fraction(1, 2))") == "1/2\n"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_every_name_of_the_family_is_public() -> None:
    family = {name for name in dir(nono_py) if name.startswith("apply")}
    assert family <= set(nono_py.__all__)
    assert len(family) == 8
