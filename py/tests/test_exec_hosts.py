"""Sandboxed programs in the processes that they are started from: servers, notebooks, pools."""

import gc
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager
from nono_py import CapabilitySet, sandboxed_exec

#: What a handler does; both ways, since servers have both kinds of handlers.
GRANTS = """
import os
from nono_py import AccessMode, CapabilitySet, sandboxed_exec, sandboxed_exec_async

caps = CapabilitySet()
for path in ("/usr", "/bin", "/lib", "/lib64"):
    if os.path.isdir(path):
        caps.allow_path(path, AccessMode.READ)
command = ["/bin/sh", "-c", "(setsid sleep 60 &); echo from inside"]
"""

APPLICATION = (
    GRANTS
    + """
async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    first = sandboxed_exec(caps, command, timeout_secs=20)
    second = await sandboxed_exec_async(caps, command, timeout_secs=20)
    body = first.stdout + second.stdout
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def fetch(url: str) -> bytes:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                body: bytes = response.read()
                return body
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_in_the_workers_of_uvicorn(place: Path) -> None:
    (place / "served.py").write_text(APPLICATION)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "served:application", "--workers", "2"]
    command += ["--port", str(port), "--log-level", "warning"]
    server = subprocess.Popen(command, cwd=place)
    try:
        url = f"http://127.0.0.1:{port}/"
        assert fetch(url) == b"from inside\n" * 2
        with ThreadPoolExecutor(8) as executor:
            assert set(executor.map(fetch, [url] * 40)) == {b"from inside\n" * 2}
    finally:
        server.terminate()
        server.wait(30)


def test_in_a_notebook(place: Path) -> None:
    manager = KernelManager()
    manager.start_kernel(cwd=str(place))
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=60)
        said = []

        def hear(message: dict[str, dict[str, str]]) -> None:
            said.append(message["content"].get("text") or message["content"].get("evalue") or "")

        cell = f"{GRANTS}\nprint(sandboxed_exec(caps, command).text, end='')\n"
        cell += "print((await sandboxed_exec_async(caps, command)).text, end='')"
        client.execute_interactive(cell, timeout=60, output_hook=hear)
        assert "".join(said) == "from inside\n" * 2
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_in_a_process_that_was_forked_from_one_that_has_run_some(caps: CapabilitySet) -> None:
    assert sandboxed_exec(caps, ["/bin/true"]).exit_code == 0
    child = os.fork()
    if child == 0:
        os._exit(sandboxed_exec(caps, ["/bin/sh", "-c", "exit 7"], timeout_secs=20).exit_code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def state() -> dict[str, int]:
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "threads": int(status["Threads"]),
        "children": len(children()),
        "kilobytes": int(status["VmRSS"].split()[0]),
    }


def children() -> list[str]:
    """Processes that this one has not waited for; also those whose end is told by no signal."""
    tasks = Path("/proc/self/task").glob("*/children")
    return [child for task in tasks for child in task.read_text().split()]


def run_in_one_of_all_ways(caps: CapabilitySet, number: int) -> None:
    kind = number % 5
    if kind == 0:
        assert sandboxed_exec(caps, ["/bin/true"]).exit_code == 0
    elif kind == 1:
        result = sandboxed_exec(caps, ["/bin/sh", "-c", "echo x; exit 3"], timeout_secs=60)
        assert (result.exit_code, result.stdout) == (3, b"x\n")
    elif kind == 2:
        assert sandboxed_exec(caps, ["/bin/sh", "-c", "sleep 60 & :"]).exit_code == 0
    elif kind == 3:
        assert sandboxed_exec(caps, ["/bin/sleep", "60"], timeout_secs=0.001).timed_out
    else:
        with pytest.raises(RuntimeError, match="failed to execute"):
            sandboxed_exec(CapabilitySet(), ["/bin/true"])


def test_ten_thousand_from_fifty_threads_leave_nothing(caps: CapabilitySet) -> None:
    with ThreadPoolExecutor(50) as executor:
        # What threads and their allocators take once is no growth.
        list(executor.map(lambda number: run_in_one_of_all_ways(caps, number), range(4000)))
        assert threading.active_count() > 50
        before = state()
        list(executor.map(lambda number: run_in_one_of_all_ways(caps, number), range(10_000)))
        after = state()
    # Less than two kilobytes a run: allocators of fifty threads take some for good.
    assert after.pop("kilobytes") - before.pop("kilobytes") < 16 << 10
    assert after == before
