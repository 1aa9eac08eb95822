"""Writing, reading and verifying the log of a session."""

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from nono_py._errors import ConfigurationError, VerificationError
from nono_py._nono_py import (
    _inclusion_proof,
    _SessionLog,
    _verify_inclusion_proof,
    _verify_log,
)
from nono_py.audit._events import event_text
from nono_py.audit._models import AuditEvent
from nono_py.audit._names import (
    AUDIT_EVENTS_FILENAME,
    AuditInclusionProofDict,
    AuditVerificationResultDict,
)
from nono_py.audit._text import LineError, line_object, open_regular, text

if TYPE_CHECKING:
    from nono_py._nono_py import _Path

#: So much is read at a time of a file that is followed.
_CHUNK = 1 << 16
#: How long a line may be; those of a log have some kilobytes.
_LONGEST = 1 << 24


class AlphaRecorder:
    """Numbers and chains events, for one log; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._log = _SessionLog()
        #: Why the last event was not written; nothing is written behind it.
        self._failure: BaseException | None = None

    @property
    def sequence(self) -> int:
        """The number of the next event."""
        return self._log.sequence

    @property
    def chain_head(self) -> str | None:
        """The `chain_hash` of the last event; `None` before the first."""
        return self._log.chain_head

    def integrity(self) -> dict[str, Any] | None:
        """Return what the log comes to so far, as a session keeps it in `audit_integrity`."""
        integrity: dict[str, Any] | None = json.loads(self._log.integrity())
        return integrity

    def record(self, event: "AuditEvent | Mapping[str, Any]") -> dict[str, Any]:
        """Return the line of an event as a dictionary, and go on."""
        given = event_text(event)
        with self._lock:
            line, self._log = self._log.then(given)
        record: dict[str, Any] = json.loads(line)
        return record

    def write(self, fh: "IO[str]", event: "AuditEvent | Mapping[str, Any]") -> dict[str, Any]:
        """Write the line of an event to a text file, flush it, and return it as a dictionary.

        An event that the file does not take is not counted. How much of its line is there is not
        known then, and nothing may follow half a line: from then on, writing is an error. A log
        that is to go on needs another recorder, and another file.
        """
        given = event_text(event)
        with self._lock:
            if self._failure is not None:
                raise VerificationError(
                    "the log may end in half a line, since an event could not be written: "
                    f"{self._failure}"
                ) from self._failure
            line, behind = self._log.then(given)
            try:
                fh.write(line)
                fh.flush()
            except BaseException as error:
                self._failure = error
                raise
            self._log = behind
        record: dict[str, Any] = json.loads(line)
        return record


def iter_session(session_dir: "_Path") -> Iterator[dict[str, Any]]:
    """Yield the lines of a session's log; nothing is verified.

    A line that is no JSON object, as the last may be while it is being written, or is longer than
    16 MiB, is an error that is a `VerificationError` and a `json.JSONDecodeError`.
    """
    return objects(Path(os.fsdecode(session_dir)) / AUDIT_EVENTS_FILENAME)


def objects(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects on the lines of a file."""
    with open_regular(path) as file:
        number = 0
        while line := file.readline(_LONGEST + 1):
            number += 1
            if len(line) > _LONGEST and not line.endswith(b"\n"):
                raise too_long(number, line)
            if line.strip():
                yield line_object(line, number)


def too_long(number: int, beginning: bytes) -> LineError:
    """Say that a line has no end, or as good as none."""
    shown = beginning[:1000].decode("utf-8", "replace")
    return LineError(number, f"it is longer than {_LONGEST} bytes", shown)


def tail_session(
    session_dir: "_Path",
    *,
    poll_interval_s: float,
    stop_event: threading.Event | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the lines of a session's log, and those to come, until `stop_event` is set.

    The log need not be there yet. One that takes its place, and one that was cut, is read from its
    beginning. The last line is yielded when it is whole. Errors are as of `iter_session`.
    """
    if not poll_interval_s >= 0:
        raise ConfigurationError(f"poll_interval_s {poll_interval_s!r} must not be negative")
    path = Path(os.fsdecode(session_dir)) / AUDIT_EVENTS_FILENAME
    stop = stop_event or threading.Event()
    lines = follow(path, min(poll_interval_s, threading.TIMEOUT_MAX), stop)
    return (line_object(line, number) for number, line in lines if line.strip())


def follow(path: Path, interval: float, stop: threading.Event) -> Iterator[tuple[int, bytes]]:
    """Yield whole lines of a file that grows, each with its number in the file."""
    while not stop.is_set():
        try:
            file = open_regular(path)
        except FileNotFoundError:
            stop.wait(interval)
            continue
        with file:
            lines, is_replaced = _Lines(), False
            while not stop.is_set():
                if chunk := file.read(_CHUNK):
                    yield from lines.of(chunk)
                elif is_replaced:
                    break
                # What was written before it was replaced may have come behind the last look.
                elif not (is_replaced := _is_replaced(path, file)):
                    stop.wait(interval)


class _Lines:
    """Puts the lines of a file together, of which parts come."""

    def __init__(self) -> None:
        self._number = 0
        #: The parts of a line whose end has not come yet, and how long they are together.
        self._parts: list[bytes] = []
        self._length = 0

    def of(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the lines that end in the next part, with their numbers."""
        first, *others = chunk.split(b"\n")
        self._parts.append(first)
        self._length += len(first)
        if self._length > _LONGEST:
            raise too_long(self._number + 1, b"".join(self._parts[:1]))
        for part in others:
            line = b"".join(self._parts)
            self._number += 1
            self._parts, self._length = [part], len(part)
            yield self._number, line


def _is_replaced(path: Path, file: IO[bytes]) -> bool:
    """Whether another file is at `path`, or this one was cut."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return not os.path.samestat(there, os.fstat(file.fileno())) or there.st_size < file.tell()


def verify_log(
    session_dir: "_Path", *, stored: Mapping[str, Any] | None = None
) -> AuditVerificationResultDict:
    """Check every line of a session's log, and what they come to against what is stored.

    `stored` has the keys of a session's `audit_integrity`, and is taken from the `session.json`
    beside the log if it is not given. What does not agree is a `VerificationError`, with the line
    if there is one. `complete`, `proved` and `not_proved` say what was shown.
    """
    kept = None
    if stored is not None:
        if not isinstance(stored, Mapping):
            raise VerificationError("stored integrity summary: it is no mapping")
        kept = text(dict(stored))
    result: AuditVerificationResultDict = json.loads(_verify_log(session_dir, kept))
    return result


def build_inclusion_proof(
    leaf_hashes: Sequence[str | bytes], leaf_index: int
) -> AuditInclusionProofDict:
    """Build the proof that one of the leaves of a log, `leaf_hash` in its lines, is in it."""
    proof: AuditInclusionProofDict = json.loads(_inclusion_proof(leaf_hashes, leaf_index))
    return proof


def verify_inclusion_proof(
    proof: "Mapping[str, Any] | AuditInclusionProofDict",
    *,
    expected_root: str | bytes | None = None,
) -> bool:
    """Say whether a proof leads from its leaf to its root, and to `expected_root` if that is given.

    The number of leaves is part of the path, not of the root: a proof whose path is the same for
    another number of leaves holds for that as well.
    """
    try:
        given = text(dict(proof), hashes=True)
    except (TypeError, ValueError, RecursionError):
        return False
    root = expected_root.hex() if isinstance(expected_root, bytes) else expected_root
    return _verify_inclusion_proof(given, root)
