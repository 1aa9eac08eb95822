"""What every public class and function has: values that compare, copy and pickle; one tree of
exceptions; use from many threads, after a fork, and without a slow import."""

import copy
import errno
import inspect
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nono_py
import pytest
from nono_py import (
    AccessMode,
    CapabilitySet,
    ExternalProxyConfig,
    InjectMode,
    OAuth2Config,
    ProxyConfig,
    QueryContext,
    RouteConfig,
    SandboxState,
    VaultConfig,
    load_embedded_policy,
    load_policy,
    sandboxed_exec,
    start_proxy,
    support_info,
    validate_deny_overlaps,
)

OAUTH2 = OAuth2Config(
    "https://login.example/token",
    "me",
    "env://SECRET",
    scope="a b",
    extra_params={"audience": "x"},
    secret_in_body=True,
)
VAULT = VaultConfig("https://vault.example", "env://TOKEN", "team")
ROUTES = [
    RouteConfig("/plain", "https://api.example"),
    RouteConfig(
        "/full",
        "https://api.example/v1",
        "env://KEY",
        InjectMode.QUERY_PARAM,
        query_param_name="key",
        env_var="API_KEY",
        endpoint_rules=[("GET", "/v1/**")],
        base_url_vars=["URL"],
        key_vars=["OTHER_KEY"],
        strip_client_credentials=True,
        scrub_bodies=False,
        credential_ttl_secs=30.5,
        extra_headers=[("x-version", "1")],
    ),
    RouteConfig("/token", "https://api.example", oauth2=OAUTH2),
    RouteConfig("/vault", "https://api.example", "vault://kv/path#field", vault=VAULT),
    RouteConfig("/program", "https://api.example", "cmd://key", credential_command=["pass", "key"]),
]
EXTERNAL = ExternalProxyConfig("proxy.example:3128", ["a.example"], "env://LOGIN")


def values(directory: Path) -> list[Any]:
    """Return configurations in which every option is used."""
    return [
        *ROUTES,
        OAUTH2,
        VAULT,
        VaultConfig("https://vault.example", "env://TOKEN", tls_ca=directory / "ca.pem"),
        OAuth2Config("https://login.example", "me", "env://X", tls_ca=directory / "ca.pem"),
        EXTERNAL,
        ProxyConfig(),
        ProxyConfig(
            ["a.example"],
            ROUTES,
            EXTERNAL,
            bind_addr="::1",
            bind_port=8080,
            max_connections=3,
            intercept_ca_dir=directory,
            denied_hosts=["bad.example"],
            require_auth=False,
            audit_file=directory / "log",
            audit_file_max_bytes=2**20,
            audit_file_keep=3,
            metrics_addr="127.0.0.1:9090",
            intercept_hosts=["b.example"],
            intercept_exclude=["c.example"],
            intercept_name_constraints=True,
        ),
    ]


def test_configurations_are_values(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    all_of_them, again = values(tmp_path), values(tmp_path)
    for value, same in zip(all_of_them, again, strict=True):
        assert value == same
        assert hash(value) == hash(same)
        assert value != object()
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(value, protocol)) == value
        for copied in (copy.copy(value), copy.deepcopy(value)):
            assert copied == value
        assert weakref.ref(value)() is value
    for place, value in enumerate(all_of_them):
        assert [other for other in all_of_them[:place] if other == value] == []


@pytest.mark.parametrize("value", [ROUTES[0], OAUTH2, VAULT, EXTERNAL, ProxyConfig()], ids=repr)
def test_what_a_constructor_takes_is_what_is_kept_and_pickled(value: Any) -> None:
    # A credential given as a value or function stays in its process.
    secret = {"credential"}
    taken = set(inspect.signature(type(value)).parameters) - secret
    assert [name for name in sorted(taken) if not hasattr(value, name)] == []
    _, (_, kept) = value.__reduce__()
    assert set(kept) == taken


