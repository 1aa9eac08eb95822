"""Learn the smallest policy that a command needs: run it with nothing refused, and look.

It is no sandbox: while it is learned from, a command can do all that its user can. What it does is
seen as far as it does not hide, so that what is learned of is to be trusted to show itself.
"""

import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from nono_py import _temporary
from nono_py._enums import AccessMode
from nono_py._interpreter import is_shared, shared
from nono_py._nono_py import (
    CapabilitySet,
    ExecResult,
    Policy,
    ProxyConfig,
    ProxyHandle,
    QueryContext,
    _Command,
    _observe,
    embedded_policy_json,
    load_policy,
    start_proxy,
)
from nono_py._policy import KEPT, LOCAL, load

if TYPE_CHECKING:
    from nono_py._nono_py import NetworkAuditEvent, _Path, _Words

#: What a learned group is called.
GROUP = "learned"
#: Of how many siblings one grant of their directory is made.
MANY = 3
#: What files with keys in them are called.
SECRET_NAMES = (
    ".env",
    ".env.*",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    "id_rsa",
    "id_ecdsa",
    "id_ed25519",
    "*.kdbx",
    "*.p12",
    "*.pfx",
    "*.jks",
)
#: What may be certificates alone, or have a key beside them.
KEY_SUFFIXES = (".pem", ".key")
#: What nearly every program needs; chosen before all others.
_BASE = ("system_read_linux", "system_write_linux")
#: What stands in a record for a token in a path, and for the end of a path that is too long.
_REDACTED, _CUT = "[redacted]", "…"
#: Chosen only where nothing narrower does: its grant is of other programs too.
_LAST = ("proc_linux",)
#: Opens no file, only its name: on Linux, where alone there is a command to learn from.
_NAME = getattr(os, "O_PATH", 0) | os.O_CLOEXEC


@dataclass(frozen=True)
class Learned:
    """What a command has done, as a policy that lets it do that again, and no more."""

    result: ExecResult
    #: The document, complete in itself: the chosen groups, the required ones, and `learned`.
    policy: str
    #: The groups of it to be chosen.
    groups: list[str]
    #: What it used that is somebody's secret, or another program's door. None of it is granted.
    secrets: list[str]
    #: What no group should cover, and what to know before this policy is used.
    notes: list[str]


@dataclass
class _Needs:
    """What was done with files: paths that were read, written in place, and made or removed."""

    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    makes: set[str] = field(default_factory=set)

    def pairs(self) -> Iterator[tuple[str, AccessMode]]:
        """Return each path with the access that a sandbox has to grant."""
        for path in self.reads:
            yield path, AccessMode.READ
        for path in self.writes:
            yield path, AccessMode.WRITE
        for path in self.makes:
            # Of a directory: a grant of the one file would not let it be made.
            yield str(PurePath(path).parent), AccessMode.WRITE

    def without(self, is_covered: "_Covers") -> "_Needs":
        """Return what is left to be granted."""
        return _Needs(
            {path for path in self.reads if not is_covered(path, AccessMode.READ)},
            {path for path in self.writes if not is_covered(path, AccessMode.WRITE)},
            {p for p in self.makes if not is_covered(str(PurePath(p).parent), AccessMode.WRITE)},
        )


