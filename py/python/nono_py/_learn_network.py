"""What a learned command needs of the network: hosts, requests to routes, and ports."""

import json
import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from nono_py._learn_needs import Findings, short
from nono_py._nono_py import Policy, ProxyHandle
from nono_py._policy import LOCAL

if TYPE_CHECKING:
    from nono_py._nono_py import NetworkAuditEvent

#: What stands in a record for a token in a path, and for the end of a path that is too long.
_REDACTED, _CUT = "[redacted]", "…"


class Network:
    """What is made of what was done with the network."""

    def __init__(self, policy: Policy, holding: list[str], findings: Findings) -> None:
        self._policy = policy
        #: The groups that hold beside the learned one: the required and the given ones.
        self._holding = holding
        self._findings = findings
        #: The field `network` of a group.
        self.rules: dict[str, Any] = {}

    def study(
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
                self._findings.secrets.add(f"connected to the unix socket {short(path)}")
        self._leave_blocked()
        has_proxy = self._policy.resolve_proxy_config(self._holding) is not None
        if not has_proxy and not {"allow_domain", "custom_credentials"} & self.rules.keys():
            self.rules["block"] = True
            # Where one group blocks, another may open only what it opens too.
            for _, kind, port in self._policy._port_rules(self._holding):
                if kind != LOCAL:
                    self._add_port(kind, port)

    def _leave_blocked(self) -> None:
        """Leave out what a group blocks that holds: no other group may open it."""
        for blocking in self._policy._blocking_groups(self._holding)[:1]:
            for field in ("allow_domain", "custom_credentials", "connect_ports", "bind_ports"):
                if used := self.rules.pop(field, None):
                    names = ", ".join(map(str, used))
                    self._findings.note(f"{blocking} blocks the network: no {field} for {names}")

    def _proxied(self, events: "Sequence[NetworkAuditEvent]") -> None:
        hosts: set[str] = set()
        requests: dict[str, set[tuple[str, str]]] = {}
        for event in events:
            host = f"{event['target']}:{event['port']}"
            if event["phase"] != "end":
                continue
            if event["decision"] == "deny":
                self._findings.note(f"{host} was refused: {event['reason']}")
            elif event["route_id"] is None:
                hosts.add(host)
            elif event["method"] and event["path"]:
                path = event["path"].partition("?")[0]
                if event["mode"] == "reverse":
                    path = path.removeprefix(f"/{event['route_id']}") or "/"
                rule = (event["method"], _rule(path))
                requests.setdefault(event["route_id"], set()).add(rule)
        if hosts:
            self.rules["allow_domain"] = sorted(hosts)
        routes = json.loads(self._policy.to_json())["groups"]
        for group, name, route in self._policy._routes(self._holding):
            if seen := requests.get(route.prefix.strip("/")):
                written = routes[group]["network"]["custom_credentials"][name]
                rules = [{"method": method, "path": path} for method, path in sorted(seen)]
                self.rules.setdefault("custom_credentials", {})[name] = written | {
                    "endpoint_rules": rules
                }

    def _direct(self, name: str, host: str, port: int, *, proxy: ProxyHandle) -> None:
        address = ip_address(host)
        # One of IPv4 in the clothes of IPv6 is where the one of IPv4 is.
        address = getattr(address, "ipv4_mapped", None) or address
        host = str(address)
        if name == "connect" and f"{host}:{port}" == proxy.address:
            return
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if name == "datagram":
            self._findings.note(f"used UDP to {where}: there is none beside the proxy")
        elif port == 0:
            self._findings.note("served at a port of the kernel's choice: grant one, and let it be")
        elif address.is_loopback:
            self._add_port("localhost_ports", port)
        elif name == "bind":
            self._add_port("bind_ports", port)
        else:
            self._add_port("connect_ports", port)
            self._findings.note(
                f"connected to {where} past the proxy: port {port} of every host is granted for it"
            )

    def _add_port(self, field: str, port: int) -> None:
        self.rules[field] = sorted({*self.rules.get(field, []), port})


def _rule(path: str) -> str:
    """Return an endpoint rule for the path of a record, which may lack a token or its end."""
    if path.endswith(_CUT):
        # How much there was is not known.
        path, end = path.removesuffix(_CUT).rpartition("/")[0], "/**"
    else:
        end = ""
    parts = (re.sub(r"[*?[{}]", r"[\g<0>]", part) for part in path.split(_REDACTED))
    return "*".join(parts) + end
