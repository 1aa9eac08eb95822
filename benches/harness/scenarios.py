"""What is measured. Every function fills a scenario; `Settings` says how long and how often."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from .load import own, wrk
from .measure import Cell, Progress, Scenario, alternate
from .peers import BENCHES, KEY, OURS, PROGRAMS, REFERENCE, Peer, Process, Site

PROXIES = ["nono", "nginx-1", "nginx-n", "haproxy", "reference"]


@dataclass
class Settings:
    """The size of a run."""

    rounds: int
    seconds: int
    plain: list[int]
    tls: list[int]
    bodies: list[tuple[str, int, int]]
    streams: list[tuple[int, int]]
    stream_seconds: float
    bulk_bytes: int
    setups: list[int]
    idle: list[int]
    idle_streams: list[int]


FULL = Settings(
    rounds=5,
    seconds=2,
    plain=[1, 16, 64, 256],
    tls=[1, 16, 64, 256],
    bodies=[("1 kB", 1000, 16), ("100 kB", 100_000, 16), ("10 MB", 10_000_000, 4)],
    streams=[(10, 5), (100, 5), (250, 5), (10, 50), (100, 50), (250, 50)],
    stream_seconds=3,
    bulk_bytes=2_000_000_000,
    setups=[1, 16],
    idle=[2000, 10_000],
    idle_streams=[1000],
)

QUICK = Settings(
    rounds=3,
    seconds=1,
    plain=[1, 64],
    tls=[64],
    bodies=[("1 kB", 1000, 16), ("10 MB", 10_000_000, 4)],
    streams=[(100, 5)],
    stream_seconds=1,
    bulk_bytes=300_000_000,
    setups=[16],
    idle=[1000],
    idle_streams=[300],
)


class Bench:
    """A run: the site, the settings, what is left out."""

    def __init__(self, site: Site, settings: Settings, lost: dict[str, str], progress: Progress):
        self.site, self.settings, self.lost, self.progress = site, settings, lost, progress

    def _peers(self, scenario: Scenario, kind: str, names: list[str]) -> list[Peer]:
        started = [self.site.bare(kind)]
        for name in names:
            if name in self.lost:
                continue
            try:
                started.append(self.site.peer(name))
            except RuntimeError as error:
                scenario.errors.append(f"{name} does not start: {error}")
        return started

    @staticmethod
    def _stop(peers: list[Peer]) -> None:
        for peer in peers:
            if peer.process:
                peer.process.stop()

    def plain(self) -> Scenario:
        scenario = Scenario(
            "plain",
            "Small GET, plain upstream",
            "wrk, one thread, closed loop, kept-alive connections; c is their number. "
            "nginx-1 has one worker, nginx-n and haproxy as many as the proxy.",
            ["req/s", "CPU s/100k", "p50 ms", "p99 ms", "MB"],
        )
        return self._requests(scenario, "plain", self.settings.plain)

    def tls(self) -> Scenario:
        scenario = Scenario(
            "tls",
            "Small GET, TLS upstream",
            "As above, but the upstream speaks TLS 1.3 and its certificate is verified. "
            "`direct` is wrk speaking TLS itself.",
            ["req/s", "CPU s/100k", "p50 ms", "p99 ms", "MB"],
        )
        return self._requests(scenario, "tls", self.settings.tls)

    def _requests(self, scenario: Scenario, kind: str, widths: list[int]) -> Scenario:
        peers = self._peers(scenario, kind, PROXIES)

        def run(peer: Peer, connections: int, seconds: int) -> dict[str, float]:
            scheme = "https" if kind == "tls" and not peer.process else "http"
            path = peer.tls if kind == "tls" else peer.plain
            url = f"{scheme}://127.0.0.1:{peer.port}{path}small"
            return wrk(peer, url, connections, seconds)

        for width in widths:
            self._cell(
                scenario, f"c={width}", peers, lambda p, w=width: run(p, w, self.settings.seconds)
            )
        self._stop(peers)
        return scenario

    def bodies(self) -> Scenario:
        scenario = Scenario(
            "bodies",
            "POST",
            "The body goes to an upstream that counts it; nginx does not buffer it. 16 "
            "connections, 4 for 10 MB.",
            ["req/s", "CPU s/100k", "p50 ms", "p99 ms", "MB"],
        )
        peers = self._peers(scenario, "streams", [name for name in PROXIES if name != "haproxy"])
        for name, size, width in self.settings.bodies:
            options = ["--body", size, "--connections", width, "--seconds", self.settings.seconds]

            def run(peer: Peer, options: list[object] = options) -> dict[str, float]:
                found = own("requests", peer, f"{peer.streams}sink", *options)
                return _times(found)

            self._cell(scenario, name, peers, run)
        self._stop(peers)
        return scenario

    def events(self) -> Scenario:
        scenario = Scenario(
            "events",
            "Event streams",
            "How long after its sending an event arrives; `added` is what this has more than "
            "`direct` of the same round. Streams start evenly spread over one interval.",
            ["added ms", "CPU us/event", "p50 ms", "p99 ms", "first ms"],
        )
        peers = self._peers(scenario, "streams", ["nono", "nginx-1", "reference"])
        for streams, every in self.settings.streams:
            count = max(int(self.settings.stream_seconds * 1000 / every), 10)
            path = f"events?count={count}&every_us={every * 1000}"
            options = ["--streams", streams, "--count", count, "--every-us", every * 1000]

            def run(peer: Peer, path: str = path, options: list[object] = options) -> dict:
                return _times(own("events", peer, f"{peer.streams}{path}", *options))

            self._cell(scenario, f"{streams} every {every} ms", peers, run)
            _add_difference(scenario.cells[-1])
        self._stop(peers)
        return scenario

    def tunnels(self) -> Scenario:
        scenario = Scenario(
            "tunnels",
            "CONNECT, bulk",
            "One download through one tunnel. haproxy-relay passes TCP on without CONNECT, and "
            "squid asks for no token.",
            ["GB/s", "CPU s/GB", "MB"],
        )
        peers = self._peers(scenario, "tunnels", ["nono", "squid", "haproxy-relay", "reference"])
        size = self.settings.bulk_bytes

        def bulk(peer: Peer) -> dict[str, float]:
            arguments = [*self._tunnel(peer), "--expect", size]
            found = own("bulk", self._through(peer), f"/bulk?bytes={size}", *arguments)
            return {**found, "GB/s": found["bytes"] / found["seconds"] / 1e9}

        self._cell(scenario, "bulk", peers, bulk)
        self._stop(peers)
        return scenario

    def setups(self) -> Scenario:
        scenario = Scenario(
            "setups",
            "CONNECT, set-up",
            "A new connection, tunnel and small GET each time; c at once.",
            ["req/s", "CPU s/100k", "p50 ms", "MB"],
        )
        peers = self._peers(scenario, "tunnels", ["nono", "squid", "haproxy-relay", "reference"])
        for width in self.settings.setups:
            options = ["--connections", width, "--seconds", self.settings.seconds]

            def run(peer: Peer, options: list[object] = options) -> dict[str, float]:
                through = self._through(peer)
                return _times(own("setups", through, "/small", *self._tunnel(peer), *options))

            self._cell(scenario, f"c={width}", peers, run)
        self._stop(peers)
        return scenario

    def idle(self) -> Scenario:
        scenario = Scenario(
            "idle",
            "Memory of connections that do nothing",
            "What the proxy's processes grow by, per connection that had one request and is "
            "kept, or per event stream that had one event. The kernel's share is not in it. "
            "Each round is a new process.",
            ["kB each", "MB"],
        )
        cells = [(f"{n} connections", n, False) for n in self.settings.idle]
        cells += [(f"{n} streams", n, True) for n in self.settings.idle_streams]
        for name, count, streams in cells:
            # The reference package closes every connection after its answer.
            names = ["nono", "nginx-1"] + (["reference"] if streams else [])
            peers = [Peer(known, 0) for known in names if known not in self.lost]
            run = lambda peer, c=count, s=streams: self._hold(peer.name, c, s)  # noqa: E731
            self._cell(scenario, name, peers, run, warm=False)
        return scenario

    def _hold(self, name: str, count: int, streams: bool) -> dict[str, float]:
        peer = self.site.peer(name)
        path = "events?count=2&every_us=900000000" if streams else "small"
        warm = ["--connections", 4, "--requests", 50]
        own("requests", peer, f"{peer.streams}small", *warm)
        before = peer.process.memory()
        command = [str(PROGRAMS / "bench-load"), "idle", "--port", str(peer.port)]
        command += ["--path", f"{peer.streams}{path}", "--header", peer.header]
        command += ["--connections", str(count), "--streams", str(streams).lower()]
        load = Process(command, self.site.out / "idle.log")
        try:
            load.answer(100)
            after = peer.process.memory()
        finally:
            load.stop()
            peer.process.stop()
        return {"kB each": (after - before) * 1024 / count, "MB": after}

    def python(self) -> Scenario:
        scenario = Scenario(
            "python",
            "The Python package",
            "Taking 4,000 records out as dictionaries (the reference package keeps no more), "
            "in microseconds per record; and importing, in milliseconds, in a new interpreter "
            "each time. `stdlib` is json, asyncio and ssl.",
            ["us", "ms"],
        )
        peers = [Peer(n, 0) for n in ("nono", "reference") if n not in self.lost]
        pythons = {"nono": OURS, "reference": REFERENCE, "stdlib": OURS}

        def drain(peer: Peer) -> dict[str, float]:
            command = [str(pythons[peer.name]), str(BENCHES / "peers" / "python_proxy.py")]
            command += ["--route", f"api=http://127.0.0.1:{self.site.plain_port}"]
            command += ["--key", "env://BENCH_KEY", "--drain", "4000"]
            command += ["--load", str(PROGRAMS / "bench-load")]
            process = Process(command, self.site.out / "drain.log", env={"BENCH_KEY": KEY})
            try:
                return process.answer()
            finally:
                process.stop()

        def load(peer: Peer) -> dict[str, float]:
            names = "json, asyncio, ssl" if peer.name == "stdlib" else "nono_py"
            program = f"import time; t = time.perf_counter(); import {names}; "
            program += "print((time.perf_counter() - t) * 1000)"
            done = subprocess.run(
                [str(pythons[peer.name]), "-c", program], capture_output=True, text=True, check=True
            )
            return {"ms": float(done.stdout)}

        self._cell(scenario, "drain, dictionaries", peers, drain, warm=False)
        self._cell(scenario, "import", [*peers, Peer("stdlib", 0)], load)
        return scenario

    def _cell(
        self,
        scenario: Scenario,
        name: str,
        peers: list[Peer],
        run: Callable[[Peer], dict[str, float]],
        warm: bool = True,
    ) -> None:
        if warm and not scenario.cells:
            for peer in peers:
                # The first round will say what is wrong.
                with contextlib.suppress(RuntimeError, subprocess.CalledProcessError):
                    run(peer)
        alternate(scenario, name, peers, self.settings.rounds, run, self.progress)

    def _through(self, peer: Peer) -> Peer:
        """The peer, but with the real key: inside a tunnel nothing is injected."""
        return Peer(peer.name, peer.port)

    def _tunnel(self, peer: Peer) -> list[object]:
        if not peer.connects:
            return []
        target = f"127.0.0.1:{self.site.tunnel_port}"
        show = f"Proxy-Authorization: Bearer {peer.token}"
        return ["--connect", target, "--connect-header", show]


def _times(found: dict[str, float]) -> dict[str, float]:
    """The load generator's figures in the units of the report."""
    if "requests" in found:
        found["req/s"] = found["requests"] / found["seconds"]
    for source, name in (("p50_us", "p50 ms"), ("p99_us", "p99 ms"), ("first_p50_us", "first ms")):
        if source in found:
            found[name] = found.pop(source) / 1000
    return found


def _add_difference(cell: Cell) -> None:
    bare = cell.samples.get("direct", [])
    for name, samples in cell.samples.items():
        if name != "direct":
            for sample, base in zip(samples, bare, strict=False):
                sample["added ms"] = sample["p50 ms"] - base["p50 ms"]
