"""`start_proxy` and `ProxyHandle`."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import typing
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest
from nono_py import (
    CapabilitySet,
    ProxyConfig,
    ProxyError,
    ProxyHandle,
    RouteConfig,
    sandboxed_exec,
    start_proxy,
)
from origin import Origin

if typing.TYPE_CHECKING:
    from nono_py._nono_py import NetworkAuditEvent

#: The keys that every event has had from the first, in their order.
KEYS = [
    "timestamp_unix_ms",
    "mode",
    "decision",
    "target",
    "port",
    "method",
    "path",
    "status",
    "reason",
    "route_id",
    "auth_mechanism",
    "auth_outcome",
    "managed_credential_active",
    "injection_mode",
    "denial_category",
]


def events(proxy: ProxyHandle) -> "list[NetworkAuditEvent]":
    """Everything that was recorded; an exchange is on record when it has ended."""
    proxy.shutdown()
    return proxy.drain_audit_events()


def post(proxy: ProxyHandle, token: str | None, path: str = "/openai/chat/completions") -> int:
    """Send a request to a route, past all proxy variables, and return the status."""
    url = f"http://{proxy.address}{path}"
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, b"{}", headers)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=20) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_says_where_it_is(proxy: ProxyHandle) -> None:
    assert repr(proxy) == str(proxy) == f"ProxyHandle(port={proxy.port})"
    assert proxy.address == f"127.0.0.1:{proxy.port}"
    socket.create_connection(("127.0.0.1", proxy.port)).close()


def test_leads_programs_to_itself(proxy: ProxyHandle) -> None:
    values = proxy.env_vars()
    token = values["NONO_PROXY_TOKEN"]
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        url = urlsplit(values[name])
        assert (url.scheme, url.hostname, url.port) == ("http", "127.0.0.1", proxy.port)
        assert url.password == token
    assert {"NO_PROXY", "no_proxy", "NODE_USE_ENV_PROXY"} <= values.keys()


def test_leads_sdks_to_the_route(proxy: ProxyHandle, key: str) -> None:
    values = proxy.credential_env_vars()
    assert values["OPENAI_BASE_URL"] == f"http://127.0.0.1:{proxy.port}/openai"
    assert values["OPENAI_API_KEY"] == proxy.env_vars()["NONO_PROXY_TOKEN"]
    assert key not in repr(values)


class TestSandboxEnv:
    def test_is_sorted_and_the_proxy_wins(self, proxy: ProxyHandle) -> None:
        extra = [("ZED", "1"), ("OPENAI_API_KEY", "mine"), ("ABC", "2"), ("ABC", "3")]
        pairs = proxy.sandbox_env(extra)
        expected = {"ZED": "1", "ABC": "3"} | proxy.env_vars() | proxy.credential_env_vars()
        assert pairs == sorted(expected.items())

    def test_takes_a_mapping(self, proxy: ProxyHandle) -> None:
        assert ("A", "1") in proxy.sandbox_env({"A": "1"})
        assert proxy.sandbox_env() == proxy.sandbox_env(None) == proxy.sandbox_env([])

    @pytest.mark.parametrize("name", ["LD_PRELOAD", "DYLD_LIBRARY_PATH", "LIBPATH", "", "A=B"])
    def test_refuses_names(self, proxy: ProxyHandle, name: str) -> None:
        with pytest.raises(ValueError, match="environment variable") as caught:
            proxy.sandbox_env({name: "secret-value"})
        assert "secret-value" not in str(caught.value)


class TestRecords:
    def test_one_for_each_request(self, proxy: ProxyHandle, origin: Origin) -> None:
        token = proxy.env_vars()["NONO_PROXY_TOKEN"]
        assert [post(proxy, token) for _ in range(3)] == [200, 200, 200]
        records = events(proxy)
        assert len(records) == len(origin.requests) == 3
        for record in records:
            assert list(record)[: len(KEYS)] == KEYS
            assert (record["mode"], record["decision"]) == ("reverse", "allow")
            assert (record["status"], record["method"]) == (200, "POST")
            assert (record["target"], record["port"]) == ("localhost", origin.port)
            assert record["managed_credential_active"] is True
        assert [record["sequence"] for record in records] == [0, 1, 2]

    def test_one_for_each_refusal(self, proxy: ProxyHandle, origin: Origin) -> None:
        assert post(proxy, "wrong") in (401, 407)
        (record,) = events(proxy)
        assert (record["decision"], record["auth_outcome"]) == ("deny", "failed")
        assert record["denial_category"] == "authentication_failed"
        assert origin.requests == []

    def test_do_not_depend_on_what_was_recorded_before(self, proxy: ProxyHandle) -> None:
        token = proxy.env_vars()["NONO_PROXY_TOKEN"]
        paths = ["/openai/a", "/openai/a", "/nowhere", "/openai/b", "/nowhere"]
        for path in paths:
            post(proxy, token, path)
        post(proxy, "wrong", paths[0])
        records = events(proxy)
        assert [record["path"] for record in records] == [*paths, paths[0]]
        assert all(list(record) == list(records[0]) for record in records)
        allowed = [record for record in records if record["decision"] == "allow"]
        assert len(allowed) == 3
        for record in allowed:
            assert (record["route_id"], record["injection_mode"]) == ("openai", "header")
            assert record["reason"] is record["denial_category"] is None
        stray = records[2]
        assert stray["denial_category"] is not None
        assert stray["route_id"] is stray["injection_mode"] is None
        assert (stray["target"], stray["port"]) == ("", None)
        assert len({record["id"] for record in records}) == len(records)

    def test_are_taken_once(self, proxy: ProxyHandle) -> None:
        post(proxy, "wrong")
        assert len(events(proxy)) == 1
        assert proxy.drain_audit_events() == []

    def test_hold_no_secret(self, proxy: ProxyHandle, key: str) -> None:
        token = proxy.env_vars()["NONO_PROXY_TOKEN"]
        post(proxy, token, f"/openai/chat/completions?api_key={token}")
        text = repr(events(proxy))
        assert token not in text
        assert key not in text


class TestOptions:
    def test_a_denied_host_is_denied_whatever_allows_it(self, plain_origin: Origin) -> None:
        host = f"127.0.0.1:{plain_origin.port}"
        with start_proxy(ProxyConfig([host], denied_hosts=["127.0.0.1"])) as proxy:
            proxies = urllib.request.ProxyHandler({"http": proxy.env_vars()["HTTP_PROXY"]})
            opener = urllib.request.build_opener(proxies)
            with pytest.raises(urllib.error.HTTPError, match="403") as caught:
                opener.open(f"http://{host}/", timeout=20)
            assert json.load(caught.value)["code"] == "host_denied"
            assert plain_origin.requests == []

    def test_authentication_may_be_somebody_elses(
        self, route: RouteConfig, origin: Origin, key: str
    ) -> None:
        with start_proxy(ProxyConfig(routes=[route], require_auth=False)) as proxy:
            token = proxy.env_vars()["NONO_PROXY_TOKEN"]
            assert [post(proxy, login) for login in (token, None)] == [200, 200]
            # A key that is neither the token nor the proxy's own is still one too many.
            assert post(proxy, "other") == 400
            outcomes = [record["auth_outcome"] for record in events(proxy)]
        assert outcomes == ["succeeded", "not_required", "not_required"]
        for request in origin.requests:
            assert request.values("Authorization") == [f"Bearer {key}"]

    def test_a_full_log_refuses(self, route: RouteConfig) -> None:
        with start_proxy(ProxyConfig(routes=[route], audit_records=1, audit_disk_bytes=0)) as proxy:
            token = proxy.env_vars()["NONO_PROXY_TOKEN"]
            assert [post(proxy, token) for _ in range(2)] == [200, 503]

    def test_a_client_that_says_nothing_is_left(self) -> None:
        with (
            start_proxy(ProxyConfig(head_timeout_secs=0.05)) as proxy,
            socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as client,
        ):
            client.sendall(b"GET / HTTP/1.1\r\n")
            assert b"200" not in client.recv(100)

    def test_an_upstream_that_does_not_answer_is_left(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            route = RouteConfig("/api", f"http://127.0.0.1:{silent.getsockname()[1]}")
            config = ProxyConfig(routes=[route], response_timeout_secs=0.05, require_auth=False)
            with start_proxy(config) as proxy:
                assert post(proxy, None, "/api") == 504

    def test_a_stream_that_rests_is_cut(self, route: RouteConfig, origin: Origin) -> None:
        with start_proxy(ProxyConfig(routes=[route], idle_timeout_secs=0.05)) as proxy:
            client = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
            login = {"Authorization": f"Bearer {proxy.env_vars()['NONO_PROXY_TOKEN']}"}
            client.request("POST", "/openai/x", b'{"stream":true}', login)
            origin.tokens.release()
            with client.getresponse() as reply, pytest.raises(http.client.IncompleteRead):
                reply.read()
            client.close()
            origin.tokens.release(10)
            (record,) = events(proxy)
        assert (record["status"], record["outcome"]) == (200, "timeout")


class TestDiagnostics:
    def test_are_empty_when_all_is_well(self, proxy: ProxyHandle) -> None:
        assert proxy.diagnostics() == []
        assert proxy.diagnostics_json() == "[]"

    def test_name_a_missing_credential(self) -> None:
        route = RouteConfig("/api", "https://api.example", "env://NOT_SET_ANYWHERE")
        with start_proxy(ProxyConfig(routes=[route])) as proxy:
            (diagnostic,) = proxy.diagnostics()
            assert diagnostic["code"] == "credential_not_found"
            assert diagnostic["severity"] == "warning"
            assert diagnostic["route_prefix"].strip("/") == "api"
            assert json.loads(proxy.diagnostics_json()) == [diagnostic]


class TestEnd:
    def refused(self, port: int) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) != 0

    def test_of_a_block(self, route: RouteConfig) -> None:
        with start_proxy(ProxyConfig(routes=[route])) as proxy:
            assert not self.refused(proxy.port)
        assert self.refused(proxy.port)

    def test_of_an_async_block(self, route: RouteConfig) -> None:
        async def use() -> int:
            async with start_proxy(ProxyConfig(routes=[route])) as proxy:
                assert not self.refused(proxy.port)
                return proxy.port

        assert self.refused(asyncio.run(use()))

    def test_may_come_twice_and_from_many_threads(self, proxy: ProxyHandle) -> None:
        threads = [threading.Thread(target=proxy.shutdown) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        proxy.shutdown(timeout=0)
        assert self.refused(proxy.port)

    def test_of_the_handle(self) -> None:
        port = start_proxy(ProxyConfig()).port
        assert self.refused(port)

    @pytest.mark.parametrize("timeout", [-1.0, float("nan")])
    def test_time_must_not_be_negative(self, proxy: ProxyHandle, timeout: float) -> None:
        with pytest.raises(ValueError, match="timeout must be a non-negative number"):
            proxy.shutdown(timeout)

    def test_in_a_fork_is_the_parents(self, proxy: ProxyHandle) -> None:
        child = os.fork()
        if child == 0:
            proxy.shutdown()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert not self.refused(proxy.port)

    def test_leaves_nothing_to_enter_or_to_lead_programs_to(self, proxy: ProxyHandle) -> None:
        proxy.shutdown()
        for use in (
            CapabilitySet().proxy_only,
            lambda proxy: sandboxed_exec(CapabilitySet(), ["true"], proxy=proxy),
            ProxyHandle.__enter__,
            ProxyHandle.__aenter__,
        ):
            with pytest.raises(ProxyError, match="was shut down") as caught:
                use(proxy)
            assert caught.value.diagnostic_code == "proxy_ended"
        # What it has recorded stays.
        assert (proxy.drain_audit_events(), proxy.active()) == ([], [])

    def test_needs_no_descriptor(self) -> None:
        program = """
