"""Running programs in a sandbox."""

from __future__ import annotations

from ..bench import Bench
from ..measure import Cell, Scenario
from ..peers import BENCHES, OURS, REFERENCE, Peer, Process

PYTHONS = {"reference": REFERENCE}
SCRIPT = BENCHES / "peers" / "python_exec.py"


def execs(bench: Bench) -> Scenario:
    scenario = Scenario(
        "execs",
        "Running /bin/true",
        "`sandboxed_exec` with read access to the system's directories and without network, from "
        "a Python process that is small or has 2 GiB in pages of 4 KiB, with one or 50 threads; "
        "beside `subprocess.run`, which confines nothing, and bubblewrap by `subprocess.run`. "
        "Both streams of output are collected. Each round is a new process. The reference package "
        "refuses to run from a process with threads.",
        ["ms", "p99 ms"],
        ["ms"],
    )
    names = ["nono", "subprocess", "bubblewrap", "reference"]
    for name, mebibytes, threads, limit in bench.settings.execs:
        options = ["--parent-mib", mebibytes, "--threads", threads]
        options += ["--count", bench.settings.exec_count]
        if limit:
            options += ["--timeout", limit]
        able = names if threads == 1 else names[:-1]
        _cell(bench, scenario, Cell(name), able, options)
    return scenario


def fan_out(bench: Bench) -> Scenario:
    width, count = bench.settings.fan_out
    scenario = Scenario(
        "fan_out",
        "Running /bin/true, many at once",
        f"{count} in all, {width} at once, in one event loop: by `sandboxed_exec_async`, and by "
        "`asyncio.create_subprocess_exec`, which confines nothing. The reference package has no "
        "such call: its own runs in threads.",
        ["runs/s", "ms"],
        ["runs/s"],
    )
    options = ["--at-once", width, "--count", count]
    names = ["nono", "subprocess", "reference"]
    _cell(bench, scenario, Cell(f"{width} at once"), names, options)
    return scenario


def paths(bench: Bench) -> Scenario:
    scenario = Scenario(
        "exec_paths",
        "Running /bin/true, by paths granted",
        "As above from a small parent; what grows is the set of rules that is built for each run.",
        ["ms"],
        ["ms"],
        growth="ms",
    )
    for many in bench.settings.exec_paths:
        options = ["--paths", many, "--count", bench.settings.exec_count]
        options += ["--folder", bench.site.out / "granted"]
        _cell(bench, scenario, Cell(f"{many} paths", many), ["nono", "reference"], options)
    return scenario


def _cell(
    bench: Bench, scenario: Scenario, cell: Cell, names: list[str], options: list[object]
) -> None:
    def run(peer: Peer) -> dict[str, float]:
        python = PYTHONS.get(peer.name, OURS)
        command = [python, SCRIPT, peer.name, *options]
        process = Process(list(map(str, command)), bench.site.out / "exec.log")
        try:
            found = process.answer(120)
        finally:
            process.stop()
        if why := found.get("missing"):
            raise RuntimeError(why)
        return found

    lost = {*bench.lost, *(["nono", "subprocess"] if "nono_py" in bench.lost else [])}
    peers = [Peer(name, 0) for name in names if name not in lost]
    bench.cell(scenario, cell, peers, run, warm=False)
