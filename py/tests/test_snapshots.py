"""Snapshots from Python: what programs see, and what survives a crash."""

import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import nono_py
import pytest
from killed import run
from nono_py import ExclusionConfig, SessionMetadata, SnapshotError, SnapshotManager
from users import run_as


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


def test_what_a_snapshot_tells_can_be_pickled(tree: Path, tmp_path: Path) -> None:
    (tree / os.fsdecode(b"no-\xff-text")).touch()
    manager = SnapshotManager(tmp_path / "session", [tree])
    baseline = manager.create_baseline()
    (tree / "a.txt").write_text("changed")
    (tree / "sub" / "b").unlink()
    _, changes = manager.create_incremental()
    values = [baseline.merkle_root, baseline.files, changes, manager.restore_to(0)]
    assert len(changes) == 2
    assert pickle.loads(pickle.dumps(values)) == values
    make, parts = changes[0].__reduce__()
    assert callable(make)
    with pytest.raises(ValueError, match="'renamed' is no type of a change"):
        make(parts[0], "renamed", *parts[2:])
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        baseline.merkle_root.__reduce__()[0]("12")  # type: ignore[operator]


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


def test_a_temporary_session_is_left_only_where_it_is_needed(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with pytest.raises(SnapshotError), nono_py.rollback_on_error([tree], max_entries=1):
        raise AssertionError("what cannot be rolled back does not begin")
    with pytest.raises(TypeError), nono_py.rollback_on_error(str(tree)):
        raise AssertionError("what cannot be rolled back does not begin")
    with nono_py.rollback_on_error([tree]):
        assert len(list(temporary.iterdir())) == 1
    with pytest.raises(KeyError), nono_py.rollback_on_error([tree]):
        raise KeyError
    assert list(temporary.iterdir()) == []

    def lose() -> None:
        (tree / "a.txt").write_text("changed")
        shutil.rmtree(next(temporary.iterdir()) / "objects")
        raise KeyError

    with (
        pytest.raises(SnapshotError, match=f"the snapshot is in '{temporary}"),
        nono_py.rollback_on_error([tree]),
    ):
        lose()
    assert len(list(temporary.iterdir())) == 1


def test_a_restore_that_is_interrupted_says_where_it_can_be_completed(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def __init__(self, *given: Any) -> None:
            self._manager = SnapshotManager(*given)

        def create_baseline(self) -> nono_py.SnapshotManifest:
            return self._manager.create_baseline()

        def restore_to(self, number: int) -> None:
            raise KeyboardInterrupt

    def spoil() -> None:
        (tree / "a.txt").write_text("changed")
        raise KeyError

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr("nono_py._snapshot.SnapshotManager", Interrupted)
    with pytest.raises(KeyboardInterrupt) as caught, nono_py.rollback_on_error([tree]):
        spoil()
    [session] = temporary.iterdir()
    said = [*caught.value.args, *getattr(caught.value, "__notes__", [])]
    assert [text for text in said if f"the snapshot is in {str(session)!r}" in text]
    SnapshotManager(session, [tree]).restore_to(0)
    assert (tree / "a.txt").read_text() == "hello"


def test_a_progress_is_called_by_one_thread_at_a_time(tmp_path: Path) -> None:
    for number in range(16):
        directory = tmp_path / f"tree/{number}"
        directory.mkdir(parents=True)
        for name in range(512):
            (directory / str(name)).touch()
    alone, calls = threading.Lock(), []

    def progress(*said: object) -> None:
        assert alone.acquire(blocking=False)
        # Time for another thread to come by, if one may.
        threading.Event().wait(0.02)
        calls.append(said)
        alone.release()

    SnapshotManager(tmp_path / "session", [tmp_path / "tree"]).create_baseline(progress=progress)
    assert len(calls) > 8


def test_a_progress_that_has_raised_is_not_called_again(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for name in range(4096):
        (tmp_path / "tree" / str(name)).touch()
    calls = []

    def progress(*said: object) -> None:
        calls.append(said)
        raise KeyError

    manager = SnapshotManager(tmp_path / "session", [tmp_path / "tree"])
    with pytest.raises(KeyError):
        manager.create_baseline(progress=progress)
    assert len(calls) == 1


def test_names_are_shown_on_one_line(tree: Path, tmp_path: Path) -> None:
    manager = SnapshotManager(tmp_path / "session", [tree])
    manager.create_baseline()
    (tree / "a'\nb\x1b[2J").touch()
    _, [change] = manager.create_incremental()
    assert repr(change) == f"Change(path={str(change.path)!r}, type=created)"
    session = SessionMetadata("i\n'd", ["x"], [tree])
    assert repr(session) == 'SessionMetadata(id="i\\n\'d", snapshots=0)'
    shutil.rmtree(tmp_path / "session")
    assert repr(manager).startswith("SnapshotManager(snapshots=")


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


def test_memory_does_not_grow_with_the_size_of_a_file(tmp_path: Path) -> None:
    code = """
        import resource, sys
        from pathlib import Path
        from nono_py import SnapshotManager

        tree = Path(sys.argv[1])
        tree.mkdir()
        with (tree / "file").open("wb") as file:
            file.truncate(int(sys.argv[2]))
        manager = SnapshotManager(tree.with_suffix(".session"), [tree], max_bytes=0)
        manager.create_baseline()
        (tree / "file").write_text("small")
        manager.restore_to(0)
        assert (tree / "file").stat().st_size == int(sys.argv[2])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    """

    def most(name: str, size: int) -> int:
        command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / name), str(size)]
        return int(subprocess.check_output(command))

    large = 256 << 20
    assert most("large", large) - most("small", 1) < large / 16


def test_an_ordinary_user_is_kept_out_of_nothing_that_is_its_own() -> None:
    user = 65534 if os.geteuid() == 0 else None
    code = """
        import os, tempfile
        from pathlib import Path
        from nono_py import SnapshotManager

        with tempfile.TemporaryDirectory() as place:
            tree = Path(place, "tree")
            for name in ("shut/file", "open/file", "open/secret"):
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                (tree / name).write_text("before")
            (tree / "shut").chmod(0o000)
            (tree / "open" / "secret").chmod(0o000)
            manager = SnapshotManager(Path(place, "session"), [tree])
            skipped = manager.create_baseline().skipped
            print(sorted((os.path.relpath(path, tree), why) for path, why in skipped))
            (tree / "open" / "file").write_text("after")
            # Restored though it lets nobody in, and shut out nobody before.
            (tree / "open").chmod(0o000)
            manager.restore_to(0)
            print((tree / "open" / "file").read_text(), oct((tree / "open").stat().st_mode))
            (tree / "shut").chmod(0o700)
            print((tree / "shut" / "file").read_text())
    """
    done = run_as(user, code)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "[('open/secret', 'unreadable'), ('shut', 'unreadable')]",
        "before 0o40755",
        "before",
    ]


