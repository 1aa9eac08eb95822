"""The parts, measured by criterion: what one call costs, and how that grows."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ..bench import Bench
from ..measure import Cell, Scenario
from ..peers import ROOT


def layers(bench: Bench) -> Scenario:
    scenario = Scenario(
        "layers",
        "The layers of the stack",
        "A request that a layer refuses has passed all layers before it; without sockets, its "
        "record and answer included. One that `passed` has got to a leaf that answers at once; for "
        "that of `none` there is nothing before such a leaf. `round trip` is a whole request over "
        "loopback, with a client and an upstream that do the least, in one process. Allocations "
        "are counted.",
        ["ns", "allocations"],
    )
    found = {name: _each(where) for name, where in _run(bench, "layers|round trip").items()}
    counted = _allocations(bench)
    for name, sample in found.items():
        if name in counted:
            sample["allocations"] = counted[name]
        scenario.cells.append(Cell(name.replace("layers/", ""), samples={"nono": [sample]}))
    return scenario


def hosts(bench: Bench) -> Scenario:
    note = "Whether a host may be reached, by the number of rules; `build` is making the set."
    return _growing(bench, "hosts", "Host rules", note)


def endpoints(bench: Bench) -> Scenario:
    note = (
        "Whether a route lets a method and path through, by the number of endpoint rules: found "
        "by words alone, by a rule with `*`, by one with `**`, or not at all."
    )
    return _growing(bench, "endpoints", "Endpoint rules", note)


def routes(bench: Bench) -> Scenario:
    return _growing(bench, "routes", "Routes", "Finding a path's route, by the number of routes.")


def records(bench: Bench) -> Scenario:
    note = "A record from its opening to its place in the log and out of it, by how many wait."
    scenario = _growing(bench, "records/write", "Records that wait", note)
    scenario.name = "records"
    return scenario


def record_size(bench: Bench) -> Scenario:
    note = "Writing a record, by the bytes of the path that is recorded."
    scenario = _growing(bench, "records/path", "Record size", note)
    scenario.name = "record_size"
    return scenario


def paths(bench: Bench) -> Scenario:
    note = "Judging whether a path has one meaning only, by its bytes."
    return _growing(bench, "paths", "Paths", note)


def _growing(bench: Bench, group: str, title: str, note: str) -> Scenario:
    scenario = Scenario(group, title, note, ["ns"], ["ns"], as_lines=True, growth="ns")
    cells: dict[int, Cell] = {}
    for name, folder in _run(bench, f"^{group}").items():
        case, _, many = name.partition("/")[2].rpartition("/")
        cell = cells.setdefault(int(many), Cell(f"{int(many):,}", int(many)))
        cell.samples[case] = [_each(folder)]
    scenario.cells = [cells[many] for many in sorted(cells)]
    return scenario


def _run(bench: Bench, pattern: str) -> dict[str, Path]:
    """Measures what `pattern` finds; the folders of the results by name."""
    warm, measure = bench.settings.parts
    bench.progress.step(f"parts {pattern}")
    command = ["cargo", "bench", "--quiet", "-p", "nono-benches", "--bench", "parts", "--"]
    command += ["--warm-up-time", str(warm), "--measurement-time", str(measure)]
    command += ["--sample-size", "10", "--noplot", "--save-baseline", "harness", pattern]
    _output(command)
    found = {}
    for about in sorted((ROOT / "target" / "criterion").rglob("harness/benchmark.json")):
        name = json.loads(about.read_text())["full_id"]
        if _matches(pattern, name):
            found[name] = about.parent
    return found


def _matches(pattern: str, name: str) -> bool:
    return any(name.startswith(part.lstrip("^")) for part in pattern.split("|"))


def _each(folder: Path) -> dict[str, float]:
    """Nanoseconds of one of what a sample does, and how far the samples lie apart."""
    about = json.loads((folder / "benchmark.json").read_text())
    estimates = json.loads((folder / "estimates.json").read_text())
    elements = (about.get("throughput") or {}).get("Elements", 1)
    return {"ns": estimates["median"]["point_estimate"] / elements}


def _allocations(bench: Bench) -> dict[str, float]:
    bench.progress.step("allocations")
    command = ["cargo", "bench", "--quiet", "-p", "nono-benches", "--bench", "allocations"]
    return json.loads(_output(command).splitlines()[-1])


def _output(command: list[str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, start_new_session=True, timeout=900
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-500:]}")
    return done.stdout
