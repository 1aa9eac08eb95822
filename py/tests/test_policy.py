"""Policies from Python: names, shapes, errors, and what they make of a capability set."""

import copy
import inspect
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import certifi
import pytest
from nono_py import (
    AccessMode,
    CapabilitySet,
    InjectMode,
    OAuth2Config,
    Policy,
    QueryContext,
    RouteConfig,
    SandboxState,
    VaultConfig,
    apply_unlink_overrides,
    embedded_policy_json,
    load_embedded_policy,
    load_policy,
    sandboxed_exec,
    validate_deny_overlaps,
)


def policy(**groups: dict[str, object]) -> Policy:
    described = {
        name: {"description": f"The group {name}.", **group} for name, group in groups.items()
    }
    return load_policy(json.dumps({"groups": described}))


def test_groups_and_their_descriptions() -> None:
    loaded = policy(b={}, a={})
    assert loaded.group_names() == ["a", "b"]
    assert loaded.group_description("a") == "The group a."
    assert loaded.group_description("none") is None
    assert repr(loaded) == "Policy(groups=2)"
    assert load_embedded_policy() == load_policy(embedded_policy_json())


def test_a_policy_can_be_pickled_and_copied() -> None:
    loaded = policy(a={})
    for other in pickle.loads(pickle.dumps(loaded)), copy.copy(loaded), copy.deepcopy(loaded):
        assert other == loaded
    assert loaded != policy(b={})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{", ["line 1 column 1"]),
        ('{"groups": {}, "metta": {}}', ["unknown field `metta`", "did you mean `meta`", "line 1"]),
        ('{"groups": {"g": {}}}', ["missing field `description`", "groups.g"]),
        (
            '{"groups": {"g": {"description": "", "allow": {"read": ["~me/x"]}}}}',
            ["~me/x", "home", "groups.g.allow.read[0]"],
        ),
    ],
)
def test_what_is_wrong_is_said(text: str, parts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^Configuration parse error: ") as caught:
        load_policy(text)
    assert [part for part in parts if part not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("field", "rule", "reason"),
    [
        ("allow_domain", "*", "it would allow every host"),
        ("allow_domain", "http://a", "it is a URL"),
        ("deny_domain", "a b", "it holds a character that no host has"),
        ("upstream_bypass", "", "it is empty"),
    ],
)
def test_a_rule_about_hosts_that_cannot_be_is_refused_with_its_place(
    field: str, rule: str, reason: str
) -> None:
    network = {field: ["a.example", rule], "upstream_proxy": "http://outer.example:3128"}
    loaded = policy(other={"network": {"allow_domain": ["b.example"]}}, web={"network": network})
    with pytest.raises(ValueError, match=rf"network\.{field} `.*` of group `web`: {reason}"):
        loaded.resolve_proxy_config(["other", "web"])


def test_a_denial_to_remove_can_be_overridden() -> None:
    caps = CapabilitySet()
    policy(g={"deny": {"unlink": True}}).resolve_groups(["g"], caps)
    assert (
        SandboxState.from_caps(caps).to_json() != SandboxState.from_caps(CapabilitySet()).to_json()
    )
    apply_unlink_overrides(caps)
    assert caps == CapabilitySet()


def test_groups_grant_and_deny(tmp_path: Path) -> None:
    place = tmp_path.resolve()
    for name in ("open", "shut"):
        (place / name).mkdir()
        (place / name / "file").write_text(name)
    loaded = policy(
        g={
            "allow": {"read": ["~", "~/missing"]},
            "deny": {"access": ["~/shut"], "unlink_override_for_user_writable": True},
        }
    )
    caps = CapabilitySet()
    resolved = loaded.resolve_groups(["g"], caps, variables={"HOME": place})
    assert resolved.names == ["g"]
    assert resolved.deny_paths == [str(place / "shut")]
    assert resolved.skipped_paths == [str(place / "missing")]
    assert resolved.needs_unlink_overrides
    text = "ResolvedPolicy(names=1, deny_paths=1, needs_unlink_overrides=true)"
    assert repr(resolved).lower() == text.lower()
    assert [str(grant.source) for grant in caps.fs_capabilities()] == ["group:g"]
    assert QueryContext(caps).query_path(place / "shut/file", AccessMode.READ)["status"] == "denied"
    validate_deny_overlaps(resolved.deny_paths, caps)
    caps.allow_system()
    done = sandboxed_exec(caps, ["cat", str(place / "open/file"), str(place / "shut/file")])
    assert (done.stdout, done.exit_code) == (b"open", 1)


def test_groups_are_all_chosen_or_none(tmp_path: Path) -> None:
    loaded = policy(a={"allow": {"read": [str(tmp_path)]}})
    caps = CapabilitySet()
    with pytest.raises(ValueError, match=r"unknown policy group `b`"):
        loaded.resolve_groups(["a", "b"], caps)
    assert caps == CapabilitySet()
    with pytest.raises(ValueError, match="did you mean `deny_credentials`"):
        load_embedded_policy().resolve_deny_paths(["deny_credential"])


def test_overlaps_are_a_runtime_error(tmp_path: Path) -> None:
    caps = CapabilitySet()
    caps.allow_path(tmp_path, AccessMode.READ_WRITE)
    validate_deny_overlaps(["/nowhere/else"], caps)
    message = r"deny '.*/keys' overlaps allowed parent '.*' \(source: user\)"
    with pytest.raises(RuntimeError, match=message):
        validate_deny_overlaps([str(tmp_path / "keys")], caps)


def test_a_proxy_is_configured(tmp_path: Path) -> None:
    loaded = policy(
        web={
            "network": {
                "allow_domain": ["example.com", "*.example.org"],
                "deny_domain": ["bad.example.org"],
                "max_connections": 7,
                "custom_credentials": {
                    "api": {
                        "prefix": "/api",
                        "upstream": "https://api.example.com",
                        "credential_key": "env://REAL_KEY",
                        "inject_header": "x-api-key",
                        "endpoint_rules": [{"method": "GET", "path": "/v1/**"}],
                    },
                    "openai": {"preset": "openai", "credential_key": "env://REAL_KEY"},
                },
            }
        },
        files={"allow": {"read": [str(tmp_path)]}},
    )
    config = loaded.resolve_proxy_config(["files", "web"])
    assert config is not None
    assert config.allowed_hosts == ["example.com", "*.example.org"]
    assert config.denied_hosts == ["bad.example.org"]
    assert config.max_connections == 7
    routes = {route.prefix: route for route in config.routes}
    assert routes["/api"].endpoint_rules == [("GET", "/v1/**")]
    assert routes["/api"].inject_header == "x-api-key"
    assert routes["/openai"].upstream.startswith("https://api.openai.com")
    assert loaded.resolve_proxy_config(["files"]) is None


def test_a_route_takes_all_that_a_route_config_takes(tmp_path: Path) -> None:
    """Every parameter of the constructor but a credential itself, which no file should hold."""
    pem = tmp_path / "ca.pem"
    shutil.copy(certifi.where(), pem)
    given: dict[str, Any] = {
        "prefix": "/api",
        "upstream": "https://api.example",
        "credential_key": "cmd://key",
        "credential_command": ["pass", "key"],
        "credential_ttl_secs": 30,
        "inject_mode": "header",
        "inject_header": "x-key",
        "credential_format": "key {}",
        "env_var": "API_KEY",
        "endpoint_rules": [{"method": "GET", "path": "/v1/**"}],
        "tls_ca": str(pem),
        "base_url_vars": ["URL"],
        "key_vars": ["OTHER_KEY"],
        "strip_client_credentials": True,
        "scrub_bodies": False,
        "extra_headers": {"x-version": "1", "x-key-id": "{}"},
    }
    oauth2: dict[str, Any] = {"token_url": "https://login.example/t", "client_id": "me"}
    oauth2 |= {"client_secret": "env://S", "refresh_token": "env://R", "scope": "a"}
    oauth2 |= {"extra_params": {"audience": "x"}, "secret_in_body": True}
    vault = {"address": "https://vault.example", "token_key": "env://T", "namespace": "n"}
    others: list[dict[str, Any]] = [
        {"oauth2": oauth2},
        {"credential_key": "vault://kv/p#f", "vault": vault},
        {"credential_key": "env://K", "inject_mode": "query_param", "query_param_name": "key"},
        {
            "credential_key": "env://K",
            "inject_mode": "url_path",
            "path_pattern": "/bot{}/",
            "path_replacement": "/b{}/",
        },
    ]
    for number, other in enumerate(others):
        other |= {"prefix": f"/{number}", "upstream": "https://api.example"}
    rules = {str(number): route for number, route in enumerate([given, *others])}
    config = policy(g={"network": {"custom_credentials": rules}}).resolve_proxy_config(["g"])
    assert config is not None
    full, token, kept, _query, path = config.routes
    assert full == RouteConfig(
        **{
            **given,
            "inject_mode": InjectMode.HEADER,
            "endpoint_rules": [("GET", "/v1/**")],
            "extra_headers": sorted(given["extra_headers"].items()),
        }
    )
    assert token.oauth2 == OAuth2Config(**{**oauth2, "extra_params": [("audience", "x")]})
    assert kept.vault == VaultConfig(**vault)
    assert (path.path_pattern, path.path_replacement) == ("/bot{}/", "/b{}/")
    taken = set(inspect.signature(RouteConfig).parameters) - {"credential"}
    said = {name for route in rules.values() for name in route}
    assert taken - said == {"tls_client_cert", "tls_client_key"}


@pytest.mark.parametrize(
    ("oauth2", "part"),
    [
        ({"token_url": "https://a.example"}, "missing field `client_id`"),
        ({"token_url": "x", "client_id": "y", "client_secrets": "z"}, "`client_secret`?"),
    ],
)
def test_a_token_endpoint_is_read_strictly(oauth2: dict[str, str], part: str) -> None:
    route = {"prefix": "/a", "upstream": "https://a.example", "oauth2": oauth2}
    with pytest.raises(ValueError, match="custom_credentials") as caught:
        policy(g={"network": {"custom_credentials": {"r": route}}})
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("route", "parts"),
    [
        ({"prefix": "/a", "upstream": "ftp://a.example"}, ["route `r` of group `g`", "upstream"]),
        ({"preset": "opnai"}, ["route `r` of group `g`", "opnai"]),
    ],
)
def test_a_route_that_cannot_be_is_named(route: dict[str, str], parts: list[str]) -> None:
    loaded = policy(g={"network": {"custom_credentials": {"r": route}}})
    with pytest.raises(ValueError, match="Configuration parse error") as caught:
        loaded.resolve_proxy_config(["g"])
    assert [part for part in parts if part not in str(caught.value)] == []


