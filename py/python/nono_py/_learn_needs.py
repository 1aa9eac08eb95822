"""What a learned command has done with files, and which sets cover that."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from nono_py._enums import AccessMode
from nono_py._nono_py import CapabilitySet, QueryContext

#: Opens no file, only its name: on Linux, where alone there is a command to learn from.
_NAME = getattr(os, "O_PATH", 0) | os.O_CLOEXEC


@dataclass
class Findings:
    """What is to be told besides a policy."""

    secrets: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def note(self, note: str) -> None:
        """Tell of something, once."""
        if note not in self.notes:
            self.notes.append(note)


@dataclass
class Needs:
    """What was done with files: paths that were read, written in place, and made or removed."""

    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    makes: set[str] = field(default_factory=set)

    def pairs(self) -> Iterator[tuple[str, AccessMode]]:
        """Return each path with the access that a sandbox has to grant."""
        for path in self.reads:
            yield path, AccessMode.READ
        for path in self.writes:
            yield path, AccessMode.WRITE
        for path in self.makes:
            # Of a directory: a grant of the one file would not let it be made.
            yield str(PurePath(path).parent), AccessMode.WRITE

    def without(self, is_covered: "Covers") -> "Needs":
        """Return what is left to be granted."""
        return Needs(
            {path for path in self.reads if not is_covered(path, AccessMode.READ)},
            {path for path in self.writes if not is_covered(path, AccessMode.WRITE)},
            {p for p in self.makes if not is_covered(str(PurePath(p).parent), AccessMode.WRITE)},
        )


class Places:
    """Where paths lead, found out once for all sets that are asked about them."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def __getitem__(self, path: str) -> "str | None":
        """Return a path without links, what does not exist included; None if that is not plain."""
        if path not in self._known:
            self._known[path] = self._find(path)
        return self._known[path]

    @staticmethod
    def _find(path: str) -> "str | None":
        if not path.startswith("/"):
            return None
        existing = path
        while True:
            try:
                handle = os.open(existing, _NAME)
            except FileNotFoundError:
                if Path(existing).is_symlink() or existing == "/":
                    return None
                existing = existing.rpartition("/")[0] or "/"
            except OSError:
                return None
            else:
                break
        try:
            found = str(Path(f"/proc/self/fd/{handle}").readlink())
        except OSError:
            return None
        finally:
            os.close(handle)
        return found + path[len(existing) :] if found.startswith("/") else None


class Covers:
    """Whether a set allows a use of a path, by the rules that a sandbox of it enforces."""

    def __init__(self, caps: CapabilitySet, places: Places) -> None:
        self._query = QueryContext(caps)
        self._places = places
        self._granted = {grant.resolved for grant in caps.fs_capabilities()}
        self._grants = len(caps.fs_capabilities())

    def __call__(self, path: str, mode: AccessMode) -> bool:
        # The query follows the path anew each time: it is asked where it may say yes.
        real = self._places[path]
        if real is not None and not any(within(real, grant) for grant in self._granted):
            return False
        return self._query.query_path(path, mode)["status"] == "allowed"

    def depth(self, path: str, mode: AccessMode) -> int:
        """Return how far into the tree the grant is that covers: the deeper, the narrower."""
        said: dict[str, Any] = dict(self._query.query_path(path, mode))
        return len(PurePath(said.get("granted_path", "")).parts)

    def __len__(self) -> int:
        return self._grants


def within(path: str, directory: str) -> bool:
    """Whether a path is that of a directory, or beneath it: of so many that parsing them counts."""
    directory = directory.rstrip("/")
    return path.startswith(directory) and path[len(directory) : len(directory) + 1] in ("", "/")


def outermost(paths: Iterable[str]) -> set[str]:
    """Return the paths that are not beneath others of them."""
    found: list[str] = []
    # By their parts: what is beneath a path follows it.
    for path in sorted(paths, key=lambda path: path.split("/")):
        if not found or not within(path, found[-1]):
            found.append(path)
    return set(found)


def home_directory() -> Path | None:
    """Return what `~` stands for in a policy; None where that is nothing."""
    home = os.environ.get("HOME", "")
    return Path(home).resolve() if home.startswith("/") else None


def short(path: str) -> str:
    """Return a path as people write it."""
    home = home_directory()
    if home is not None and PurePath(path) != home and PurePath(path).is_relative_to(home):
        return f"~/{PurePath(path).relative_to(home)}"
    return path
