"""Configurations that cannot be meant, and what is said about them."""

import errno
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nono_py import (
    CapabilitySet,
    ConfigurationError,
    ExclusionConfig,
    ExternalProxyConfig,
    InjectMode,
    Policy,
    ProxyConfig,
    QueryContext,
    RouteConfig,
    SessionMetadata,
    SnapshotManager,
    load_embedded_policy,
    sandboxed_exec,
    start_proxy,
    validate_deny_overlaps,
)


def route(**changes: Any) -> RouteConfig:
    return RouteConfig(**{"prefix": "/api", "upstream": "https://api.example", **changes})


def test_defaults_are_those_documented() -> None:
    made = RouteConfig("/api", "https://api.example")
    assert repr(made) == "RouteConfig(prefix='/api', upstream='https://api.example')"
    assert made.inject_mode is InjectMode.HEADER
    assert made.inject_header == "Authorization"
    assert made.endpoint_rules == []
    unset = ["credential_key", "credential_format", "path_pattern", "path_replacement"]
    unset += ["query_param_name", "env_var", "tls_ca", "tls_client_cert", "tls_client_key"]
    assert [getattr(made, name) for name in unset] == [None] * len(unset)
    config = ProxyConfig()
    assert (config.allowed_hosts, config.routes, config.allow_all_hosts) == ([], [], False)
    assert (config.bind_addr, config.bind_port, config.max_connections) == ("127.0.0.1", 0, 256)
    assert repr(config) == "ProxyConfig(hosts=0, routes=0, bind=127.0.0.1:0)"
    assert (made.base_url_vars, made.key_vars) == ([], [])
    assert made.strip_client_credentials is False
    assert (config.denied_hosts, config.require_auth) == ([], True)
    assert (config.head_timeout_secs, config.connect_timeout_secs) == (60, 10)
    assert (config.response_timeout_secs, config.idle_timeout_secs) == (600, 600)
    assert config.audit_records == 250_000
    assert (config.audit_disk_bytes, config.audit_overflow) == (2**30, "refuse")
    assert config.pool_idle_timeout_secs == 30
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert config.max_client_connections == min(max(files // 5 * 2, 16), 10_000)
    assert 1 <= config.workers <= 4


def test_everything_can_be_read_back(tmp_path: Path) -> None:
    made = RouteConfig(
        "/api",
        "https://api.example",
        "env://KEY",
        InjectMode.QUERY_PARAM,
        query_param_name="key",
        env_var="API_KEY",
        endpoint_rules=[("GET", "/v1/**")],
    )
    header = RouteConfig("/h", "https://api.example", "env://KEY", InjectMode.HEADER, "X-Key")
    assert header.inject_header == "X-Key"
    assert (made.query_param_name, made.env_var) == ("key", "API_KEY")
    assert made.endpoint_rules == [("GET", "/v1/**")]
    assert (made.credential_key, made.inject_mode) == ("env://KEY", InjectMode.QUERY_PARAM)
    config = ProxyConfig(["a.example"], [made], bind_addr="::1", bind_port=8080, max_connections=3)
    assert config.routes == [made]
    assert (config.bind_addr, config.bind_port, config.max_connections) == ("::1", 8080, 3)
    assert repr(config) == "ProxyConfig(hosts=1, routes=1, bind=[::1]:8080)"


def test_every_option_can_be_read_back() -> None:
    options: dict[str, Any] = {
        "denied_hosts": ["bad.example"],
        "require_auth": False,
        "head_timeout_secs": 1.5,
        "connect_timeout_secs": 2.5,
        "response_timeout_secs": 3.5,
        "idle_timeout_secs": 4.5,
        "audit_records": 5,
        "audit_disk_bytes": 6,
        "audit_overflow": "count",
        "workers": 6,
        "pool_idle_timeout_secs": 7.5,
        "max_client_connections": 8,
    }
    config = ProxyConfig(**options)
    assert {name: getattr(config, name) for name in options} == options
    routed = route(base_url_vars=["URL"], strip_client_credentials=True)
    assert (routed.base_url_vars, routed.strip_client_credentials) == (["URL"], True)


@pytest.mark.parametrize("field", ["head", "connect", "response", "idle", "pool_idle"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 1e300])
def test_a_time_limit_is_a_time(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field}_timeout_secs"):
        ProxyConfig(**{f"{field}_timeout_secs": value})  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["audit_records", "workers", "max_client_connections"])
def test_a_count_is_at_least_one(field: str) -> None:
    with pytest.raises(ValueError, match=f'{field} "0"'):
        ProxyConfig(**{field: 0})  # type: ignore[arg-type]


def test_a_count_can_be_larger_than_there_is_room_for() -> None:
    largest = 2**63
    with start_proxy(ProxyConfig(max_connections=largest, max_client_connections=largest)):
        pass
    with pytest.raises(ValueError, match='workers "1025"'):
        ProxyConfig(workers=1025)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prefix", ""),
        ("prefix", "/a/../b"),
        ("upstream", "not a url"),
        ("upstream", "ftp://api.example"),
        ("credential_key", "env://"),
        ("credential_key", "exec://program"),
        ("inject_header", "X Key"),
        ("env_var", "A=B"),
        ("env_var", "LD_PRELOAD"),
    ],
)
def test_a_route_names_the_field_and_the_value(field: str, value: str) -> None:
    with pytest.raises((ValueError, NotImplementedError)) as caught:
        route(**{"credential_key": "env://KEY", field: value})
    assert field in str(caught.value)
    assert not value or value in str(caught.value)


