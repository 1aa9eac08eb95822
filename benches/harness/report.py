"""The report: JSON with every sample, and Markdown and pictures made from it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from . import plot
from .goals import LESS, growths, judge
from .measure import NOISY, Cell, Scenario, is_noisy, median, ratio, show, spread

WORDS = {"goal": "goal reached", "floor": "floor holds", "missed": "**missed**"}


@dataclass
class Report:
    """What was measured, in one run or in several."""

    command: str
    machine: dict[str, object]
    lost: dict[str, str]
    scenarios: list[Scenario] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Report:
        """The report that was written to `path`."""
        data = json.loads(path.read_text())
        scenarios = [
            Scenario(**{**found, "cells": [Cell(**cell) for cell in found["cells"]]})
            for found in data["scenarios"]
        ]
        return cls(data["command"], data["machine"], data["left out"], scenarios)

    def add_older(self, older: Report, order: list[str]) -> None:
        """Takes in what only `older` has."""
        known = {scenario.name for scenario in self.scenarios}
        self.scenarios += [s for s in older.scenarios if s.name not in known and s.name in order]
        self.scenarios.sort(key=lambda scenario: order.index(scenario.name))

    def write(self, folder: Path, name: str) -> str:
        """Writes all files and returns the Markdown."""
        folder.mkdir(parents=True, exist_ok=True)
        data = {
            "command": self.command,
            "machine": self.machine,
            "left out": self.lost,
            "goals": judge(self.scenarios),
            "scenarios": [dataclasses.asdict(scenario) for scenario in self.scenarios],
        }
        (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
        pictures = {}
        for old in folder.glob(f"{name}-*.svg"):
            old.unlink()
        for scenario in self.scenarios:
            if drawn := plot.picture(scenario):
                pictures[scenario.name] = f"{name}-{scenario.name}.svg"
                (folder / pictures[scenario.name]).write_text(drawn)
        text = _markdown(self, data["goals"], pictures)
        (folder / f"{name}.md").write_text(text)
        return text


def _markdown(report: Report, goals: list[dict], pictures: dict[str, str]) -> str:
    machine = report.machine
    lines = [
        "# What it costs",
        "",
        f"`{report.command}` on {machine['date']}, commit {machine['commit']}.",
        "",
        "Every figure is the median of alternating rounds; ± is half the range of the rounds. "
        f"Where that is more than {NOISY:.0%} for any peer of a row, the row is called noisy and "
        "its ratios say little. Load generator, upstream and proxy share the cores, so "
        "processor seconds tell more of a proxy than requests per second. Ratios are `nono` to "
        "the peer.",
        "",
    ]
    lines += _noise(report.scenarios)
    lines += _goals(goals)
    lines += _growth(report.scenarios)
    for scenario in report.scenarios:
        if any(cell.samples for cell in scenario.cells) or scenario.errors:
            lines += _scenario(scenario, report, pictures.get(scenario.name))
    lines += ["## Machine and versions", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value or 'not installed'} |" for key, value in machine.items()]
    lines += [f"| left out | {what}: {why} |" for what, why in report.lost.items()]
    return "\n".join(lines) + "\n"


def _noise(scenarios: list[Scenario]) -> list[str]:
    """Says so when the run as a whole is not one to believe."""
    rows = [is_noisy(c, s.metrics[0]) for s in scenarios for c in s.cells if c.samples]
    if sum(rows) * 4 <= len(rows):
        return []
    return [f"**This run is noisy**: {sum(rows)} of {len(rows)} rows. Repeat it at rest.", ""]


def _goals(rows: list[dict]) -> list[str]:
    if not rows:
        return []
    lines = [
        "## Goals",
        "",
        "| what | against | is | floor | goal | | measured reason |",
        "|---|---|--:|--:|--:|---|---|",
    ]
    for row in rows:
        unit = "" if row["against"] == "absolute" else "x"
        noisy = ", noisy" if row["noisy"] else ""
        reason = row["reason"] if row["verdict"] != "goal" else ""
        lines.append(
            f"| {row['what']} | {row['against']} | {row['value']:.2f}{unit} | {row['floor']}{unit} "
            f"| {row['goal']}{unit} | {WORDS[row['verdict']]}{noisy} | {reason} |"
        )
    return [*lines, ""]


def _growth(scenarios: list[Scenario]) -> list[str]:
    rows = growths(scenarios)
    if not rows:
        return []
    lines = [
        "## Growing work",
        "",
        "How the cost of one operation grows with the amount beside it, as a power of it: 0 is "
        "flat, 1 linear.",
        "",
        "| what | amount | cost | power | |",
        "|---|--:|--:|--:|---|",
    ]
    for row in rows:
        few, many = (f"{amount:,.0f}" for amount in row.amounts)
        low, high = map(show, row.costs)
        lines.append(
            f"| {row.what} | {few} → {many} | {low} → {high} {row.metric} | {row.exponent:.2f} "
            f"| {row.verdict} |"
        )
    return [*lines, ""]


def _scenario(scenario: Scenario, report: Report, picture: str | None) -> list[str]:
    lines = [f"## {scenario.title}", "", scenario.note, ""]
    own = scenario.run
    if own and own["commit"] != report.machine["commit"]:
        lines += [f"Measured by `{own['command']}` on {own['date']}, commit {own['commit']}.", ""]
    if picture:
        lines += [f"![{scenario.title}]({picture})", ""]
    for metric in scenario.metrics:
        cells = [c for c in scenario.cells if any(metric in s[0] for s in c.samples.values() if s)]
        if cells:
            lines += _table(metric, cells)
    return lines + [f"Failed: {error}\n" for error in dict.fromkeys(scenario.errors)]


def _table(metric: str, cells: list[Cell]) -> list[str]:
    names = list(dict.fromkeys(name for cell in cells for name in cell.samples))
    names = [n for n in names if any(metric in s for c in cells for s in c.samples.get(n, []))]
    others = [name for name in names if name != "nono" and "nono" in names]
    less = " (less is better)" if metric in LESS else ""
    head = [f"{metric}{less}", *names, *(f"/ {name}" for name in others), ""]
    lines = [f"| {' | '.join(head)} |", f"|---{'|--:' * (len(head) - 2)}|---|"]
    for cell in cells:
        row = [cell.name]
        for name in names:
            samples = cell.samples.get(name, [])
            value = median(samples, metric)
            row.append(show(value) if value is None else _figure(samples, metric, value))
        for name in others:
            found = ratio(cell, metric, "nono", name)
            row.append("–" if found is None else f"{found:.2f}x")
        row.append("noisy" if is_noisy(cell, metric) else "")
        lines.append(f"| {' | '.join(row)} |")
    return [*lines, ""]


def _figure(samples: list[dict[str, float]], metric: str, value: float) -> str:
    if len(samples) == 1:
        return show(value)
    return f"{show(value)} ±{spread(samples, metric):.0%}"
