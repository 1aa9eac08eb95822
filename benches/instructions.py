#!/usr/bin/env python3
"""Counts the instructions that the proxy's process executes per request, by callgrind.

Wall time is noise on a shared machine; instructions in user space are not. Each case runs twice,
with few and with many requests, and the difference is divided by the difference: what start,
first connection and end cost drops out. The client and the upstream are other processes and are
not counted. The proxy has one worker, and a client that asks one thing after the other.

`--check` compares with `instructions.json`, which is in the repository, and fails when a case
takes more than is tolerated. `--renew` writes that file: after a change that makes something
cheaper, or that is worth what it costs, in the same commit. Both want the profile `counted`,
which is quick to build; its counts are not those of a release.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from harness.load import own
from harness.peers import PROGRAMS, Peer, Process, Site, missing_programs

BASELINE = Path(__file__).with_suffix(".json")

# How much more a case may take with another compiler or library version: that moves counts by more
# than most changes here do.
OTHER_TOOLCHAIN = 0.15


@dataclass
class Case:
    """Something to ask for one at a time, and how often: few times, and many."""

    name: str
    mode: str
    kind: str
    few: int = 100
    many: int = 500
    body: int = 0
    #: How much more it may take. Repeated counts lie within 1 %, if not for a reason.
    tolerance: float = 0.03


CASES = [
    Case("get", "requests", "plain"),
    # What its handshakes take varies by more than a few requests.
    Case("get, TLS upstream", "requests", "tls", many=2500, tolerance=0.06),
    # Small enough to come in one piece: each costs its share.
    Case("post 10 kB", "requests", "streams", body=10_000),
    # Not events, which come by the clock: on a busy machine several come as one.
    Case("WebSocket message", "sockets", "streams"),
    Case("tunnel set-up", "setups", "tunnel"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    does = parser.add_mutually_exclusive_group()
    does.add_argument("--check", action="store_true", help="compare with instructions.json")
    does.add_argument("--renew", action="store_true", help="write instructions.json")
    arguments = parser.parse_args()
    needed = missing_programs(["valgrind", "nginx", "openssl"])
    if needed and arguments.check:
        # As for all tests that need a program: `.ci/setup` has said so too.
        print(f"instructions are not counted: {', '.join(needed)} not installed")
        return
    if needed:
        sys.exit(f"needed and not there: {', '.join(needed)}; see `make bench-setup`")
    if (arguments.check or arguments.renew) and PROGRAMS.name != "counted":
        sys.exit("set BENCH_PROFILE=counted, or use `make check-instructions`")
    try:
        site = Site()
        if arguments.check:
            check(site, json.loads(BASELINE.read_text()))
        else:
            found = {case.name: each(site, case) for case in CASES}
            for name, count in found.items():
                print(f"{name:20} {count:10,} instructions")
    finally:
        Process.stop_all()
    if arguments.renew:
        data = {"toolchain": toolchain(), "instructions": found}
        BASELINE.write_text(json.dumps(data, indent=2) + "\n")


def check(site: Site, baseline: dict) -> None:
    """Ends with an error when a case takes too many."""
    is_same = baseline["toolchain"] == toolchain()
    if not is_same:
        print(f"counted by {baseline['toolchain']} before, now by {toolchain()}")
    worse = []
    for case in CASES:
        before = baseline["instructions"][case.name]
        tolerance = case.tolerance if is_same else OTHER_TOOLCHAIN
        bound = before * (1 + tolerance)
        count = each(site, case)
        if count > bound:
            # Once more: what else the machine does can only add.
            count = min(count, each(site, case))
        change = count / before - 1
        note = "" if change > -tolerance else "  less: `make renew-instructions` keeps it so"
        print(f"{case.name:20} {count:10,} instructions, {change:+.1%}{note}", flush=True)
        if count > bound:
            worse.append(f"{case.name} takes {change:.1%} more, and may {tolerance:.0%}")
    if worse:
        sys.exit(
            f"more instructions than in benches/instructions.json: {'; '.join(worse)}. "
            "If it is worth that: `make renew-instructions`"
        )


def toolchain() -> str:
    command = [shutil.which("rustc") or "rustc", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return f"rustc {done.stdout.split()[1]}, {platform.machine()}"


def each(site: Site, case: Case) -> int:
    """The instructions for one of what the case asks for."""
    few, many = (count(site, case, number) for number in (case.few, case.many))
    return round((many - few) / (case.many - case.few))


def count(site: Site, case: Case, number: int) -> int:
    """The instructions of a whole run of that many."""
    trace = site.out / f"callgrind.{case.kind}.{number}"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={trace}"]
    command += [str(PROGRAMS / "bench-proxy"), "--workers", "1", "--drain-ms", "600000"]
    # How often it looks before it sleeps depends on how fast the client and the upstream are.
    command += ["--without", "watching"]
    peer = site.package("counted", command)
    through, path = peer, f"{getattr(peer, case.kind, '/')}small"
    arguments: list[object] = ["--connections", 1, "--requests", number]
    if case.mode == "sockets":
        path, arguments = f"{peer.streams}echo", [*arguments, "--message", 120]
    elif case.body:
        path, arguments = f"{peer.streams}sink", [*arguments, "--body", case.body]
    elif case.kind == "tunnel":
        through = replace(peer, token=Peer("", 0).token)
        arguments += ["--connect", f"127.0.0.1:{site.tunnel_port}"]
        arguments += ["--connect-header", f"Proxy-Authorization: Bearer {peer.token}"]
    own(case.mode, through, path, *arguments)
    peer.process.finish(60)
    return int(re.search(r"^(?:totals|summary): (\d+)", trace.read_text(), re.M)[1])


if __name__ == "__main__":
    main()
