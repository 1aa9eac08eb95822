"""Processes that are measured: each in a Unix session of its own.

The kernel shares the processors between sessions first, so a proxy in the session of its load
generator would get less than one that made a session itself, as daemons do. The session is also
how the workers of a server are found, to add up what they use.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import ClassVar

TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """A running process and its children, found by their session."""

    running: ClassVar[list[Process]] = []
    # Whether it is one of this project's programs, which end when their standard input does.
    ends_by_itself = False

    def __init__(
        self,
        command: list[str],
        log: Path,
        port: int | None = None,
        env: dict[str, str] | None = None,
        quiet: bool = False,
    ):
        self.log = log
        with log.open("wb") as errors:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL if quiet or port else subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        Process.running.append(self)
        if port:
            self._await_port(port)

    def answer(self, seconds: float = 60) -> dict:
        """The next line of JSON on its standard output."""
        out = self.popen.stdout
        if not select.select([out], [], [], seconds)[0] or not (line := out.readline()):
            name = Path(self.popen.args[0]).name
            raise RuntimeError(f"{name} did not answer: {self._errors()}")
        self.ends_by_itself = True
        return json.loads(line)

    def cpu(self) -> float:
        """Seconds of processor time used so far, by user and kernel."""
        total = 0.0
        for pid in self._members():
            fields = _stat(pid)
            # Children that have ended are counted by ticks alone: cutime, cstime.
            total += sum(int(field) for field in fields[13:15]) / TICKS if fields else 0
            with contextlib.suppress(OSError):
                total += time.clock_gettime(_processor_clock(pid))
        return total

    def memory(self) -> float:
        """Megabytes in use; what several processes share is counted once (PSS)."""
        total = 0
        for pid in self._members():
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += next(int(line.split()[1]) for line in text.splitlines() if "Pss:" in line)
        return total / 1024

    def finish(self, seconds: float) -> None:
        """Ends its input and waits for it to end by itself."""
        self.popen.stdin.close()
        self.popen.wait(timeout=seconds)
        self.stop()

    def stop(self) -> None:
        """Ends it and all of its session."""
        if self in Process.running:
            Process.running.remove(self)
        members = self._members()
        if self.popen.stdin:
            self.popen.stdin.close()
        if self.ends_by_itself:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(timeout=5)
            # Numbers of what has ended may be others' by now.
            members = self._members()
        for name in (signal.SIGTERM, signal.SIGKILL):
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, name)
            try:
                self.popen.wait(timeout=5)
            except subprocess.TimeoutExpired:
                continue
            members = self._members()
        if self.popen.stdout:
            self.popen.stdout.close()

    @classmethod
    def stop_all(cls) -> None:
        for process in list(cls.running):
            process.stop()

    def _members(self) -> list[int]:
        session = str(self.popen.pid)
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [pid for pid in pids if (fields := _stat(pid)) and fields[3] == session]

    def _await_port(self, port: int) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.popen.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self.popen.args[0]} does not listen: {self._errors()}")

    def _errors(self) -> str:
        return self.log.read_text(errors="replace")[-500:].strip()


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on; none when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _processor_clock(pid: int) -> int:
    """The clock of all time that a process was given, to the nanosecond, with that of threads that
    have ended; its number is made as in `clock_getcpuclockid(3)`."""
    scheduled = 2
    return (~pid << 3) | scheduled


def free_port() -> int:
    """A port that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
