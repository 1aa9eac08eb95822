"""The report: JSON with every sample, Markdown and a plot made from it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from . import plot
from .goals import LESS, judge
from .measure import NOISY, Cell, Scenario, is_noisy, median, ratio, show, spread

WORDS = {"goal": "goal reached", "floor": "floor holds", "missed": "**missed**"}


def write(
    folder: Path,
    name: str,
    machine: dict[str, object],
    scenarios: list[Scenario],
    lost: dict[str, str],
    command: str,
) -> str:
    """Writes all files and returns the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = judge(scenarios)
    data = {
        "command": command,
        "machine": machine,
        "left out": lost,
        "goals": rows,
        "scenarios": [dataclasses.asdict(scenario) for scenario in scenarios],
    }
    (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    picture = plot.bars(scenarios)
    if picture:
        (folder / f"{name}.svg").write_text(picture)
    text = _markdown(name, data, scenarios, bool(picture))
    (folder / f"{name}.md").write_text(text)
    return text


def _markdown(name: str, data: dict, scenarios: list[Scenario], has_plot: bool) -> str:
    machine = data["machine"]
    lines = [
        "# What it costs",
        "",
        f"`{data['command']}` on {machine['date']}, commit {machine['commit']}.",
        "",
        "Every figure is the median of alternating rounds; ± is half the range of the rounds. "
        f"Where that is more than {NOISY:.0%} for any peer of a row, the row is called noisy and "
        "its ratios say little. Load generator, upstream and proxy share the cores, so "
        "processor seconds tell more of a proxy than requests per second. Ratios are `nono` to "
        "the peer.",
        "",
    ]
    lines += _noise(scenarios)
    if has_plot:
        lines += [f"![requests per second and processor time]({name}.svg)", ""]
    lines += _goals(data["goals"])
    for scenario in scenarios:
        lines += _scenario(scenario)
    lines += ["## Machine and versions", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value or 'not installed'} |" for key, value in machine.items()]
    lines += [f"| left out | {what}: {why} |" for what, why in data["left out"].items()]
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
        "| what | against | is | floor | goal | |",
        "|---|---|--:|--:|--:|---|",
    ]
    for row in rows:
        unit = "" if row["against"] == "absolute" else "x"
        noisy = ", noisy" if row["noisy"] else ""
        lines.append(
            f"| {row['what']} | {row['against']} | {row['value']:.2f}{unit} | {row['floor']}{unit} "
            f"| {row['goal']}{unit} | {WORDS[row['verdict']]}{noisy} |"
        )
    return [*lines, ""]


def _scenario(scenario: Scenario) -> list[str]:
    lines = [f"## {scenario.title}", "", scenario.note, ""]
    for metric in scenario.metrics:
        cells = [c for c in scenario.cells if any(metric in s[0] for s in c.samples.values() if s)]
        if cells:
            lines += _table(metric, cells)
    return lines + [f"Failed: {error}\n" for error in scenario.errors]


def _table(metric: str, cells: list[Cell]) -> list[str]:
    names = list(dict.fromkeys(name for cell in cells for name in cell.samples))
    names = [n for n in names if any(metric in s for c in cells for s in c.samples.get(n, []))]
    others = [name for name in names if name != "nono"]
    less = " (less is better)" if metric in LESS or metric.startswith("p") else ""
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
    return f"{show(value)} ±{spread(samples, metric):.0%}"