class _Places:
    """Where paths lead, found out once for all sets that are asked about them."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def __getitem__(self, path: str) -> "str | None":
        """Return a path without links, what does not exist included; None if that is not plain."""
        if path not in self._known:
            self._known[path] = self._find(path)
        return self._known[path]

    @staticmethod
    def _find(path: str) -> "str | None":
        if not path.startswith("/"):
            return None
        existing = path
        while True:
            try:
                handle = os.open(existing, _NAME)
            except FileNotFoundError:
                if Path(existing).is_symlink() or existing == "/":
                    return None
                existing = existing.rpartition("/")[0] or "/"
            except OSError:
                return None
            else:
                break
        try:
            found = str(Path(f"/proc/self/fd/{handle}").readlink())
        except OSError:
            return None
        finally:
            os.close(handle)
        return found + path[len(existing) :] if found.startswith("/") else None


class _Covers:
    """Whether a set allows a use of a path, by the rules that a sandbox of it enforces."""

    def __init__(self, caps: CapabilitySet, places: _Places) -> None:
        self._query = QueryContext(caps)
        self._places = places
        self._granted = {grant.resolved for grant in caps.fs_capabilities()}
        self._grants = len(caps.fs_capabilities())

    def __call__(self, path: str, mode: AccessMode) -> bool:
        # The query follows the path anew each time: it is asked where it may say yes.
        real = self._places[path]
        if real is not None and not any(_within(real, grant) for grant in self._granted):
            return False
        return self._query.query_path(path, mode)["status"] == "allowed"

    def depth(self, path: str, mode: AccessMode) -> int:
        """Return how far into the tree the grant is that covers: the deeper, the narrower."""
        said: dict[str, Any] = dict(self._query.query_path(path, mode))
        return len(PurePath(said.get("granted_path", "")).parts)

    def __len__(self) -> int:
        return self._grants


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
    were used. Keys, and what else the required groups deny, are not granted but listed.

    `env`, `cwd` and `options` are as for `run`. Raise SandboxError where this machine, or a sandbox
    around this process, does not let calls be observed.
    """
    if isinstance(groups, str):
        raise TypeError("groups must be a sequence of names, not one string")
    document = _document(policy)
    merged = load_policy(json.dumps(document))
    chosen = list(dict.fromkeys(groups))
    merged.resolve_groups(chosen, CapabilitySet())
    left: list[str] = []
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(_temporary.directory(left))
        proxy = stack.enter_context(start_proxy(_recording(merged, chosen)))
        caps = CapabilitySet()
        caps.allow_path("/", AccessMode.READ_WRITE)
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        variables = dict(proxy.sandbox_env(kept | {"TMPDIR": temporary} | dict(env or {})))
        given = {"cwd": cwd, "env": variables, **options}
        call = _Command._called("learn", (caps, command), given)
        result, acts = _observe(call)
        proxy.shutdown()
        events = proxy.drain_audit_events()
        study = _Study(merged, chosen, temporary, Path(os.fsdecode(cwd or ".")).resolve())
        study.files(acts)
        study.network(acts, events, proxy)
        text = json.dumps({"groups": study.document(document["groups"])}, indent=2) + "\n"
    load_policy(text)
    return Learned(result, text, study.names(), sorted(study.secrets), [*study.notes, *left])


def _document(policy: "Policy | _Path | None") -> dict[str, Any]:
    """Return the embedded policy, with the groups of another in it."""
    document: dict[str, Any] = json.loads(embedded_policy_json())
    if policy is not None:
        document["groups"] |= json.loads(load(policy).to_json())["groups"]
    return {"groups": document["groups"]}


def _recording(policy: Policy, groups: list[str]) -> ProxyConfig:
    """Return a proxy of the groups' routes that lets all public hosts through."""
    config = policy.resolve_proxy_config(groups)
    if config is None:
        return ProxyConfig(allow_all_hosts=True)
    return ProxyConfig(
        allow_all_hosts=True, routes=config.routes, external_proxy=config.external_proxy
    )


