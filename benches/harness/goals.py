"""What the figures should be: ratios with a floor, which must hold, and a goal."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from .measure import Cell, Scenario, is_noisy, median, ratio

LESS = {
    *("CPU s/100k", "CPU us/event", "CPU s/GB", "added ms", "kB each", "us", "ms", "ns", "MB"),
    *("p50 ms", "p99 ms", "p99.9 ms", "first ms", "first us", "allocations"),
}


@dataclass
class Goal:
    """A ratio of `nono`, or a variant of it, to a peer, or with no peer the figure itself."""

    scenario: str
    cells: str
    metric: str
    peer: str | None
    floor: float
    goal: float
    # Whose figure it is.
    whose: str = "nono"

    def is_met(self, value: float, bound: float) -> bool:
        return value <= bound if self.metric in LESS else value >= bound

    def other(self, separator: str) -> str:
        """Whose figure it is, behind `separator`, where it is a variant's."""
        return "" if self.whose == "nono" else separator + self.whose


ALL = "*"
WIDE = "c=16 c=64 c=256"

GOALS = [
    Goal("plain", "c=1", "req/s", "nginx-1", 0.9, 1.1),
    Goal("plain", WIDE, "req/s", "nginx-1", 1.0, 1.25),
    Goal("plain", WIDE, "req/s", "nginx-n", 0.85, 1.1),
    Goal("plain", WIDE, "CPU s/100k", "nginx-1", 1.2, 0.9),
    Goal("plain", ALL, "req/s", "haproxy", 1.0, 1.2),
    Goal("plain", "c=1", "req/s", "reference", 3, 4),
    Goal("plain", WIDE, "req/s", "reference", 6, 8),
    Goal("tls", ALL, "req/s", "nginx-1", 1.0, 1.25),
    Goal("tls", ALL, "req/s", "nginx-n", 0.85, 1.1),
    Goal("tls", ALL, "req/s", "haproxy", 1.0, 1.2),
    Goal("bodies", "1 kB", "req/s", "nginx-1", 1.0, 1.2),
    Goal("bodies", "100 kB", "req/s", "nginx-1", 0.9, 1.1),
    Goal("bodies", "10 MB", "req/s", "nginx-1", 1.1, 1.4),
    Goal("audit", "c=64", "req/s", "no records", 0.95, 0.98),
    Goal("audit", "c=64", "req/s", "no records", 0.95, 0.98, "with a file"),
    Goal("scrubbing", "c=64", "req/s", "no scrubbing", 0.95, 0.98),
    Goal("events", ALL, "added ms", "nginx-1", 1.3, 1.0),
    Goal("events", ALL, "CPU us/event", "nginx-1", 1.3, 1.0),
    Goal("idle", "streams", "kB each", None, 30, 14),
    Goal("idle", "connections", "kB each", None, 15, 5),
    Goal("tunnels", "https plain", "GB/s", "direct", 0.8, 0.95),
    Goal("tunnels", "https plain", "GB/s", "reference", 1.25, 1.5),
    Goal("setups", ALL, "req/s", "reference", 1.05, 1.5),
    Goal("inside_bulk", ALL, "GB/s", "direct", 0.5, 0.7),
    Goal("execs", ALL, "ms", "subprocess", 1.25, 1.0),
    Goal("snapshots", "baseline", "ms", "git", 1.0, 0.6),
    Goal("snapshots", "unchanged", "ms", "git", 1.0, 0.8),
    Goal("snapshots", "restore", "ms", "git", 1.0, 0.8),
    Goal("snapshots", "large", "MB", None, 100, 50),
    Goal("drains", "dictionaries", "us", None, 1.0, 0.7),
    Goal("drains", "objects", "us", None, 0.15, 0.1),
    Goal("drains", "JSON Lines", "us", None, 0.5, 0.3),
    Goal("imports", "import", "ms", "stdlib", 1.0, 0.3),
]

STACK = Goal("layers", "c=64", "share", "a bare service", 0.95, 0.98)

# Why a goal is not reached, as it was found by measuring: by `Goal`'s row in the report.
REASONS = Path(__file__).parent.parent / "reasons.json"


