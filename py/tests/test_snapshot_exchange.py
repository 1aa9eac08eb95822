"""Sessions that PyPI's nono-py 0.16.0 has made are read and restored here, and the reverse.

`vectors/snapshots/session` was made by it, of the tree that `fill` makes and `change` changes;
where it can be installed, it makes and reads sessions as the tests run.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
from nono_py import SnapshotManager
from reference import Reference

VECTORS = Path(__file__).parent / "vectors" / "snapshots"

#: Prints what a session tells: for each snapshot its root and files, and what a restore changes.
TELL = """
import json, sys
from nono_py import SnapshotManager
manager = SnapshotManager("session", ["tree"])
print(json.dumps({
    "roots": [manager.load_manifest(number).merkle_root.hex() for number in (0, 1)],
    "files": [
        {name: [state.hash.hex(), state.size, state.mtime, state.permissions]
         for name, state in manager.load_manifest(number).files.items()}
        for number in (0, 1)
    ],
    "diff": [[change.path, change.change_type] for change in manager.compute_restore_diff(0)],
}))
"""

BASELINE = """
from nono_py import SnapshotManager
SnapshotManager("session", ["tree"]).create_baseline()
"""

INCREMENTAL = """
from nono_py import SnapshotManager
SnapshotManager("session", ["tree"]).create_incremental()
"""

RESTORE = """
from nono_py import SnapshotManager
SnapshotManager("session", ["tree"]).restore_to(0)
"""


@pytest.fixture(scope="session")
def reference() -> Reference:
    return Reference()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in, so that the names in a manifest are the same everywhere."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "tree")
    return tmp_path


def fill(tree: Path) -> None:
    """Make a tree whose names sort otherwise as texts than by their parts."""
    for name, content in {
        "a.txt": "hello",
        "empty": "",
        "sub/b": "bb",
        "sub/deep/c": "c" * 2000,
        "sub-c": "y",
        "sub.d": "z",
        "umlaut ü\n": "x",
    }.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(content)
        os.utime(tree / name, (1_700_000_000, 1_700_000_000))
        (tree / name).chmod(0o640 if name == "sub/b" else 0o644)
    (tree / "link").symlink_to("a.txt")


def change(tree: Path) -> None:
    """Change, remove and make something."""
    (tree / "a.txt").write_text("changed")
    (tree / "sub-c").unlink()
    (tree / "new").write_text("n")
    for name in ("a.txt", "new"):
        os.utime(tree / name, (1_700_000_100, 1_700_000_100))
        (tree / name).chmod(0o644)


def content(tree: Path) -> "dict[str, bytes]":
    return {str(p.relative_to(tree)): p.read_bytes() for p in tree.rglob("*") if p.is_file()}


def tell() -> "dict[str, object]":
    """What a session tells here, in the words of `TELL`."""
    manager = SnapshotManager("session", ["tree"])
    manifests = [manager.load_manifest(number) for number in (0, 1)]
    return {
        "roots": [manifest.merkle_root.hex() for manifest in manifests],
        "files": [
            {
                name: [state.hash.hex(), state.size, state.mtime, state.permissions]
                for name, state in manifest.files.items()
            }
            for manifest in manifests
        ],
        "diff": [[change.path, change.change_type] for change in manager.compute_restore_diff(0)],
    }


def make() -> None:
    """A session of two snapshots, made here."""
    manager = SnapshotManager("session", ["tree"])
    manager.create_baseline()
    change(Path("tree"))
    manager.create_incremental()


def test_a_session_of_the_reference_is_restored_here(place: Path) -> None:
    before = content(place / "tree")
    change(place / "tree")
    changed = content(place / "tree")
    shutil.copytree(VECTORS / "session", place / "session")
    manager = SnapshotManager("session", ["tree"])
    assert manager.snapshot_count() == 2
    assert manager.compute_restore_diff(1) == []
    restored = [(change.path, change.change_type) for change in manager.restore_to(0)]
    assert restored == [
        ("tree/a.txt", "modified"),
        ("tree/new", "deleted"),
        ("tree/sub-c", "created"),
    ]
    assert content(place / "tree") == before
    assert (place / "tree" / "sub" / "b").stat().st_mode & 0o777 == 0o640
    manager.restore_to(1)
    assert content(place / "tree") == changed


def test_a_session_of_the_reference_goes_on_here(place: Path) -> None:
    change(place / "tree")
    shutil.copytree(VECTORS / "session", place / "session")
    (place / "tree" / "empty").write_text("no more")
    manifest, changes = SnapshotManager("session", ["tree"]).create_incremental()
    assert (manifest.number, manifest.parent) == (2, 1)
    assert [(change.path, change.change_type) for change in changes] == [("tree/empty", "modified")]


def test_equal_trees_have_equal_roots_and_changes(place: Path) -> None:
    make()
    for part in ("snapshots/000.json", "snapshots/001.json"):
        ours, theirs = (
            json.loads((home / part).read_text())
            for home in (
                place / "session",
                VECTORS / "session",
            )
        )
        for key in ("number", "parent", "symlinks", "merkle_root"):
            assert ours[key] == theirs[key], key
        known = {"hash", "size", "mtime", "permissions"}
        files = {
            name: {key: value for key, value in state.items() if key in known}
            for name, state in ours["files"].items()
        }
        assert files == theirs["files"]
    recorded = [
        json.loads((home / "changes" / "001.json").read_text())
        for home in (place / "session", VECTORS / "session")
    ]
    ours, theirs = (sorted(changes, key=lambda change: change["path"]) for changes in recorded)
    assert ours == theirs


def test_a_changed_session_of_the_reference_is_refused(place: Path) -> None:
    shutil.copytree(VECTORS / "session", place / "session")
    file = place / "session" / "snapshots" / "000.json"
    manifest = json.loads(file.read_text())
    manifest["files"]["tree/sub/b"]["hash"] = manifest["files"]["tree/a.txt"]["hash"]
    file.write_text(json.dumps(manifest))
    with pytest.raises(RuntimeError, match="Merkle root"):
        SnapshotManager("session", ["tree"]).restore_to(0)


def test_the_reference_reads_and_restores_what_is_made_here(
    place: Path, reference: Reference
) -> None:
    before = content(place / "tree")
    make()
    told = json.loads(reference.run(TELL, cwd=place))
    assert told == tell()
    reference.run(RESTORE, cwd=place)
    assert content(place / "tree") == before
    assert SnapshotManager("session", ["tree"]).compute_restore_diff(0) == []


def test_what_the_reference_makes_is_read_and_restored_here(
    place: Path, reference: Reference
) -> None:
    before = content(place / "tree")
    reference.run(BASELINE, cwd=place)
    change(place / "tree")
    reference.run(INCREMENTAL, cwd=place)
    assert json.loads(reference.run(TELL, cwd=place)) == tell()
    SnapshotManager("session", ["tree"]).restore_to(0)
    assert content(place / "tree") == before


def test_both_take_turns_in_one_session(place: Path, reference: Reference) -> None:
    tree = place / "tree"
    reference.run(BASELINE, cwd=place)
    (tree / "sub" / "b").write_text("by one")
    manifest, _ = SnapshotManager("session", ["tree"]).create_incremental()
    assert manifest.parent == 0
    (tree / "sub" / "b").write_text("by the other")
    reference.run(INCREMENTAL, cwd=place)
    manager = SnapshotManager("session", ["tree"])
    assert (manager.snapshot_count(), manager.load_manifest(2).parent) == (3, 1)
    for number, text in enumerate(("bb", "by one", "by the other")):
        manager.restore_to(number)
        assert (tree / "sub" / "b").read_text() == text
