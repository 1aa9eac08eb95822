"""Python as people use it, inside a sandbox: nothing that works outside is broken by it."""

import functools
import http.server
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from nono_py import (
    AccessMode,
    CapabilitySet,
    ProxyConfig,
    ProxyHandle,
    SandboxState,
    sandboxed_exec,
    start_proxy,
)

PROGRAMS = {
    "asyncio": """
import asyncio, sys
async def main():
    assert await asyncio.to_thread(sum, [1, 2]) == 3
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print(input())", stdin=-1, stdout=-1)
    out, _ = await process.communicate(b"through a pipe\\n")
    assert out == b"through a pipe\\n", out
    process = await asyncio.create_subprocess_shell("exit 3")
    assert await process.wait() == 3
    async with asyncio.timeout(10) if hasattr(asyncio, "timeout") else asyncio.Lock():
        await asyncio.sleep(0)
asyncio.run(main())
""",
    "multiprocessing": """
import multiprocessing, sys
def square(number):
    return number * number
if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            assert pool.map(square, range(4)) == [0, 1, 4, 9], method
        queue = context.Queue()
        process = context.Process(target=queue.put, args=(method,))
        process.start()
        assert queue.get(timeout=30) == method
        process.join()
        assert process.exitcode == 0
        with context.Manager() as manager:
            shared = manager.list([1])
            shared.append(2)
            assert list(shared) == [1, 2]
        process = context.Process(target=square, args=(1,))
        process.start()
        process.terminate()
        process.join()
""",
    "executors": """
import concurrent.futures, operator
if __name__ == "__main__":
    for kind in concurrent.futures.ThreadPoolExecutor, concurrent.futures.ProcessPoolExecutor:
        with kind(2) as executor:
            assert list(executor.map(operator.neg, range(3))) == [0, -1, -2]
""",
    "threading": """
import os, queue, signal, socket, threading
items = queue.Queue()
threads = [threading.Thread(target=items.put, args=(number,)) for number in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert sorted(items.queue) == list(range(20))
left, right = socket.socketpair()
left.sendall(b"x")
assert right.recv(1) == b"x"
reader, writer = os.pipe()
os.write(writer, b"y")
assert os.read(reader, 1) == b"y"
timer = threading.Timer(0.01, items.put, [20]); timer.start(); timer.join()
signal.signal(signal.SIGUSR1, lambda *_: items.put(21))
os.kill(os.getpid(), signal.SIGUSR1)
assert items.qsize() == 22
""",
    "ssl": """
import hashlib, secrets, ssl
context = ssl.create_default_context()
assert context.verify_mode == ssl.CERT_REQUIRED
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
connection = context.wrap_bio(incoming, outgoing, server_hostname="example.com")
try:
    connection.do_handshake()
except ssl.SSLWantReadError:
    pass
assert outgoing.pending and len(secrets.token_bytes(8)) == 8 and hashlib.sha256(b"").digest()
""",
    "sqlite3": """
import sqlite3, threading
database = sqlite3.connect("data.db", timeout=10)
assert database.execute("pragma journal_mode=wal").fetchone() == ("wal",)
with database:
    database.execute("create table t (x)")
    database.executemany("insert into t values (?)", [(n,) for n in range(100)])
def read():
    with sqlite3.connect("data.db") as other:
        assert other.execute("select sum(x) from t").fetchone() == (4950,)
thread = threading.Thread(target=read); thread.start(); thread.join()
database.close()
""",
    "tempfile": """
import os, pathlib, shutil, tempfile
with tempfile.TemporaryDirectory() as directory:
    path = pathlib.Path(directory, "a")
    path.write_text("x")
    os.replace(path, path.with_name("b"))
    shutil.copytree(directory, directory + "2")
    os.symlink("b", path)
    os.link(path.with_name("b"), path.with_name("c"))
    path.with_name("b").chmod(0o600)
    assert sorted(os.listdir(directory)) == ["a", "b", "c"]
shutil.rmtree(directory + "2")
with tempfile.NamedTemporaryFile() as file, tempfile.TemporaryFile() as nameless:
    file.write(b"x"); nameless.write(b"x")
""",
    "subprocess": """
import os, subprocess, sys
done = subprocess.run(["cat"], input=b"x", capture_output=True, check=True)
assert done.stdout == b"x"
assert subprocess.run("exit 3", shell=True).returncode == 3
assert subprocess.run([sys.executable, "-c", "import json"]).returncode == 0
process = subprocess.Popen(["sleep", "60"], start_new_session=True)
process.terminate()
assert process.wait() == -15
done = subprocess.run("echo a | tr a b; ls /proc/self/fd >/dev/null", shell=True, stdout=-1)
assert done.stdout == b"b\\n"
os.posix_spawn("/bin/true", ["true"], {})
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
if (pid := os.fork()) == 0:
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
""",
    "numpy": """
import numpy
matrix = numpy.random.default_rng(0).random((64, 64))
assert numpy.allclose(numpy.linalg.inv(matrix) @ matrix, numpy.eye(64))
numpy.save("matrix.npy", matrix)
assert (numpy.load("matrix.npy", mmap_mode="r") == matrix).all()
""",
}

