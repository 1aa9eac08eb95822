"""The demonstration, as a user runs it."""

import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from nono_py._demo import main

COMMAND = [sys.executable, "-m", "nono_py", "demo"]


@pytest.fixture(scope="module")
def account() -> "subprocess.CompletedProcess[str]":
    return subprocess.run(COMMAND, capture_output=True, text=True, timeout=120)


def test_meets_every_expectation(account: "subprocess.CompletedProcess[str]") -> None:
    assert account.returncode == 0, account.stdout + account.stderr
    assert "✘" not in account.stdout
    assert account.stdout.count("✔") >= 20
    assert account.stderr == ""


def test_shows_the_audit_events(account: "subprocess.CompletedProcess[str]") -> None:
    table = account.stdout.partition("The audit events")[2]
    assert len(re.findall(r" reverse +allow +200 ", table)) == 2
    assert len(re.findall(r" deny +40[013] ", table)) == 4


def test_shows_no_key(account: "subprocess.CompletedProcess[str]") -> None:
    assert not re.search(r"sk-demo-[0-9a-f]{32}", account.stdout)


def test_fails_when_an_expectation_is_not_met(tmp_path: Path) -> None:
    # The upstream answers with errors, as it would to a wrong key: the agent gets no answer.
    patch = tmp_path / "sitecustomize.py"
    patch.write_text(
        "import http.server as server\n"
        "send = server.BaseHTTPRequestHandler.send_response\n"
        "server.BaseHTTPRequestHandler.send_response = lambda self, code, message=None: "
        "send(self, 500, message)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 1
    assert "✘ the agent gets an answer" in done.stdout


def test_says_what_is_missing(tmp_path: Path) -> None:
    patch = tmp_path / "sitecustomize.py"
    patch.write_text(
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, package=None: "
        "None if name == 'trustme' else find(name, package)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 2
    assert "pip install trustme" in done.stdout


def test_says_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    said = StringIO()
    monkeypatch.setattr(sys, "platform", "darwin")
    with redirect_stdout(said):
        assert main() == 2
    assert "Linux" in said.getvalue()