def test_a_credential_of_the_programs_own_is_not_pickled() -> None:
    route = RouteConfig("/a", "https://a.example", credential="sk-secret-value")
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(route)
    assert copy.deepcopy(route) == route
    assert route != RouteConfig("/a", "https://a.example", credential="sk-secret-value")
    assert "sk-secret-value" not in repr([route, ProxyConfig(routes=[route])])


def test_every_class_can_be_referred_to_weakly(caps: CapabilitySet) -> None:
    with start_proxy(ProxyConfig()) as proxy:
        result = sandboxed_exec(caps, ["true"])
        loaded = load_embedded_policy()
        made = [proxy, result, result.enforcement, caps, caps.fs_capabilities()[0], loaded]
        made += [caps.fs_capabilities()[0].source, QueryContext(caps), support_info()]
        made += [SandboxState.from_caps(caps), nono_py.detect_abi(), proxy.audit_events()]
        made += [loaded.resolve_groups([], CapabilitySet()), caps.verify()]
        for value in made:
            assert weakref.ref(value)() is value, type(value)


#: What is raised, by what: class, built-in types that it is beneath, and code.
RAISED: list[tuple[Callable[[], object], str, tuple[type[Exception], ...], str]] = [
    (lambda: load_policy("{"), "PolicyError", (ValueError,), "configuration_error"),
    (
        lambda: load_embedded_policy().resolve_groups(["x"], CapabilitySet()),
        "PolicyError",
        (ValueError,),
        "configuration_error",
    ),
    (
        lambda: CapabilitySet().allow_path("/etc/passwd", AccessMode.READ),
        "ConfigurationError",
        (ValueError,),
        "configuration_error",
    ),
    (
        lambda: CapabilitySet().allow_path("/missing", AccessMode.READ),
        "PathNotFoundError",
        (FileNotFoundError, OSError),
        "path_not_found",
    ),
    (
        lambda: CapabilitySet().allow_path("/etc/passwd/x", AccessMode.READ),
        "PathNotADirectoryError",
        (NotADirectoryError, OSError),
        "path_unusable",
    ),
    (
        lambda: ProxyConfig(allowed_hosts=["two words"]),
        "ConfigurationError",
        (ValueError,),
        "configuration_error",
    ),
    (
        lambda: RouteConfig("/a", "https://a.example", "apple-password://s/a"),
        "UnsupportedError",
        (NotImplementedError, RuntimeError),
        "not_supported",
    ),
    (
        lambda: start_proxy(ProxyConfig(bind_addr="192.0.2.1")),
        "ProxyError",
        (RuntimeError,),
        "address_not_available",
    ),
    (
        lambda: sandboxed_exec(CapabilitySet(), ["no-such-program"]),
        "SandboxError",
        (RuntimeError,),
        "program_not_found",
    ),
    (
        lambda: sandboxed_exec(CapabilitySet(), []),
        "ConfigurationError",
        (ValueError,),
        "invalid_argument",
    ),
]


