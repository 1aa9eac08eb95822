#!/usr/bin/env python3
"""Has the proxy go through the benchmarks with nobody beside it, so that a build that counts learns
which ways through the code are taken. Nothing comes of the figures; see `benches/profile`.
"""

from __future__ import annotations

import dataclasses

from harness.bench import Bench
from harness.measure import Progress
from harness.peers import Process, Site, missing
from harness.scenarios import SCENARIOS
from harness.settings import QUICK

LESSONS = ["plain", "tls", "bodies", "events", "sockets", "tunnels", "setups"]
LESSONS += ["inside", "handshakes", "inside_bulk"]
OTHERS = ["nginx-1", "nginx-n", "haproxy", "haproxy-relay", "squid", "reference"]


def main() -> None:
    missing()
    settings = dataclasses.replace(QUICK, rounds=1, seconds=1, plain=[1, 64], tls=[1, 64])
    try:
        bench = Bench(Site(), settings, dict.fromkeys(OTHERS, ""), Progress())
        for lesson in LESSONS:
            if errors := SCENARIOS[lesson](bench).errors:
                raise RuntimeError("\n".join(errors))
    finally:
        Process.stop_all()


if __name__ == "__main__":
    main()
