"""Requests and their answers."""

from __future__ import annotations

from ..bench import Bench, times
from ..load import own, wrk
from ..measure import Cell, Scenario
from ..peers import Peer

PROXIES = ["nono", "nginx-1", "nginx-n", "haproxy", "reference"]
METRICS = ["req/s", "CPU s/100k", "p50 ms", "p99 ms", "MB"]
PICTURE = ["req/s", "CPU s/100k"]

CHAT = '{"model":"bench","messages":[{"role":"user","content":"ping"}]}'


def plain(bench: Bench) -> Scenario:
    scenario = Scenario(
        "plain",
        "Small GET, plain upstream",
        "wrk, one thread, closed loop, kept-alive connections; c is their number. "
        "nginx-1 has one worker, nginx-n and haproxy as many as the proxy. The package is trained, "
        "among others by this load; `untrained` is the same program without that, in no Python.",
        METRICS,
        PICTURE,
        growth="CPU s/100k",
    )
    return _small(bench, scenario, "plain", bench.settings.plain, [*PROXIES, "untrained"])


def tls(bench: Bench) -> Scenario:
    scenario = Scenario(
        "tls",
        "Small GET, TLS upstream",
        "As above, but the upstream speaks TLS 1.3 and its certificate is verified. "
        "`direct` is wrk speaking TLS itself.",
        METRICS,
        PICTURE,
        growth="CPU s/100k",
    )
    return _small(bench, scenario, "tls", bench.settings.tls, PROXIES)


def _small(
    bench: Bench, scenario: Scenario, kind: str, widths: list[int], names: list[str]
) -> Scenario:
    def run(peer: Peer, connections: int) -> dict[str, float]:
        scheme = "https" if kind == "tls" and not peer.process else "http"
        path = peer.tls if kind == "tls" else peer.plain
        url = f"{scheme}://127.0.0.1:{peer.port}{path}small"
        return wrk(peer, url, connections, bench.settings.seconds)

    with bench.peers(scenario, kind, names) as peers:
        for width in widths:
            cell = Cell(f"c={width}", width)
            bench.cell(scenario, cell, peers, lambda peer, w=width: run(peer, w))
    return scenario


def rates(bench: Bench) -> Scenario:
    scenario = Scenario(
        "rates",
        "Small GET at a fixed rate",
        "Open loop over 64 connections: each request has the time when it is due and is measured "
        "from then on, so a stall is charged with all that had to wait for it (coordinated "
        "omission). `req/s` is what was answered; who is below the rate does not keep up, and "
        "what could not be sent counts with the time it had waited.",
        ["p50 ms", "p99 ms", "p99.9 ms", "req/s", "CPU s/100k"],
        ["p50 ms", "p99 ms"],
    )
    with bench.peers(scenario, "plain", PROXIES) as peers:
        for rate in bench.settings.rates:
            options = ["--connections", 64, "--rate", rate, "--seconds", bench.settings.seconds]

            def run(peer: Peer, options: list[object] = options) -> dict[str, float]:
                return times(own("rate", peer, f"{peer.plain}small", *options))

            bench.cell(scenario, Cell(f"{rate}/s", rate), peers, run)
    return scenario


def bodies(bench: Bench) -> Scenario:
    scenario = Scenario(
        "bodies",
        "POST",
        "The body goes to an upstream that counts it; nginx does not buffer it. 16 "
        "connections, 4 for 10 MB.",
        METRICS,
        PICTURE,
        growth="CPU s/100k",
    )
    names = [name for name in PROXIES if name != "haproxy"]
    with bench.peers(scenario, "streams", names) as peers:
        for name, size, width in bench.settings.bodies:
            options = ["--body", size, "--connections", width, "--seconds", bench.settings.seconds]

            def run(peer: Peer, options: list[object] = options) -> dict[str, float]:
                return times(own("requests", peer, f"{peer.streams}sink", *options))

            bench.cell(scenario, Cell(name, size), peers, run)
    return scenario


def llm(bench: Bench) -> Scenario:
    scenario = Scenario(
        "llm",
        "A chat completion",
        "POST of a short question to a route of an LLM API. LiteLLM's proxy has as many workers "
        "as this one, no database and no logging; it also translates between APIs, which nobody "
        "else here does.",
        METRICS,
        PICTURE,
    )
    if not bench.settings.llm:
        return scenario
    with bench.peers(scenario, "streams", ["nono", "nginx-n", "reference", "litellm"]) as peers:
        for width in bench.settings.llm:
            options = ["--json", CHAT, "--connections", width, "--seconds", bench.settings.seconds]

            def run(peer: Peer, options: list[object] = options) -> dict[str, float]:
                return times(own("requests", peer, f"{peer.streams}v1/chat/completions", *options))

            bench.cell(scenario, Cell(f"c={width}", width), peers, run)
    return scenario


def audit(bench: Bench) -> Scenario:
    scenario = Scenario(
        "audit",
        "Records",
        "The proxy with records of requests in memory, as it is; with none, which only the "
        "benchmarks' own build can; with all of them chained in a file too; and with logs and "
        "spans of all sent to a collector that keeps nothing.",
        METRICS,
        PICTURE,
    )
    return _variants(bench, scenario, ["nono", "no records", "with a file", "with OTLP"])


def scrubbing(bench: Bench) -> Scenario:
    scenario = Scenario(
        "scrubbing",
        "Scrubbing",
        "The proxy as it is, and without the search for the key in responses, which only the "
        "benchmarks' own build can leave out.",
        METRICS,
        PICTURE,
    )
    return _variants(bench, scenario, ["nono", "no scrubbing"])


def _variants(bench: Bench, scenario: Scenario, names: list[str]) -> Scenario:
    """The benchmarks' own build, with something left out or added: they differ by little."""
    start = bench.site.variant
    with bench.peers(scenario, "plain", names, bare=False, start=start) as peers:
        for width in bench.settings.variants:

            def run(peer: Peer, width: int = width) -> dict[str, float]:
                options = ["--connections", width, "--seconds", bench.settings.turn_seconds]
                return times(own("requests", peer, f"{peer.plain}small", *options))

            cell = Cell(f"c={width}", width)
            bench.cell(scenario, cell, peers, run, turns=bench.settings.turns)
    return scenario
