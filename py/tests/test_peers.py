"""Servers of others: squid as the proxy on the way, nginx as an upstream that speaks HTTP/2."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from conftest import FAR, Authority
from nono_py import ExternalProxyConfig, ProxyConfig, ProxyHandle, RouteConfig, start_proxy
from origin import PATIENCE, Origin

ROUTED, OTHER = FAR

HELPER = "/usr/lib/squid/basic_ncsa_auth"

SQUID = """
http_port 127.0.0.1:{port}
hosts_file {directory}/hosts
auth_param basic program {helper} {directory}/users
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
cache deny all
pid_filename none
access_log stdio:{directory}/access.log
cache_log {directory}/cache.log
coredump_dir {directory}
visible_hostname localhost
shutdown_lifetime 0 seconds
"""

# As squid's own configuration has it: tunnels lead to no other port.
ONLY_443 = """
acl tunnel method CONNECT
acl secure port 443
http_access deny tunnel !secure
"""

HAPROXY = """
defaults
  mode tcp
  timeout connect 10s
  timeout client 30s
  timeout server 30s
listen secured
  bind 127.0.0.1:{port} ssl crt {directory}/haproxy.pem
  server squid 127.0.0.1:{squid}
"""

NGINX = """
daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/error.log;
events {{}}
http {{
  access_log off;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {directory}/server.pem;
    ssl_certificate_key {directory}/server.pem;
    location / {{ return 200 "$server_protocol $http_authorization"; }}
  }}
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(port: int, *command: str) -> Iterator[None]:
    """Run a server for the length of a block, which begins when it listens."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, f"{command[0]} ended"
                assert time.monotonic() < deadline, f"{command[0]} does not listen"
        yield
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that a server which gives up its rights can write to."""
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        directory.chmod(0o777)
        yield directory


@contextmanager
def running_squid(directory: Path, rules: str = "") -> Iterator[tuple[int, Path]]:
    """Run a squid that wants credentials; yield its port, and the log of what it was asked."""
    port = free_port()
    text = rules + SQUID.format(port=port, helper=HELPER, directory=directory)
    (directory / "squid.conf").write_text(text)
    (directory / "hosts").write_text(f"127.0.0.1 {ROUTED} {OTHER}\n")
    hashed = subprocess.check_output(["openssl", "passwd", "-apr1", "word"], text=True)
    (directory / "users").write_text(f"user:{hashed}")
    with running(port, "squid", "-N", "-f", str(directory / "squid.conf")):
        yield port, directory / "access.log"


@pytest.fixture
def squid(open_directory: Path) -> Iterator[tuple[int, Path]]:
    with running_squid(open_directory) as found:
        yield found


def curl(proxy: ProxyHandle, *arguments: str) -> str:
    """Run curl with the proxy's environment; return what it prints."""
    env = {"PATH": os.defpath, **proxy.env_vars()}
    command = ["curl", "-sS", "--max-time", "20", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not Path(HELPER).exists(), reason="squid is not installed")
