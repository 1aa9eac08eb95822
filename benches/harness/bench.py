"""A run: what all scenarios are measured with."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .measure import Cell, Progress, Scenario, alternate
from .peers import Peer, Site
from .settings import Settings


@dataclass
class Bench:
    """The site, the size of the run, and what is left out of it."""

    site: Site
    settings: Settings
    lost: dict[str, str]
    progress: Progress

    @contextlib.contextmanager
    def peers(
        self,
        scenario: Scenario,
        kind: str,
        names: list[str],
        bare: bool = True,
        start: Callable[[str], Peer] | None = None,
    ) -> Iterator[list[Peer]]:
        """Those of `names` that are installed and start, after the bare origin; stopped after."""
        start = start or self.site.peer
        started = [self.site.bare(kind)] if bare else []
        for name in names:
            if name in self.lost:
                continue
            try:
                started.append(dataclasses.replace(start(name), start=start))
            except RuntimeError as error:
                scenario.errors.append(f"{name} does not start: {error}")
        try:
            yield started
        finally:
            for peer in started:
                if peer.process:
                    peer.process.stop()

    def cell(
        self,
        scenario: Scenario,
        cell: Cell,
        peers: list[Peer],
        run: Callable[[Peer], dict[str, float]],
        warm: bool = True,
        turns: int = 1,
    ) -> None:
        """Measures one cell by alternating rounds, of several `turns` each where small differences
        are looked for. If they are to be `warm`, everybody runs once before the first one; and for
        each further one, the proxies are started anew."""
        if warm and not scenario.cells:
            for peer in peers:
                # The first round will say what is wrong.
                with contextlib.suppress(RuntimeError, subprocess.SubprocessError):
                    run(peer)
        rounds, progress = self.settings.rounds, self.progress
        alternate(scenario, cell, peers, rounds, run, warm, progress, turns)


def rated(found: dict[str, float]) -> dict[str, float]:
    """A download's figures, with how many bytes came a second."""
    return {**found, "GB/s": found["bytes"] / found["seconds"] / 1e9}


def times(found: dict[str, float]) -> dict[str, float]:
    """The load generator's figures in the units of the report."""
    if "requests" in found:
        found["req/s"] = found["requests"] / found["seconds"]
    names = {"p50_us": "p50 ms", "p99_us": "p99 ms", "p999_us": "p99.9 ms"}
    for source, name in {**names, "first_p50_us": "first ms"}.items():
        if source in found:
            found[name] = found.pop(source) / 1000
    return found
