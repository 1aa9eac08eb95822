"""What is done with a policy: a command is run under groups of it, and their meaning explained.

Both prepare the same set and the same proxy, so that what is explained is what is enforced.
"""

import contextlib
import copy
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nono_py import _temporary
from nono_py._enums import AccessMode
from nono_py._errors import PolicyError
from nono_py._nono_py import (
    CapabilitySet,
    ExecResult,
    Policy,
    ProxyConfig,
    ProxyHandle,
    QueryContext,
    ResolvedPolicy,
    _Judge,
    load_embedded_policy,
    load_policy,
    sandboxed_exec,
    start_proxy,
    validate_deny_overlaps,
)

if TYPE_CHECKING:
    from nono_py._nono_py import NetworkAuditEvent, _Path, _Words

#: What a command gets of the environment: who and where it is, and how to speak to the user. No
#: variable that may hold a key.
KEPT = (
    "COLORTERM",
    "HOME",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "LOGNAME",
    "NO_COLOR",
    "PATH",
    "SHELL",
    "TERM",
    "TZ",
    "USER",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
)


#: How long a policy's text is at most, in bytes.
_MOST_BYTES = 16 * 1024 * 1024


#: Where a policy names ports of this machine alone.
LOCAL = "localhost_ports"


@dataclass(frozen=True)
class RunResult:
    """What became of a command that ran under a policy."""

    result: ExecResult
    resolved: ResolvedPolicy
    events: "list[NetworkAuditEvent]"
    #: What to know besides: of temporary files that could not be removed, for instance.
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """The exit code, as `ExecResult` has it."""
        return self.result.exit_code

    @property
    def stdout(self) -> bytes:
        """What the command wrote to its standard output, if that was not given."""
        return self.result.stdout

    @property
    def stderr(self) -> bytes:
        """What the command wrote to its standard error, if that was not given."""
        return self.result.stderr


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


@dataclass(frozen=True)
class _Prepared:
    """All that groups come to."""

    names: list[str]
    caps: CapabilitySet
    resolved: ResolvedPolicy
    config: ProxyConfig | None

    @classmethod
    def of(
        cls,
        policy: Policy,
        groups: Iterable[str],
        caps: CapabilitySet | None = None,
        temporary: str | None = None,
        *,
        makes_directories: bool = False,
    ) -> "_Prepared":
        if isinstance(groups, str):
            raise TypeError("groups must be a sequence of names, not one string")
        names = list(dict.fromkeys([*policy.required_groups(), *groups]))
        # A copy: the caller's set is to be the same afterwards.
        prepared = CapabilitySet() if caps is None else copy.copy(caps)
        variables = {} if temporary is None else {"TMPDIR": temporary}
        if makes_directories:
            policy.make_directories(names, variables=variables)
        resolved = policy.resolve_groups(names, prepared, variables=variables)
        validate_deny_overlaps(resolved.deny_paths, prepared)
        policy._check_blocking(names)
        config = policy.resolve_proxy_config(names)
        # Of a network that is blocked nothing is left for a proxy.
        if policy._blocking_groups(names):
            config = None
        return cls(names, prepared, resolved, config)


def load(policy: "Policy | _Path | None") -> Policy:
    """Return a policy: itself, that of a file, or the embedded one."""
    if policy is None:
        return load_embedded_policy()
    if isinstance(policy, Policy):
        return policy
    path = os.fsdecode(policy)
    # A pipe may be one, so its size is known only by reading; some files have no end.
    with Path(path).open("rb") as file:
        text = file.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise PolicyError(f"{path}: more than {_MOST_BYTES:,} bytes, which is no policy")
    try:
        return load_policy(text.decode())
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: no UTF-8 from byte {error.start} on") from None
    except PolicyError as error:
        error.args = (f"{path}: {error}",)
        raise


