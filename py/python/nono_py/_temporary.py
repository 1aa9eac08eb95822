"""A directory for the temporary files of one program, which goes whatever the program left there.

What `tempfile` does is no match for an adversary: it follows the depth of a tree by recursion and,
before Python 3.12.1, changes the modes of what links lead to.
"""

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

#: What is opened is a directory, and no link to one.
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextlib.contextmanager
def directory(notes: list[str]) -> Iterator[str]:
    """Make a directory, and remove it at the end. What keeps it from going is noted, not raised."""
    path = tempfile.mkdtemp(prefix="nono-")
    # From now on it is this one that is emptied, wherever its name leads afterwards.
    try:
        top = os.open(path, _DIRECTORY)
    except OSError:
        Path(path).rmdir()
        raise
    try:
        yield path
    finally:
        try:
            _empty(top)
            with contextlib.suppress(FileNotFoundError):
                Path(path).rmdir()
        # A system without `fchmodat` that follows no link makes a ValueError of it.
        except (OSError, ValueError) as error:
            notes.append(f"temporary files are left in {path}: {error}")
        finally:
            os.close(top)


def _empty(top: int) -> None:
    """Remove all that is in a directory.

    What is deeper than one level is moved up before it is emptied, so that no depth is too deep.
    """
    os.fchmod(top, 0o700)
    while names := os.listdir(top):
        for name in names:
            if not _is_removed(top, name):
                _remove_directory(top, name)


def _remove_directory(top: int, name: str) -> None:
    directory = _open(top, name)
    try:
        for inner in os.listdir(directory):  # noqa: PTH208 - of a descriptor
            if not _is_removed(directory, inner):
                # Only who may write a directory may move it.
                os.close(_open(directory, inner))
                moved = secrets.token_hex(16)
                os.rename(inner, moved, src_dir_fd=directory, dst_dir_fd=top)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=top)


def _is_removed(directory: int, name: str) -> bool:
    """Remove a file, a link or an empty directory, and return whether it was one."""
    try:
        os.unlink(name, dir_fd=directory)
    # As Linux and as POSIX say that it is a directory.
    except (IsADirectoryError, PermissionError) as refused:
        try:
            os.rmdir(name, dir_fd=directory)
        except NotADirectoryError:
            raise refused from None
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return False
    return True


def _open(parent: int, name: str) -> int:
    """Open a directory, after its owner may read, write and search it."""
    try:
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent, follow_symlinks=False)
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        os.fchmod(directory, 0o700)
    except OSError:
        os.close(directory)
        raise
    return directory
