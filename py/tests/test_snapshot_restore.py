"""Restores that meet what keeps their user out, and calls that have to be ended."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from nono_py import SessionMetadata, SnapshotError, SnapshotManager
from users import run_as

#: An ordinary user, whom modes keep out.
USER = 65534 if os.geteuid() == 0 else None

#: What each program begins with: a tree, and what is needed of it.
BEGIN = """
import os, tempfile
from pathlib import Path
from nono_py import ExclusionConfig, SnapshotError, SnapshotManager

place = tempfile.TemporaryDirectory()
home = Path(place.name)
tree = home / "tree"
for name in ("file", "sub/file", "sub/inner/file"):
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text("before")

def told(name):
    return oct((tree / name).stat().st_mode & 0o7777)
"""


def run(program: str) -> "list[str]":
    done = run_as(USER, BEGIN + textwrap.dedent(program))
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_file_with_a_name_outside_is_written_though_it_was_made_read_only() -> None:
    program = """
        (home / "outside").hardlink_to(tree / "file")
        manager = SnapshotManager(home / "session", [tree])
        manager.create_baseline()
        (tree / "file").write_text("after")
        (tree / "file").chmod(0o444)
        manager.restore_to(0)
        print((home / "outside").read_text(), told("file"))
    """
    assert run(program) == ["before 0o644"]


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o100, 0o300])
def test_nothing_that_was_planted_stays_in_a_directory_for_its_mode(mode: int) -> None:
    program = f"""
        os.chdir(home)
        manager = SnapshotManager(home / "session", ["tree"])
        manager.create_baseline()
        # The names in snapshots are not paths from wherever the process is by then.
        os.chdir("/")
        for name in ("sub", "sub/inner"):
            (tree / name / "planted").touch()
        (tree / "sub" / "inner").chmod({mode})
        (tree / "sub").chmod({mode})
        manager.restore_to(0)
        print(told("sub"), told("sub/inner"), *sorted(os.listdir(tree / "sub")))
        print(*os.listdir(tree / "sub" / "inner"), len(manager.compute_restore_diff(0)))
    """
    assert run(program) == ["0o755 0o755 file inner", "file 0"]


def test_a_restore_that_changes_nothing_leaves_modes_as_they_were() -> None:
    program = """
        exclusion = ExclusionConfig(exclude_patterns=["sub"], force_include=["sub/inner"])
        manager = SnapshotManager(home / "session", [tree], exclusion)
        manager.create_baseline()
        (tree / "sub" / "inner" / "file").write_text("after")
        (tree / "sub" / "inner").chmod(0o000)
        (tree / "sub").chmod(0o000)
        objects = home / "session" / "objects"
        objects.rename(home / "objects")
        objects.mkdir()
        try:
            manager.restore_to(0)
        except SnapshotError as error:
            print(error.diagnostic_code, told("sub"))
        objects.rmdir()
        (home / "objects").rename(objects)
        manager.restore_to(0)
        # It is in no snapshot itself, so it is shut as it was.
        print(told("sub"))
        (tree / "sub").chmod(0o700)
        print((tree / "sub" / "inner" / "file").read_text(), told("sub/inner"))
    """
    assert run(program) == ["object_damaged 0o0", "0o0", "before 0o755"]


def test_a_directory_that_stays_shut_whatever_its_mode_is_an_error(tmp_path: Path) -> None:
    program = """
        import ctypes, os, struct, sys
        from pathlib import Path
        from nono_py import SnapshotError, SnapshotManager

        place = Path(sys.argv[1])
        for name in ("open", "shut"):
            (place / name).mkdir()
            (place / name / "file").write_text("before")
        manager = SnapshotManager(place / "session", [place / "open", place / "shut"])
        manager.create_baseline()
        (place / "open" / "file").write_text("after")
        (place / "shut").chmod(0o500)
        # Landlock lets nobody list directories but these, and leaves modes alone.
        libc = ctypes.CDLL(None, use_errno=True)
        create, add, restrict, list_names, no_new_privileges = 444, 445, 446, 1 << 3, 38
        rules = libc.syscall(create, struct.pack("Q", list_names), 8, 0)
        for name in ("open", "session"):
            rule = struct.pack("=Qi", list_names, os.open(place / name, os.O_PATH))
            assert libc.syscall(add, rules, 1, rule, 0) == 0
        assert libc.prctl(no_new_privileges, 1, 0, 0, 0) == 0
        assert libc.syscall(restrict, rules, 0) == 0
        try:
            manager.restore_to(0)
        except SnapshotError as error:
            print(error.diagnostic_code, error)
        print((place / "open" / "file").read_text(), oct((place / "shut").stat().st_mode))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    error, left = done.stdout.splitlines()
    assert error.startswith(f"snapshot_failed Snapshot error: failed to open {tmp_path}/shut")
    assert left == "after 0o40500"


