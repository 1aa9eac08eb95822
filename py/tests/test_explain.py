"""What is explained is what is enforced, and the group and rule that are named are those."""

import json
from pathlib import Path
from typing import Any

import pytest
from nono_py import AccessMode, CapabilitySet, Policy, explain, load_policy, run

SYSTEM: dict[str, Any] = {
    "description": "d",
    "allow": {"read": ["/usr", "/bin", "/lib", "/lib64"], "readwrite": ["/dev/null"]},
}


def policy(**groups: dict[str, Any]) -> Policy:
    described = {name: {"description": "d", **group} for name, group in groups.items()}
    return load_policy(json.dumps({"groups": {"system": SYSTEM, **described}}))


def opening(**network: object) -> dict[str, Any]:
    return {"network": network}


def test_a_port_that_is_open_past_the_proxy_is_explained_as_open() -> None:
    loaded = policy(
        web=opening(allow_domain=["a.example"], deny_domain=["c.example"]),
        database=opening(connect_ports=[5432]),
    )
    groups = ["web", "database"]
    for host in ("b.example", "c.example", "192.0.2.1"):
        said = explain(loaded, groups, host=host, port=5432)
        rule = "network.connect_ports 5432"
        assert (said.allowed, said.reason) == (True, "port_granted"), host
        assert (said.group, said.rule) == ("database", rule)
        assert not explain(loaded, groups, host=host, port=5433).allowed
    assert explain(loaded, groups, host="a.example", port=443).reason == "host_allowed"
    caps = CapabilitySet()
    caps.allow_tcp_connect_port(8000)
    said = explain(loaded, ["web"], host="b.example", port=8000, caps=caps)
    assert (said.allowed, said.reason, said.group) == (True, "port_granted", None)


def test_a_network_that_the_caller_blocks_is_explained_as_blocked() -> None:
    route = {"prefix": "/api", "upstream": "https://api.example"}
    loaded = policy(
        web=opening(allow_domain=["a.example"], custom_credentials={"api": route}),
        wide=opening(connect_ports=[5432]),
        local=opening(localhost_ports=[5432]),
    )
    groups = ["web", "wide", "local"]
    caps = CapabilitySet()
    caps.block_network()
    for host, port in (("a.example", 443), ("192.0.2.1", 5432)):
        assert explain(loaded, groups, host=host, port=port).allowed
        said = explain(loaded, groups, host=host, port=port, caps=caps)
        assert (said.allowed, said.reason) == (False, "network_blocked")
    assert explain(loaded, groups, host="127.0.0.1", port=5432, caps=caps).allowed
    said = explain(loaded, groups, endpoint=("GET", "/api/x"), caps=caps)
    assert (said.allowed, said.reason) == (False, "network_blocked")
    caps.allow_tcp_connect_port(5432)
    assert explain(loaded, groups, host="192.0.2.1", port=5432, caps=caps).allowed


def test_the_rule_that_is_named_grants_the_access(tmp_path: Path) -> None:
    loaded = policy(
        aa={"allow": {"read": [str(tmp_path)]}},
        bb={"allow": {"readwrite": [str(tmp_path)]}},
        socket={"allow": {"unix_sockets": [str(tmp_path)]}},
    )
    for mode, group, field in (
        (AccessMode.READ, "aa", "allow.read"),
        (AccessMode.WRITE, "bb", "allow.readwrite"),
        (AccessMode.READ_WRITE, "bb", "allow.readwrite"),
    ):
        said = explain(loaded, ["aa", "bb"], path=tmp_path / "x", mode=mode)
        assert (said.allowed, said.group, said.rule) == (True, group, f"{field} {tmp_path}")
    caps = CapabilitySet()
    caps.allow_path(tmp_path, AccessMode.READ_WRITE)
    said = explain(loaded, ["aa"], path=tmp_path, mode=AccessMode.WRITE, caps=caps)
    assert (said.allowed, said.group, said.rule) == (True, None, str(tmp_path))
    said = explain(loaded, ["socket"], path=tmp_path, caps=caps)
    assert (said.allowed, said.group, said.rule) == (True, None, str(tmp_path))


def test_what_a_run_makes_is_explained_as_allowed_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    written = [f"{tmp_path}/new/deep/", f"{tmp_path}/file/below/", f"{tmp_path}/secret/"]
    group = {
        "allow": {"readwrite": written, "read": [f"{tmp_path}/absent/"]},
        "deny": {"access": [f"{tmp_path}/secret/key"]},
    }
    loaded = policy(g=group)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "new/deep/note", Path("new/deep/note"), Path("x/../new/deep")):
        said = explain(loaded, ["g"], path=path, mode=AccessMode.WRITE)
        rule = f"allow.readwrite {tmp_path}/new/deep/, which run makes"
        assert (said.allowed, said.group, said.rule) == (True, "g", rule)
        assert said.suggestion is None
    for name in ("absent/x", "file/below/x", "secret/x"):
        said = explain(loaded, ["g"], path=name)
        assert (said.allowed, said.group) == (False, "g"), name
        assert said.rule is not None
        assert said.rule.endswith("/, which is not there")
    said = explain(loaded, ["g"], path="absent/x", mode=AccessMode.WRITE)
    assert (said.allowed, said.group) == (False, None)
    assert [item.name for item in tmp_path.iterdir()] == ["file"]
    # As a run has it: what cannot be kept out of a grant to write is an error.
    with pytest.raises(RuntimeError, match="deny-overlap"):
        run(loaded, ["system", "g"], ["true"])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"endpoint": "GET /x"}, "endpoint must be a method and a path"),
        ({"endpoint": ("GET", "/x", "y")}, "endpoint must be a method and a path"),
        ({"endpoint": ("GET", 1)}, "endpoint must be a method and a path"),
        ({"host": "a.example", "port": "x"}, "port must be a number, not str"),
        ({"host": "a.example", "port": True}, "port must be a number, not bool"),
    ],
)
def test_what_is_no_question_is_said_to_be_none(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        explain(None, [], **asked)
