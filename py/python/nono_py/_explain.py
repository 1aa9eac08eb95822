"""Why something is allowed or denied under groups of a policy."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nono_py._enums import AccessMode
from nono_py._nono_py import (
    CapabilitySet,
    Policy,
    ProxyConfig,
    QueryContext,
    ResolvedPolicy,
    _Judge,
)
from nono_py._policy import Prepared, load

if TYPE_CHECKING:
    from nono_py._nono_py import _Path

#: By which fields of a group something may be done with a path.
_GRANTING = {
    AccessMode.READ: ("allow.read", "allow.readwrite"),
    AccessMode.WRITE: ("allow.write", "allow.readwrite"),
    AccessMode.READ_WRITE: ("allow.readwrite",),
}


@dataclass(frozen=True)
class Explanation:
    """Why something is allowed or denied. Its text says it in a sentence."""

    question: str
    allowed: bool
    #: A stable word: a reason of `QueryContext`, or the code that the proxy refuses with.
    reason: str
    #: The group that decides, if one does; and its rule: field and text.
    group: str | None = None
    rule: str | None = None
    #: The grant that would allow it, as a call.
    suggestion: str | None = None

    def __str__(self) -> str:
        said = f"{self.question}: {'allowed' if self.allowed else 'denied'} ({self.reason})"
        if self.group is not None:
            said += f" by group {self.group}"
        if self.rule is not None:
            said += f", rule {self.rule}"
        if self.suggestion is not None:
            said += f"; {self.suggestion} would allow it"
        return said


def explain(
    policy: "Policy | _Path | None",
    groups: Sequence[str],
    *,
    path: "_Path | None" = None,
    mode: AccessMode = AccessMode.READ,
    host: str | None = None,
    port: int = 443,
    endpoint: tuple[str, str] | None = None,
    caps: CapabilitySet | None = None,
) -> Explanation:
    """Say whether a file, a host or an endpoint is allowed under groups, and by which rule.

    Give one of `path` (with `mode`), `host` (with `port`) and `endpoint`: a method and a path of
    the proxy, like `("GET", "/openai/v1/models")`. The answer comes from what `run` enforces.
    """
    if [path, host, endpoint].count(None) != 2:
        raise TypeError("explain takes one of path, host and endpoint")
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port must be a number, not {type(port).__name__}")
    method, asked = _two(endpoint)
    if host is not None and not (host and 0 < port < 2**16):
        raise ValueError(f"explain takes a host and a port from 1 to 65535, not {host}:{port}")
    loaded = load(policy)
    # As `run` has one: the shared directory for temporary files is not granted.
    with tempfile.TemporaryDirectory(prefix="nono-") as temporary:
        prepared = Prepared.of(loaded, groups, caps, temporary)
        if path is not None:
            return _explain_path(prepared, path, mode)
        if host is not None:
            return _explain_host(loaded, prepared, host, port)
        return _explain_endpoint(loaded, prepared, method, asked)


def _two(endpoint: tuple[str, str] | None) -> tuple[str, str]:
    """Return the method and the path of an endpoint; two empty texts for none."""
    match endpoint:
        case None:
            return "", ""
        case (str(method), str(path)):
            return method, path
    raise TypeError(f'endpoint must be a method and a path, like ("GET", "/x"), not {endpoint!r}')


def _explain_path(prepared: Prepared, path: "_Path", mode: AccessMode) -> Explanation:
    query = QueryContext(prepared.caps)
    question = f"{mode} {os.fsdecode(path)}"
    said: dict[str, Any] = dict(query.query_path(path, mode))
    allowed, reason = said["status"] == "allowed", said["reason"]
    decisive = said.get("granted_path", said.get("denied_path"))
    fields = ("deny.access",) if "denied_path" in said else _GRANTING[mode]
    found = [
        (group, f"{field} {written}")
        for group, field, written, resolved in prepared.resolved._rules
        if resolved == decisive and field in fields
    ]
    group, rule = found[0] if found else (None, decisive)
    if reason == "path_not_granted" and (missing := _missing(prepared.resolved, path, mode)):
        if missing.is_made:
            rule = f"{missing.rule}, which run makes"
            return Explanation(question, True, "granted_path", missing.group, rule)
        group, rule = missing.group, f"{missing.rule}, which is not there"
    return Explanation(question, allowed, reason, group, rule, query.suggest_path(path, mode))


class _Missing(NamedTuple):
    """A rule that would grant a path if what it names were there."""

    group: str
    rule: str
    #: Whether `run` makes what it names.
    is_made: bool


def _missing(resolved: ResolvedPolicy, path: "_Path", mode: AccessMode) -> _Missing | None:
    real, skipped = os.path.realpath(os.fsdecode(path)), set(resolved.skipped_paths)
    found = [
        _Missing(group, f"{field} {written}", _is_made(resolved, field, written, named))
        for group, field, written, named in resolved._rules
        if named in skipped and field in _GRANTING[mode] and _within(real, os.path.realpath(named))
    ]
    return max(found, key=lambda missing: missing.is_made, default=None)


def _is_made(resolved: ResolvedPolicy, field: str, written: str, named: str) -> bool:
    """Whether `run` makes what a rule names, as `make_directories` does, and can grant it then."""
    if not written.endswith("/") or field not in _GRANTING[AccessMode.WRITE]:
        return False
    # Nothing denied can be kept out of a grant to write.
    if any(_within(denied, named) for denied in resolved.deny_paths) or os.path.lexists(named):
        return False
    around = next(place for place in Path(named).parents if os.path.lexists(place))
    return around.is_dir() and os.access(around, os.W_OK | os.X_OK)


def _within(path: str, directory: str) -> bool:
    return Path(path).is_relative_to(directory)


def _explain_host(policy: Policy, prepared: Prepared, host: str, port: int) -> Explanation:
    question = f"{host}:{port}"
    judge = _Judge(prepared.config or ProxyConfig(allow_all_hosts=True))
    # Also without a proxy it has to be a host.
    refusal, rule, route = judge.host(host, port)
    said: dict[str, Any] = dict(QueryContext(prepared.caps).query_network(host, port))
    # A port that is open past the proxy is so whatever the proxy refuses.
    is_past = refusal is not None and said["reason"] == "port_granted"
    if prepared.config is None or is_past:
        group, place = _port_or_block(policy, prepared.names, port, said["reason"])
        return Explanation(question, said["status"] == "allowed", said["reason"], group, place)
    if route is not None:
        group, place = _route(policy, prepared, route)
        return Explanation(question, False, refusal or "", group, place)
    field = "network.deny_domain" if refusal == "host_denied" else "network.allow_domain"
    groups = (
        group
        for group, known, written in policy._host_rules(prepared.names)
        if (known, written) == (field, rule)
    )
    text = None if rule is None else f"{field} {rule}"
    return Explanation(
        question, refusal is None, refusal or "host_allowed", next(groups, None), text
    )


def _port_or_block(
    policy: Policy, names: list[str], port: int, reason: str
) -> tuple[str | None, str | None]:
    """Return the group and rule by which a port is open, or the network is not."""
    if reason == "port_granted":
        for group, kind, known in policy._port_rules(names):
            if known == port and kind != "bind_ports":
                return group, f"network.{kind} {port}"
    if reason == "network_blocked":
        for group in policy._blocking_groups(names):
            return group, "network.block"
    return None, None


def _explain_endpoint(policy: Policy, prepared: Prepared, method: str, path: str) -> Explanation:
    question = f"{method} {path}"
    if prepared.config is None:
        said: dict[str, Any] = dict(QueryContext(prepared.caps).query_network())
        reason = "unknown_route" if said["status"] == "allowed" else said["reason"]
        group, place = _port_or_block(policy, prepared.names, 0, reason)
        return Explanation(question, False, reason, group, place)
    refusal, rule, route = _Judge(prepared.config).endpoint(method, path)
    group, place = (None, None) if route is None else _route(policy, prepared, route)
    if rule is not None:
        place = f"{place}.endpoint_rules {rule}"
    return Explanation(question, refusal is None, refusal or "endpoint_allowed", group, place)


def _route(policy: Policy, prepared: Prepared, prefix: str) -> tuple[str | None, str | None]:
    for group, name, route in policy._routes(prepared.names):
        if route.prefix.strip("/") == prefix:
            return group, f"network.custom_credentials.{name}"
    return None, None


# Where it is found by users, and by `pickle`.
Explanation.__module__ = "nono_py"