def run(
    policy: "Policy | _Path | None",
    groups: Sequence[str],
    command: "_Words",
    *,
    caps: CapabilitySet | None = None,
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> RunResult:
    """Run a command under groups of a policy, and return its result and the proxy's records.

    `policy` is a `Policy`, the path of a file, or None for the embedded policy. Its required groups
    hold whatever is chosen; `caps` grants more. Directories that they let it write are made if
    they are missing (where the policy writes them with a `/` at the end). If the groups have rules
    for a proxy, one runs as long as the command, which reaches nothing else. The command gets a
    temporary directory of its own and, of the environment, `PATH`, `HOME` and the like; `env` adds
    to that. `options` are those of `sandboxed_exec`, and win over the policy's limits; `session` is
    one of them, which keeps a record of the run. None is kept by default.

    Raise ValueError or RuntimeError before anything runs if the policy cannot be enforced. Whatever
    is raised, as KeyboardInterrupt may be while it runs, has `events` and `notes` as a result has.
    """
    loaded = load(policy)
    events: list[NetworkAuditEvent] = []
    notes: list[str] = []
    try:
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(_temporary.directory(notes))
            prepared = _Prepared.of(loaded, groups, caps, temporary, makes_directories=True)
            proxy = None
            if prepared.config is not None:
                proxy = stack.enter_context(start_proxy(prepared.config))
                stack.callback(_drain, proxy, events)
            limits: dict[str, Any] = dict(loaded.resolve_limits(prepared.names))
            kept = {name: os.environ[name] for name in KEPT if name in os.environ}
            variables = kept | {"TMPDIR": temporary} | dict(env or {})
            options = limits | options
            result = sandboxed_exec(prepared.caps, command, env=variables, proxy=proxy, **options)
    except BaseException as error:
        vars(error).update(events=events, notes=notes)
        raise
    return RunResult(result, prepared.resolved, events, notes)


def _drain(proxy: ProxyHandle, events: "list[NetworkAuditEvent]") -> None:
    """End a proxy, and take all that it has recorded."""
    proxy.shutdown()
    events += proxy.drain_audit_events()


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
    if host is not None and not (host and 0 < port < 2**16):
        raise ValueError(f"explain takes a host and a port from 1 to 65535, not {host}:{port}")
    loaded = load(policy)
    # As `run` has one: the shared directory for temporary files is not granted.
    with tempfile.TemporaryDirectory(prefix="nono-") as temporary:
        prepared = _Prepared.of(loaded, groups, caps, temporary)
        if path is not None:
            return _explain_path(prepared, path, mode)
        if host is not None:
            return _explain_host(loaded, prepared, host, port)
        return _explain_endpoint(loaded, prepared, *(endpoint or ("", "")))


def _explain_path(prepared: _Prepared, path: "_Path", mode: AccessMode) -> Explanation:
    query = QueryContext(prepared.caps)
    said: dict[str, Any] = dict(query.query_path(path, mode))
    decisive = said.get("granted_path", said.get("denied_path"))
    denies = "denied_path" in said
    found = [
        (group, f"{field} {written}")
        for group, field, written, resolved in prepared.resolved._rules
        if resolved == decisive and field.startswith("deny") == denies
    ]
    group, rule = found[0] if found else (None, None)
    if rule is None and decisive is not None:
        rule = decisive
    if said["reason"] == "path_not_granted":
        group, rule = _missing(prepared.resolved, path)
    return Explanation(
        question=f"{mode} {os.fsdecode(path)}",
        allowed=said["status"] == "allowed",
        reason=said["reason"],
        group=group,
        rule=rule,
        suggestion=query.suggest_path(path, mode),
    )


def _missing(resolved: ResolvedPolicy, path: "_Path") -> tuple[str | None, str | None]:
    """Return the group and rule that would grant a path if what the rule names were there."""
    skipped = set(resolved.skipped_paths)
    for group, kind, written, named in resolved._rules:
        if named in skipped and Path(os.fsdecode(path)).is_relative_to(named):
            return group, f"{kind} {written}, which is not there"
    return None, None


def _explain_host(policy: Policy, prepared: _Prepared, host: str, port: int) -> Explanation:
    question = f"{host}:{port}"
    judge = _Judge(prepared.config or ProxyConfig(allow_all_hosts=True))
    # Also without a proxy it has to be a host.
    refusal, rule, route = judge.host(host, port)
    if prepared.config is None:
        said: dict[str, Any] = dict(QueryContext(prepared.caps).query_network(host, port))
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


def _explain_endpoint(policy: Policy, prepared: _Prepared, method: str, path: str) -> Explanation:
    question = f"{method} {path}"
    if prepared.config is None:
        return Explanation(question, False, "unknown_route")
    refusal, rule, route = _Judge(prepared.config).endpoint(method, path)
    group, place = (None, None) if route is None else _route(policy, prepared, route)
    if rule is not None:
        place = f"{place}.endpoint_rules {rule}"
    return Explanation(question, refusal is None, refusal or "endpoint_allowed", group, place)


def _route(policy: Policy, prepared: _Prepared, prefix: str) -> tuple[str | None, str | None]:
    for group, name, route in policy._routes(prepared.names):
        if route.prefix.strip("/") == prefix:
            return group, f"network.custom_credentials.{name}"
    return None, None


# Where they are found by users, and by `pickle`.
for _class in (RunResult, Explanation):
    _class.__module__ = "nono_py"
del _class
