"""Commands with a bound on their memory and their processes, in the shape of PyPI's `nono-py`.

There this module calls a program named `nono`. Here `run` uses the sandbox of `sandboxed_exec`, and
no other program has to be installed: `build_argv` writes the command line that does the same, for
the `nono-py` that comes with this package.
"""

import errno
import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nono_py import _planted
from nono_py._errors import SandboxError
from nono_py._nono_py import CapabilitySet, ExecResult, SandboxState, sandboxed_exec

if TYPE_CHECKING:
    from nono_py._nono_py import SnapshotManager, _OsText, _Words

__all__ = [
    "OOM_EXIT_CODE",
    "RunResult",
    "build_argv",
    "caps_to_flags",
    "find_nono_binary",
    "run",
]

#: What a command that was killed for its memory exits with: 128 and the number of SIGKILL.
OOM_EXIT_CODE = 137

#: The flag that grants an access to a directory, and the one that grants it to a file.
FLAGS = {
    "read": ("--read", "--read-file"),
    "write": ("--write", "--write-file"),
    "read+write": ("--allow", "--allow-file"),
}
#: Bytes of a unit.
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
#: The most that the kernel can count.
_MOST = 2**63 - 1


@dataclass(frozen=True)
class RunResult:
    """What became of a command that ran under limits."""

    #: The command line that does the same.
    argv: list[str]
    #: The exit code; 128 + N if signal N ended the command, as shells have it.
    returncode: int
    #: What the command wrote: text or bytes as asked for, None if it was not captured.
    stdout: str | bytes | None
    stderr: str | bytes | None
    #: All that is known of it: by what each limit was held (`limits`), its memory, its time.
    result: ExecResult | None = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the command exited with 0."""
        return self.returncode == 0

    @property
    def oom_killed(self) -> bool:
        """Whether the command was killed as one is that is out of memory.

        Where a control group holds the limit, the kernel kills what exceeds it. Where a resource
        limit does, memory is refused instead, and the command fails in its own way.
        """
        return self.returncode == OOM_EXIT_CODE


def find_nono_binary(explicit: "str | os.PathLike[str] | None" = None) -> str:
    """Return the program that `build_argv` names.

    That is `explicit`, or what the variable `NONO_BIN` names, or a `nono` in `PATH`, or else the
    `nono-py` of this package.

    Raise FileNotFoundError if what was named is no program, or none was and there is none.
    """
    named = explicit if explicit is not None else os.environ.get("NONO_BIN") or None
    if named is not None:
        path = os.fspath(named)
        if not (Path(path).is_file() and os.access(path, os.X_OK)):
            fault = "nono binary not found or not executable"
            raise FileNotFoundError(errno.ENOENT, fault, path)
        return path
    found = shutil.which("nono") or _own_program()
    if found is None:
        raise FileNotFoundError(
            "the program nono-py of this package is not installed where Python's metadata says; "
            "name one by nono_bin or the variable NONO_BIN, or run `python -P -m nono_py`"
        )
    return found


def _find_own() -> str | None:
    """Return where the installer has put this package's command."""
    from importlib import metadata

    try:
        files = metadata.files("nono-py") or []
    except metadata.PackageNotFoundError:
        return None
    places = (Path(str(file.locate())) for file in files if file.name == "nono-py")
    return next((os.path.normpath(place) for place in places if os.access(place, os.X_OK)), None)


#: It stays where it is.
_own_program: Callable[[], str | None] = functools.cache(_find_own)


def caps_to_flags(caps: CapabilitySet) -> list[str]:
    """Return the flags of `nono run` that grant what `caps` does.

    Raise ValueError for what there is no flag for: nothing is left out.
    """
    state: dict[str, Any] = json.loads(SandboxState.from_caps(caps).to_json())
    flags: list[str] = []
    for grant in state.pop("fs"):
        flags += [_flag(grant), grant["resolved"]]
    # A proxy also blocks the network, and comes under a name of its own.
    if state.pop("net_blocked"):
        flags.append("--block-net")
    if state:
        raise ValueError(
            f"no flag of `nono run` stands for {', '.join(sorted(state))} of this set: run it by "
            "sandboxed_exec, which takes max_memory_bytes and max_processes too"
        )
    return flags


def _flag(grant: dict[str, Any]) -> str:
    path = grant["resolved"]
    if grant.get("no_exec"):
        raise ValueError(f"no flag of `nono run` grants {path!r} without execution")
    flag = FLAGS[grant["access"]][grant["is_file"]]
    # `nono` separates several directories by it.
    if flag == "--allow" and "," in path:
        raise ValueError(
            f"`nono run` takes {path!r} for several directories, since there is a comma in it: "
            "grant reading and writing one by one, or rename it"
        )
    return flag


def build_argv(
    caps: CapabilitySet,
    command: "_Words",
    *,
    memory: int | str | None = None,
    max_processes: int | None = None,
    nono_bin: "str | os.PathLike[str] | None" = None,
) -> list[str]:
    """Return the command line that runs `command` as `run` does.

    It is for the program that `find_nono_binary` returns, or for `python -P -m nono_py` if this
    package was installed without its command.

    Raise ValueError or TypeError for arguments that cannot be meant, and for what no flag can
    express; FileNotFoundError if the program that was named is none.
    """
    words = _words(command)
    argv = [*_program(nono_bin), *caps_to_flags(caps)]
    if memory is not None:
        parse_memory(memory)
        argv += ["--memory", str(memory).strip()]
    if max_processes is not None:
        argv += ["--max-processes", str(check_processes(max_processes))]
    return [*argv, "--", *words]