CLIENTS = {
    "urllib": """
import urllib.request
print(urllib.request.urlopen(URL, timeout=30).read().decode())
""",
    "requests": """
import requests
print(requests.get(URL, timeout=30).text)
""",
    "httpx": """
import asyncio, httpx
assert httpx.get(URL, timeout=30).text == "served"
async def main():
    async with httpx.AsyncClient() as client:
        print((await client.get(URL, timeout=30)).text)
asyncio.run(main())
""",
    "aiohttp": """
import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.get(URL) as response:
            print(await response.text())
asyncio.run(main())
""",
}


#: What needs more than a place to write in: the locks that several processes share.
NEEDS_SHARED_MEMORY = {"multiprocessing", "executors"}


def grant_shared_memory(caps: CapabilitySet, name: str) -> None:
    if name in NEEDS_SHARED_MEMORY:
        caps.allow_path("/dev/shm", AccessMode.READ_WRITE)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the files of a server: a page, and an index of packages with one package."""
    site = tmp_path_factory.mktemp("site")
    (site / "page").write_text("served")
    packages = site / "simple" / "nono-sample"
    packages.mkdir(parents=True)
    info = "nono_sample-1.0.dist-info"
    wheel = "nono_sample-1.0-py3-none-any.whl"
    with zipfile.ZipFile(packages / wheel, "w") as archive:
        archive.writestr("nono_sample.py", "said = 'installed'")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: nono-sample\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    (packages / "index.html").write_text(f'<a href="{wheel}">{wheel}</a>')
    return site


@pytest.fixture(scope="session")
def origin_port(site: Path) -> Iterator[int]:
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def gate(origin_port: int) -> Iterator[ProxyHandle]:
    """Return a proxy that lets through to the server and nowhere else."""
    with start_proxy(ProxyConfig(allowed_hosts=[f"127.0.0.1:{origin_port}"])) as proxy:
        yield proxy


def run(
    caps: CapabilitySet, place: Path, command: list[str], env: Mapping[str, str] | None = None
) -> str:
    """Run a command in `place`, which is its home and has its temporary files."""
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", **(env or {})}
    env |= {"HOME": str(place), "TMPDIR": str(place), "GIT_CONFIG_NOSYSTEM": "1"}
    result = sandboxed_exec(caps, command, cwd=place, env=env, timeout_secs=120)
    assert result.exit_code == 0, (result.stdout + result.stderr).decode()
    return result.stdout.decode()


def through(proxy: ProxyHandle) -> dict[str, str]:
    """Return the proxy's variables for a server on this machine, which it also leads to."""
    local = {"NO_PROXY": "", "no_proxy": ""}
    return {**dict(proxy.sandbox_env()), **local}


def python(place: Path, source: str) -> list[str]:
    # In a file: processes that are spawned read it again.
    (place / "program.py").write_text(source)
    return [sys.executable, str(place / "program.py")]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("network", ["open", "blocked", "proxied"])
