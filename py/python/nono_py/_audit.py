"""`nono-py audit`: look at a log file; and records to Python's `logging`."""

import argparse
import collections
import contextlib
import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from nono_py._errors import VerificationError
from nono_py._nono_py import AuditEvent, ProxyHandle, _verify_audit
from nono_py.audit._log import follow, verify_log
from nono_py.audit._names import AUDIT_EVENTS_FILENAME
from nono_py.audit._text import LineError, line_object, open_regular


class AuditLogger:
    """Hands every record of a proxy to a logger, from a thread of its own.

    Refusals and failures are logged as warnings, all else as `level`. The record itself is the
    attribute `audit` of the log record. It ends with the proxy, or with its `with` block, which
    waits for all that is there.

    A filter or handler that raises loses its record only: where `logging.raiseExceptions` is set,
    the exception is printed, as `logging` does with those of handlers.
    """

    __module__ = "nono_py"

    def __init__(
        self,
        proxy: ProxyHandle,
        logger: logging.Logger | str = "nono_py.audit",
        level: int = logging.INFO,
    ) -> None:
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._level = level
        self._events = proxy.audit_events()
        self._logged = 0
        self._thread = threading.Thread(target=self._run, name="nono-audit-logger", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Log what is there, and end."""
        last = None
        while self._thread.is_alive() and (lag := self._events.lag):
            if last is None:
                # What comes meanwhile is not waited for, or there might be no end of it. One may be
                # in the thread's hands.
                last = self._logged + lag + 1
            if self._logged >= last:
                break
            time.sleep(0.005)
        self._events.close()
        self._thread.join()

    def __enter__(self) -> "AuditLogger":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        self.close()

    def _run(self) -> None:
        # Or the log would hold for it what it no longer takes.
        with self._events:
            for event in self._events:
                try:
                    self._log(event)
                except Exception:
                    _report()
                self._logged += 1

    def _log(self, event: AuditEvent) -> None:
        failed = event.decision == "deny" or event.outcome in ("upstream_abort", "timeout")
        level = logging.WARNING if failed else self._level
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", _sentence(event.to_dict()), extra={"audit": event})


def _report() -> None:
    """Print the exception that is being handled, where `logging` would one of a handler's."""
    if logging.raiseExceptions and sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print("--- Logging error ---", file=sys.stderr)
            traceback.print_exc()


def _sentence(event: Mapping[str, Any]) -> str:
    if event.get("phase") == "gap":
        return f"{event['dropped']} records dropped: {event['reason']}"
    # Files leave out what does not apply.
    method = event.get("method") or "-"
    asked = event.get("path") if method != "CONNECT" else ""
    words = [method, f"{event['target']}{asked or ''}", event["decision"]]
    words.append(str(event.get("status") or "-"))
    if "outcome" in event:
        words += [event["outcome"], f"{event['duration_ms']:.1f} ms"]
    if event.get("reason"):
        words.append(f"({event['reason']})")
    return " ".join(words)


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add what `nono-py audit` takes."""
    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, about in (
        ("verify", "check every hash, and name the first line that is wrong"),
        ("tail", "print records as they come"),
        ("stats", "count what is in it"),
    ):
        command = commands.add_parser(name, help=about)
        command.add_argument("log", type=Path, help="the file that grows, or its directory")
        if name == "verify":
            command.add_argument("--head", help="the hash that its last line must have")
        if name == "tail":
            command.add_argument("-f", "--follow", action="store_true", help="wait for more")


def run(arguments: argparse.Namespace) -> int:
    """Run one of them, and return its exit code."""
    path = arguments.log / AUDIT_EVENTS_FILENAME if arguments.log.is_dir() else arguments.log
    try:
        if arguments.what == "verify":
            return _verify(path, arguments.head)
        if arguments.what == "tail":
            return _tail(path, arguments.follow)
        return _stats(path)
    except (OSError, VerificationError) as error:
        print(_printable(f"error: {error}"), file=sys.stderr)
        return 2


def _verify(path: Path, head: str | None) -> int:
    found = _verify_audit(path)
    # Of a file that is none of these, nothing is.
    if found["lines"]:
        print(f"{found['lines']} lines in {len(found['files'])} files are as they were written")
        print(f"head {found['head']}")
    elif found["fault"] is None:
        print(_printable(f"{path}: there is no line in it"), file=sys.stderr)
        return 1
    if found["fault"] is not None:
        file, line, reason = found["fault"]
        print(_printable(f"{file}, line {line}: {reason}"), file=sys.stderr)
        return 1
    if head is not None and head != found["head"]:
        print("the last line does not have the head that was given", file=sys.stderr)
        return 1
    if path.name == AUDIT_EVENTS_FILENAME and (path.parent / "session.json").exists():
        return _verify_session(path.parent)
    return 0


def _verify_session(session_dir: Path) -> int:
    """Check the log of a session against what the session keeps of it."""
    try:
        result = verify_log(session_dir)
    except VerificationError as error:
        print(_printable(str(error)), file=sys.stderr)
        return 1
    print("proved:", ", ".join(result["proved"]))
    print("not proved:", ", ".join(result["not_proved"]))
    return 0


def _tail(path: Path, wait: bool) -> int:
    for number, event in _events(path, wait):
        if event["type"] == "network":
            with _named(number):
                happened = event["event"]
                clock = time.localtime(happened["timestamp_unix_ms"] / 1000)
                shown = _printable(f"{time.strftime('%H:%M:%S', clock)} {_sentence(happened)}")
            print(shown, flush=True)
        elif event["type"] != "log_opened":
            # In ASCII, since it may hold what a terminal obeys.
            print(_printable(json.dumps(event)), flush=True)
    return 0


@contextlib.contextmanager
def _named(number: int) -> Iterator[None]:
    """Name the line of which something is not as it should be."""
    try:
        yield
    except (ArithmeticError, LookupError, AttributeError, TypeError, ValueError, OSError) as error:
        raise LineError(number, f"it is no record of this kind: {error!r}", "") from error


def _printable(text: str) -> str:
    """Escape what a terminal may obey instead of showing it."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def _stats(path: Path) -> int:
    counters: dict[str, collections.Counter[str]] = {
        name: collections.Counter() for name in ("decision", "outcome", "target", "status")
    }
    durations: list[float] = []
    sizes = [0, 0]
    for file in _verify_audit(path)["files"]:
        for number, line in _events(file, False):
            with _named(number):
                if not _is_exchange(line):
                    continue
                event = line["event"]
                for name, counter in counters.items():
                    counter[str(event.get(name))] += 1
                # The log of a session has neither.
                durations.append(_number(event, "duration_ms"))
                more = (int(_number(event, name)) for name in ("bytes_in", "bytes_out"))
                sizes = [size + part for size, part in zip(sizes, more, strict=True)]
    durations.sort()
    print(f"{len(durations)} exchanges, {sizes[0]} bytes in, {sizes[1]} bytes out")
    if durations:
        median, most = durations[len(durations) // 2], durations[-1]
        print(f"duration: median {median:.1f} ms, longest {most:.1f} ms")
    for name, counter in counters.items():
        found = ", ".join(f"{word} {n}" for word, n in counter.most_common(10))
        print(_printable(f"{name}: {found}"))
    return 0


def _number(event: Mapping[str, Any], name: str) -> int | float:
    """Return a number of an event, of those that a proxy writes; 0 if there is none."""
    number: int | float = event.get(name, 0)
    if not 0 <= number < 2**64:
        raise ValueError(f"{name} is no number that a record has")
    return number


def _is_exchange(event: Mapping[str, Any]) -> bool:
    return bool(event["type"] == "network" and event["event"].get("phase", "end") == "end")


def _events(path: Path, wait: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the events of a file with their lines' numbers.

    If it is waited for, also those of what takes its place.
    """
    if wait:
        lines = follow(path, 0.1, threading.Event())
    else:
        # The last line may not be whole yet.
        with open_regular(path) as file:
            whole = file.read().rpartition(b"\n")[0]
        lines = enumerate(whole.split(b"\n"), 1)
    for number, line in lines:
        if not line.strip():
            continue
        event = line_object(line, number).get("event")
        if isinstance(event, dict) and "type" in event:
            yield number, event
