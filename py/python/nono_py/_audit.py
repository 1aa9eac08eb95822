"""`python -m nono_py audit`: look at a log file; and records to Python's `logging`."""

import argparse
import collections
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from nono_py._nono_py import ProxyHandle, _verify_audit


class AuditLogger:
    """Hands every record of a proxy to a logger, from a thread of its own.

    Refusals and failures are logged as warnings, all else as `level`. The record itself is the
    attribute `audit` of the log record. It ends with the proxy, or with its `with` block, which
    waits for all that is there.
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
        self._thread = threading.Thread(target=self._run, name="nono-audit-logger", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Log what is there, and end."""
        while self._thread.is_alive() and self._events.lag:
            time.sleep(0.005)
        self._events.close()
        self._thread.join()

    def __enter__(self) -> "AuditLogger":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.close()

    def _run(self) -> None:
        for event in self._events:
            failed = event.decision == "deny" or event.outcome in ("upstream_abort", "timeout")
            level = logging.WARNING if failed else self._level
            if self._logger.isEnabledFor(level):
                self._logger.log(level, "%s", _sentence(event.to_dict()), extra={"audit": event})


def _sentence(event: Mapping[str, Any]) -> str:
    if event["phase"] == "gap":
        return f"{event['dropped']} records dropped: {event['reason']}"
    asked = event["path"] if event["method"] != "CONNECT" else ""
    words = [event["method"] or "-", f"{event['target']}{asked or ''}", event["decision"]]
    words += [str(event["status"] or "-"), event["outcome"], f"{event['duration_ms']:.1f} ms"]
    if event["reason"]:
        words.append(f"({event['reason']})")
    return " ".join(words)


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add what `python -m nono_py audit` takes."""
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
    path = arguments.log / "audit-events.ndjson" if arguments.log.is_dir() else arguments.log
    try:
        if arguments.what == "verify":
            return _verify(path, arguments.head)
        if arguments.what == "tail":
            return _tail(path, arguments.follow)
        return _stats(path)
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _verify(path: Path, head: str | None) -> int:
    found = _verify_audit(path)
    print(f"{found['lines']} lines in {len(found['files'])} files are as they were written")
    print(f"head {found['head']}")
    if found["fault"] is not None:
        file, line, reason = found["fault"]
        print(f"{file}, line {line}: {reason}", file=sys.stderr)
        return 1
    if head is not None and head != found["head"]:
        print("the last line does not have the head that was given", file=sys.stderr)
        return 1
    return 0


def _tail(path: Path, follow: bool) -> int:
    for event in _network(_lines(path, follow)):
        print(time.strftime("%H:%M:%S", time.localtime(event["timestamp_unix_ms"] / 1000)), end=" ")
        print(_sentence(event), flush=True)
    return 0


def _stats(path: Path) -> int:
    counters: dict[str, collections.Counter[str]] = {
        name: collections.Counter() for name in ("decision", "outcome", "target", "status")
    }
    durations: list[float] = []
    sizes = [0, 0]
    for file in _verify_audit(path)["files"]:
        for event in _network(_lines(file, follow=False)):
            if event["phase"] != "end":
                continue
            for name, counter in counters.items():
                counter[str(event[name])] += 1
            durations.append(event["duration_ms"])
            sizes = [sizes[0] + event["bytes_in"], sizes[1] + event["bytes_out"]]
    durations.sort()
    print(f"{len(durations)} exchanges, {sizes[0]} bytes in, {sizes[1]} bytes out")
    if durations:
        median, most = durations[len(durations) // 2], durations[-1]
        print(f"duration: median {median:.1f} ms, longest {most:.1f} ms")
    for name, counter in counters.items():
        print(f"{name}: " + ", ".join(f"{word} {n}" for word, n in counter.most_common(10)))
    return 0


def _lines(path: Path, follow: bool) -> Iterator[str]:
    """Whole lines of a file; of the one that takes its place too, when it is followed."""
    with path.open(encoding="ascii") as file:
        rest = ""
        while True:
            rest += file.readline()
            if rest.endswith("\n"):
                yield rest
                rest = ""
            elif not follow:
                return
            elif path.exists() and not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                break
            else:
                time.sleep(0.1)
    yield from _lines(path, follow)


def _network(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        event = json.loads(line)["event"]
        if event["type"] == "network":
            yield event["event"]
