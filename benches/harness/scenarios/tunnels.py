"""CONNECT."""

from __future__ import annotations

from ..bench import Bench, times
from ..load import own
from ..measure import Cell, Scenario
from ..peers import Peer

TUNNELS = ["nono", "squid", "haproxy-relay", "reference"]


def bulk(bench: Bench) -> Scenario:
    scenario = Scenario(
        "tunnels",
        "CONNECT, bulk",
        "One download through one tunnel. haproxy-relay passes TCP on without CONNECT, and "
        "squid asks for no token.",
        ["GB/s", "CPU s/GB", "MB"],
        ["GB/s", "CPU s/GB"],
    )
    size = bench.settings.bulk_bytes

    def run(peer: Peer) -> dict[str, float]:
        arguments = [*_tunnel(bench, peer), "--expect", size]
        found = own("bulk", _through(peer), f"/bulk?bytes={size}", *arguments)
        return {**found, "GB/s": found["bytes"] / found["seconds"] / 1e9}

    with bench.peers(scenario, "tunnels", TUNNELS) as peers:
        bench.cell(scenario, Cell("bulk"), peers, run)
    return scenario


def setups(bench: Bench) -> Scenario:
    scenario = Scenario(
        "setups",
        "CONNECT, set-up",
        "A new connection, tunnel and small GET each time; c at once.",
        ["req/s", "CPU s/100k", "p50 ms", "MB"],
        ["req/s", "CPU s/100k"],
    )
    with bench.peers(scenario, "tunnels", TUNNELS) as peers:
        for width in bench.settings.setups:
            options = ["--connections", width, "--seconds", bench.settings.seconds]

            def run(peer: Peer, options: list[object] = options) -> dict[str, float]:
                through = _through(peer)
                return times(own("setups", through, "/small", *_tunnel(bench, peer), *options))

            bench.cell(scenario, Cell(f"c={width}", width), peers, run)
    return scenario


def _through(peer: Peer) -> Peer:
    """The peer, but with the real key: inside a tunnel nothing is injected."""
    return Peer(peer.name, peer.port)


def _tunnel(bench: Bench, peer: Peer) -> list[object]:
    if not peer.connects:
        return []
    target = f"127.0.0.1:{bench.site.tunnel_port}"
    show = f"Proxy-Authorization: Bearer {peer.token}"
    return ["--connect", target, "--connect-header", show]
