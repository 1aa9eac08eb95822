"""The documentation: it builds, its examples run and say what they say, its tables are in step."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nono_py
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "py/examples"
DOCS = ROOT / "py/docs"
#: What each example says, among other things.
SAID = {
    "api": [],
    "audit": ["refused: unknown_route", "allow 127.0.0.1 200", "3 lines in 1 files are as they"],
    "first": ["OPENAI_BASE_URL=http://127.0.0.1:", "OPENAI_API_KEY="],
    "llm": ["the API says: b'welcome'"],
    "load": ["direct: ", "through the proxy: "],
    "policies": ["0 hello", "pypi.org:443: allowed", "example.com:443: denied"],
    "questions": ["but only to read", "attempts, all denied: True"],
    "untrusted": ["could not read a file of yours", "its answer: 42"],
}


def test_every_example_is_run() -> None:
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted(SAID)
    included = {
        name for page in DOCS.rglob("*.md") for name in re.findall(r'"(\w+)\.py"', page.read_text())
    }
    assert included == set(SAID) - {"api"}


@pytest.mark.parametrize("name", SAID)
def test_an_example_says_what_it_shows(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [said for said in SAID[name] if said not in done.stdout] == []
    assert "sk-" not in done.stdout
    assert "could read" not in done.stdout


@pytest.mark.parametrize("readme", ["README.md", "py/README.md"])
def test_the_first_program_of_a_readme_is_the_example(readme: str) -> None:
    programs = re.findall(r"```python\n(.*?)```", (ROOT / readme).read_text(), re.DOTALL)
    assert programs[0] == (EXAMPLES / "first.py").read_text().partition("\n\n")[2]


def test_the_table_of_refusals_is_in_step_with_the_proxy() -> None:
    command = [sys.executable, str(DOCS / "refusals.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    # Every code that the proxy's own table has is in there.
    layers = ROOT / "proxy/src/layers/respond"
    codes = set(re.findall(r'"([a-z_]+)",\s*Category::', (layers / "table.rs").read_text()))
    codes |= set(re.findall(r'code: "([a-z_]+)"', (layers / "table.rs").read_text()))
    page = (DOCS / "refusals.md").read_text()
    assert len(codes) > 20
    assert [code for code in sorted(codes) if f"`{code}`" not in page] == []


def test_the_site_builds_without_a_warning_and_has_every_public_name(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT / "py",
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    places = json.loads((tmp_path / "search/search_index.json").read_text())["docs"]
    found = {place["location"].partition("#")[2] for place in places}
    missing = {name for name in nono_py.__all__ if f"nono_py.{name}" not in found}
    errors = {name for name in missing if f"nono_py._errors.{name}" in found}
    assert missing - errors == {"__version__"}