def test_nothing_that_came_since_stays_for_being_unreadable() -> None:
    user = 65534 if os.geteuid() == 0 else None
    code = """
        import os, tempfile
        from pathlib import Path
        from nono_py import SnapshotManager

        with tempfile.TemporaryDirectory() as place:
            tree = Path(place, "tree")
            (tree / "made").mkdir(parents=True)
            (tree / "file").write_text("before")
            (tree / "made" / "shut").write_text("was there")
            (tree / "made" / "shut").chmod(0o000)
            manager = SnapshotManager(Path(place, "session"), [tree])
            manager.create_baseline()
            (tree / "file").chmod(0o000)
            (tree / "conftest.py").write_text("planted()")
            (tree / "conftest.py").chmod(0o000)
            (tree / "made" / "more").write_text("planted()")
            (tree / "made" / "more").chmod(0o200)
            # The last ones so deep that no path leads there.
            os.chdir(tree / "made")
            levels = []
            for _ in range(22):
                os.mkdir("d" * 250)
                os.chdir("d" * 250)
                Path("planted").write_text("planted()")
                levels.append(os.open(".", os.O_RDONLY))
            for level, mode in ((0, 0o000), (18, 0o000), (19, 0o500), (20, 0o300), (21, 0o000)):
                os.chmod(levels[level], mode)
            os.chdir("/")

            def changes():
                found = manager.compute_restore_diff(0)
                return [(c.path.removeprefix(f"{tree}/"), c.change_type) for c in found]

            for path, change in changes():
                print(path.replace("d" * 250, "D"), change)
            manager.restore_to(0)
            print(changes(), *sorted(os.listdir(tree)), *os.listdir(tree / "made"))
            print((tree / "file").read_text(), oct((tree / "made" / "shut").stat().st_mode))
    """
    done = run_as(user, code)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "conftest.py deleted",
        "file created",
        "made/D deleted",
        "made/more deleted",
        "[] file made shut",
        "before 0o100000",
    ]


