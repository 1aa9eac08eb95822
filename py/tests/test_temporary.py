"""The directory for a run's temporary files goes, whatever a program has put there to keep it, and
what does not go is said beside the result."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from nono_py import CapabilitySet, _temporary, learn, load_policy, run

SYSTEM = ["system_read_linux", "system_write_linux"]
#: Deeper than Python recurses.
DEEP = 1200


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_tree_of_any_depth_is_removed(place: Path) -> None:
    source = "import os\nos.chdir(os.environ['TMPDIR'])\n"
    source += f"for _ in range({DEEP}): os.mkdir('d'); os.chdir('d'); open('file', 'w').close()"
    caps = CapabilitySet()
    caps.allow_interpreter()
    done = run(None, SYSTEM, [sys.executable, "-c", source], caps=caps)
    assert (done.exit_code, done.stderr, done.notes) == (0, b"", [])
    assert list(place.iterdir()) == []


#: As somebody whom modes hold: a tree that is closed to its owner, whose links lead out of it.
CLOSED = """
import os, sys
from nono_py import _temporary
if os.getuid() == 0:
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
os.environ["TMPDIR"] = place = sys.argv[1]
os.mkdir(f"{place}/outside")
for name in ("file", "outside"):
    open(f"{place}/{name}" if name == "file" else f"{place}/outside/kept", "w").close()
os.chmod(f"{place}/file", 0o444)
os.chmod(f"{place}/outside", 0o555)
notes = []
with _temporary.directory(notes) as path:
    for mode in (0o000, 0o111, 0o222, 0o444, 0o555):
        closed = f"{path}/{mode:o}"
        os.makedirs(f"{closed}/inner/empty")
        open(f"{closed}/inner/own", "w").close()
        for name in ("file", "outside"):
            os.symlink(f"{place}/{name}", f"{closed}/{name}")
            os.symlink(f"{place}/{name}", f"{closed}/inner/{name}")
        os.chmod(f"{closed}/inner", mode)
        os.chmod(closed, mode)
    os.chmod(path, 0o000)
assert notes == [], notes
modes = {name: oct(os.stat(f"{place}/{name}").st_mode & 0o777) for name in os.listdir(place)}
assert modes == {"file": "0o444", "outside": "0o555"}, modes
assert os.listdir(f"{place}/outside") == ["kept"]
"""


def test_a_closed_tree_is_removed_and_its_links_are_not_followed() -> None:
    # Where somebody else may come, too.
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o777)
        command = [sys.executable, "-c", CLOSED, place]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


def test_another_directory_under_the_same_name_is_left(place: Path) -> None:
    notes: list[str] = []
    (place / "mine").mkdir()
    (place / "mine/file").touch()
    with _temporary.directory(notes) as path:
        Path(path, "file").touch()
        Path(path).rename(place / "moved")
        (place / "mine").rename(path)
    (note,) = notes
    assert path in note
    assert Path(path, "file").exists()
    assert list((place / "moved").iterdir()) == []


def test_a_directory_that_is_gone_is_no_matter(place: Path) -> None:
    notes: list[str] = []
    with _temporary.directory(notes) as path:
        Path(path).rmdir()
    assert (notes, list(place.iterdir())) == ([], [])


def test_what_cannot_be_removed_is_noted_and_the_result_stays(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, *, dir_fd: int) -> None:
        raise PermissionError(1, "Operation not permitted", name)

    monkeypatch.setattr(os, "unlink", refuse)
    command = ["sh", "-c", ": > $TMPDIR/kept; exit 3"]
    done, learned = run(None, SYSTEM, command), learn(command)
    monkeypatch.undo()
    assert (done.exit_code, learned.result.exit_code) == (3, 3)
    for note, left in zip(sorted(done.notes + learned.notes), sorted(place.iterdir()), strict=True):
        assert str(left) in note
        assert "Operation not permitted: 'kept'" in note


def test_what_was_recorded_before_an_interruption_is_on_the_exception(place: Path) -> None:
    group = """{"groups": {"g": {"description": "d",
        "allow": {"read": ["/usr", "/bin", "/lib", "/lib64", "/etc"], "write": ["/dev/null"]},
        "network": {"allow_domain": ["example.com"]}}}}"""
    script = "curl -s http://refused.example/; echo >&2; exec sleep 60"
    reader, writer = os.pipe()

    def interrupt() -> None:
        os.read(reader, 1)  # The request was refused.
        signal.raise_signal(signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    with pytest.raises(KeyboardInterrupt) as raised:
        run(load_policy(group), ["g"], ["sh", "-c", script], stderr=writer)
    other.join()
    os.close(reader)
    os.close(writer)
    kept = vars(raised.value)
    assert [event["target"] for event in kept["events"]] == ["refused.example"]
    assert kept["notes"] == []
    assert list(place.iterdir()) == []
