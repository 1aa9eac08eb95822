"""Runs /bin/true again and again, in the way that its first argument names, and prints what that
takes as JSON: this project's package, the reference package (whose interfaces are the same as far
as is used here), `subprocess.run`, or bubblewrap through it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

SYSTEM = ["/usr", "/bin", "/lib", "/lib64", "/etc", "/opt"]
PAGE = 4096
# Who is slow runs less often, but not less often than this.
SECONDS, LEAST = 1.0, 10


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["nono", "reference", "subprocess", "bubblewrap"])
    parser.add_argument("--parent-mib", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--timeout", type=float)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--paths", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--at-once", type=int)
    arguments = parser.parse_args()
    paths = [path for path in SYSTEM if Path(path).is_dir()]
    for number in range(arguments.paths - len(paths)):
        folder = arguments.folder / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        paths.append(str(folder))
    if arguments.at_once:
        found = asyncio.run(fan_out(arguments, paths))
    else:
        held = occupy(arguments.parent_mib)
        with Threads(arguments.threads - 1):
            found = measure(one(arguments, paths), arguments.count)
        del held
    print(json.dumps(found), flush=True)


def occupy(mebibytes: int) -> mmap.mmap | None:
    """Memory in use, in pages of 4 KiB, which is what a fork has to copy the tables of."""
    if not mebibytes:
        return None
    memory = mmap.mmap(-1, mebibytes << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for at in range(0, len(memory), PAGE):
        memory[at] = 1
    return memory


class Threads:
    """Threads that wait."""

    def __init__(self, count: int):
        self.end = threading.Event()
        self.threads = [threading.Thread(target=self.end.wait) for _ in range(count)]

    def __enter__(self) -> None:
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self.end.set()
        for thread in self.threads:
            thread.join()


def one(arguments: argparse.Namespace, paths: list[str]) -> Callable[[], int]:
    """What runs the program once and returns its exit code."""
    if arguments.way in ("nono", "reference"):
        from nono_py import sandboxed_exec

        caps = capabilities(paths)
        limit = {"timeout_secs": arguments.timeout} if arguments.timeout else {}
        return lambda: sandboxed_exec(caps, ["/bin/true"], **limit).exit_code
    command = ["/bin/true"]
    if arguments.way == "bubblewrap":
        binds = [word for path in paths for word in ("--ro-bind", path, path)]
        command = ["bwrap", *binds, "--unshare-net", "--die-with-parent", *command]

    def run() -> int:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=arguments.timeout
        )
        return done.returncode

    return run


def capabilities(paths: list[str]) -> object:
    from nono_py import AccessMode, CapabilitySet

    caps = CapabilitySet()
    for path in paths:
        caps.allow_path(path, AccessMode.READ)
    caps.block_network()
    return caps


def measure(run: Callable[[], int], count: int) -> dict[str, float]:
    for _ in range(5):
        check(run())
    took = []
    end = time.perf_counter() + SECONDS
    for number in range(count):
        begun = time.perf_counter()
        if begun > end and number >= LEAST:
            break
        code = run()
        took.append((time.perf_counter() - begun) * 1000)
        check(code)
    took.sort()
    return {"ms": statistics.median(took), "p99 ms": took[len(took) * 99 // 100]}


def check(code: int) -> None:
    if code != 0:
        raise SystemExit(f"the program ended with {code}")


async def fan_out(arguments: argparse.Namespace, paths: list[str]) -> dict[str, object]:
    """Many runs, of which some at once."""
    if arguments.way == "subprocess":

        async def run() -> None:
            quiet = asyncio.subprocess.DEVNULL
            pipe = asyncio.subprocess.PIPE
            child = await asyncio.create_subprocess_exec(
                "/bin/true", stdin=quiet, stdout=pipe, stderr=pipe
            )
            await child.communicate()
            check(child.returncode)

    else:
        import nono_py

        caps = capabilities(paths)
        call = getattr(nono_py, "sandboxed_exec_async", None)
        if call is None and arguments.way == "nono":
            return {"missing": "the package has no `sandboxed_exec_async` yet"}

        async def run() -> None:
            if call is None:
                result = await asyncio.to_thread(nono_py.sandboxed_exec, caps, ["/bin/true"])
            else:
                result = await call(caps, ["/bin/true"])
            check(result.exit_code)

    places = asyncio.Semaphore(arguments.at_once)
    took = []

    async def placed() -> None:
        async with places:
            begun = time.perf_counter()
            await run()
            took.append((time.perf_counter() - begun) * 1000)

    await run()
    begun = time.perf_counter()
    await asyncio.gather(*(placed() for _ in range(arguments.count)))
    seconds = time.perf_counter() - begun
    return {"runs/s": arguments.count / seconds, "ms": statistics.median(took)}


if __name__ == "__main__":
    main()