@pytest.mark.parametrize("options", [{"audit_file_max_bytes": 4096}, {"audit_file_keep": 3}])
def test_an_option_of_the_file_of_records_needs_the_file(
    options: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="need audit_file"):
        ProxyConfig(**options)
    config = ProxyConfig(audit_file=tmp_path / "log", **options)
    assert {name: getattr(config, name) for name in options} == options


def policy() -> Policy:
    return load_embedded_policy()


@pytest.mark.parametrize(
    "call",
    [
        lambda: ProxyConfig(allowed_hosts="api.example"),
        lambda: ProxyConfig(denied_hosts="api.example"),
        lambda: ProxyConfig(intercept_hosts="api.example"),
        lambda: ProxyConfig(intercept_exclude=b"api.example"),  # type: ignore[arg-type]
        lambda: ExternalProxyConfig("proxy.example:3128", "api.example"),
        lambda: route(credential_key="env://KEY", key_vars="API_KEY"),
        lambda: route(base_url_vars="API_URL"),
        lambda: policy().resolve_groups("git_config", CapabilitySet()),
        lambda: policy().resolve_proxy_config("git_config"),
        lambda: policy().resolve_deny_paths("git_config"),
        lambda: policy().validate_group_exclusions("git_config"),
        lambda: validate_deny_overlaps("/etc", CapabilitySet()),
        lambda: ExclusionConfig(exclude_globs="*.log"),
        lambda: SnapshotManager("session", "/etc"),
        lambda: SessionMetadata("id", "ls -l", []),
    ],
)
def test_one_text_is_no_list(call: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=r"a list is needed, not one (str|bytes): put it in"):
        call()


@pytest.mark.parametrize("rules", [["GET /v1"], ("GET", "/v1"), [["GET", "/v1"]]])
def test_a_rule_is_a_tuple_of_two(rules: Any) -> None:
    with pytest.raises(TypeError, match=r"each item must be a tuple of two, not (str|list)"):
        route(endpoint_rules=rules)


@pytest.mark.parametrize(
    ("mode", "field"),
    [(InjectMode.QUERY_PARAM, "query_param_name"), (InjectMode.URL_PATH, "path_pattern")],
)
def test_a_mode_needs_its_field(mode: InjectMode, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        route(credential_key="env://KEY", inject_mode=mode)


def test_a_format_needs_its_placeholder() -> None:
    with pytest.raises(ValueError, match="credential_format"):
        route(credential_key="env://KEY", credential_format="Bearer")


@pytest.mark.parametrize("field", ["tls_ca", "tls_client_cert", "tls_client_key"])
def test_a_missing_file_has_its_number_and_name(tmp_path: Path, field: str) -> None:
    missing = tmp_path / "missing.pem"
    with pytest.raises(FileNotFoundError) as caught:
        route(**{field: missing})
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, str(missing))


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.touch()
    with pytest.raises(ValueError, match="tls_client"):
        route(tls_client_cert=file)


def test_a_mode_is_no_string() -> None:
    with pytest.raises(TypeError, match="'str' object is not an instance of 'InjectMode'"):
        route(inject_mode="header")


@pytest.mark.parametrize("value", ["name.example", "127.0.0.1:80", "", "127.0.0.1\n"])
def test_an_address_to_listen_at(value: str) -> None:
    with pytest.raises(ValueError, match="bind_addr"):
        ProxyConfig(bind_addr=value)
    assert ProxyConfig(bind_addr="localhost").bind_addr == "127.0.0.1"


def test_an_address_that_is_taken() -> None:
    with start_proxy(ProxyConfig()) as proxy:
        taken = ProxyConfig(bind_port=proxy.port)
        with pytest.raises(RuntimeError, match=rf"127\.0\.0\.1:{proxy.port}"):
            start_proxy(taken)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_is_a_port(port: int) -> None:
    with pytest.raises(OverflowError, match=r"^bind_port must be a number from 0 to 65535"):
        ProxyConfig(bind_port=port)


