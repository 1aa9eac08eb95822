#!/usr/bin/env python3
"""Counts the instructions that the proxy's process executes per request, by callgrind.

Wall time is noise on a shared machine; instructions in user space are not. Each case runs twice,
with few and with many requests, and the difference is divided by the difference: what start,
first connection and end cost drops out. The client and the upstream are other processes and are
not counted. The proxy has one worker, and a client that asks one thing after the other.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from dataclasses import replace

from harness.load import own
from harness.peers import OUT, PROGRAMS, Peer, Process, Site

FEW, MANY = 100, 600
# Name, mode of the load generator, where, and how large a body is sent.
CASES = [
    ("get", "requests", "plain", 0),
    ("get, TLS upstream", "requests", "tls", 0),
    ("post 100 kB", "requests", "streams", 100_000),
    ("tunnel set-up", "setups", "tunnel", 0),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("valgrind is not installed; see `make bench-setup`")
    found = {}
    try:
        site = Site()
        for case, mode, kind, body in CASES:
            counts = [count(site, mode, kind, body, requests) for requests in (FEW, MANY)]
            found[case] = round((counts[1] - counts[0]) / (MANY - FEW))
            print(f"{case:20} {found[case]:10,} instructions per request", flush=True)
    finally:
        Process.stop_all()
    (OUT / "instructions.json").write_text(json.dumps(found, indent=1) + "\n")


def count(site: Site, mode: str, kind: str, body: int, requests: int) -> int:
    """The instructions of a whole run with that many requests."""
    trace = site.out / f"callgrind.{kind}.{requests}"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={trace}"]
    command += [str(PROGRAMS / "bench-proxy"), "--workers", "1", "--drain-ms", "600000"]
    peer = site.package("counted", command)
    arguments = ["--connections", 1, "--requests", requests]
    path = f"{getattr(peer, kind, '/')}small"
    if body:
        path, arguments = f"{peer.streams}sink", [*arguments, "--body", body]
    through = peer
    if kind == "tunnel":
        through = replace(peer, token=Peer("", 0).token)
        arguments += ["--connect", f"127.0.0.1:{site.tunnel_port}"]
        arguments += ["--connect-header", f"Proxy-Authorization: Bearer {peer.token}"]
    own(mode, through, path, *arguments)
    peer.process.finish(60)
    return int(re.search(r"^(?:totals|summary): (\d+)", trace.read_text(), re.M)[1])


if __name__ == "__main__":
    main()
