"""What is printed: a heading a part, a line a check, and the audit events as a table."""

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime

_IS_COLOURED = sys.stdout.isatty() and "NO_COLOR" not in os.environ
_COLUMNS = ("time", "mode", "decision", "status", "target", "request", "bytes", "ms", "why")


class Account:
    """The checks so far."""

    def __init__(self) -> None:
        self.failures = 0
        self.checks = 0

    def heading(self, text: str) -> None:
        """Begin a part."""
        print(f"\n{_paint('1', text)}", flush=True)

    def note(self, text: str) -> None:
        """Say something that needs no check."""
        print(f"    {text}", flush=True)

    def check(self, is_met: bool, text: str, detail: str = "") -> None:
        """Say whether an expectation was met."""
        self.checks += 1
        self.failures += not is_met
        mark = _paint("32", "✔") if is_met else _paint("31", "✘")
        detail = f" {_paint('2', f'({detail})')}" if detail else ""
        print(f"  {mark} {text}{detail}", flush=True)


def table(events: Sequence[Mapping[str, object]]) -> str:
    """Return the audit events as aligned columns."""
    rows = [_COLUMNS, *(_row(event) for event in events)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(f"    {line}" for line in lines)


def _row(event: Mapping[str, object]) -> tuple[str, ...]:
    milliseconds = event["timestamp_unix_ms"]
    moment = datetime.fromtimestamp(float(str(milliseconds)) / 1000)
    request = " ".join(str(event[key]) for key in ("method", "path") if event[key])
    target = ":".join(str(event[key]) for key in ("target", "port") if event[key])
    return (
        moment.strftime("%H:%M:%S.%f")[:-3],
        str(event["mode"]),
        str(event["decision"]),
        str(event["status"] or "-"),
        target or "-",
        request or "-",
        str(event["bytes_out"]),
        f"{float(str(event['duration_ms'])):.0f}",
        str(event["denial_category"] or ""),
    )


def _paint(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if _IS_COLOURED else text
