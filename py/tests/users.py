"""Programs that run as another user."""

import subprocess
import sys
import textwrap
from pathlib import Path

import nono_py
import pytest


def interpreter(user: int | None) -> str:
    """Find an interpreter that a user can run."""
    if user is None:
        return sys.executable
    for candidate in [sys.executable, "/usr/bin/python3"]:
        try:
            subprocess.run(
                [candidate, "-c", "import sys; assert sys.version_info >= (3, 10)"],
                check=True,
                user=user,
                group=user,
                extra_groups=[],
                capture_output=True,
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    pytest.skip("no interpreter that every user can run")


def run_as(user: int | None, code: str) -> "subprocess.CompletedProcess[str]":
    """Run a program that uses the package, as a user or with None as this one."""
    return subprocess.run(
        [interpreter(user), "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        cwd="/",
        env={"PYTHONPATH": str(Path(nono_py.__file__).parent.parent)},
    )
