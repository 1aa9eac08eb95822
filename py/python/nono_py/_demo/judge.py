"""What each of the agent's reports must say."""

from collections.abc import Mapping
from errno import EACCES, EPERM
from typing import NamedTuple

from nono_py._demo.upstream import ANSWER, PACE

Report = Mapping[str, object]


class Verdict(NamedTuple):
    """Whether a report is as it must be, and what to say about it."""

    is_met: bool
    text: str
    detail: str


#: In words, by the attempt's name.
_TEXTS = {
    "plain_answer": "the agent gets an answer from the API, through the SDK",
    "streamed_answer": "the agent gets a streamed answer, token by token",
    "key_in_environment": "the key is not in the agent's environment",
    "key_in_own_memory": "the key is nowhere in the agent's own /proc",
    "key_in_supervisor": "the key cannot be read from the supervisor's /proc",
    "key_in_files": "the key is in no file that the agent can read",
    "read_outside": "a file with the key, outside of what was granted, cannot be read",
    "connect_directly": "the upstream cannot be reached without the proxy",
    "tunnel_to_upstream": "the proxy makes no tunnel past its route",
    "tunnel_elsewhere": "the proxy makes no tunnel to a host that is not allowed",
    "plain_elsewhere": "the proxy sends no request to a host that is not allowed",
    "route_without_token": "the route is closed to a key that is not its token",
}
EXPECTED = frozenset(_TEXTS)

#: Attempts that the proxy answers with a refusal, and how.
_REFUSALS = {
    "tunnel_to_upstream": {403},
    "tunnel_elsewhere": {403},
    "plain_elsewhere": {403},
    "route_without_token": {400, 401},
}


def judge(report: Report) -> Verdict:
    """Judge one report."""
    name = str(report["attempt"])
    if name == "streamed_answer":
        is_met, detail = _is_streamed(report)
    else:
        is_met, detail = _is_as_expected(name, report)
    if "error" in report and not is_met:
        detail = str(report["error"])
    return Verdict(is_met, _TEXTS[name], detail)


def _is_as_expected(name: str, report: Report) -> tuple[bool, str]:
    if name == "plain_answer":
        return report.get("text") == "".join(ANSWER), f"“{report.get('text')}”"
    if name.startswith("key_in_"):
        counts = f"{report.get('searched')} places read"
        if "denied" in report:
            counts += f", {report['denied']} denied"
        return report.get("found") == [], counts
    if name in _REFUSALS:
        return report.get("status") in _REFUSALS[name], f"status {report.get('status')}"
    is_denied = report.get("errno") in (EACCES, EPERM)
    return is_denied, str(report.get("error", "it succeeded"))


def _is_streamed(report: Report) -> tuple[bool, str]:
    arrivals = report.get("arrivals_ms")
    if report.get("tokens") != list(ANSWER) or not isinstance(arrivals, list):
        return False, f"got {report.get('tokens')}"
    # Buffered on the way, the tokens would come all at once, at the end.
    spread = (arrivals[-1] - arrivals[0]) / 1000
    is_spread = spread > PACE * (len(ANSWER) - 1) / 2
    return is_spread, f"{len(arrivals)} tokens, at " + " ".join(map(str, arrivals)) + " ms"