def judge(scenarios: list[Scenario]) -> list[dict[str, object]]:
    """One row for each goal and cell that was measured."""
    rows = []
    for goal in GOALS:
        for scenario in scenarios:
            if scenario.name != goal.scenario:
                continue
            for cell in scenario.cells:
                if goal.cells != ALL and not _concerns(goal.cells, cell.name):
                    continue
                value = _value(goal, cell)
                if value is not None:
                    what = f"{scenario.title}, {cell.name}{goal.other(', ')}: {goal.metric}"
                    rows.append(_row(goal, cell.name, what, value, is_noisy(cell, goal.metric)))
    stack = _stack(scenarios)
    if stack is not None:
        what = "What the layers leave of a request's processor time, c=64"
        rows.append(_row(STACK, "c=64", what, stack, noisy=False))
    reasons = json.loads(REASONS.read_text()) if REASONS.exists() else {}
    return [{**row, "reason": reasons.get(row["id"], "")} for row in rows]


def _row(goal: Goal, cell: str, what: str, value: float, noisy: bool) -> dict[str, object]:
    verdict = "missed"
    if goal.is_met(value, goal.goal):
        verdict = "goal"
    elif goal.is_met(value, goal.floor):
        verdict = "floor"
    return {
        "id": f"{goal.scenario}/{cell}{goal.other('/')}/{goal.metric}/{goal.peer}",
        "what": what,
        "against": goal.peer or "absolute",
        "value": value,
        "floor": goal.floor,
        "goal": goal.goal,
        "verdict": verdict,
        "noisy": noisy,
    }


def _stack(scenarios: list[Scenario]) -> float | None:
    """What is left of a request's processor time without the layers: they are measured apart,
    since there is no proxy without them to measure beside. What they do counts as theirs, the
    record of the request too."""
    cells = {(s.name, cell.name): cell for s in scenarios for cell in s.cells}
    whole = cells.get(("plain", "c=64"))
    passed, none = cells.get(("layers", "passed")), cells.get(("layers", "none"))
    if not whole or not passed or not none:
        return None
    each = median(whole.samples.get("nono", []), "CPU s/100k")
    spent = [median(cell.samples.get("nono", []), "ns") for cell in (passed, none)]
    return 1 - (spent[0] - spent[1]) / (each * 1e4) if each and all(spent) else None


def _concerns(cells: str, name: str) -> bool:
    """Whether `cells` lists the cell of that name, or the kind of cells that it is one of."""
    kind, _, _ = name.partition(", ")
    return name == cells or name in cells.split() or name.endswith(f" {cells}") or kind == cells


def _value(goal: Goal, cell: Cell) -> float | None:
    if goal.peer:
        return ratio(cell, goal.metric, goal.whose, goal.peer)
    return median(cell.samples.get(goal.whose, []), goal.metric)


@dataclass
class Growth:
    """How a cost grows with the amount of something: by the power that fits both ends."""

    what: str
    amounts: tuple[float, float]
    costs: tuple[float, float]
    metric: str

    @property
    def exponent(self) -> float:
        (few, many), (low, high) = self.amounts, self.costs
        return math.log(high / low) / math.log(many / few)

    @property
    def verdict(self) -> str:
        for bound, word in ((0.15, "flat"), (0.9, "less than linear"), (1.1, "linear")):
            if self.exponent <= bound:
                return word
        return "**more than linear**"


def growths(scenarios: list[Scenario]) -> list[Growth]:
    """The costs of `nono`, or of its parts, from the least to the greatest amount."""
    found = []
    for scenario in scenarios:
        if not scenario.growth:
            continue
        names = {name for cell in scenario.cells for name in cell.samples}
        ours = {"nono"} if "nono" in names else names
        for line, points in lines(scenario, scenario.growth, ours).items():
            (few, low), (many, high) = points[0], points[-1]
            if many > few and low > 0 and high > 0:
                what = scenario.title if line == "nono" else f"{scenario.title}, {line}"
                found.append(Growth(what, (few, many), (low, high), scenario.growth))
    return found


def lines(
    scenario: Scenario, metric: str, only: set[str] | None = None
) -> dict[str, list[tuple[float, float]]]:
    """The points of `metric` over the cells' amounts, by what is measured."""
    found: dict[str, list[tuple[float, float]]] = {}
    for cell in scenario.cells:
        for name, samples in cell.samples.items():
            value = median(samples, metric)
            if cell.amount and value is not None and (only is None or name in only):
                other = name if name != "nono" else ""
                line = ", ".join(filter(None, (cell.line, other))) or name
                found.setdefault(line, []).append((cell.amount, value))
    return {line: sorted(points) for line, points in found.items()}
