#!/usr/bin/env python3
"""Measures the proxy and the sandbox beside what does the same work.

`make bench` builds what this needs and runs it; `benches/README.md` says how to read the result.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import signal
import sys

from harness import machine, readme
from harness.bench import Bench
from harness.measure import Progress, Scenario
from harness.peers import BENCHES, OUT, ROOT, Process, Site, missing
from harness.report import Report
from harness.scenarios import SCENARIOS
from harness.settings import FULL, QUICK

KEPT = BENCHES / "report"


def main() -> None:
    arguments = parse()
    if arguments.readme:
        readme.write(Report.read(KEPT / "report.json"), ROOT / "README.md", KEPT)
        return
    report = measure(arguments)
    # A quick or partial run is not one to keep, unless it is asked to complete one that is.
    is_whole = not arguments.quick and not arguments.only
    folder = KEPT if is_whole or arguments.merge else OUT
    name = "quick" if arguments.quick else "report"
    if arguments.merge and (KEPT / "report.json").exists():
        report.add_older(Report.read(KEPT / "report.json"), list(SCENARIOS))
        report.command = "make bench"
    print(report.write(folder, name))
    print(f"written: {folder}/{name}.md, .json, .svg", file=sys.stderr)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--only", help=f"some of {','.join(SCENARIOS)}")
    parser.add_argument("--rounds", type=int, help="how often each is measured")
    parser.add_argument("--seconds", type=float, help="how long each round of requests is")
    parser.add_argument(
        "--merge",
        action="store_true",
        help="put what --only names into benches/report, beside what is there",
    )
    parser.add_argument(
        "--readme", action="store_true", help="measure nothing; show the report in README.md"
    )
    arguments = parser.parse_args()
    arguments.only = arguments.only.split(",") if arguments.only else []
    if unknown := set(arguments.only) - set(SCENARIOS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if arguments.merge and arguments.quick:
        parser.error("a quick run is not one to keep; leave out --quick or --merge")
    return arguments


def measure(arguments: argparse.Namespace) -> Report:
    lost = missing()
    for what, why in lost.items():
        print(f"not installed: {what}; left out: {why}", file=sys.stderr)
    changes = {"rounds": arguments.rounds, "seconds": arguments.seconds}
    changes = {name: value for name, value in changes.items() if value}
    settings = dataclasses.replace(QUICK if arguments.quick else FULL, **changes)
    # Also when it is told to end, nothing is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # The widest runs hold more connections than most systems allow a process at first.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    command = "make bench-quick" if arguments.quick else "make bench"
    if len(sys.argv) > 1 + arguments.quick:
        command = f"benches/run.py {' '.join(sys.argv[1:])}"
    report = Report(command, machine.describe(), lost)
    run = {"command": command, **{key: str(report.machine[key]) for key in ("date", "commit")}}
    try:
        bench = Bench(Site(), settings, lost, Progress())
        for name, scenario in SCENARIOS.items():
            if name in (arguments.only or SCENARIOS.keys() - settings.left_out):
                report.scenarios.append(attempt(name, lambda s=scenario: s(bench)))
                report.scenarios[-1].run = run
    finally:
        Process.stop_all()
    return report


def attempt(name: str, scenario: object) -> Scenario:
    """The scenario, or one that says why there is none: the others are worth having."""
    try:
        return scenario()
    except RuntimeError as error:
        return Scenario(name, name, "", [], errors=[str(error)])


if __name__ == "__main__":
    main()
