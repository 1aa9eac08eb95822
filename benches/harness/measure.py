"""Rounds, medians and spread."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .peers import Peer

# A figure whose rounds lie further from their median than this is called noisy.
NOISY = 0.10


@dataclass
class Cell:
    """One measurement of several peers, by rounds."""

    name: str
    # How much there is of what grows from cell to cell, if anything does.
    amount: float | None = None
    samples: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    # Which line of a picture it belongs to, where one scenario has several.
    line: str = ""


@dataclass
class Scenario:
    """Cells that ask the same question."""

    name: str
    title: str
    # What a reader has to know of how it was done.
    note: str
    # The metrics to show, the one that ratios are made of first.
    metrics: list[str]
    # The metrics to draw.
    picture: list[str] = field(default_factory=list)
    # Whether they are drawn as lines over the cells' amounts rather than as bars by cell.
    as_lines: bool = False
    # The metric whose growth with the cells' amounts is judged.
    growth: str = ""
    cells: list[Cell] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    # When, by what command and of which commit it was measured.
    run: dict[str, str] = field(default_factory=dict)


class Progress:
    """Says what has been measured, and since when."""

    def __init__(self) -> None:
        self.begun = time.monotonic()

    def step(self, text: str) -> None:
        elapsed = int(time.monotonic() - self.begun)
        print(f"[{elapsed // 60:2d}:{elapsed % 60:02d}] {text}", file=sys.stderr, flush=True)


def alternate(
    scenario: Scenario,
    cell: Cell,
    peers: list[Peer],
    rounds: int,
    run: Callable[[Peer], dict[str, float]],
    renews: bool,
    progress: Progress,
    turns: int = 1,
) -> None:
    """Runs every peer once per round, in an order that turns round from one to the next, so that
    a slow change of the machine's speed touches all alike. In a round of several turns each runs
    as often, and the round's figures are their means."""
    name = cell.name
    scenario.cells.append(cell)
    alive = list(peers)
    for number in range(rounds * turns):
        for peer in alive if number % 2 == 0 else alive[::-1]:
            try:
                if renews and number > 0 and number % turns == 0:
                    peer.renew()
                before = peer.process.cpu() if peer.process else 0.0
                found = run(peer)
            except (
                RuntimeError,
                ValueError,
                TypeError,
                OSError,
                subprocess.SubprocessError,
            ) as error:
                scenario.errors.append(f"{name}, {peer.name}: {str(error)[:300]}")
                alive = [other for other in alive if other is not peer]
                cell.samples.pop(peer.name, None)
                progress.step(f"{scenario.name} {name} {peer.name}: FAILED: {str(error)[:200]}")
                continue
            if peer.process:
                used = peer.process.cpu() - before
                _add_cpu(found, used)
                found["MB"] = peer.process.memory()
            cell.samples.setdefault(peer.name, []).append(found)
            first = next((m for m in scenario.metrics if m in found), "")
            text = f"{scenario.name} {name} round {number + 1}/{rounds * turns} {peer.name}"
            progress.step(f"{text}: {show(found.get(first))} {first}")
    if turns > 1:
        cell.samples = {peer: _rounds(each, turns) for peer, each in cell.samples.items()}


def _rounds(samples: list[dict[str, float]], turns: int) -> list[dict[str, float]]:
    """The means of each round's turns."""
    return [
        {metric: statistics.fmean(turn[metric] for turn in round_) for metric in round_[0]}
        for round_ in (samples[i : i + turns] for i in range(0, len(samples), turns))
    ]


def _add_cpu(found: dict[str, float], used: float) -> None:
    found["CPU s"] = used
    if found.get("requests"):
        found["CPU s/100k"] = used / found["requests"] * 100_000
    if found.get("events"):
        found["CPU us/event"] = used / found["events"] * 1e6
    if found.get("bytes"):
        found["CPU s/GB"] = used / found["bytes"] * 1e9


def median(samples: list[dict[str, float]], metric: str) -> float | None:
    values = [sample[metric] for sample in samples if metric in sample]
    return statistics.median(values) if values else None


def spread(samples: list[dict[str, float]], metric: str) -> float:
    """How far the rounds lie from their median: half their range, as a part of it."""
    values = [sample[metric] for sample in samples if metric in sample]
    middle = statistics.median(values) if values else 0
    return (max(values) - min(values)) / 2 / middle if middle else 0.0


def is_noisy(cell: Cell, metric: str) -> bool:
    return any(spread(samples, metric) > NOISY for samples in cell.samples.values())


def ratio(cell: Cell, metric: str, of: str, to: str) -> float | None:
    """The ratio of two peers' medians."""
    both = [median(cell.samples.get(name, []), metric) for name in (of, to)]
    return both[0] / both[1] if both[0] is not None and both[1] else None


def show(value: float | None) -> str:
    """A figure with as many digits as it deserves."""
    if value is None:
        return "–"
    if abs(value) >= 10_000_000:
        return f"{value / 1e6:,.1f}M"
    if abs(value) >= 10_000:
        return f"{value / 1000:,.1f}k"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
