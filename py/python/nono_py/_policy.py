"""What is done with a policy: a command is run under groups of it.

What `explain` explains is prepared here too, so that it is what is enforced.
"""

import contextlib
import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nono_py import _temporary
from nono_py._errors import ConfigurationError, PolicyError
from nono_py._nono_py import (
    CapabilitySet,
    ExecResult,
    Policy,
    ProxyConfig,
    ProxyHandle,
    ResolvedPolicy,
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
class Prepared:
    """All that groups come to, beside what the caller's set grants and limits."""

    names: list[str]
    caps: CapabilitySet
    resolved: ResolvedPolicy
    #: What the proxy is that runs beside a command; None where none does.
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
    ) -> "Prepared":
        if isinstance(groups, str):
            raise TypeError("groups must be a sequence of names, not one string")
        names = list(dict.fromkeys([*policy.required_groups(), *groups]))
        # A copy: the caller's set is to be the same afterwards.
        given = CapabilitySet() if caps is None else caps
        prepared = copy.copy(given)
        variables = {} if temporary is None else {"TMPDIR": temporary}
        if makes_directories:
            policy.make_directories(names, variables=variables)
        resolved = policy.resolve_groups(names, prepared, variables=variables)
        validate_deny_overlaps(resolved.deny_paths, prepared)
        policy._check_blocking(names)
        config = policy.resolve_proxy_config(names)
        network = given._network
        if network == "blocked":
            # Whoever blocked the network means whatever the groups would open of it.
            prepared._keep_ports_of(given)
        # Of a network that is blocked nothing is left for a proxy.
        if network == "blocked" or policy._blocking_groups(names):
            config = None
        elif config is not None and network != "allowed":
            raise ConfigurationError(
                f"the network of caps is {network}, and the groups have rules for another proxy: "
                "give caps without one, or groups without such rules"
            )
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
    for a proxy, one runs as long as the command, which reaches nothing else. If `caps` blocks the
    network, it stays blocked whatever the groups open of it, but for `localhost_ports`: no proxy
    runs. The command gets a temporary directory of its own and, of the environment, `PATH`, `HOME`
    and the like; `env` adds to that. `options` are those of `sandboxed_exec` but for `proxy`, and
    win over the policy's limits; `session` is one of them, which keeps a record of the run. None is
    kept by default.

    Raise ValueError or RuntimeError before anything runs if the policy cannot be enforced. Whatever
    is raised, as KeyboardInterrupt may be while it runs, has `events` and `notes` as a result has.
    """
    if "proxy" in options:
        raise TypeError("run starts the proxy of its groups itself, and takes none as an argument")
    loaded = load(policy)
    events: list[NetworkAuditEvent] = []
    notes: list[str] = []
    try:
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(_temporary.directory(notes))
            prepared = Prepared.of(loaded, groups, caps, temporary, makes_directories=True)
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


# Where they are found by users, and by `pickle`.
RunResult.__module__ = "nono_py"
