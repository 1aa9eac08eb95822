"""curl, led through the proxy by its environment, in the sandbox and out of it."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Authority
from inside import needs
from nono_py import (
    CapabilitySet,
    ProxyConfig,
    ProxyHandle,
    RouteConfig,
    sandboxed_exec,
    start_proxy,
)
from origin import Origin

pytestmark = needs("curl")

FORMAT = "%{http_connect} %{http_code}"


@dataclass(frozen=True)
class Curl:
    """What curl says about an exchange: its exit code, and the proxy's and the final status."""

    exit_code: int
    connect: int
    status: int


def curl(env: dict[str, str], *arguments: str) -> Curl:
    command = ["curl", "-sS", "-o", "/dev/null", "-w", FORMAT, "--max-time", "20", *arguments]
    done = subprocess.run(command, env={"PATH": os.defpath, **env}, capture_output=True, text=True)
    connect, status = done.stdout.split()
    return Curl(done.returncode, int(connect), int(status))


@pytest.fixture
def proxy(origin: Origin, plain_origin: Origin, route: RouteConfig) -> Iterator[ProxyHandle]:
    """A proxy that lets through to a TLS server and a plain one, and to the route."""
    hosts = [f"127.0.0.1:{origin.port}", f"127.0.0.1:{plain_origin.port}"]
    with start_proxy(ProxyConfig(allowed_hosts=hosts, routes=[route])) as handle:
        yield handle


def test_a_tunnel_to_an_allowed_host(
    proxy: ProxyHandle, origin: Origin, authority: Authority
) -> None:
    url = f"https://127.0.0.1:{origin.port}/path"
    assert curl(proxy.env_vars(), "--cacert", str(authority.file), url) == Curl(0, 200, 200)
    assert [request.path for request in origin.requests] == ["/path"]
    proxy.shutdown()
    opening, event = proxy.drain_audit_events()
    assert (opening["phase"], event["phase"]) == ("open", "end")
    assert opening["id"] == event["id"]
    assert (event["mode"], event["decision"], event["status"]) == ("connect", "allow", 200)
    assert (event["target"], event["port"]) == ("127.0.0.1", origin.port)


def test_a_plain_request_to_an_allowed_host(proxy: ProxyHandle, plain_origin: Origin) -> None:
    url = f"http://127.0.0.1:{plain_origin.port}/path"
    assert curl(proxy.env_vars(), url) == Curl(0, 0, 200)
    (request,) = plain_origin.requests
    assert request.values("Proxy-Authorization") == []
    proxy.shutdown()
    (event,) = proxy.drain_audit_events()
    assert (event["decision"], event["status"], event["route_id"]) == ("allow", 200, None)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_host_that_is_not_allowed(proxy: ProxyHandle, scheme: str) -> None:
    seen = curl(proxy.env_vars(), f"{scheme}://refused.example/")
    assert (seen.connect if scheme == "https" else seen.status) == 403
    proxy.shutdown()
    (event,) = proxy.drain_audit_events()
    assert (event["decision"], event["status"]) == ("deny", 403)
    assert (event["target"], event["denial_category"]) == ("refused.example", "host_denied")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_without_the_token(proxy: ProxyHandle, plain_origin: Origin, scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{plain_origin.port}/"
    seen = curl({}, "--proxy", f"http://{proxy.address}", url)
    assert (seen.connect if scheme == "https" else seen.status) == 407
    assert plain_origin.requests == []
    proxy.shutdown()
    (event,) = proxy.drain_audit_events()
    assert (event["decision"], event["denial_category"]) == ("deny", "authentication_failed")


def test_a_route(proxy: ProxyHandle, origin: Origin, key: str) -> None:
    env = dict(proxy.sandbox_env())
    login = f"Authorization: Bearer {env['OPENAI_API_KEY']}"
    url = env["OPENAI_BASE_URL"] + "/models"
    assert curl({}, "-H", login, url) == Curl(0, 0, 200)
    (request,) = origin.requests
    assert (request.path, request.values("Authorization")) == ("/v1/models", [f"Bearer {key}"])


def test_in_the_sandbox_there_is_no_other_way(
    proxy: ProxyHandle, plain_origin: Origin, place: Path, curl_caps: CapabilitySet
) -> None:
    curl_caps.proxy_only(proxy)
    url = f"http://127.0.0.1:{plain_origin.port}/"
    command = ["curl", "-sS", "--max-time", "20", url]
    env = proxy.sandbox_env()
    through = sandboxed_exec(curl_caps, command, cwd=place, env=env)
    assert (through.exit_code, through.stdout) == (0, b"hello"), through.stderr
    around = sandboxed_exec(
        curl_caps, [*command, "--noproxy", "*"], cwd=place, env=proxy.sandbox_env()
    )
    assert around.exit_code == 7  # "Failed to connect to host."
    assert len(plain_origin.requests) == 1
