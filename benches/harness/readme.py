"""The part of the repository's README that is made from the report."""

from __future__ import annotations

import re
from pathlib import Path

from .goals import judge
from .measure import Scenario
from .report import WORDS, Report

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
PICTURE = "plain"

# The rows to show, by the ids of the goals: enough to know what to expect.
ROWS = {
    "plain/c=64/req/s/nginx-1": "requests per second, 64 connections, against nginx with 1 worker",
    "plain/c=64/req/s/nginx-n": "the same, against nginx with as many workers",
    "plain/c=64/CPU s/100k/nginx-1": "processor time per request, against nginx with 1 worker",
    "plain/c=64/req/s/reference": "requests per second, against PyPI's nono-py",
    "tls/c=64/req/s/nginx-1": "requests per second to a TLS upstream, against nginx with 1 worker",
    "tls/c=64/req/s/nginx-n": "the same, against nginx with as many workers",
    "bodies/10 MB/req/s/nginx-1": "uploads of 10 MB, against nginx with 1 worker",
    "events/100 every 50 ms/added ms/nginx-1": "delay added to an event, against one such nginx",
    "audit/c=64/req/s/no records": "requests per second, with records against without",
    "tunnels/https/GB/s/direct": "bytes per second in a tunnel, against none",
    "execs/small parent/ms/subprocess": "`sandboxed_exec`, against `subprocess.run`",
    "execs/2 GiB parent/ms/subprocess": "the same, from a process of 2 GiB",
    "imports/import/ms/stdlib": "`import nono_py`, against json, asyncio and ssl",
}


def write(report: Report, readme: Path, folder: Path) -> None:
    """Puts the table and one picture between the marks."""
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{readme.name} has no {BEGIN} and {END}")
    block = "\n".join([BEGIN, *_lines(report, folder.relative_to(readme.parent)), END])
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    readme.write_text(re.sub(pattern, lambda _: block, text, count=1, flags=re.S))


def _lines(report: Report, folder: Path) -> list[str]:
    machine = report.machine
    dates = _dates(report.scenarios) or [str(machine["date"])]
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    lines = [
        f"Measured on {when} with `{report.command}`: {machine['processor']}, {machine['cores']} "
        "cores which the load and the upstream share. Ratios are of medians of alternating "
        f"rounds; for all figures see [the report]({folder}/report.md).",
        "",
        "| | ratio | |",
        "|---|--:|---|",
    ]
    found = {row["id"]: row for row in judge(report.scenarios)}
    for row, words in ROWS.items():
        if row in found:
            value = found[row]
            better = "less is better" if value["goal"] < value["floor"] else ""
            noisy = "noisy" if value["noisy"] else ""
            notes = ", ".join(filter(None, (better, WORDS[value["verdict"]], noisy)))
            lines.append(f"| {words} | {value['value']:.2f}x | {notes} |")
    picture = folder / f"report-{PICTURE}.svg"
    return [*lines, "", f"![Small GET, plain upstream]({picture})"]


def _dates(scenarios: list[Scenario]) -> list[str]:
    return sorted({scenario.run["date"][:10] for scenario in scenarios if scenario.run})
