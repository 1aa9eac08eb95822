"""Inside tunnels whose TLS ends in the proxy."""

from __future__ import annotations

from ..bench import Bench, rated, times
from ..load import own
from ..measure import Cell, Scenario
from ..peers import KEY, Peer

PROXIES = ["nono", "reference"]


def bulk(bench: Bench) -> Scenario:
    scenario = Scenario(
        "inside_bulk",
        "Interception, bulk",
        "One download by TLS: `direct` from the origin, the others through a tunnel that ends in "
        "the proxy, which decrypts, searches for the key, and encrypts again. With h1 both sides "
        "speak HTTP/1.1, with h2 both HTTP/2.",
        ["GB/s", "CPU s/GB", "MB"],
        ["GB/s", "CPU s/GB"],
    )
    size = bench.settings.inside_bytes
    for kind, mode in (("h1", "bulk"), ("h2", "http2-bulk")):

        def run(peer: Peer, kind: str = kind, mode: str = mode) -> dict[str, float]:
            options = [*_inside(bench, peer, kind), "--expect", size]
            found = own(mode, _asking(bench, peer, kind), f"/bulk?bytes={size}", *options)
            return rated(found)

        with bench.peers(scenario, kind, PROXIES, start=bench.site.interceptor) as peers:
            bench.cell(scenario, Cell(kind), peers, run)
    return scenario


def handshakes(bench: Bench) -> Scenario:
    scenario = Scenario(
        "handshakes",
        "Interception, handshakes",
        "A new connection, tunnel, handshake and small GET each time; c at once. `full` has every "
        "handshake a full one, `resumed` each but the first of a client: whoever does not resume "
        "has no figure there.",
        ["req/s", "CPU s/100k", "p50 ms", "MB"],
        ["req/s", "CPU s/100k"],
    )
    for kind, resume in (("full", "false"), ("resumed", "true")):
        with bench.peers(scenario, "h1", PROXIES, start=bench.site.interceptor) as peers:
            for width in bench.settings.inside:
                options = ["--connections", width, "--seconds", bench.settings.seconds]
                options += ["--resume", resume]

                def run(peer: Peer, options: list[object] = options) -> dict[str, float]:
                    inside = _inside(bench, peer, "h1")
                    asking = _asking(bench, peer, "h1")
                    return times(own("setups", asking, "/small", *inside, *options))

                bench.cell(scenario, Cell(f"{kind}, c={width}", width, line=kind), peers, run)
    return scenario


def requests(bench: Bench) -> Scenario:
    scenario = Scenario(
        "inside",
        "Interception, small GET",
        "Kept-alive connections inside tunnels: with h1 c connections with one request at a time, "
        "with h2 one connection with c streams. The upstream speaks the same version. The "
        "reference package serves one request for each connection over HTTP/1.1.",
        ["req/s", "CPU s/100k", "p50 ms", "p99 ms", "MB"],
        ["req/s", "CPU s/100k"],
        growth="CPU s/100k",
    )
    for kind, mode in (("h1", "requests"), ("h2", "http2")):
        with bench.peers(scenario, kind, PROXIES, start=bench.site.interceptor) as peers:
            for width in bench.settings.inside:
                counts = ["--connections", width] if kind == "h1" else ["--streams", width]
                counts += [] if kind == "h1" else ["--connections", 1]
                options = [*counts, "--seconds", bench.settings.seconds]

                def run(
                    peer: Peer, kind: str = kind, mode: str = mode, options: list[object] = options
                ) -> dict[str, float]:
                    inside = _inside(bench, peer, kind)
                    asking = _asking(bench, peer, kind)
                    return times(own(mode, asking, "/small", *inside, *options))

                bench.cell(scenario, Cell(f"{kind}, c={width}", width, line=kind), peers, run)
    return scenario


def _inside(bench: Bench, peer: Peer, kind: str) -> list[object]:
    """How to speak TLS to the origin, in a tunnel unless it is asked itself."""
    options = ["--tls-name", "localhost", "--tls-ca", peer.ca]
    options += ["--http2", "true" if kind == "h2" else "false"]
    if peer.connects:
        show = f"Proxy-Authorization: Bearer {peer.token}"
        target = f"localhost:{bench.site.secure_ports[kind]}"
        options += ["--connect", target, "--connect-header", show]
    return options


def _asking(bench: Bench, peer: Peer, kind: str) -> Peer:
    """The peer as a client asks it: a proxy for the session token's sake puts the key on."""
    port = peer.port if peer.connects else bench.site.secure_ports[kind]
    return Peer(peer.name, port, token=peer.token if peer.connects else KEY)
