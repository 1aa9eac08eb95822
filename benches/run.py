#!/usr/bin/env python3
"""Measures the proxy beside the bare origin, nginx, HAProxy, squid and the reference package.

`make bench` builds what this needs and runs it; `benches/README.md` says how to read the result.
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys

from harness import machine, report
from harness.measure import Progress
from harness.peers import BENCHES, OUT, Process, Site, missing
from harness.scenarios import FULL, QUICK, Bench

SCENARIOS = ["plain", "tls", "bodies", "events", "tunnels", "setups", "idle", "python"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--only", help=f"some of {','.join(SCENARIOS)}")
    arguments = parser.parse_args()
    only = arguments.only.split(",") if arguments.only else SCENARIOS
    if unknown := set(only) - set(SCENARIOS):
        parser.error(f"unknown: {', '.join(unknown)}")

    lost = missing()
    for what, why in lost.items():
        print(f"not installed: {what}; left out: {why}", file=sys.stderr)
    settings = QUICK if arguments.quick else FULL
    # Also when it is told to end, nothing is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # The widest runs hold more connections than most systems allow a process at first.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    about = machine.describe()
    found = []
    try:
        bench = Bench(Site(), settings, lost, Progress())
        for name in SCENARIOS:
            if name in only and not (name == "python" and "nono_py" in lost):
                found.append(getattr(bench, name)())
    finally:
        Process.stop_all()
    # A quick or partial run is not one to keep.
    whole = not arguments.quick and only == SCENARIOS
    folder = BENCHES / "report" if whole else OUT
    command = "make bench-quick" if arguments.quick else "make bench"
    if arguments.only:
        command = f"benches/run.py {' '.join(sys.argv[1:])}"
    name = "quick" if arguments.quick else "report"
    print(report.write(folder, name, about, found, lost, command))
    print(f"written: {folder}/{name}.md, .json, .svg", file=sys.stderr)


if __name__ == "__main__":
    main()