def test_what_a_snapshot_tells_are_values(tree: Path, tmp_path: Path) -> None:
    managers = [SnapshotManager(tmp_path / name, [tree]) for name in ("one", "other")]
    first, same = (manager.create_baseline() for manager in managers)
    assert first.files == same.files
    assert first.merkle_root == same.merkle_root
    (tree / "a.txt").write_text("changed")
    (change,), (same_change,) = (manager.compute_restore_diff(0) for manager in managers)
    assert change == same_change
    state = first.files[change.path]
    assert {state, state.hash} == {same.files[change.path], change.new_hash}
    assert state != first.files[str(tree / "sub" / "b")]
    for value in (managers[0], first, state, state.hash, change):
        assert weakref.ref(value)() is value
        with pytest.raises(AttributeError):
            setattr(value, next(name for name in dir(value) if not name.startswith("_")), None)


def test_an_exclusion_is_a_value() -> None:
    exclusion = ExclusionConfig(exclude_patterns=["node_modules"])
    assert pickle.loads(pickle.dumps(exclusion)) == exclusion != ExclusionConfig()
    assert exclusion.use_gitignore


def killed(step: str, session: Path, tree: Path, after: "float | None") -> bool:
    """Run a step in a process of its own, which is killed `after` a time. Say whether it was hit.

    `after` is in seconds; with `None` the step goes on to its end.
    """
    context = multiprocessing.get_context("forkserver")
    # Nothing has to be imported again for each of them.
    context.set_forkserver_preload(["killed"])
    ours, theirs = context.Pipe()
    process = context.Process(target=run, args=(theirs, step, session, tree))
    process.start()
    ours.recv()
    if after is not None:
        time.sleep(after)  # the point at which it is hit, not something waited for
        process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def described(tree: Path) -> "dict[str, tuple[object, ...]]":
    """All that there is, with modes, times, contents and targets."""

    def tell(path: Path) -> "tuple[object, ...]":
        data = path.lstat()
        if path.is_symlink():
            return (data.st_mtime_ns, path.readlink())
        text = path.read_bytes() if path.is_file() else None
        return (data.st_mode, data.st_mtime_ns, data.st_nlink, text)

    return {str(path.relative_to(tree)): tell(path) for path in [tree, *tree.rglob("*")]}


def spoil(tree: Path, chance: random.Random) -> None:
    """Change something of every kind."""
    for number in range(0, 120, 2):
        (tree / f"{number % 7}" / str(number)).write_bytes(chance.randbytes(1000))
    for number in range(1, 100, 8):
        (tree / f"{number % 7}" / str(number)).unlink()
    (tree / "1" / "8").chmod(0o600)
    (tree / "2").chmod(0o700)
    (tree / "link").unlink()
    (tree / "name").unlink()
    (tree / "empty").rmdir()
    (tree / "new" / "inner").mkdir(parents=True)
    (tree / "new" / "inner" / "file").touch()


@pytest.mark.parametrize("step", ["baseline", "incremental", "restore"])
def test_nothing_is_lost_when_a_step_is_killed_anywhere(step: str, tmp_path: Path) -> None:
    kills = int(os.environ.get("NONO_TEST_KILLS", "201")) // 3
    chance = random.Random(step)
    tree = tmp_path / "tree"
    for number in range(120):
        file = tree / f"{number % 7}" / str(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(chance.randbytes(2000))
    (tree / "empty").mkdir()
    (tree / "link").symlink_to("0/0")
    (tree / "name").hardlink_to(tree / "3" / "3")
    first = described(tree)

    def once(after: "float | None") -> "tuple[bool, float]":
        """Kill a step, go on with all of it, and say whether it was hit, and how long it took."""
        session = tmp_path / "session"
        manager = SnapshotManager(session, [tree])
        if step != "baseline":
            manager.create_baseline()
            spoil(tree, chance)
        changed = described(tree)
        begun = time.perf_counter()
        hit = killed(step, session, tree, after)
        took = time.perf_counter() - begun
        if step == "baseline":
            manager.create_baseline()
        if step == "restore":
            there = described(tree)
            for name in first.keys() & changed.keys():
                assert there[name][-1] in (first[name][-1], changed[name][-1]), name
        else:
            assert described(tree) == changed
            manager.create_incremental()
            if step == "baseline":
                spoil(tree, chance)
        manager.restore_to(0)
        assert described(tree) == first
        shutil.rmtree(session)
        return hit, took

    _, span = once(None)
    hits = 0
    for _ in range(20 + 5 * kills):
        if hits < kills:
            after = chance.random() * span
            hit, _ = once(after)
            hits += hit
            # What it took with all around it is more than it takes.
            span = span * 1.1 if hit else max(after, 0.001)
    assert hits == kills
