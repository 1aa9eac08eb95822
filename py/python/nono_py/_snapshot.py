"""Rolling back what a block of code did to some paths."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import TypeAlias

from nono_py._errors import SnapshotError
from nono_py._nono_py import ExclusionConfig, SnapshotManager

StrPath: TypeAlias = str | bytes | PathLike[str] | PathLike[bytes]


@contextmanager
def rollback_on_error(
    paths: Sequence[StrPath],
    *,
    exclusion: ExclusionConfig | None = None,
    session_dir: StrPath | None = None,
    max_entries: int = 300_000,
    max_bytes: int = 2_147_483_648,
) -> Iterator[SnapshotManager]:
    """Restore `paths` to what they are now if the block raises.

    The exception goes on. If the restore fails too, a `SnapshotError` is raised from it, and the
    session, from which it can be tried again, stays where the error says, or a note of what
    interrupted the restore, as KeyboardInterrupt does. The session is kept in `session_dir`, or in
    a temporary directory that goes with the block.
    """
    directory: StrPath = (
        tempfile.mkdtemp(prefix="nono-rollback-") if session_dir is None else session_dir
    )
    is_needed = False
    try:
        manager = SnapshotManager(directory, paths, exclusion, max_entries, max_bytes)
        number = manager.create_baseline().number
        try:
            yield manager
        except BaseException as error:
            # Until it has succeeded: one that is interrupted can be completed from there.
            is_needed = True
            try:
                manager.restore_to(number)
            except BaseException as failure:
                message = f"not all is restored: {failure}; the snapshot is in {directory!r}"
                if isinstance(failure, Exception):
                    raise SnapshotError(message) from error
                # An interruption stays one, and says where to go on.
                if sys.version_info >= (3, 11):
                    failure.add_note(message)
                else:
                    failure.args = (*failure.args, message)
                raise
            is_needed = False
            raise
    finally:
        if session_dir is None and not is_needed:
            shutil.rmtree(directory, ignore_errors=True)
