"""The load generators, and what they say."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from .peers import PROGRAMS, Peer


def wrk(peer: Peer, url: str, connections: int, seconds: float) -> dict[str, float]:
    """Small GETs in a closed loop."""
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{max(round(seconds), 1)}s",
        "--latency",
        "--timeout",
        "10s",
    ]
    out = _run([*command, "-H", peer.header, url], seconds + 30)
    if "Non-2xx" in out or ("Socket errors" in out and _failures(out)):
        raise RuntimeError(f"{peer.name}: requests failed:\n{out}")
    done = int(re.search(r"(\d+) requests in", out)[1])
    elapsed = _seconds(re.search(r"requests in ([\d.]+\w+)", out)[1])
    found = {"requests": done, "req/s": done / elapsed}
    for share in ("50", "99"):
        found[f"p{share} ms"] = _seconds(re.search(rf"{share}%\s+([\d.]+\w+)", out)[1]) * 1000
    return found


def own(mode: str, peer: Peer, path: str, *arguments: object) -> dict[str, float]:
    """A run of `bench-load`."""
    command = [str(PROGRAMS / "bench-load"), mode, "--port", str(peer.port), "--path", path]
    command += ["--header", peer.header, *map(str, arguments)]
    return json.loads(_run(command, 150))


def curl(peer: Peer, url: str, size: int, *arguments: str) -> dict[str, float]:
    """One download of `size` bytes that nothing is done with."""
    # Neither the user's settings nor the environment's proxies.
    command = ["curl", "-q", "--noproxy", "", "--proxy", ""]
    command += ["--silent", "--show-error", "--fail", "--output", "/dev/null"]
    command += ["--write-out", "%{json}", "--header", peer.header, *arguments]
    found = json.loads(_run([*command, url], 150))
    if found["size_download"] != size:
        raise RuntimeError(f"{peer.name}: {found['size_download']} bytes came, not {size}")
    return {"bytes": size, "seconds": found["time_total"]}


def _run(command: list[str], limit: float) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=limit, start_new_session=True
    )
    if done.returncode != 0:
        # Not the whole command: a token is in it.
        raise RuntimeError(f"{Path(command[0]).name}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _failures(out: str) -> bool:
    # A connection that the server closes after its answer is counted as a read error by wrk when
    # the close comes late; what counts here is that every answer came.
    found = re.search(r"connect (\d+), read \d+, write (\d+), timeout (\d+)", out)
    return any(int(number) for number in found.groups())


def _seconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", text).groups()
    return float(number) * {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60}[unit]