def test_two_proxies_behind_the_proxy_conflict() -> None:
    loaded = policy(
        a={"network": {"upstream_proxy": "a:1"}}, b={"network": {"external_proxy": "b:1"}}
    )
    with pytest.raises(ValueError, match=r"Conflicting upstream_proxy values.*`a`.*`b`"):
        loaded.resolve_proxy_config(["a", "b"])
    assert loaded.resolve_proxy_config(["a", "a"]) is not None
    unusable = policy(g={"network": {"upstream_proxy": "no port"}})
    with pytest.raises(ValueError, match=r"upstream_proxy of group `g`: .*no port"):
        unusable.resolve_proxy_config(["g"])


def test_required_groups() -> None:
    loaded = load_embedded_policy()
    assert "deny_credentials" in loaded.required_groups()
    loaded.validate_group_exclusions(["git_config", "unknown"])
    with pytest.raises(ValueError, match="deny_credentials"):
        loaded.validate_group_exclusions(["deny_credentials"])


def test_limits() -> None:
    loaded = policy(a={"limits": {"timeout_secs": 9}}, b={"limits": {"timeout_secs": 4}})
    assert loaded.resolve_limits(["a", "b"]) == {"timeout_secs": 4}


def test_every_host_of_the_embedded_policy_is_one() -> None:
    loaded = load_embedded_policy()
    config = loaded.resolve_proxy_config(loaded.group_names())
    assert config is not None
    assert {"pypi.org", "registry.npmjs.org", "github.com"} <= set(config.allowed_hosts)


def test_all_groups_are_resolved_together_and_the_network_stays_blocked() -> None:
    loaded, caps = load_embedded_policy(), CapabilitySet()
    loaded.resolve_groups(loaded.group_names(), caps)
    assert caps.is_network_blocked
    torn = policy(g={"network": {"block": True, "allow_domain": ["a.example"]}})
    caps = CapabilitySet()
    torn.resolve_groups(["g"], caps)
    config = torn.resolve_proxy_config(["g"])
    assert caps.is_network_blocked
    assert config is not None
    assert config.allowed_hosts == ["a.example"]
