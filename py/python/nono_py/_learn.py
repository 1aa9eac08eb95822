"""Learn the smallest policy that a command needs: run it with nothing refused, and look.

It is no sandbox: while it is learned from, a command can do all that its user can. What it does is
seen as far as it does not hide, so that what is learned of is to be trusted to show itself.
"""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nono_py import _temporary
from nono_py._enums import AccessMode
from nono_py._learn_files import Files
from nono_py._learn_needs import Findings
from nono_py._learn_network import Network
from nono_py._nono_py import (
    CapabilitySet,
    ExecResult,
    Policy,
    ProxyConfig,
    _Command,
    _observe,
    embedded_policy_json,
    load_policy,
    start_proxy,
)
from nono_py._policy import KEPT, load

if TYPE_CHECKING:
    from nono_py._nono_py import _Path, _Words

#: What a learned group is called.
GROUP = "learned"


@dataclass(frozen=True)
class Learned:
    """What a command has done, as a policy that lets it do that again, and no more."""

    result: ExecResult
    #: The document, complete in itself: the chosen groups, the required ones, and `learned`. Groups
    #: that were chosen for what it did with files are in it with what they say of files alone.
    policy: str
    #: The groups of it to be chosen.
    groups: list[str]
    #: What it used that is somebody's secret, or another program's door. Nothing is granted for it;
    #: what a group or a directory brings all the same, and cannot be denied in it, is in `notes`.
    secrets: list[str]
    #: What no group should cover, and what to know before this policy is used.
    notes: list[str]


def learn(
    command: "_Words",
    groups: Sequence[str] = (),
    *,
    policy: "Policy | _Path | None" = None,
    cwd: "_Path | None" = None,
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> Learned:
    """Run a command with nothing refused, and return the smallest policy that covers what it did.

    This is no sandbox: run nothing that you do not trust to show what it does. Files that it opens,
    makes and executes are seen, and the addresses that it connects to; its hosts, and its requests
    to routes, by a proxy that lets everything public through. Groups of the embedded policy, or of
    `policy`, are chosen where they cover what it did; `groups` are chosen in any case, and their
    routes are there. The rest becomes a group of its own: single files, and directories where many
    were used. Keys, and what else those or the required groups deny, are not granted
    but listed.

    `env`, `cwd` and `options` are as for `run`. Raise SandboxError where this machine, or a sandbox
    around this process, does not let calls be observed.
    """
    if isinstance(groups, str):
        raise TypeError("groups must be a sequence of names, not one string")
    document = _document(policy)
    merged = load_policy(json.dumps(document))
    chosen = list(dict.fromkeys(groups))
    merged.resolve_groups(chosen, CapabilitySet())
    holding = list(dict.fromkeys([*merged.required_groups(), *chosen]))
    left: list[str] = []
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(_temporary.directory(left))
        proxy = stack.enter_context(start_proxy(_recording(merged, holding)))
        caps = CapabilitySet()
        caps.allow_path("/", AccessMode.READ_WRITE)
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        variables = dict(proxy.sandbox_env(kept | {"TMPDIR": temporary} | dict(env or {})))
        given = {"cwd": cwd, "env": variables, **options}
        findings = Findings()
        # Before the command runs: what is wrong with a policy is not to lose what was seen.
        beside = {name: _files_alone(group) for name, group in document["groups"].items()}
        without = load_policy(json.dumps({"groups": beside}))
        files = Files(without, chosen, findings, temporary, Path(os.fsdecode(cwd or ".")).resolve())
        network = Network(merged, holding, findings)
        call = _Command._called("learn", (caps, command), given)
        result, acts = _observe(call)
        proxy.shutdown()
        events = proxy.drain_audit_events()
        files.study(acts)
        network.study(acts, events, proxy)
    names = list(dict.fromkeys([*chosen, *files.chosen]))
    named = {name: dict(document["groups"][name]) for name in holding}
    named |= {name: beside[name] for name in names if name not in named}
    text = json.dumps({"groups": _groups(named, files, network)}, indent=2) + "\n"
    load_policy(text)
    return Learned(
        result, text, [*names, GROUP], sorted(findings.secrets), [*findings.notes, *left]
    )


def _document(policy: "Policy | _Path | None") -> dict[str, Any]:
    """Return the embedded policy, with the groups of another in it."""
    document: dict[str, Any] = json.loads(embedded_policy_json())
    if policy is not None:
        document["groups"] |= json.loads(load(policy).to_json())["groups"]
    return {"groups": document["groups"]}


def _files_alone(group: dict[str, Any]) -> dict[str, Any]:
    """Return what a group says of files: all that one is chosen for here."""
    return {field: said for field, said in group.items() if field not in ("network", "limits")}


def _recording(policy: Policy, groups: list[str]) -> ProxyConfig:
    """Return a proxy of the groups' routes that lets all public hosts through."""
    config = policy.resolve_proxy_config(groups)
    if config is None:
        return ProxyConfig(allow_all_hosts=True)
    return ProxyConfig(
        allow_all_hosts=True, routes=config.routes, external_proxy=config.external_proxy
    )


def _groups(
    chosen: dict[str, dict[str, Any]], files: Files, network: Network
) -> dict[str, dict[str, Any]]:
    """Return the chosen groups, and the learned one."""
    learned: dict[str, Any] = {"description": "What a command was seen to need."}
    if files.grants:
        learned["allow"] = files.grants
    if files.denied:
        learned["deny"] = {"access": files.denied}
    learned["network"] = network.rules
    routes = network.rules.get("custom_credentials", {})
    for group in chosen.values():
        others = group.get("network", {}).get("custom_credentials", {})
        if routes.keys() & others.keys():
            # A route of the learned group's stands for it, with the requests that were seen.
            left = {name: route for name, route in others.items() if name not in routes}
            group["network"] = group["network"] | {"custom_credentials": left}
    return chosen | {GROUP: learned}


# Where they are found by users, and by `pickle`.
for _class in (Learned,):
    _class.__module__ = "nono_py"
del _class
