"""Snapshots from Python: what programs see, and what survives a crash."""

import contextlib
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import nono_py
import pytest
from nono_py import ExclusionConfig, SessionMetadata, SnapshotManager


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "a.txt").write_text("hello")
    (tree / "sub" / "b").write_text("bb")
    return tree


def kinds(changes: "list[nono_py.Change]") -> "list[tuple[str, str]]":
    return [(Path(change.path).name, change.change_type) for change in changes]


def test_a_snapshot_is_made_looked_at_and_restored(tree: Path, tmp_path: Path) -> None:
    with SnapshotManager(tmp_path / "session", [tree]) as manager:
        baseline = manager.create_baseline()
        assert (baseline.number, baseline.parent, baseline.skipped) == (0, None, [])
        assert sorted(baseline.files) == [str(tree / "a.txt"), str(tree / "sub" / "b")]
        state = baseline.files[str(tree / "a.txt")]
        assert (state.size, oct(state.permissions)[-3:]) == (5, "644")
        assert state.hash.hex().startswith("2cf24dba5fb0a30e")
        assert repr(state.hash) == "ContentHash(2cf24dba5fb0a30e...)"
        assert hash(state.hash) == int.from_bytes(
            bytes.fromhex(state.hash.hex())[:8], "little", signed=True
        )

        (tree / "a.txt").write_text("hello!")
        (tree / "sub" / "b").unlink()
        (tree / "new").write_text("n")
        manifest, changes = manager.create_incremental()
        assert kinds(changes) == [("a.txt", "modified"), ("new", "created"), ("b", "deleted")]
        assert [change.size_delta for change in changes] == [1, 1, -2]
        assert repr(manifest) == "SnapshotManifest(number=1, files=2)"

        assert kinds(manager.compute_restore_diff(0)) == kinds(manager.restore_to(0))
        assert (tree / "a.txt").read_text() == "hello"
        assert not (tree / "new").exists()
        assert manager.restore_to(0) == []
        assert manager.snapshot_count() == 2
        assert repr(manager) == "SnapshotManager(snapshots=2)"
        assert manager.load_manifest(1).merkle_root == manifest.merkle_root


def test_errors_say_what_is_wrong_by_a_code(tree: Path, tmp_path: Path) -> None:
    manager = SnapshotManager(tmp_path / "s", [tree])
    with pytest.raises(RuntimeError, match=r"Call create_baseline\(\) first") as none:
        manager.create_incremental()
    assert isinstance(none.value, nono_py.SnapshotError)
    with pytest.raises(RuntimeError) as missing:
        manager.restore_to(9)
    assert missing.value.diagnostic_code == "no_snapshot"  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="Rollback budget exceeded") as budget:
        SnapshotManager(tmp_path / "t", [tree], max_bytes=1).create_baseline()
    assert budget.value.diagnostic_code == "rollback_budget_exceeded"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"Invalid glob pattern '\['"):
        SnapshotManager(tmp_path / "u", [tree], ExclusionConfig(exclude_globs=["["]))
    with pytest.raises(RuntimeError, match="Session not found"):
        SnapshotManager.load_session_metadata(tmp_path / "none")
    with pytest.raises(OverflowError):
        manager.restore_to(-1)


def test_progress_is_told_and_can_end_a_call(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(1200):
        (tree / str(number)).touch()
    manager = SnapshotManager(tmp_path / "session", [tree])
    seen: list[tuple[str, int, int | None]] = []
    manager.create_baseline(progress=lambda *said: seen.append(said))
    assert ("scan", 1200, None) in seen

    def refuse(phase: str, done: int, total: "int | None") -> None:
        raise KeyError(phase)

    with pytest.raises(KeyError, match="scan"):
        manager.create_incremental(progress=refuse)
    assert manager.snapshot_count() == 1


def test_a_block_that_raises_is_rolled_back(tree: Path) -> None:
    def spoil() -> None:
        (tree / "a.txt").write_text("changed")
        (tree / "new").touch()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), nono_py.rollback_on_error([tree]):
        spoil()
    assert (tree / "a.txt").read_text() == "hello"
    assert not (tree / "new").exists()
    with nono_py.rollback_on_error([tree]):
        (tree / "a.txt").write_text("changed")
    assert (tree / "a.txt").read_text() == "changed"


