#!/usr/bin/env python3
"""Does with the package what the benchmarks do, briefly and beside nobody: `maturin build --pgo`
runs this with a package that counts what it executes, and then builds the one that is published by
those counts. What is not done here is taken for rare, and made small rather than quick.

With `--missing` it only says what is not there that it needs; it fails then.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

os.environ["BENCH_PYTHON"] = sys.executable

from harness.bench import Bench
from harness.load import wrk
from harness.measure import Progress
from harness.peers import BENCHES, PACKAGES, Process, Site, missing, needed
from harness.scenarios import SCENARIOS
from harness.settings import QUICK

LESSONS = [
    *("plain", "tls", "bodies", "events", "sockets", "tunnels", "setups"),
    *("inside_bulk", "handshakes", "inside", "execs", "fan_out", "drains", "snapshots"),
]
SETTINGS = dataclasses.replace(
    QUICK,
    rounds=1,
    plain=[1, 16, 256],
    bodies=[("1 kB", 1000, 16), ("100 kB", 100_000, 16)],
    execs=[("small parent", 0, 1, None), ("time limit, 50 threads", 0, 50, 10)],
)
# All but this package.
OTHERS = {
    *("nginx-1", "nginx-n", "haproxy", "haproxy-relay", "squid", "reference", "untrained"),
    *("subprocess", "bubblewrap", "git"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--missing", action="store_true")
    if parser.parse_args().missing:
        absent = [*needed(), *([] if has_merger() else ["llvm-profdata, of llvm-tools"])]
        if absent:
            print(f"{', '.join(absent)} not there; see `make bench-programs`")
            sys.exit(1)
        return
    train()


def has_merger() -> bool:
    """Whether the compiler has what merges the counts: only one of its own version can."""
    command = ["rustc", "--print", "target-libdir"]
    about = subprocess.run(command, capture_output=True, text=True, check=True)
    return (Path(about.stdout.strip()).parent / "bin" / "llvm-profdata").exists()


def train() -> None:
    alone = dict.fromkeys(OTHERS, "not what is trained") | missing()
    try:
        bench = Bench(Site(), SETTINGS, alone, Progress())
        for name in LESSONS:
            failed = SCENARIOS[name](bench).errors
            if failed:
                sys.exit(f"{name}: {'; '.join(failed)}")
        keep(bench)
    finally:
        Process.stop_all()


def keep(bench: Bench) -> None:
    """Records that are kept in a file, and sent to a collector."""
    site = bench.site
    sinks = {
        "--audit-file": str(site.out / "records.jsonl"),
        "--otlp": f"http://127.0.0.1:{site.stream_port}",
    }
    command = [str(PACKAGES["nono"]), str(BENCHES / "peers" / "python_proxy.py")]
    for option, place in sinks.items():
        peer = site.package("nono", [*command, option, place])
        wrk(peer, f"http://127.0.0.1:{peer.port}{peer.plain}small", 64, 1)


if __name__ == "__main__":
    main()