def test_all_goes_through_squid_with_its_credentials(
    squid: tuple[int, Path],
    origin: Origin,
    authority: Authority,
    key: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port, log = squid
    monkeypatch.setenv("SQUID_LOGIN", "user:word")
    external = ExternalProxyConfig(f"http://127.0.0.1:{port}", credential_key="env://SQUID_LOGIN")
    upstream = f"https://{ROUTED}:{origin.port}/v1"
    route = RouteConfig("openai", upstream, credential_key="env://REAL_KEY", tls_ca=authority.file)
    config = ProxyConfig(
        allowed_hosts=[f"{OTHER}:{origin.port}"],
        routes=[route],
        external_proxy=external,
        intercept_ca_dir=tmp_path,
    )
    with start_proxy(config) as proxy:
        env = dict(proxy.sandbox_env())
        login = f"Authorization: Bearer {env['OPENAI_API_KEY']}"
        url = env["OPENAI_BASE_URL"] + "/models"
        assert curl(proxy, "--noproxy", "*", "-H", login, url) == "hello"
        assert curl(proxy, f"{upstream}/models") == "hello"
        tunnelled = f"https://{OTHER}:{origin.port}/own"
        assert curl(proxy, "--cacert", str(authority.file), tunnelled) == "hello"
    with_key = [request.values("Authorization") for request in origin.requests]
    assert with_key == [[f"Bearer {key}"], [f"Bearer {key}"], []]
    # The route's connections are kept, so that both of its requests may have used one. Each is
    # noted when it has ended.
    noted = [f"CONNECT {host}:{origin.port} user" for host in (OTHER, ROUTED)]
    deadline = time.monotonic() + PATIENCE
    while not all(line in (text := log.read_text()) for line in noted):
        assert time.monotonic() < deadline, text
    assert "TCP_DENIED" not in text


@pytest.mark.skipif(not Path(HELPER).exists(), reason="squid is not installed")
def test_a_wrong_login_at_squid_is_said(
    squid: tuple[int, Path], origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, _ = squid
    monkeypatch.setenv("SQUID_LOGIN", "user:wrong")
    external = ExternalProxyConfig(f"127.0.0.1:{port}", credential_key="env://SQUID_LOGIN")
    config = ProxyConfig(allowed_hosts=[OTHER], external_proxy=external)
    with start_proxy(config) as proxy:
        env = {"PATH": os.defpath, **proxy.env_vars()}
        command = ["curl", "-sS", "-w", "%{http_connect}", f"https://{OTHER}:{origin.port}/"]
        assert subprocess.run(command, env=env, capture_output=True, text=True).stdout == "502"
        (event,) = proxy.drain_audit_events()
    assert event["denial_category"] == "external_proxy_rejected"
    assert "407" in str(event["reason"])


@pytest.mark.skipif(not Path(HELPER).exists(), reason="squid is not installed")
def test_plain_requests_pass_a_squid_that_opens_tunnels_to_443_alone(
    open_directory: Path, plain_origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUID_LOGIN", "user:word")
    url = f"http://{OTHER}:{plain_origin.port}/path?query"
    with running_squid(open_directory, ONLY_443) as (port, _):
        for login, status in (("env://SQUID_LOGIN", "200"), (None, "502")):
            external = ExternalProxyConfig(f"127.0.0.1:{port}", credential_key=login)
            config = ProxyConfig(allowed_hosts=[OTHER], external_proxy=external)
            with start_proxy(config) as proxy:
                said = curl(proxy, "-o", "/dev/null", "-w", "%{http_code}", url)
                events = proxy.drain_audit_events()
            assert said == status
    (request,) = plain_origin.requests
    assert request.path == "/path?query"
    assert request.values("Proxy-Authorization") == []
    # Without credentials, squid's challenge is not handed to the client as the proxy's own.
    assert events[-1]["denial_category"] == "external_proxy_rejected"


@pytest.mark.skipif(
    not Path(HELPER).exists() or shutil.which("haproxy") is None,
    reason="squid or haproxy is not installed",
)
def test_squid_is_reached_over_tls(
    squid: tuple[int, Path],
    open_directory: Path,
    origin: Origin,
    plain_origin: Origin,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    behind, log = squid
    ca, port = trustme.CA(), free_port()
    ca.cert_pem.write_to_path(str(open_directory / "ca.pem"))
    identity = ca.issue_cert("localhost").private_key_and_cert_chain_pem
    identity.write_to_path(str(open_directory / "haproxy.pem"))
    conf = open_directory / "haproxy.cfg"
    conf.write_text(HAPROXY.format(port=port, squid=behind, directory=open_directory))
    monkeypatch.setenv("SQUID_LOGIN", "user:word")
    external = ExternalProxyConfig(
        f"https://localhost:{port}",
        credential_key="env://SQUID_LOGIN",
        tls_ca=open_directory / "ca.pem",
    )
    config = ProxyConfig(allowed_hosts=[OTHER], external_proxy=external)
    with running(port, "haproxy", "-db", "-f", str(conf)), start_proxy(config) as proxy:
        url = f"https://{OTHER}:{origin.port}/"
        assert curl(proxy, "--cacert", str(authority.file), url) == "hello"
        assert curl(proxy, f"http://{OTHER}:{plain_origin.port}/") == "hello"
    deadline = time.monotonic() + PATIENCE
    while f"CONNECT {OTHER}:{origin.port} user" not in (text := log.read_text()):
        assert time.monotonic() < deadline, text
    assert "TCP_DENIED" not in text


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_is_spoken_to_over_http2_from_inside_a_tunnel(
    open_directory: Path, tmp_path: Path, key: str
) -> None:
    ca, port = trustme.CA(), free_port()
    ca.cert_pem.write_to_path(str(open_directory / "ca.pem"))
    identity = ca.issue_cert("localhost").private_key_and_cert_chain_pem
    identity.write_to_path(str(open_directory / "server.pem"))
    conf = open_directory / "nginx.conf"
    conf.write_text(NGINX.format(port=port, directory=open_directory))
    url = f"https://localhost:{port}"
    route = RouteConfig(
        "/nginx", url, credential_key="env://REAL_KEY", tls_ca=open_directory / "ca.pem"
    )
    config = ProxyConfig(routes=[route], intercept_ca_dir=tmp_path)
    serving = running(port, "nginx", "-p", str(open_directory), "-c", str(conf))
    with serving, start_proxy(config) as proxy:
        for version in ("--http1.1", "--http2"):
            # It got the key, which it may not hand on.
            assert curl(proxy, version, url) == f"HTTP/2.0 Bearer {'*' * len(key)}"
