"""What stays open: event streams, WebSockets, connections that do nothing."""

from __future__ import annotations

from ..bench import Bench, times
from ..load import own
from ..measure import Cell, Scenario
from ..peers import PROGRAMS, Peer, Process


def events(bench: Bench) -> Scenario:
    scenario = Scenario(
        "events",
        "Event streams",
        "How long after its sending an event arrives; `added` is what this has more than "
        "`direct` of the same round; `first` is from the request to the first event, which is "
        "sent at once. Streams start evenly spread over one interval.",
        ["added ms", "CPU us/event", "p50 ms", "p99 ms", "first ms"],
        ["p50 ms", "CPU us/event"],
    )
    with bench.peers(scenario, "streams", ["nono", "nginx-1", "reference"]) as peers:
        for streams, every in bench.settings.streams:
            count = max(int(bench.settings.stream_seconds * 1000 / every), 10)
            path = f"events?count={count}&every_us={every * 1000}"
            options = ["--streams", streams, "--count", count, "--every-us", every * 1000]

            def run(peer: Peer, path: str = path, options: list[object] = options) -> dict:
                return times(own("events", peer, f"{peer.streams}{path}", *options))

            cell = Cell(f"{streams} every {every} ms", streams)
            bench.cell(scenario, cell, peers, run)
            _add_difference(cell)
    return scenario


def _add_difference(cell: Cell) -> None:
    bare = cell.samples.get("direct", [])
    for name, samples in cell.samples.items():
        if name != "direct":
            for sample, base in zip(samples, bare, strict=False):
                sample["added ms"] = sample["p50 ms"] - base["p50 ms"]


def sockets(bench: Bench) -> Scenario:
    scenario = Scenario(
        "sockets",
        "WebSocket echo",
        "Messages of 120 bytes, each sent when the echo of the one before has come; c sockets, "
        "which are open before the time begins. The reference package answers 501.",
        ["req/s", "CPU s/100k", "p50 ms", "p99 ms", "MB"],
        ["req/s", "CPU s/100k"],
        growth="CPU s/100k",
    )
    names = ["nono", "nginx-1", "nginx-n"]
    with bench.peers(scenario, "streams", names) as peers:
        for width in bench.settings.sockets:
            options = ["--message", 120, "--connections", width]
            options += ["--seconds", bench.settings.seconds]

            def run(peer: Peer, options: list[object] = options) -> dict[str, float]:
                return times(own("sockets", peer, f"{peer.streams}echo", *options))

            bench.cell(scenario, Cell(f"c={width}", width), peers, run)
    return scenario


def idle(bench: Bench) -> Scenario:
    scenario = Scenario(
        "idle",
        "Memory of connections that do nothing",
        "What the proxy's processes grow by, per connection that had one request and is "
        "kept, or per event stream that had one event. The kernel's share is not in it. "
        "Each round is a new process.",
        ["kB each", "MB"],
        ["kB each"],
        growth="kB each",
    )
    cells = [(f"{n} connections", n, False) for n in bench.settings.idle]
    cells += [(f"{n} streams", n, True) for n in bench.settings.idle_streams]
    for name, count, streams in cells:
        # The reference package closes every connection after its answer.
        names = ["nono", "nginx-1"] + (["reference"] if streams else [])
        peers = [Peer(known, 0) for known in names if known not in bench.lost]
        run = lambda peer, c=count, s=streams: _hold(bench, peer.name, c, s)  # noqa: E731
        cell = Cell(name, count, line="streams" if streams else "connections")
        bench.cell(scenario, cell, peers, run, warm=False)
    return scenario


def _hold(bench: Bench, name: str, count: int, streams: bool) -> dict[str, float]:
    peer = bench.site.crowded(name, count + 100)
    path = "events?count=2&every_us=900000000" if streams else "small"
    own("requests", peer, f"{peer.streams}small", "--connections", 4, "--requests", 50)
    before = peer.process.memory()
    command = [str(PROGRAMS / "bench-load"), "idle", "--port", str(peer.port)]
    command += ["--path", f"{peer.streams}{path}", "--header", peer.header]
    command += ["--connections", str(count), "--streams", str(streams).lower()]
    load = Process(command, bench.site.out / "idle.log")
    try:
        load.answer(100)
        after = peer.process.memory()
    finally:
        load.stop()
        peer.process.stop()
    return {"kB each": (after - before) * 1024 / count, "MB": after}
