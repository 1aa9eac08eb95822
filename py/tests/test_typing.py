"""What type checkers see: strict, of the stub, of the examples, and of a user's program."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_pyright_has_nothing_to_say_and_sees_the_mistakes() -> None:
    pytest.importorskip("basedpyright")
    # In `typing/program.py` each mistake is marked: one that is not seen is an error too.
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--project", str(ROOT), "--outputjson"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    said = [f"{item['file']}: {item['message']}" for item in found["generalDiagnostics"]]
    assert said == []
    assert found["summary"]["filesAnalyzed"] >= 10
