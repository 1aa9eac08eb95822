"""Snapshots of a tree, beside git."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from ..bench import Bench
from ..measure import Cell, Scenario
from ..peers import BENCHES, OURS, Peer, Process

SCRIPT = BENCHES / "peers" / "python_snapshot.py"
# What the cells are called, and the steps of the script.
STEPS = {
    "baseline": "baseline",
    "unchanged": "unchanged",
    "unchanged, once more": "again",
    "restore": "restore",
}


# What a file of 2 kB takes with its copies, on both sides together.
TAKEN = 20_000


def place(bench: Bench, files: int, large: int) -> Path:
    """A directory in memory, if there is room, or else on the disk."""
    memory = Path("/dev/shm")  # noqa: S108 what is made in it has a name of its own
    is_there = memory.is_dir() and os.access(memory, os.W_OK)
    if is_there and shutil.disk_usage(memory).free > files * TAKEN + 2 * large:
        return memory
    return bench.site.out


def snapshots(bench: Bench) -> Scenario:
    files, changes, large = bench.settings.snapshots
    within = place(bench, files, large)
    where = "on the disk" if within == bench.site.out else "in memory, so that no disk is measured"
    scenario = Scenario(
        "snapshots",
        f"Snapshots of {files:,} files of 2 kB",
        f"Beside git on a tree of its own with the same files, {where}. `baseline` is "
        "`create_baseline` into a new session, and `git add --all` into a new repository; "
        "`unchanged` is `create_incremental` by a new manager, which has to read the last "
        "snapshot, and `git status` of what is committed, and packed, as git then does of itself; "
        "`once more` is the same by a manager "
        f"that has just made one; `restore` is `restore_to` after {changes:,} files were changed, "
        "by a new manager, and `git checkout`. `large` is the baseline of one file of "
        f"{large / 1e9:g} GB. `MB` is the most that the process has held, Python included for the "
        "package.",
        ["ms", "MB"],
        ["ms"],
    )
    if "nono_py" in bench.lost:
        raise RuntimeError("the package is not built")
    home = Path(tempfile.mkdtemp(prefix="nono-bench-", dir=within))

    def cell(name: str, step: str, names: list[str]) -> None:
        def run(peer: Peer) -> dict[str, float]:
            command = [OURS, SCRIPT, peer.name, step, home / peer.name, "--files", files]
            command += ["--changes", changes, "--bytes", large]
            process = Process(list(map(str, command)), bench.site.out / "snapshots.log")
            try:
                return process.answer(300)
            finally:
                process.stop()

        bench.cell(
            scenario, Cell(name), [Peer(name, 0) for name in names if name not in bench.lost], run
        )

    try:
        for name, step in STEPS.items():
            cell(name, step, ["nono", "git"])
        cell("large", "large", ["nono"])
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return scenario