import os, resource, socket
from nono_py import ProxyConfig, start_proxy

handle = start_proxy(ProxyConfig())
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
files = []
try:
    while True:
        files.append(os.dup(0))
except OSError:
    pass
handle.shutdown(60)
print("ended", flush=True)
os.close(files.pop())
with socket.socket() as client:
    assert client.connect_ex(("127.0.0.1", handle.port)) != 0
"""
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr

    def test_does_not_swallow_exceptions(self) -> None:
        with pytest.raises(KeyError, match="mine"), start_proxy(ProxyConfig()):
            raise KeyError("mine")

    def test_comes_with_the_interpreters(self) -> None:
        program = "from nono_py import *; p = start_proxy(ProxyConfig()); print(p)"
        subprocess.run([sys.executable, "-c", program], check=True, timeout=30)

    def test_can_be_interrupted(self, proxy: ProxyHandle, origin: Origin) -> None:
        token = proxy.env_vars()["NONO_PROXY_TOKEN"]
        # The origin holds this exchange open, so the shutdown would wait for it.
        with socket.create_connection(("127.0.0.1", proxy.port)) as client:
            body = b'{"stream":true}'
            head = f"POST /openai/x HTTP/1.1\r\nHost: p\r\nAuthorization: Bearer {token}\r\n"
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            origin.tokens.release()
            assert client.recv(12) == b"HTTP/1.1 200"
            timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                proxy.shutdown(timeout=60)
            origin.tokens.release(10)
            timer.join()


def test_extra_variables_that_no_program_can_have_are_refused() -> None:
    with start_proxy(ProxyConfig()) as proxy, pytest.raises(ValueError, match="'A' holds a NUL"):
        proxy.sandbox_env([("A", "b\0c")])