def test_a_session_is_kept_and_read(tree: Path, tmp_path: Path) -> None:
    manager = SnapshotManager(tmp_path / "session", [tree])
    session = SessionMetadata("sid", ["python", "-c", "x"], [tree])
    session.add_merkle_root(manager.create_baseline().merkle_root)
    session.ended, session.exit_code, session.snapshot_count = session.started, 0, 1
    event = {"timestamp_unix_ms": 5, "mode": "connect", "decision": "deny", "target": "t"}
    session.set_network_events([{**event, "extra": 1}])
    assert session.network_events[0]["port"] is None
    assert len(session.network_events[0]) == 15
    manager.save_session_metadata(session)
    again = SnapshotManager.load_session_metadata(tmp_path / "session")
    assert again == session == pickle.loads(pickle.dumps(session))
    assert list(json.loads(again.to_json())) == [
        *["session_id", "started", "ended", "command", "executable_identity", "tracked_paths"],
        *["snapshot_count", "exit_code", "merkle_roots", "network_events", "audit_event_count"],
        *["audit_integrity", "audit_attestation"],
    ]
    for wrong in ({"mode": "x"}, {"decision": "x"}, {"target": None}, {"port": "x"}):
        with pytest.raises(ValueError, match="not an event of the network"):
            session.set_network_events([{**event, **wrong}])


def test_an_exclusion_is_a_value() -> None:
    exclusion = ExclusionConfig(exclude_patterns=["node_modules"])
    assert pickle.loads(pickle.dumps(exclusion)) == exclusion != ExclusionConfig()
    assert exclusion.use_gitignore


STEP = """
import sys
from nono_py import SnapshotManager
manager = SnapshotManager(sys.argv[1], [sys.argv[2]])
print("ready", flush=True)
sys.stdin.readline()
{
    "baseline": manager.create_baseline,
    "incremental": manager.create_incremental,
    "restore": lambda: manager.restore_to(0),
}[sys.argv[3]]()
print("done", flush=True)
"""


def killed(step: str, session: Path, tree: Path, after: float) -> bool:
    """Run a step in a process of its own and kill it; say whether it was still running."""
    with subprocess.Popen(
        [sys.executable, "-c", STEP, session, tree, step],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write("go\n")
            process.stdin.flush()
        time.sleep(after)  # the point at which it is hit, not something waited for
        process.send_signal(signal.SIGKILL)
        return process.stdout.readline() != "done\n"


def content(tree: Path) -> "dict[str, bytes]":
    return {str(p.relative_to(tree)): p.read_bytes() for p in tree.rglob("*") if p.is_file()}


@pytest.mark.parametrize("step", ["baseline", "incremental", "restore"])
def test_nothing_is_lost_when_a_step_is_killed_anywhere(
    step: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    rounds = int(os.environ.get("NONO_TEST_KILLS", "24")) // 3
    chance = random.Random(step)
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(400):
        (tree / str(number)).write_bytes(chance.randbytes(2000))
    first = content(tree)
    hits = 0
    for round_ in range(rounds):
        session = tmp_path / f"session-{round_}"
        manager = SnapshotManager(session, [tree])
        if step != "baseline":
            manager.create_baseline()
            for number in range(0, 400, 2):
                (tree / str(number)).write_bytes(chance.randbytes(1000))
        changed = content(tree)
        hits += killed(step, session, tree, chance.random() * 0.05)
        if step == "baseline":
            manager.create_baseline()
        if step != "restore":
            assert content(tree) == changed
            manager.create_incremental()
        else:
            assert all(content(tree)[name] in (first[name], changed[name]) for name in first)
        manager.restore_to(0)
        assert content(tree) == first
        assert not list(tree.glob(".nono*"))
    assert hits, "no step was still running when it was killed"
