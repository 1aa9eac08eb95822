"""What `allow_interpreter` grants, and what not, wherever Python happens to run."""

import sys
from pathlib import Path

import pytest
from nono_py import CapabilitySet


def granted() -> set[Path]:
    caps = CapabilitySet()
    caps.allow_interpreter()
    return {Path(grant.resolved) for grant in caps.fs_capabilities()}


@pytest.mark.parametrize("executable", ["", None])
def test_without_a_program_of_its_own_nothing_of_the_working_directory_is_granted(
    executable: str | None, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = place / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    monkeypatch.setattr(sys, "executable", executable)
    assert not granted() & {inner, *inner.parents}


def test_an_import_path_that_cannot_be_looked_at_is_passed_over(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the system refuses a name that is too long, it refuses who may not search a directory.
    unseen = [str(place / ("x" * 300)), f"{place}/\0"]
    monkeypatch.setattr(sys, "path", [*unseen, *sys.path, str(place)])
    assert place in granted()
