"""CONNECT."""

from __future__ import annotations

from ..bench import Bench, rated, times
from ..load import curl, own
from ..measure import Cell, Scenario
from ..peers import Peer

TUNNELS = ["nono", "squid", "haproxy-relay", "reference"]


def bulk(bench: Bench) -> Scenario:
    scenario = Scenario(
        "tunnels",
        "CONNECT, bulk",
        "One download through one tunnel. https and plain: a file that nginx sends, by curl. "
        "unread: bytes from memory, by a client that looks at nothing that it receives, so that "
        "both leave next to no processor time for anything between them. haproxy-relay passes TCP "
        "on without CONNECT, and squid asks for no token.",
        ["GB/s", "CPU s/GB", "MB"],
        ["GB/s", "CPU s/GB"],
    )
    site, size = bench.site, bench.settings.bulk_bytes
    site.serve_bulk(size)

    def file(peer: Peer, origin: str, *options: str) -> dict[str, float]:
        return rated(curl(_through(peer), f"{origin}/file", size, *options, *_proxy(peer)))

    def https(peer: Peer) -> dict[str, float]:
        trust = ["--cacert", str(site.out / "ca.pem")]
        return file(peer, f"https://127.0.0.1:{site.secure_bulk_port}", *trust)

    def plain(peer: Peer) -> dict[str, float]:
        return file(peer, f"http://127.0.0.1:{site.bulk_port}")

    def unread(peer: Peer) -> dict[str, float]:
        arguments = [*_tunnel(bench, peer), "--expect", size]
        return rated(own("bulk", _through(peer), f"/bulk?bytes={size}", *arguments))

    with bench.peers(scenario, "tunnels", TUNNELS) as peers:
        asked = [peer for peer in peers if peer.connects or peer.name == "direct"]
        bench.cell(scenario, Cell("https"), asked, https)
        bench.cell(scenario, Cell("plain"), asked, plain)
        bench.cell(scenario, Cell("unread"), peers, unread)
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


def _proxy(peer: Peer) -> list[str]:
    """How curl is told to open a tunnel."""
    if not peer.connects:
        return []
    show = f"Proxy-Authorization: Bearer {peer.token}"
    proxy = f"http://127.0.0.1:{peer.port}"
    return ["--proxytunnel", "--proxy", proxy, "--proxy-header", show]
