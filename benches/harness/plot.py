"""Pictures: one for each scenario that wants one, with a panel for each metric.

Bars by cell where peers are compared; lines, on logarithmic scales, where a cost is followed as
something grows.
"""

from __future__ import annotations

import math

from .goals import LESS, lines
from .measure import Scenario, median, show

WIDTH, HEIGHT, LEFT, TOP, FOOT = 430, 210, 48, 34, 40
# Beyond this range, small bars would not be seen beside large ones on a linear scale.
WIDE = 30
COLOURS = {
    "nono": "#1f6f5c",
    "direct": "#cfd3d8",
    "nginx-1": "#8a8f98",
    "nginx-n": "#5b6068",
    "haproxy": "#b08d57",
    "haproxy-relay": "#b08d57",
    "squid": "#7d6b9e",
    "reference": "#b5544c",
    "litellm": "#c98a2b",
    "subprocess": "#8a8f98",
    "bubblewrap": "#b08d57",
    "stdlib": "#8a8f98",
}
MORE = ["#1f6f5c", "#b5544c", "#5b6068", "#c98a2b", "#7d6b9e", "#3d7ea6", "#8a8f98"]


def picture(scenario: Scenario) -> str | None:
    """The scenario as SVG; none when there is nothing to draw."""
    drawn = [metric for metric in scenario.picture if _has(scenario, metric)]
    if not drawn:
        return None
    width = len(drawn) * (WIDTH + LEFT) + 10
    height = TOP + HEIGHT + FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for column, metric in enumerate(drawn):
        left = LEFT + column * (WIDTH + LEFT)
        parts += (_lines if scenario.as_lines else _bars)(scenario, metric, left)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _has(scenario: Scenario, metric: str) -> bool:
    return any(metric in s for cell in scenario.cells for ss in cell.samples.values() for s in ss)


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{text}</text>'


def _foot(x: float, room: float, text: str) -> list[str]:
    """A name below the axis, in as many lines as it needs."""
    rows = [""]
    for word in text.split():
        if rows[-1] and len(rows[-1]) + len(word) > room / 5:
            rows.append("")
        rows[-1] = f"{rows[-1]} {word}".strip()
    size = 'font-size="9" text-anchor="middle"'
    return [_text(x, TOP + HEIGHT + 12 + 10 * n, row, size) for n, row in enumerate(rows)]


def _head(
    scenario: Scenario, metric: str, left: int, names: dict[str, str], scale: str = ""
) -> list[str]:
    better = "less" if metric in LESS else "more"
    title = f"{scenario.title}: {metric} ({better} is better{scale})"
    parts = [_text(left, 14, title, 'font-weight="bold"')]
    x = float(left)
    for name, colour in names.items():
        parts.append(f'<rect x="{x:.1f}" y="21" width="9" height="9" fill="{colour}"/>')
        parts.append(_text(x + 12, 29, name, 'font-size="9"'))
        x += 22 + 5.2 * len(name)
    return parts


def _bars(scenario: Scenario, metric: str, left: int) -> list[str]:
    found = {
        (cell.name, name): value
        for cell in scenario.cells
        for name, samples in cell.samples.items()
        if (value := median(samples, metric)) is not None
    }
    # The bare origin is a scale of its own: beside it, all others would be small.
    present = dict.fromkeys(name for _, name in found)
    names = {name: _colour(name, at) for at, name in enumerate(present) if name != "direct"}
    shown = [value for (_, name), value in found.items() if name in names]
    least, highest = min(shown, default=0), max(shown, default=1)
    is_wide = 0 < least * WIDE < highest
    scale = _Scale(shown, 0, HEIGHT - 24) if is_wide else None
    group = WIDTH / len(scenario.cells)
    bar = min((group - 12) / max(len(names), 1), 40)
    bottom = TOP + HEIGHT
    parts = _head(scenario, metric, left, names, ", logarithmic scale" if is_wide else "")
    for place, cell in enumerate(scenario.cells):
        x = left + place * group
        for number, (name, colour) in enumerate(names.items()):
            value = found.get((cell.name, name))
            if value is None:
                continue
            tall = scale.at(value) if scale else max(value, 0) / highest * (HEIGHT - 24)
            at = x + number * bar
            parts.append(
                f'<rect x="{at:.1f}" y="{bottom - tall:.1f}" width="{bar - 1.5:.1f}" '
                f'height="{tall:.1f}" fill="{colour}"><title>{name} {show(value)}</title></rect>'
            )
            size = f'font-size="{7 if bar > 20 else 6}" text-anchor="middle"'
            parts.append(_text(at + bar / 2 - 1, bottom - tall - 3, show(value), size))
        middle = x + bar * len(names) / 2
        parts += _foot(middle, group - 6, cell.name)
    end = left + WIDTH
    return [*parts, f'<line x1="{left}" y1="{bottom}" x2="{end}" y2="{bottom}" stroke="#999"/>']


def _lines(scenario: Scenario, metric: str, left: int) -> list[str]:
    found = {line: points for line, points in lines(scenario, metric).items() if points}
    everything = [point for points in found.values() for point in points if point[1] > 0]
    across = _Scale([amount for amount, _ in everything], left + 34, left + WIDTH - 20)
    up = _Scale([cost for _, cost in everything], TOP + HEIGHT, TOP + 14)
    names = {line: _colour(line, at) for at, line in enumerate(found)}
    parts = _head(scenario, metric, left, names)
    for power in up.powers:
        y = up.at(10.0**power)
        ends = f'x1="{left + 34}" y1="{y:.1f}" x2="{left + WIDTH}" y2="{y:.1f}"'
        parts.append(f'<line {ends} stroke="#e4e6e9"/>')
        parts.append(_text(left + 30, y + 3, f"{10.0**power:g}", 'font-size="8" text-anchor="end"'))
    for amount in dict.fromkeys(amount for amount, _ in everything):
        x = across.at(amount)
        label = f"{amount:,.0f}"
        parts.append(_text(x, TOP + HEIGHT + 14, label, 'font-size="8" text-anchor="middle"'))
    for line, points in found.items():
        placed = [(across.at(a), up.at(c), c) for a, c in points if c > 0]
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in placed)
        colour = names[line]
        parts.append(f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{line} '
            f"{show(cost)}</title></circle>"
            for x, y, cost in placed
        ]
    return parts


class _Scale:
    """A logarithmic scale from whole power to whole power."""

    def __init__(self, values: list[float], start: float, end: float):
        low = math.floor(math.log10(min(values)))
        high = max(math.ceil(math.log10(max(values))), low + 1)
        self.powers = range(low, high + 1)
        self.low, self.high, self.start, self.end = low, high, start, end

    def at(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def _colour(name: str, place: int) -> str:
    return COLOURS.get(name, MORE[place % len(MORE)])
