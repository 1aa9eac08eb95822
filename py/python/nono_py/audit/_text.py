"""JSON on its way to the extension module and back."""

import errno
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from nono_py._errors import PathError, VerificationError


class LineError(VerificationError, json.JSONDecodeError):
    """A line of a file that is no JSON object; also the error that `json` itself raises."""

    __module__ = "nono_py.audit"

    def __init__(self, number: int, reason: str, line: str) -> None:
        json.JSONDecodeError.__init__(self, f"line {number}: {reason}", line, 0)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.msg, self.doc)


def _again(message: str, line: str) -> LineError:
    """Make the error that `pickle` has kept."""
    error = LineError(0, "", line)
    json.JSONDecodeError.__init__(error, message, line, 0)
    return error


def _plain(value: object) -> object:
    """Say what stands for a value that `json` does not know."""
    wire = getattr(value, "to_wire", None)
    if wire is not None:
        return wire()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} is no value of JSON")


def _plain_or_hash(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else _plain(value)


def text(value: object, *, hashes: bool = False) -> str:
    """Return a value as compact JSON, in which bytes may stand for hashes."""
    default = _plain_or_hash if hashes else _plain
    return json.dumps(value, separators=(",", ":"), allow_nan=False, default=default)


def metadata_text(metadata: object) -> str:
    """Return a session as JSON: a mapping, or what has `to_json()`, such as a `SessionMetadata`."""
    if isinstance(metadata, Mapping):
        return text(dict(metadata))
    to_json = getattr(metadata, "to_json", None)
    if to_json is None:
        raise TypeError("metadata must be a mapping or expose to_json()")
    return str(to_json())


def open_regular(path: Path) -> BinaryIO:
    """Open a file that anybody may have put there, without waiting for what is no regular one."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    # The open file is judged, not the path: the path may change meanwhile.
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise PathError(errno.EINVAL, "it is no regular file", os.fspath(path))


def line_object(line: bytes, number: int) -> dict[str, Any]:
    """Return the object on a line of a file."""
    shown = line.decode("utf-8", "replace")
    try:
        value = json.loads(line.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise LineError(number, f"malformed JSON: {error}", shown) from error
    if not isinstance(value, dict):
        raise LineError(number, "it is no JSON object", shown)
    return value


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")
