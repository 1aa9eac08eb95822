"""The documentation: it builds, its examples run and say what they say, its tables are in step."""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import nono_py
import pytest
from nono_py import _nono_py

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


@pytest.mark.parametrize("page", sorted(DOCS.glob("api/*.md")), ids=lambda page: page.stem)
def test_the_programs_of_a_page_run(page: Path, tmp_path: Path) -> None:
    programs = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(programs)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")


def documented() -> Iterator[tuple[str, str | None, object]]:
    """Yield what the stub has of the extension: its name, what is said of it, and it itself."""
    stub = ROOT / "py/python/nono_py/_nono_py.pyi"
    for top in ast.parse(stub.read_text()).body:
        if not isinstance(top, ast.ClassDef | ast.FunctionDef) or top.name.startswith("_"):
            continue
        item = getattr(_nono_py, top.name, None)
        yield top.name, ast.get_docstring(top), item
        for part in top.body:
            if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                own = inspect.getattr_static(item, part.name, None)
                own = own.__func__ if isinstance(own, staticmethod) else own
                yield f"{top.name}.{part.name}", ast.get_docstring(part), own


def test_whatever_is_public_says_what_it_is_in_editors_and_to_help() -> None:
    missing = [name for name, said, _ in documented() if said is None]
    for name in nono_py.__all__:
        item = getattr(nono_py, name)
        if not isinstance(item, str | ModuleType) and not inspect.getdoc(item):
            missing.append(name)
    assert missing == []
    # Shapes of results are in the stub alone.
    differing = [
        name
        for name, said, item in documented()
        if item is not None and (said or "").split() != (item.__doc__ or "").split()
    ]
    assert differing == []


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


class Programs(HTMLParser):
    """The blocks of code of a page, as they are read."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.is_inside = False
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "pre":
            self.is_inside = True
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        self.is_inside = self.is_inside and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self.is_inside:
            self.found[-1] += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    place = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(place)],
        capture_output=True,
        text=True,
        cwd=ROOT / "py",
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return place


def test_every_example_is_in_the_site_as_it_is_run(site: Path) -> None:
    shown = [program for page in site.rglob("*.html") for program in Programs(page).found]
    sources = {name: (EXAMPLES / f"{name}.py").read_text() for name in SAID}
    missing = {name for name, source in sources.items() if source not in shown}
    assert missing == {"api"}
    assert [program for program in shown if "--8" in program] == []


def test_the_site_has_every_public_name(site: Path) -> None:
    places = json.loads((site / "search/search_index.json").read_text())["docs"]
    found = {place["location"].partition("#")[2] for place in places}
    missing = {name for name in nono_py.__all__ if f"nono_py.{name}" not in found}
    errors = {name for name in missing if f"nono_py._errors.{name}" in found}
    assert missing - errors == {"__version__"}