def test_python_works(
    caps: CapabilitySet, place: Path, gate: ProxyHandle, name: str, network: str
) -> None:
    grant_shared_memory(caps, name)
    if network == "blocked":
        caps.block_network()
    elif network == "proxied":
        caps.proxy_only(gate)
    run(caps, place, python(place, PROGRAMS[name] + "\nprint('done')"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_python_works_after_apply(caps: CapabilitySet, place: Path, name: str) -> None:
    # The rest of the program is compiled with the whole file: `spawn` imports it again.
    apply = """
if __name__ == "__main__":
    import nono_py, pathlib
    caps = nono_py.SandboxState.from_json(pathlib.Path("caps.json").read_text()).to_caps()
    nono_py.apply(caps)
"""
    grant_shared_memory(caps, name)
    (place / "caps.json").write_text(SandboxState.from_caps(caps).to_json())
    command = python(place, apply + PROGRAMS[name] + "\nprint('done')")
    env = {"PATH": "/usr/bin:/bin", "HOME": str(place), "TMPDIR": str(place)}
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout[-5:]) == (0, "done\n"), done.stderr


@pytest.mark.parametrize("name", CLIENTS)
def test_clients_reach_the_proxy_and_nothing_else(
    caps: CapabilitySet, place: Path, gate: ProxyHandle, origin_port: int, name: str
) -> None:
    caps.proxy_only(gate)
    source = f"URL = 'http://127.0.0.1:{origin_port}/page'\n" + CLIENTS[name]
    assert run(caps, place, python(place, source), through(gate)) == "served\n"
    with pytest.raises(AssertionError, match=r"Permission|permitted|refused|Cannot connect"):
        run(caps, place, python(place, source))


def test_pip_installs_through_the_proxy(
    caps: CapabilitySet, place: Path, gate: ProxyHandle, origin_port: int
) -> None:
    caps.proxy_only(gate)
    index = f"http://127.0.0.1:{origin_port}/simple"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(place / "lib")]
    pip += ["--index-url", index, "--no-cache-dir", "--disable-pip-version-check", "nono-sample"]
    run(caps, place, pip, through(gate))
    show = "import sys; sys.path.insert(0, 'lib'); import nono_sample; print(nono_sample.said)"
    assert run(caps, place, python(place, show)) == "installed\n"


@pytest.mark.parametrize("blocked", [False, True])
class TestPrograms:
    @pytest.fixture
    def system(self, place: Path, blocked: bool) -> CapabilitySet:
        caps = CapabilitySet()
        caps.allow_system()
        caps.allow_path(place, AccessMode.READ_WRITE)
        if blocked:
            caps.block_network()
        return caps

    def test_node(self, system: CapabilitySet, place: Path) -> None:
        if not (node := shutil.which("node")):
            pytest.skip("node is not installed")
        source = """
const fs = require("fs"), { Worker } = require("worker_threads"), cp = require("child_process");
fs.writeFileSync("file", "x");
console.log(cp.execSync("cat file").toString());
const code = "require('worker_threads').parentPort.postMessage(1)";
new Worker(code, { eval: true }).on("message", () => console.log("worked"));
"""
        assert run(system, place, [node, "-e", source]) == "x\nworked\n"

    def test_git(self, system: CapabilitySet, place: Path) -> None:
        if not shutil.which("git"):
            pytest.skip("git is not installed")
        script = """
git init -q repository && cd repository
git config user.name x && git config user.email x@example.com
echo a > file && git add file && git commit -qm first
git clone -q . ../copy && cd ../copy && git log --format=%s && git gc -q
"""
        assert run(system, place, ["sh", "-ec", script]) == "first\n"


def test_curl_goes_through_the_proxy(place: Path, gate: ProxyHandle, origin_port: int) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    caps = CapabilitySet()
    caps.allow_system()
    caps.proxy_only(gate)
    url = f"http://127.0.0.1:{origin_port}/page"
    assert run(caps, place, ["curl", "-sS", url], through(gate)) == "served"
    with pytest.raises(AssertionError, match="curl:"):
        run(caps, place, ["curl", "-sS", "--noproxy", "*", url])
