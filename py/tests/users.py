"""Programs that run as another user."""

import subprocess
import sys

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
