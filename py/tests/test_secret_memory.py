"""What is left of a key in the memory and output of the process whose proxy used it: nothing.

And while it is used, it is in no core dump.
"""

import mmap
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Authority
from nono_py._demo.stage import memory_of
from origin import Origin

#: Serves until it is told to stop, says what it has recorded, and stays to be looked at.
PROXY = """
import gc, sys
from nono_py import InjectMode, ProxyConfig, RouteConfig, start_proxy

upstream, file, mode, *authority = sys.argv[1:]
options = {
    "header": {},
    "query": {"inject_mode": InjectMode.QUERY_PARAM, "query_param_name": "key"},
    "path": {"inject_mode": InjectMode.URL_PATH, "path_pattern": "/as/{}/"},
}[mode]
if authority:
    options["tls_ca"] = authority[0]
route = RouteConfig("/api", upstream, credential_key=f"file://{file}", **options)
config = ProxyConfig(routes=[route])
proxy = start_proxy(config)
print(proxy.address, proxy.env_vars()["NONO_PROXY_TOKEN"], flush=True)
sys.stdin.readline()
proxy.shutdown()
print(repr((route, config, proxy, proxy.drain_audit_events(), proxy.diagnostics())))
del proxy
gc.collect()
print("stopped", flush=True)
sys.stdin.readline()
"""


@dataclass
class Running:
    """A process with a proxy."""

    process: "subprocess.Popen[str]"
    file: Path
    address: str
    token: str
    mode: str

    def rotate(self, key: str) -> None:
        """Replace the key."""
        write(self.file, key)

    def get(self) -> None:
        """Use the route; without a library that keeps what it has sent."""
        command = ["curl", "--silent", "--fail", "--noproxy", "*", "--max-time", "20"]
        login = ["--header", f"Authorization: Bearer {self.token}"]
        path = "/x"
        if self.mode == "path":
            login, path = [], f"/as/{self.token}/x"
        subprocess.run([*command, *login, f"http://{self.address}/api{path}"], check=True)

    def holds(self, text: str) -> bool:
        """Return whether text is anywhere in the memory of the process.

        Its end is looked for: the allocator writes over the beginning of what is freed.
        """
        end = text[-16:].encode()
        return any(end in region for region in memory_of(self.process.pid))

    def dump(self, directory: Path) -> Path:
        """Return a core dump, by the kernel or else by a debugger that does as it does."""
        if Path("/proc/sys/kernel/core_pattern").read_text() == "core\n":
            self.process.send_signal(signal.SIGABRT)
            assert self.process.wait(timeout=60) == -signal.SIGABRT
        elif shutil.which("gcore") is not None:
            command = ["gcore", "-o", str(directory / "core"), str(self.process.pid)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
        else:
            pytest.skip("the kernel gives its core dumps elsewhere, and gdb is not installed")
        (core,) = directory.glob("core*")
        return core


def write(file: Path, key: str) -> None:
    new = file.with_suffix(".new")
    new.touch(0o600)
    new.write_text(key)
    new.rename(file)


def allow_core() -> None:
    """Let a process that has just begun dump its core."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


@pytest.fixture(params=["plain-header", "tls-header", "plain-query", "plain-path"])
def running(
    request: pytest.FixtureRequest,
    origin: Origin,
    plain_origin: Origin,
    authority: Authority,
    tmp_path: Path,
    key: str,
) -> "Iterator[tuple[Running, Origin]]":
    transport, mode = request.param.split("-")
    is_plain = transport == "plain"
    server = plain_origin if is_plain else origin
    file = tmp_path / "key"
    write(file, key)
    arguments = [server.url, str(file), mode] + ([] if is_plain else [str(authority.file)])
    with subprocess.Popen(
        [sys.executable, "-c", PROXY, *arguments],
        env={"PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        preexec_fn=allow_core,
    ) as process:
        assert process.stdout is not None
        address, token = process.stdout.readline().split()
        yield Running(process, file, address, token, mode), server
        process.kill()


def test_nothing_is_left_of_a_key_that_was_used(
    running: "tuple[Running, Origin]", key: str
) -> None:
    proxy, server = running
    for _ in range(5):
        proxy.get()
    assert proxy.holds(key), "the search does not find what is there"
    other = key[::-1]
    proxy.rotate(other)
    deadline = time.monotonic() + 20
    while other not in server.requests[-1]:
        assert time.monotonic() < deadline, "the new key is not used"
        proxy.get()
    assert proxy.process.stdin is not None
    assert proxy.process.stdout is not None
    assert proxy.process.stderr is not None
    proxy.process.stdin.write("\n")
    proxy.process.stdin.flush()
    said = proxy.process.stdout.readline()
    assert proxy.process.stdout.readline() == "stopped\n"
    assert not proxy.holds(key)
    assert not proxy.holds(other)
    proxy.process.stdin.close()
    said += proxy.process.stdout.read() + proxy.process.stderr.read()
    assert "managed_credential_active" in said
    assert key not in said
    assert other not in said


def test_a_core_dump_holds_no_key_that_is_in_use(
    running: "tuple[Running, Origin]", key: str, tmp_path: Path
) -> None:
    proxy, server = running
    for _ in range(5):
        proxy.get()
    assert key in server.requests[-1]
    assert proxy.holds(key), "the search does not find what is there"
    core = proxy.dump(tmp_path)
    with core.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as dump:
        # The program has printed the token, so it is in its ordinary memory too.
        assert dump.find(proxy.token.encode()) >= 0, "the dump is not of what was in memory"
        assert dump.find(key[-16:].encode()) < 0
    core.unlink()