class _Study:
    """What is made of all that was seen."""

    def __init__(self, policy: Policy, groups: list[str], temporary: str, cwd: Path) -> None:
        self._policy = policy
        self._given = groups
        self._variables = {"TMPDIR": temporary}
        self._required = policy.required_groups()
        self._chosen: list[str] = []
        self._places = _Places()
        self._grants: dict[str, list[str]] = {}
        self._network: dict[str, Any] = {}
        everything = CapabilitySet()
        everything.allow_path("/", AccessMode.READ)
        resolved = policy.resolve_groups(self._required, everything, variables=self._variables)
        self._denied = [PurePath(path) for path in resolved.deny_paths]
        self._shared = shared()
        self._home, self._cwd = Path.home().resolve(), cwd
        #: Secrets that no grant of a directory may bring.
        self._kept: list[PurePath] = []
        self.secrets: set[str] = set()
        self.notes: list[str] = []

    def names(self) -> list[str]:
        """Return the groups that are to be chosen."""
        return [*dict.fromkeys([*self._given, *self._chosen]), GROUP]

    def document(self, groups: Mapping[str, Any]) -> dict[str, Any]:
        """Return the groups of the policy, of all that there are."""
        learned: dict[str, Any] = {"description": "What a command was seen to need."}
        if self._grants:
            learned["allow"] = self._grants
        readable = [Path(path).expanduser() for path in self._grants.get("read", [])]
        if kept := [path for path in self._kept if any(path.is_relative_to(p) for p in readable)]:
            learned["deny"] = {"access": sorted(_short(str(path)) for path in set(kept))}
        learned["network"] = self._network
        named = [name for name in [*self._required, *self.names()] if name != GROUP]
        chosen = {name: dict(groups[name]) for name in dict.fromkeys(named)}
        routes = self._network.get("custom_credentials", {})
        for group in chosen.values():
            others = group.get("network", {}).get("custom_credentials", {})
            if routes.keys() & others.keys():
                # A route of the learned group's stands for it, with the requests that were seen.
                left = {name: route for name, route in others.items() if name not in routes}
                group["network"] = group["network"] | {"custom_credentials": left}
        return chosen | {GROUP: learned}

    # Files

    def files(self, acts: Iterable[tuple[str, "str | None", object]]) -> None:
        """Choose groups for what was done with files, and grants for the rest."""
        needs = _Needs()
        sets = {"read": needs.reads, "write": needs.writes, "make": needs.makes}
        for name, path, _ in acts:
            if path is None or name not in sets:
                continue
            if self._is_secret(path):
                self.secrets.add(f"{name} {_short(path)}")
                self._kept.append(PurePath(path))
            else:
                sets[name].add(path)
        needs = self._choose_groups(needs)
        self._grant(needs)

    def _is_secret(self, path: str) -> bool:
        """Whether a path is denied by a required group, or a key by its name, content or mode."""
        place = PurePath(path)
        if any(_within(str(place), str(denied)) for denied in self._denied):
            return True
        if any(place.match(pattern) for pattern in SECRET_NAMES):
            return True
        if path.startswith(("/proc/", "/dev/")) or not Path(path).is_file():
            return False
        if place.suffix in KEY_SUFFIXES:
            with contextlib.suppress(OSError), Path(path).open("rb") as file:
                return b"PRIVATE KEY-----" in file.read(2**20)
        own = (self._home, self._cwd, PurePath(self._variables["TMPDIR"]))
        # Outside of what is the user's own: what is not everybody's to read.
        is_own = any(_within(path, str(place)) for place in own)
        return not is_own and not Path(path).stat().st_mode & 0o004

    def _covers(self, names: Sequence[str]) -> _Covers:
        caps = CapabilitySet()
        self._policy.resolve_groups(names, caps, variables=self._variables)
        return _Covers(caps, self._places)

    def _choose_groups(self, needs: _Needs) -> _Needs:
        """Choose groups that cover as much as there are groups for; return what is left."""
        needs = needs.without(self._covers(self._given))
        for name in _BASE:
            covers = self._covers([name])
            left = needs.without(covers)
            if left != needs:
                self._chosen.append(name)
            needs = left
        passed = {*self._given, *self._required, *_BASE, *_LAST}
        others = [name for name in self._policy.group_names() if name not in passed]
        sets = {name: covers for name in others if len(covers := self._covers([name]))}
        self._choose_narrowest(needs, sets)
        needs = needs.without(self._covers(self._chosen))
        for name in _LAST:
            left = needs.without(self._covers([name]))
            if left != needs:
                self._chosen.append(name)
                self.notes.append(f"{name} was chosen: {self._policy.group_description(name)}")
            needs = left
        return needs

    def _choose_narrowest(self, needs: _Needs, sets: dict[str, _Covers]) -> None:
        """Choose for each use the group whose grant is the narrowest, and of those the busiest."""
        uses = {
            pair: [name for name, covers in sets.items() if covers(*pair)] for pair in needs.pairs()
        }
        busy = Counter(name for names in uses.values() for name in names)
        wanted: Counter[str] = Counter()
        for pair, names in uses.items():
            if names:
                best = max(names, key=lambda name: (sets[name].depth(*pair), busy[name], name))
                wanted[best] += 1
        kept = set(wanted)
        for name, _ in reversed(wanted.most_common()):
            rest = kept - {name}
            if all(rest.intersection(names) for names in uses.values() if kept & set(names)):
                kept = rest
        self._chosen += sorted(kept)

    def _grant(self, needs: _Needs) -> None:
        """Grant what no group covers: files, and directories where many were used."""
        made = {str(PurePath(path).parent) for path in needs.makes}
        for path in sorted(made):
            if not self._may_grant(PurePath(path), writes=True):
                self.notes.append(f"wrote in {_short(path)}: too much else is there to grant it")
        writable = {path for path in made if self._may_grant(PurePath(path), writes=True)}
        # What was made, read and removed is read where it was made.
        reads = {path for path in needs.reads if path in needs.makes or Path(path).exists()}
        for path in sorted(reads):
            if Path(path).is_dir() and not self._may_grant(PurePath(path), writes=False):
                self.notes.append(f"listed {_short(path)}: too much else is there to grant it")
                reads.discard(path)
        writes = self._gathered(needs.writes | writable, writes=True)
        gathered = self._gathered(reads, writes=False)
        both = {path for path in writes if any(_within(read, path) for read in reads)}
        read_only = {path for path in gathered if not any(_within(path, own) for own in both)}
        read_only = {path for path in read_only if Path(path).exists()}
        for secret, own in ((s, o) for s in self._kept for o in writes if _within(str(s), o)):
            self.notes.append(f"{_short(str(secret))} is granted with {_short(own)}: move it away")
        for name, paths in (
            ("read", read_only),
            ("write", writes - both),
            ("readwrite", both),
        ):
            if paths:
                self._grants[name] = sorted(_written(path) for path in paths)

    def _gathered(self, paths: set[str], *, writes: bool) -> set[str]:
        """Put a directory in the place of many of its entries, as long as there are such."""
        gathered = {PurePath(path) for path in paths}
        while True:
            gathered = {p for p in gathered if not gathered.intersection(p.parents)}
            entries = Counter(path.parent for path in gathered)
            parents = {
                parent
                for parent, count in entries.items()
                if count >= MANY and self._may_grant(parent, writes=writes)
            }
            if not parents:
                return {str(path) for path in gathered}
            gathered |= parents

    def _may_grant(self, directory: PurePath, *, writes: bool) -> bool:
        """Whether a directory is a program's own, and may be granted whole."""
        if is_shared(Path(directory), self._shared):
            return False
        # Nothing denied can be kept out of a grant to write.
        return not (writes and any(directory in denied.parents for denied in self._denied))

    # The network

    def network(
        self,
        acts: "Iterable[tuple[str, str | None, tuple[str, int] | None]]",
        events: "Sequence[NetworkAuditEvent]",
        proxy: ProxyHandle,
    ) -> None:
        """Make rules of the hosts and ports that were used; without any, the network is closed."""
        self._proxied(events)
        acts = list(acts)
        made = {path for name, path, _ in acts if name == "make"}
        for name, path, address in acts:
            if address is not None:
                self._direct(name, *address, proxy=proxy)
            elif name == "unix_socket" and path is not None and path not in made:
                self.secrets.add(f"connected to the unix socket {_short(path)}")
        given = self._policy.resolve_proxy_config(self._given) is not None
        if not given and not {"allow_domain", "custom_credentials"} & self._network.keys():
            self._network["block"] = True
            # Where one group blocks, another may open only what it opens too.
            for _, kind, port in self._policy._port_rules([*self._given, *self._chosen]):
                if kind != LOCAL:
                    self._add_port(kind, port)

    def _proxied(self, events: "Sequence[NetworkAuditEvent]") -> None:
        hosts: set[str] = set()
        requests: dict[str, set[tuple[str, str]]] = {}
        for event in events:
            host = f"{event['target']}:{event['port']}"
            if event["phase"] != "end":
                continue
            if event["decision"] == "deny":
                self.notes.append(f"{host} was refused: {event['reason']}")
            elif event["route_id"] is None:
                hosts.add(host)
            elif event["method"] and event["path"]:
                path = event["path"].partition("?")[0]
                if event["mode"] == "reverse":
                    path = path.removeprefix(f"/{event['route_id']}") or "/"
                rule = (event["method"], _rule(path))
                requests.setdefault(event["route_id"], set()).add(rule)
        if hosts:
            self._network["allow_domain"] = sorted(hosts)
        routes = json.loads(self._policy.to_json())["groups"]
        for group, name, route in self._policy._routes(self._given):
            if seen := requests.get(route.prefix.strip("/")):
                written = routes[group]["network"]["custom_credentials"][name]
                rules = [{"method": method, "path": path} for method, path in sorted(seen)]
                self._network.setdefault("custom_credentials", {})[name] = written | {
                    "endpoint_rules": rules
                }

    def _direct(self, name: str, host: str, port: int, *, proxy: ProxyHandle) -> None:
        if name == "connect" and f"{host}:{port}" == proxy.address:
            return
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if name == "datagram":
            self.notes.append(f"used UDP to {where}: there is none beside the proxy")
        elif port == 0:
            self.notes.append("served at a port of the kernel's choice: grant one, and let it be")
        elif ip_address(host).is_loopback:
            self._add_port("localhost_ports", port)
        elif name == "bind":
            self._add_port("bind_ports", port)
        else:
            self._add_port("connect_ports", port)
            self.notes.append(
                f"connected to {where} past the proxy: port {port} of every host is granted for it"
            )

    def _add_port(self, field: str, port: int) -> None:
        self._network[field] = sorted({*self._network.get(field, []), port})


def _rule(path: str) -> str:
    """Return an endpoint rule for the path of a record, which may lack a token or its end."""
    if path.endswith(_CUT):
        # How much there was is not known.
        path, end = path.removesuffix(_CUT).rpartition("/")[0], "/**"
    else:
        end = ""
    parts = (re.sub(r"[*?[{}]", r"[\g<0>]", part) for part in path.split(_REDACTED))
    return "*".join(parts) + end


def _within(path: str, directory: str) -> bool:
    """Whether a path is that of a directory, or beneath it: of so many that parsing them counts."""
    directory = directory.rstrip("/")
    return path.startswith(directory) and path[len(directory) : len(directory) + 1] in ("", "/")


def _short(path: str) -> str:
    """Return a path as people write it."""
    home = Path.home().resolve()
    if PurePath(path) != home and PurePath(path).is_relative_to(home):
        return f"~/{PurePath(path).relative_to(home)}"
    return path


def _written(path: str) -> str:
    """Return a path as a policy has it."""
    return _short(path) + ("/" if Path(path).is_dir() else "")


# Where they are found by users, and by `pickle`.
for _class in (Learned,):
    _class.__module__ = "nono_py"
del _class
