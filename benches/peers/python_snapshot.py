"""Keeps a tree of small files, by this project's package or by git, and prints as JSON how long a
step took and how much memory was used at most.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

SIZE = 2000
# Files of a directory, and directories of one above.
WIDTH = 100
CHUNK = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["nono", "git"])
    parser.add_argument("step", choices=["baseline", "unchanged", "again", "restore", "large"])
    parser.add_argument("home", type=Path)
    parser.add_argument("--files", type=int, required=True)
    parser.add_argument("--changes", type=int, default=0)
    parser.add_argument("--bytes", type=int, default=0)
    arguments = parser.parse_args()
    tree = arguments.home / ("large" if arguments.step == "large" else "tree")
    if not tree.exists():
        make(tree, arguments)
    way = Nono if arguments.way == "nono" else Git
    print(json.dumps(step(way(arguments.home, tree), arguments)), flush=True)


def make(tree: Path, arguments: argparse.Namespace) -> None:
    """A tree of small files of random bytes, or of one large one."""
    tree.mkdir(parents=True)
    if arguments.step == "large":
        with (tree / "file").open("wb") as file:
            for _ in range(arguments.bytes // CHUNK):
                file.write(os.urandom(CHUNK))
        return
    for number in range(arguments.files):
        folder = tree / str(number // WIDTH**2) / str(number // WIDTH % WIDTH)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file-{number % WIDTH}.txt").write_bytes(os.urandom(SIZE))


class Nono:
    """Snapshots by the package. Each is made by a manager that knows of nothing before."""

    who = resource.RUSAGE_SELF

    def __init__(self, home: Path, tree: Path):
        # How long that takes is measured elsewhere.
        from nono_py import SnapshotManager

        self.make = SnapshotManager
        self.session, self.tree = home / f"session-{tree.name}", tree

    def clear(self) -> None:
        shutil.rmtree(self.session, ignore_errors=True)

    def rest(self) -> None:
        """There is nothing more to do for a tree without changes."""

    def open(self) -> None:
        self.manager = self.make(self.session, [self.tree], max_bytes=0)

    def baseline(self) -> None:
        self.open()
        self.manager.create_baseline()

    def unchanged(self) -> None:
        self.open()
        self.again()

    def again(self) -> None:
        _, changes = self.manager.create_incremental()
        if changes:
            raise SystemExit(f"{len(changes)} changes where there are none")

    def restore(self) -> None:
        self.open()
        self.manager.restore_to(0)


class Git:
    """The same by git."""

    who = resource.RUSAGE_CHILDREN

    def __init__(self, _: Path, tree: Path):
        self.tree = tree

    def clear(self) -> None:
        shutil.rmtree(self.tree / ".git", ignore_errors=True)
        self.run("init", "--quiet")

    def baseline(self) -> None:
        self.run("add", "--all")

    def rest(self) -> None:
        """Commit, so that there are no changes: all of an index that was not is news. Git then
        packs what it has been given, which would go on beside whatever is measured next.
        """
        how = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
        how += ["-c", "commit.gpgSign=false", "-c", "core.hooksPath=/dev/null"]
        how += ["-c", "gc.autoDetach=false", "-c", "maintenance.autoDetach=false"]
        self.run(*how, "commit", "--quiet", "--message", "the tree")

    def unchanged(self) -> None:
        self.run("status", "--porcelain", "--untracked-files=normal")

    again = unchanged

    def restore(self) -> None:
        self.run("checkout", "--quiet", "--", ".")

    def run(self, *arguments: str) -> None:
        command = ["git", "-C", str(self.tree), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def step(way: Nono | Git, arguments: argparse.Namespace) -> dict[str, float]:
    """One step, and what has to be there before it."""
    if arguments.step in ("baseline", "large"):
        way.clear()
        # What is still to be written of that is no part of the step.
        os.sync()
        found = timed(way, way.baseline)
        way.rest()
        return found
    if arguments.step == "unchanged":
        return timed(way, way.unchanged)
    if arguments.step == "again":
        way.unchanged()
        return timed(way, way.again)
    files = sorted(path for path in way.tree.glob("*/*/*") if ".git" not in path.parts)
    for path in files[:: len(files) // arguments.changes]:
        path.write_text("changed")
    found = timed(way, way.restore)
    if any(path.stat().st_size != SIZE for path in files):
        raise SystemExit("not all is as it was")
    return found


def timed(way: Nono | Git, work: Callable[[], None]) -> dict[str, float]:
    begun = time.perf_counter()
    work()
    taken = (time.perf_counter() - begun) * 1000
    return {"ms": taken, "MB": resource.getrusage(way.who).ru_maxrss / 1024}


if __name__ == "__main__":
    main()
