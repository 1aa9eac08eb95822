"""The Python package: its records, its import, its size."""

from __future__ import annotations

import subprocess

from ..bench import Bench
from ..measure import Cell, Scenario
from ..peers import (
    BENCHES,
    KEY,
    OURS,
    OURS_WHEEL,
    PACKAGES,
    PROGRAMS,
    REFERENCE_WHEEL,
    Peer,
    Process,
)

PYTHONS = {**PACKAGES, "stdlib": OURS}
# What the cells are called, and how records are taken out so.
WAYS = {
    "dictionaries": "drain_audit_events",
    "objects": "drain_audit_objects",
    "JSON Lines": "drain_audit_jsonl",
}
# What the reference package keeps at most.
KEPT = 4096


def drains(bench: Bench) -> Scenario:
    scenario = Scenario(
        "drains",
        "Taking records out into Python",
        "Microseconds per record; the number is how many are taken out at once, and `first us` "
        "is the first time in a process, which pays for memory that is new to it. The reference "
        "package keeps no more than 4,096, and makes dictionaries only.",
        ["us", "first us"],
        ["us"],
        as_lines=True,
        growth="us",
    )
    for way, method in WAYS.items():
        for count in bench.settings.drains:
            has_reference = way == "dictionaries" and count <= KEPT
            names = ["nono", *(["reference"] if has_reference else [])]
            peers = [Peer(name, 0) for name in names if name not in _lost(bench)]

            def run(peer: Peer, method: str = method, count: int = count) -> dict[str, float]:
                return _drain(bench, peer, method, count)

            cell = Cell(f"{way}, {count}", count, line=way)
            bench.cell(scenario, cell, peers, run, warm=False)
            if not cell.samples:
                break
    return scenario


def _lost(bench: Bench) -> set[str]:
    return {*bench.lost, *(["nono", "stdlib"] if "nono_py" in bench.lost else [])}


def _drain(bench: Bench, peer: Peer, method: str, count: int) -> dict[str, float]:
    command = [str(PYTHONS[peer.name]), str(BENCHES / "peers" / "python_proxy.py")]
    command += ["--route", f"api=http://127.0.0.1:{bench.site.plain_port}"]
    command += ["--key", "env://BENCH_KEY", "--drain", str(count), "--method", method]
    command += ["--load", str(PROGRAMS / "bench-load")]
    process = Process(command, bench.site.out / "drain.log", env={"BENCH_KEY": KEY})
    try:
        found = process.answer()
    finally:
        process.stop()
    if why := found.get("missing"):
        raise RuntimeError(why)
    return found


def imports(bench: Bench) -> Scenario:
    scenario = Scenario(
        "imports",
        "import nono_py",
        "In a new interpreter each time; `stdlib` imports json, asyncio and ssl.",
        ["ms"],
        ["ms"],
    )

    def run(peer: Peer) -> dict[str, float]:
        names = "json, asyncio, ssl" if peer.name == "stdlib" else "nono_py"
        program = f"import time; t = time.perf_counter(); import {names}; "
        program += "print((time.perf_counter() - t) * 1000)"
        done = subprocess.run(
            [str(PYTHONS[peer.name]), "-c", program], capture_output=True, text=True, check=True
        )
        return {"ms": float(done.stdout)}

    peers = [Peer(n, 0) for n in ("nono", "reference", "stdlib") if n not in _lost(bench)]
    bench.cell(scenario, Cell("import"), peers, run)
    return scenario


def wheels(_: Bench) -> Scenario:
    scenario = Scenario(
        "wheels", "Size of the wheel", "For this platform, compressed as it is downloaded.", ["MB"]
    )
    cell = Cell("wheel")
    for name, folder in {"nono": OURS_WHEEL, "reference": REFERENCE_WHEEL}.items():
        for wheel in folder.glob("*.whl"):
            cell.samples[name] = [{"MB": wheel.stat().st_size / 1e6}]
    scenario.cells.append(cell)
    return scenario
