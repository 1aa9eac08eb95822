"""One picture: requests per second, and processor time for each, by number of connections."""

from __future__ import annotations

from .measure import Scenario, median, show

WIDTH, HEIGHT, GAP, TOP, LEFT = 420, 220, 60, 40, 20
COLOURS = {
    "nono": "#1f6f5c",
    "nginx-1": "#8a8f98",
    "nginx-n": "#5b6068",
    "haproxy": "#b08d57",
    "reference": "#b5544c",
}


def bars(scenarios: list[Scenario]) -> str | None:
    """The picture as SVG; none when small GETs were not measured."""
    wanted = [s for s in scenarios if s.name in ("plain", "tls") and s.cells]
    if not wanted:
        return None
    width = 2 * WIDTH + 3 * LEFT
    height = TOP + len(wanted) * (HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_legend(),
    ]
    for row, scenario in enumerate(wanted):
        top = TOP + row * (HEIGHT + GAP)
        for column, metric in enumerate(("req/s", "CPU s/100k")):
            left = LEFT + column * (WIDTH + LEFT)
            parts += _panel(scenario, metric, left, top)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend() -> list[str]:
    parts = []
    for place, (name, colour) in enumerate(COLOURS.items()):
        x = LEFT + place * 100
        parts.append(f'<rect x="{x}" y="10" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 17}" y="20">{name}</text>')
    return parts


def _panel(scenario: Scenario, metric: str, left: int, top: int) -> list[str]:
    better = "more" if metric == "req/s" else "less"
    parts = [
        f'<text x="{left}" y="{top + 14}" font-weight="bold">{scenario.title}: {metric} '
        f"({better} is better)</text>"
    ]
    found = {
        (cell.name, name): median(cell.samples.get(name, []), metric)
        for cell in scenario.cells
        for name in COLOURS
    }
    highest = max((value for value in found.values() if value), default=1)
    group = WIDTH / len(scenario.cells)
    bar = min((group - 14) / len(COLOURS), 34)
    bottom, room = top + HEIGHT, HEIGHT - 45
    for place, cell in enumerate(scenario.cells):
        x = left + place * group
        for number, (name, colour) in enumerate(COLOURS.items()):
            value = found[cell.name, name]
            if not value:
                continue
            tall = value / highest * room
            at = x + number * bar
            parts.append(
                f'<rect x="{at:.1f}" y="{bottom - tall:.1f}" width="{bar - 2:.1f}" '
                f'height="{tall:.1f}" fill="{colour}"><title>{name} {show(value)}</title></rect>'
            )
            parts.append(
                f'<text x="{at + bar / 2 - 1:.1f}" y="{bottom - tall - 3:.1f}" font-size="7" '
                f'text-anchor="middle">{show(value)}</text>'
            )
        middle = x + bar * len(COLOURS) / 2
        parts.append(
            f'<text x="{middle:.1f}" y="{bottom + 14}" text-anchor="middle">{cell.name}</text>'
        )
    parts.append(
        f'<line x1="{left}" y1="{bottom}" x2="{left + WIDTH}" y2="{bottom}" stroke="#999"/>'
    )
    return parts
