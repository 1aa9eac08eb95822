"""Programs led through an intercepting proxy by their environment alone."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from nono_py import ProxyHandle

if TYPE_CHECKING:
    from nono_py._nono_py import NetworkAuditEvent


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip where one of the programs is not installed."""
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def run(proxy: ProxyHandle, *command: str, cwd: Path | None = None) -> str:
    """Run a program that knows of the proxy by its environment alone; return what it prints."""
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd or "/nonexistent"), **proxy.env_vars()}
    env["OPENAI_API_KEY"] = env["NONO_PROXY_TOKEN"]
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def inner(proxy: ProxyHandle) -> "list[NetworkAuditEvent]":
    """Return the events of the requests inside tunnels, once all is over."""
    proxy.shutdown()
    events = proxy.drain_audit_events()
    ended = [event for event in events if event["denial_category"] != "authentication_failed"]
    assert {event["mode"] for event in ended} == {"connect_intercept"}
    return [event for event in ended if event["method"] != "CONNECT"]
