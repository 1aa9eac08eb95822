"""What the figures should be: ratios with a floor, which must hold, and a goal."""

from __future__ import annotations

from dataclasses import dataclass

from .measure import Cell, Scenario, is_noisy, median, ratio

LESS = {"CPU s/100k", "CPU us/event", "CPU s/GB", "added ms", "kB each", "us", "ms"}


@dataclass
class Goal:
    """A ratio of `nono` to a peer, or with no peer the figure itself."""

    scenario: str
    cells: str
    metric: str
    peer: str | None
    floor: float
    goal: float

    def is_met(self, value: float, bound: float) -> bool:
        return value <= bound if self.metric in LESS else value >= bound


GOALS = [
    Goal("plain", "c=1", "req/s", "nginx-1", 0.9, 1.1),
    Goal("plain", "c=16 c=64 c=256", "req/s", "nginx-1", 1.0, 1.25),
    Goal("plain", "c=16 c=64 c=256", "req/s", "nginx-n", 0.85, 1.1),
    Goal("plain", "c=16 c=64 c=256", "CPU s/100k", "nginx-1", 1.2, 0.9),
    Goal("plain", "c=1 c=16 c=64 c=256", "req/s", "haproxy", 1.0, 1.2),
    Goal("plain", "c=1", "req/s", "reference", 3, 4),
    Goal("plain", "c=16 c=64 c=256", "req/s", "reference", 6, 8),
    Goal("tls", "c=1 c=16 c=64 c=256", "req/s", "nginx-1", 1.0, 1.25),
    Goal("tls", "c=1 c=16 c=64 c=256", "req/s", "nginx-n", 0.85, 1.1),
    Goal("tls", "c=1 c=16 c=64 c=256", "req/s", "haproxy", 1.0, 1.2),
    Goal("bodies", "1 kB", "req/s", "nginx-1", 1.0, 1.2),
    Goal("bodies", "100 kB", "req/s", "nginx-1", 0.9, 1.1),
    Goal("bodies", "10 MB", "req/s", "nginx-1", 1.1, 1.4),
    Goal("events", "*", "added ms", "nginx-1", 1.3, 1.0),
    Goal("events", "*", "CPU us/event", "nginx-1", 1.3, 1.0),
    Goal("tunnels", "bulk", "GB/s", "direct", 0.8, 0.95),
    Goal("tunnels", "bulk", "GB/s", "reference", 1.25, 1.5),
    Goal("setups", "*", "req/s", "reference", 1.05, 1.5),
    Goal("idle", "streams", "kB each", None, 30, 14),
    Goal("idle", "connections", "kB each", None, 15, 5),
    Goal("python", "drain, dictionaries", "us", None, 1.0, 0.7),
    Goal("python", "import", "ms", "stdlib", 1.0, 0.3),
]


def judge(scenarios: list[Scenario]) -> list[dict[str, object]]:
    """One row for each goal and cell that was measured."""
    rows = []
    for goal in GOALS:
        for scenario in scenarios:
            if scenario.name != goal.scenario:
                continue
            for cell in scenario.cells:
                if goal.cells != "*" and not _concerns(goal.cells, cell.name):
                    continue
                value = _value(goal, cell)
                if value is None:
                    continue
                verdict = "missed"
                if goal.is_met(value, goal.goal):
                    verdict = "goal"
                elif goal.is_met(value, goal.floor):
                    verdict = "floor"
                rows.append(
                    {
                        "what": f"{scenario.title}, {cell.name}: {goal.metric}",
                        "against": goal.peer or "absolute",
                        "value": value,
                        "floor": goal.floor,
                        "goal": goal.goal,
                        "verdict": verdict,
                        "noisy": is_noisy(cell, goal.metric),
                    }
                )
    return rows


def _concerns(cells: str, name: str) -> bool:
    return name == cells or name in cells.split() or name.endswith(f" {cells}")


def _value(goal: Goal, cell: Cell) -> float | None:
    if goal.peer:
        return ratio(cell, goal.metric, "nono", goal.peer)
    return median(cell.samples.get("nono", []), goal.metric)
