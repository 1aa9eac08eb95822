"""Where and with what a run was made."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

from .peers import LITELLM, REFERENCE, ROOT, WORKERS


def describe() -> dict[str, object]:
    """Machine, system and versions, as the report shows them."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1])
    changed = _first(["git", "status", "--porcelain", "--untracked-files=no"], r".+")
    commit = _first(["git", "rev-parse", "--short=12", "HEAD"], r"\w+")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": f"{commit} with changes" if changed else commit,
        "processor": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "memory": f"{memory / 1024 / 1024:.1f} GiB",
        "kernel": platform.release(),
        "TCP": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "workers of the proxy": WORKERS,
        "rustc": _first(["rustc", "--version"], r"rustc ([\d.]+)"),
        "python": platform.python_version(),
        "nginx": _first(["nginx", "-v"], r"nginx/([\d.]+)"),
        "haproxy": _first(["haproxy", "-v"], r"version ([\d.]+)"),
        "squid": _first(["squid", "-v"], r"Version ([\d.]+)"),
        "wrk": _first(["wrk", "-v"], r"wrk \S*?([\d.]{3,})"),
        "bubblewrap": _first(["bwrap", "--version"], r"bubblewrap ([\d.]+)"),
        "valgrind": _first(["valgrind", "--version"], r"valgrind-([\d.]+)"),
        "litellm": _first([str(LITELLM.with_name("pip")), "show", "litellm"], r"Version: ([\d.]+)"),
        "reference": _first([str(REFERENCE), "-m", "pip", "show", "nono-py"], r"Version: ([\d.]+)"),
    }


def _first(command: list[str], pattern: str) -> str | None:
    """What `pattern` finds in the output of `command`."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=20)
    except OSError:
        return None
    found = re.search(pattern, done.stdout + done.stderr)
    return (found[1] if found.groups() else found[0]) if found else None