def test_a_number_that_does_not_fit_is_said_to_be_which_and_what_would() -> None:
    with pytest.raises(OverflowError, match=rf"^workers must be a number from 0 to {2**64 - 1}"):
        ProxyConfig(workers=-1)
    with pytest.raises(OverflowError, match=rf"^uid must be a number from 0 to {2**32 - 1}"):
        sandboxed_exec(CapabilitySet(), ["true"], uid=2**32)
    with pytest.raises(OverflowError, match=r"^port must be a number from 0 to 65535"):
        QueryContext(CapabilitySet()).query_network("a.example", 2**16)
    session = SessionMetadata("s", ["a"], [])
    with pytest.raises(OverflowError, match=r"^exit_code must be a number from"):
        session.exit_code = 2**31
    session.exit_code = None
    # Any other kind of value is no number at all.
    with pytest.raises(TypeError):
        ProxyConfig(bind_port="80")  # type: ignore[arg-type]


def test_a_truth_value_is_no_id_port_or_size() -> None:
    caps = CapabilitySet()
    for ask in (
        lambda: ProxyConfig(bind_port=True),
        lambda: caps.allow_tcp_connect_port(True),
        lambda: QueryContext(caps).query_network("a.example", True),
        lambda: sandboxed_exec(caps, ["true"], uid=True),
        lambda: sandboxed_exec(caps, ["true"], max_memory_bytes=True),
    ):
        with pytest.raises(TypeError, match=r"^[a-z_]+ must be a number, not bool"):
            ask()


def test_an_option_that_is_missing_is_named() -> None:
    for mode, option in (
        (InjectMode.URL_PATH, "path_pattern"),
        (InjectMode.QUERY_PARAM, "query_param_name"),
    ):
        with pytest.raises(ConfigurationError, match=f"^inject_mode .*: it needs `{option}`$"):
            route(credential_key="env://KEY", inject_mode=mode)


@pytest.mark.parametrize("host", ["", "two words", "http://a.example", "a.example/path"])
def test_a_host_is_a_host(host: str) -> None:
    with pytest.raises(ValueError, match="allowed_hosts"):
        ProxyConfig(allowed_hosts=[host])


@pytest.mark.parametrize("host", ["169.254.169.254", "metadata.google.internal:80", "0.0.0.0"])
def test_a_host_can_be_reached(host: str) -> None:
    with pytest.raises(ConfigurationError, match="no rule makes it reachable") as caught:
        ProxyConfig(allowed_hosts=["a.example", host])
    assert f'allowed_hosts "{host}"' in str(caught.value)


def test_a_pair_is_of_two() -> None:
    makers: list[Callable[[Any], object]] = [
        lambda pairs: route(endpoint_rules=pairs),
        lambda pairs: route(extra_headers=pairs),
        lambda pairs: ProxyConfig(otlp_endpoint="http://127.0.0.1:4318", otlp_headers=pairs),
    ]
    for make in makers:
        with pytest.raises(ConfigurationError, match="must be a tuple of two, not of 1") as caught:
            make([("sesame",)])
        assert "sesame" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="need otlp_endpoint"):
        ProxyConfig(otlp_headers={"A": "b"})


@pytest.mark.parametrize("host", ["", "*", "http://a.example"])
def test_a_denied_host_is_a_host(host: str) -> None:
    with pytest.raises(ValueError, match="denied_hosts"):
        ProxyConfig(denied_hosts=[host])


def test_all_hosts_and_some_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="allow_all_hosts"):
        ProxyConfig(allowed_hosts=["a.example"], allow_all_hosts=True)


def test_two_routes_cannot_have_one_prefix() -> None:
    with pytest.raises(ValueError, match="prefix"):
        ProxyConfig(routes=[route(), route()])


def test_an_external_proxy_may_be_reached_over_tls() -> None:
    config = ProxyConfig(external_proxy=ExternalProxyConfig("https://proxy.example:443"))
    assert config.external_proxy == ExternalProxyConfig("https://proxy.example:443")


@pytest.mark.parametrize("address", ["proxy.example", "socks5://a.example:1", "a.example:1/x"])
def test_an_external_proxy_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(ValueError, match=r"external_proxy\.address"):
        ExternalProxyConfig(address)


def test_an_external_proxy_has_its_password_elsewhere() -> None:
    for address in ("http://user:sesame@p:1", "user:sesame@p:1", "http://user:sesame@p:99999"):
        with pytest.raises(ConfigurationError, match=r"external_proxy\.address") as caught:
            ExternalProxyConfig(address)
        assert "sesame" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="bypass_hosts"):
        ExternalProxyConfig("p:1", bypass_hosts=["a b"])


def test_an_external_proxy_can_be_described() -> None:
    external = ExternalProxyConfig("proxy.example:3128", bypass_hosts=["a.example"])
    assert (external.address, external.bypass_hosts) == ("proxy.example:3128", ["a.example"])
    assert repr(external) == "ExternalProxyConfig(address='proxy.example:3128')"
    assert external.credential_key is None
    with_key = ExternalProxyConfig("proxy.example:3128", credential_key="env://OUTER")
    assert with_key.credential_key == "env://OUTER"