def _program(named: "str | os.PathLike[str] | None") -> list[str]:
    try:
        found = find_nono_binary(named)
    except FileNotFoundError:
        if named is not None or os.environ.get("NONO_BIN"):
            raise
        return [*_planted.COMMAND, "run", "--bare"]
    own = _own_program()
    # Another program has its own idea of what to grant besides.
    is_own = own is not None and Path(found).samefile(own)
    return [found, "run", *(["--bare"] if is_own else [])]


def _words(command: "_Words") -> list[str]:
    if isinstance(command, str | bytes):
        raise TypeError("command must be a sequence of arguments, not one string")
    words = [os.fsdecode(word) for word in command]
    if not words:
        raise ValueError("command must contain at least the program to run")
    return words


def parse_memory(memory: int | str) -> int:
    """Return a number of bytes, or a text like `512M` (K, M, G and T are powers of 1024)."""
    if isinstance(memory, bool) or not isinstance(memory, int | str):
        kind = type(memory).__name__
        raise TypeError(f"memory must be an int (bytes) or a size string, not {kind}")
    if isinstance(memory, str):
        if not memory.strip():
            raise ValueError("memory limit string cannot be empty")
        size = re.fullmatch(r"([0-9]+) ?(?:([KMGT])(?:iB)?)?", memory.strip(), re.I | re.A)
        if size is None:
            raise ValueError(f"memory limit {memory!r} is no size: write bytes, or 512M or 2GiB")
        value = int(size[1]) * _UNITS[(size[2] or "").upper()]
    else:
        value = memory
    if not 0 < value <= _MOST:
        what = "must be positive" if value <= 0 else "is more than the kernel can count"
        raise ValueError(f"memory limit {what}, got {memory}")
    return value


def check_processes(count: int) -> int:
    """Return a number of processes, if it is one that can be meant."""
    if isinstance(count, bool) or not isinstance(count, int):
        verb = "not" if isinstance(count, bool) else "got"
        raise TypeError(f"max_processes must be an int count, {verb} {type(count).__name__}")
    if not 1 <= count <= _MOST:
        what = "must be at least 1" if count < 1 else "is more than the kernel can count"
        raise ValueError(f"max_processes {what}, got {count}")
    return count


def run(
    caps: CapabilitySet,
    command: "_Words",
    *,
    memory: int | str | None = None,
    max_processes: int | None = None,
    cwd: "_OsText | None" = None,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
    capture_output: bool = True,
    text: bool = True,
    nono_bin: "str | os.PathLike[str] | None" = None,
    session: "_OsText | SnapshotManager | None" = None,
) -> RunResult:
    """Run a command that can touch only what `caps` grants, under limits, and wait for its end.

    The limits are those of `sandboxed_exec`: of a control group where there is one to be had, and
    else of the kernel's resource limits, which hold each process to `memory` and its user to
    `max_processes`; `result.limits` says which. One that would not be held is an error. `env` is
    the whole environment; without it the command gets the caller's, as it gets its input, and with
    `capture_output=False` its output too. Text is UTF-8, with U+FFFD for what is none. `nono_bin`
    names the program in `argv`; nothing else depends on it. `session` keeps a record of the run, as
    it does for `sandboxed_exec`.

    Raise `subprocess.TimeoutExpired` when `timeout` seconds are over, ValueError and so on as
    `build_argv` does, and SandboxError if the command could not be run, if a limit cannot be held,
    or if there was more output than `sandboxed_exec` keeps.
    """
    words = _words(command)
    argv = build_argv(caps, words, memory=memory, max_processes=max_processes, nono_bin=nono_bin)
    result = sandboxed_exec(
        caps,
        words,
        cwd=cwd,
        timeout_secs=None if timeout is None else max(timeout, 0.0),
        env=env,
        inherit_env=env is None,
        max_processes=max_processes,
        max_memory_bytes=None if memory is None else parse_memory(memory),
        require_limits=True,
        session=session,
        stdin=_inherited(0),
        stdout=None if capture_output else _inherited(1),
        stderr=None if capture_output else _inherited(2),
    )
    written = (result.stdout, result.stderr)
    if result.timed_out:
        # As `subprocess` has it: bytes, and None for no output.
        kept = (output or None for output in written)
        raise subprocess.TimeoutExpired(argv, timeout or 0.0, *kept)
    if result.truncated:
        raise SandboxError(
            "the command wrote more than is kept of its output: send it to a file by "
            "capture_output=False, or use sandboxed_exec with max_output_bytes"
        )
    code = result.exit_code
    stdout, stderr = (_output(kept, captured=capture_output, text=text) for kept in written)
    return RunResult(argv, code if code >= 0 else 128 - code, stdout, stderr, result)


def _inherited(number: int) -> int:
    """Return one of the caller's standard streams, or nothing's place if it is closed."""
    try:
        os.fstat(number)
    except OSError:
        return subprocess.DEVNULL
    return number


def _output(written: bytes, *, captured: bool, text: bool) -> str | bytes | None:
    """Return output as it was asked for; text with the line endings that `subprocess` gives it."""
    if not captured:
        return None
    if not text:
        return written
    return written.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
