"""Writes `refusals.md` from the table that the proxy answers by; `--check` says if it differs."""

import sys
from pathlib import Path

from nono_py._nono_py import _refusals

PAGE = Path(__file__).with_name("refusals.md")
HEAD = """# Refusals

<!-- Written by refusals.py. -->

A request that does not reach its upstream is answered with JSON, and with the header `Proxy-Status`
(RFC 9209). `code` is stable and meant for programs; `message` and `hint` are for people. The record
of the exchange has the message as its `reason`. Here they are of a request to `HOST` or to the
route `/ROUTE`.

| status | code | message | what to do | `Proxy-Status` |
|--:|---|---|---|---|
"""


def page() -> str:
    """Return the page."""
    rows = sorted(_refusals(), key=lambda row: (row[0], row[1]))
    return HEAD + "".join(
        f"| {status} | `{code}` | {_cell(message)} | {_cell(hint or '')} | `{proxy_status}` |\n"
        for status, code, proxy_status, message, hint in rows
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if PAGE.read_text() == page() else f"{PAGE.name} is old: run {__file__}")
    PAGE.write_text(page())
