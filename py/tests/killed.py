"""A step of a session in a process of its own, for a test that kills it."""

from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from nono_py import SnapshotManager


def run(ready: Connection, step: str, session: Path, tree: Path) -> None:
    """Say that it begins, and do it."""
    manager = SnapshotManager(session, [tree])
    steps: dict[str, Callable[[], object]] = {
        "baseline": manager.create_baseline,
        "incremental": manager.create_incremental,
        "restore": lambda: manager.restore_to(0),
    }
    ready.send(None)
    steps[step]()