@pytest.mark.parametrize(("call", "name", "builtins", "code"), RAISED, ids=lambda item: str(item))
def test_exceptions_are_one_tree_beneath_the_built_in_types(
    call: Callable[[], object], name: str, builtins: tuple[type[Exception], ...], code: str
) -> None:
    with pytest.raises(nono_py.NonoError) as caught:
        call()
    error = caught.value
    assert type(error).__name__ == name
    assert type(error) is getattr(nono_py, name)
    assert all(isinstance(error, kind) for kind in builtins)
    assert error.diagnostic_code == code
    assert error.remediation is None or "kind" in error.remediation
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_exceptions_say_where(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(nono_py.PathNotFoundError) as path:
        CapabilitySet().allow_path(missing, AccessMode.READ)
    assert (path.value.errno, path.value.filename) == (errno.ENOENT, str(missing))
    with pytest.raises(nono_py.PolicyError) as policy:
        load_policy('{"groups": {},\n "grups": 1}')
    assert (policy.value.line, policy.value.remediation) == (2, {"kind": "check_policy"})
    caps = CapabilitySet()
    caps.allow_path(tmp_path, AccessMode.READ)
    with pytest.raises(nono_py.SandboxError) as overlap:
        validate_deny_overlaps([missing], caps)
    assert overlap.value.diagnostic_code == "sandbox_denied_path"


def test_exceptions_can_be_made_more_of() -> None:
    class Mine(nono_py.ConfigurationError):
        diagnostic_code = "mine"

    with pytest.raises(ValueError, match="why") as caught:
        raise Mine("why")
    assert isinstance(caught.value, nono_py.NonoError)
    assert caught.value.remediation is None


def test_every_public_name_is_there() -> None:
    assert sorted(nono_py.__all__) == sorted(set(nono_py.__all__))
    assert set(nono_py.__all__) <= set(dir(nono_py))
    for name in nono_py.__all__:
        item = getattr(nono_py, name)
        assert name == "__version__" or item.__doc__, name
    everything: dict[str, object] = {}
    exec("from nono_py import *", everything)
    assert set(nono_py.__all__) <= set(everything)


def test_threads_do_not_collide(tmp_path: Path) -> None:
    """Everything is called from many threads at once, on the same objects."""
    caps = CapabilitySet()
    caps.allow_interpreter()
    policy, failures = load_embedded_policy(), []
    with start_proxy(ProxyConfig(["a.example"])) as proxy:
        calls: list[Callable[[], object]] = [
            lambda: caps.allow_path(tmp_path, AccessMode.READ),
            lambda: caps.deduplicate(),
            lambda: caps.summary(),
            lambda: caps.proxy_only(proxy),
            lambda: copy.copy(caps) == caps,
            lambda: QueryContext(caps).query_path(tmp_path, AccessMode.READ),
            lambda: SandboxState.from_caps(caps).to_json(),
            lambda: policy.resolve_groups(["system_read_linux"], caps),
            lambda: pickle.loads(pickle.dumps(caps)),
            lambda: proxy.drain_audit_events(),
            lambda: proxy.sandbox_env(),
            lambda: proxy.reload_credentials(),
            lambda: sandboxed_exec(caps, ["true"]),
        ]
        barrier = threading.Barrier(len(calls))

        def hammer(call: Callable[[], object]) -> None:
            barrier.wait()
            for _ in range(10):
                try:
                    call()
                except Exception as error:
                    failures.append(error)

        threads = [threading.Thread(target=hammer, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


FORKED = """
import os, sys, nono_py
caps = nono_py.CapabilitySet()
caps.allow_interpreter()
proxy = nono_py.start_proxy(nono_py.ProxyConfig())
nono_py.sandboxed_exec(caps, ["true"])
pid = os.fork()
if pid == 0:
    caps.allow_path("/usr", nono_py.AccessMode.READ)
    assert nono_py.sandboxed_exec(caps, ["true"], timeout_secs=20).exit_code == 0
    with nono_py.start_proxy(nono_py.ProxyConfig()) as own:
        assert own.port != proxy.port
    assert nono_py.load_embedded_policy().group_names()
    proxy.shutdown(timeout=1)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert proxy.drain_audit_events() == []
proxy.shutdown()
"""


def test_a_forked_child_can_go_on() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


#: What takes longer to import than this package may.
HEAVY = {
    "asyncio",
    "dataclasses",
    "inspect",
    "json",
    "re",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "typing",
}


def test_the_import_brings_nothing_that_is_slow() -> None:
    show = "import sys; before = set(sys.modules); import nono_py; "
    show += "print(*sorted(set(sys.modules) - before))"
    command = [sys.executable, "-S", "-c", show]
    env = {**os.environ, "PYTHONPATH": str(Path(nono_py.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    brought = set(done.stdout.split())
    assert brought & HEAVY == set()
    assert len([name for name in brought if name.startswith("nono_py")]) == 5
