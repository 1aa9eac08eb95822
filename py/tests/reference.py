"""PyPI's nono-py 0.16.0, in a virtual environment of its own: programs run with it as they are."""

import subprocess
import sys
from pathlib import Path

import pytest

VERSION = "0.16.0"

#: It is kept between runs.
HOME = Path(__file__).resolve().parents[2] / "target" / f"test-reference-{VERSION}"


class Reference:
    """An interpreter that imports the reference package as `nono_py`."""

    def __init__(self) -> None:
        """Skip the test where it cannot be installed."""
        self.python = HOME / "bin" / "python"
        complete = HOME / "complete"
        if complete.exists():
            return
        install = ["-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "10"]
        commands: list[list[str | Path]] = [
            [sys.executable, "-m", "venv", "--clear", HOME],
            [self.python, *install, f"nono-py=={VERSION}"],
        ]
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                why = (done.stderr or done.stdout).strip().splitlines()
                pytest.skip(f"nono-py {VERSION} cannot be installed: {''.join(why[-1:])}")
        complete.touch()

    def run(self, program: str, *arguments: "str | Path", cwd: Path) -> str:
        """Run a program and return what it prints; fail where it does."""
        command = [self.python, "-I", "-c", program, *arguments]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout
