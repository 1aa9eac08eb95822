"""`python -m nono_py` in a directory that an agent could write: nothing there is run outside of the
sandbox, and no agent is let write there by it."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

MODULE = [sys.executable, "-m", "nono_py"]
SAFE = [sys.executable, "-P", "-m", "nono_py"]
#: As it is installed.
SCRIPT = [str(Path(sysconfig.get_path("scripts"), "nono-py"))]
GROUPS = ["-g", "system_read_linux"]


def call(command: list[str], *words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, cwd=cwd)


@pytest.mark.parametrize(
    "words",
    [
        ["run", *GROUPS, "--read", ".", "--", "true"],
        ["learn", "--", "true"],
        ["explain", "--path", "/etc"],
        ["policy", "groups"],
        ["audit", "stats", "log"],
        ["credential", "check", "env://PATH"],
        ["support"],
    ],
    ids=lambda words: str(words[0]),
)
def test_no_module_of_the_working_directory_is_imported(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text("import sys; print(*sys.modules)")
    finding = call([sys.executable, "-m", "probe"], cwd=tmp_path).stdout.split()
    # What Python itself imports to find a module for `-m`, nobody can leave out.
    left = sys.stdlib_module_names.difference(finding)
    assert {"argparse", "json", "shlex", "signal"} <= left
    for name in [*left, "openai", "trustme", "typing_extensions"]:
        (tmp_path / f"{name}.py").write_text(f"open('taken', 'a').write('{name} ')\n")
    done = call(MODULE, *words, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "taken").exists(), (tmp_path / "taken").read_text()


@pytest.mark.parametrize("bare", [[], ["--bare", "--read", "/"]])
@pytest.mark.parametrize("grant", ["--allow", "--write"])
def test_a_command_that_may_write_where_modules_are_looked_for_is_refused(
    grant: str, bare: list[str], tmp_path: Path
) -> None:
    place, ran = tmp_path / "project", tmp_path / "out" / "ran"
    (place / "sub").mkdir(parents=True)
    ran.parent.mkdir()
    words = ["--write", str(ran.parent), "--", "sh", "-c", f"echo > {ran}"]
    given = bare or GROUPS
    for written in (".", "..", str(place)):
        done = call(MODULE, "run", *given, grant, written, *words, cwd=place)
        assert (done.returncode, done.stdout) == (125, "")
        assert f"may write {place}" in done.stderr
        assert "`nono-py`" in done.stderr
        assert not ran.exists()
    commands = [(SCRIPT, "."), (MODULE, "sub")]
    commands += [(SAFE, ".")] if sys.version_info >= (3, 11) else []
    for command, written in commands:
        done = call(command, "run", *given, grant, written, *words, cwd=place)
        assert (done.returncode, done.stderr) == (0, "")
        ran.unlink()


def test_a_program_of_ones_own_is_still_found_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine_nono_py").mkdir()
    (tmp_path / "mine_nono_py/__init__.py").write_text("import nono_py, beside\n")
    (tmp_path / "mine_nono_py/__main__.py").write_text("import beside; print(beside.__name__)\n")
    (tmp_path / "beside.py").touch()
    done = call([sys.executable, "-m", "mine_nono_py"], cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("beside\n", "")