def test_what_cannot_be_restored_is_named_by_an_error(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for name in "ab":
        (tmp_path / "tree" / name).write_text(name)
    manager = SnapshotManager(tmp_path / "session", [tmp_path / "tree"])
    digits = manager.create_baseline().files[str(tmp_path / "tree" / "a")].hash.hex()
    for name in "ab":
        (tmp_path / "tree" / name).write_text("after")

    def lose(phase: str, done: int, total: "int | None") -> None:
        if phase == "check":
            (tmp_path / "session" / "objects" / digits[:2] / digits[2:]).unlink()

    with pytest.raises(SnapshotError, match=r"all others are: failed to write .*/tree/a ") as error:
        manager.restore_to(0, progress=lose)
    assert error.value.diagnostic_code == "restore_incomplete"
    assert [(tmp_path / "tree" / name).read_text() for name in "ab"] == ["after", "b"]


def test_another_directory_of_the_same_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        (tmp_path / name / "work").mkdir(parents=True)
        (tmp_path / name / "work" / "file").write_text(name)
    monkeypatch.chdir(tmp_path / "one")
    SnapshotManager(tmp_path / "session", ["work"]).create_baseline()
    monkeypatch.chdir(tmp_path / "other")
    manager = SnapshotManager(tmp_path / "session", ["work"])
    with pytest.raises(SnapshotError, match=f"as it was at {tmp_path}/one/work; now it is"):
        manager.restore_to(0)
    assert (tmp_path / "other" / "work" / "file").read_text() == "other"


def test_a_file_that_somebody_holds_a_lease_on_keeps_nothing_else_from_being_kept() -> None:
    program = """
        import fcntl, signal

        # The kernel asks for the lease back.
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        manager = SnapshotManager(home / "session", [tree])
        manager.create_baseline()
        for name in ("file", "sub/file"):
            (tree / name).write_text("after")
        leased = open(tree / "file", "r+")
        fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        manifest, _ = manager.create_incremental()
        print([(os.path.basename(path), reason) for path, reason in manifest.skipped])
        manager.restore_to(0)
        print((tree / "file").read_text(), (tree / "sub/file").read_text())
    """
    assert run(program) == ["[('file', 'unreadable')]", "before before"]


def test_the_reading_of_a_file_without_end_can_be_ended(tmp_path: Path) -> None:
    with (tmp_path / "endless").open("wb") as file:
        file.truncate(1 << 40)
    manager = SnapshotManager(tmp_path / "session", [tmp_path / "endless"], max_bytes=0)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        manager.create_baseline(progress=interrupt)
    assert manager.snapshot_count() == 0


def test_a_progress_that_uses_its_own_session_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    manager = SnapshotManager(tmp_path / "session", [tmp_path / "file"])
    calls: list[Callable[[], object]] = [
        manager.create_baseline,
        lambda: manager.save_session_metadata(SessionMetadata("sid", ["x"], [tmp_path])),
        lambda: SnapshotManager(tmp_path / "session", [tmp_path]).restore_to(0),
    ]
    refused = []

    def use(*_: object) -> None:
        for call in calls:
            with pytest.raises(SnapshotError, match="would wait for itself"):
                call()
            refused.append(call)

    manager.create_baseline(progress=use)
    assert set(refused) == set(calls)
    manager.create_incremental()
