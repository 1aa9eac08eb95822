"""Where the agent runs: its directory, the way of its reports, and a look at it from outside."""

import json
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from nono_py import CapabilitySet, ExecResult, sandboxed_exec

TIMEOUT = 60.0


class Stage:
    """A directory with two named pipes: `reports` from the agent, `inspected` to it.

    The output of a sandboxed program is returned at its end; the pipe is how its reports are
    seen while it runs.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.transcript: list[str] = []
        os.mkfifo(directory / "reports")
        os.mkfifo(directory / "inspected")

    def run(
        self, caps: CapabilitySet, command: list[str], env: list[tuple[str, str]]
    ) -> "Future[ExecResult]":
        """Start the agent in the background."""
        # An end of our own keeps the pipe open until the agent is gone, and no longer.
        self._reader = os.open(self.directory / "reports", os.O_RDONLY | os.O_NONBLOCK)
        writer = os.open(self.directory / "reports", os.O_WRONLY)
        os.set_blocking(self._reader, True)
        executor = ThreadPoolExecutor(1, "agent")
        running = executor.submit(
            sandboxed_exec, caps, command, cwd=self.directory, timeout_secs=TIMEOUT, env=env
        )
        running.add_done_callback(lambda _: os.close(writer))
        executor.shutdown(wait=False)
        return running

    def reports(self) -> Iterator[dict[str, object]]:
        """Yield the agent's reports as they come, until it is gone."""
        with os.fdopen(self._reader, encoding="utf-8") as lines:
            for line in lines:
                self.transcript.append(line)
                with suppress(ValueError):
                    yield json.loads(line)

    def release(self) -> None:
        """Let the agent go on: it waits for this pipe to be opened and closed."""
        pipe = self.directory / "inspected"
        # In the background, as opening would wait for ever for an agent that is gone.
        threading.Thread(target=pipe.write_bytes, args=(b"",), daemon=True).start()

    def files(self) -> Iterator[bytes]:
        """Yield the content of every file that the agent left."""
        for path in self.directory.rglob("*"):
            if path.is_file():
                yield path.read_bytes()


def memory_of(pid: int) -> Iterator[bytes]:
    """Yield the environment and the readable memory of another process.

    Raises `OSError` where the system does not let us look.
    """
    process = Path("/proc", str(pid))
    yield (process / "environ").read_bytes()
    spans = re.findall(r"^(\w+)-(\w+) r", (process / "maps").read_text(), re.MULTILINE)
    with (process / "mem").open("rb", buffering=0) as memory:
        for start, end in spans:
            # One that the kernel maps is beyond where a file can be read.
            with suppress(OSError, ValueError, OverflowError):
                memory.seek(int(start, 16))
                yield memory.read(int(end, 16) - int(start, 16))
