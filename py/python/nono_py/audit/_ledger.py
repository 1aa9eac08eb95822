"""The digest of a session, and the ledger of many."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nono_py._nono_py import (
    _check_session_id,
    _ledger_record,
    _session_digest,
    _verify_ledger,
)
from nono_py.audit._log import objects
from nono_py.audit._names import LedgerRecordDict, LedgerVerificationResultDict
from nono_py.audit._text import metadata_text

if TYPE_CHECKING:
    from nono_py._nono_py import _Path


def compute_session_digest(metadata: "Mapping[str, Any] | Any") -> str:
    """Return the digest of all that is kept of a session: a mapping, or what has `to_json()`."""
    return _session_digest(metadata_text(metadata))


def validate_ledger_session_id(session_id: str) -> None:
    """Raise a `VerificationError` unless a session of this name can be in a ledger."""
    _check_session_id(session_id)


def build_ledger_record(
    metadata: "Mapping[str, Any] | Any", *, sequence: int, previous_chain: str | None
) -> LedgerRecordDict:
    """Build the line of a session, behind the one whose `chain_hash` is `previous_chain`."""
    record: LedgerRecordDict = json.loads(
        _ledger_record(metadata_text(metadata), sequence, previous_chain)
    )
    return record


def iter_ledger(ledger_path: "_Path") -> Iterator[LedgerRecordDict]:
    """Yield the lines of a ledger; nothing is verified. Errors are as of `iter_session`."""
    return cast("Iterator[LedgerRecordDict]", objects(Path(os.fsdecode(ledger_path))))


def verify_session_in_ledger(
    ledger_path: "_Path",
    metadata: "Mapping[str, Any] | Any",
    *,
    expected_head: str | bytes | None = None,
) -> LedgerVerificationResultDict:
    """Check a ledger, and look for a session in it, as it is now.

    The last line of its name counts. Sessions may share a name: that one before it is of this
    session is `later_entry_differs`.

    `expected_head`, kept elsewhere, is the `ledger_head` that it must end with: without it, lines
    that are missing at the end cannot be noticed. A line that is not as it was written is a
    `VerificationError`.
    """
    result: LedgerVerificationResultDict = json.loads(
        _verify_ledger(ledger_path, metadata_text(metadata), expected_head)
    )
    return result
