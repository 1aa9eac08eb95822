"""Programs that speak HTTPS to the real host: led by their environment alone, they get the key."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Authority
from files import serving
from nono_py import (
    AccessMode,
    CapabilitySet,
    ProxyConfig,
    ProxyHandle,
    RouteConfig,
    sandboxed_exec,
    start_proxy,
)
from origin import Origin

if TYPE_CHECKING:
    from nono_py._nono_py import NetworkAuditEvent

JAVA = """
import java.net.*;
import java.net.http.*;

public class Client {
    public static void main(String[] arguments) throws Exception {
        var login = new Authenticator() {
            protected PasswordAuthentication getPasswordAuthentication() {
                var token = System.getenv("NONO_PROXY_TOKEN").toCharArray();
                return new PasswordAuthentication("nono", token);
            }
        };
        var client = HttpClient.newBuilder()
            .authenticator(login).proxy(ProxySelector.getDefault()).build();
        var request = HttpRequest.newBuilder(URI.create(arguments[0])).build();
        System.out.print(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
    }
}
"""

NODE = """
const http = require('http'), https = require('https');
const proxy = new URL(process.env.HTTPS_PROXY), url = new URL(process.argv[1]);
const login = Buffer.from(`${proxy.username}:${proxy.password}`).toString('base64');
http.request({host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: url.host,
              headers: {'Proxy-Authorization': `Basic ${login}`}})
  .on('connect', (_, socket) => {
    https.get(url, {socket, agent: false}, answer => answer.pipe(process.stdout));
  }).end();
"""

URLLIB = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"
REQUESTS = "import sys, requests; print(requests.get(sys.argv[1]).text)"
HTTPX = "import sys, httpx; print(httpx.get(sys.argv[1]).text)"
AIOHTTP = """
import asyncio, sys, aiohttp
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.get(sys.argv[1]) as answer:
            print(await answer.text())
asyncio.run(main())
"""
OPENAI = """
import sys, openai
client = openai.OpenAI(base_url=sys.argv[1].removesuffix("/models"))
said = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])
print(said.choices[0].message.content)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a proxy keeps its certificates: nobody else writes there."""
    made = tmp_path / "certificates"
    made.mkdir(mode=0o755)
    return made.resolve()


@pytest.fixture
def proxy(route: RouteConfig, directory: Path) -> Iterator[ProxyHandle]:
    """A proxy that intercepts what goes to the route's upstream."""
    with start_proxy(ProxyConfig(routes=[route], intercept_ca_dir=directory)) as handle:
        yield handle


def run(proxy: ProxyHandle, *command: str, cwd: Path | None = None) -> str:
    """Run a program that knows of the proxy by its environment alone; return what it prints."""
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd or "/nonexistent"), **proxy.env_vars()}
    env["OPENAI_API_KEY"] = env["NONO_PROXY_TOKEN"]
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def inner(proxy: ProxyHandle) -> "list[NetworkAuditEvent]":
    """Return the events of the requests inside tunnels, once all is over."""
    proxy.shutdown()
    events = proxy.drain_audit_events()
    ended = [event for event in events if event["denial_category"] != "authentication_failed"]
    assert {event["mode"] for event in ended} == {"connect_intercept"}
    return [event for event in ended if event["method"] != "CONNECT"]


def needs(program: str) -> pytest.MarkDecorator:
    """Skip where the program is not installed."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"no {program}")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["curl", "-sS", "--http1.1"], id="curl", marks=needs("curl")),
        pytest.param(["curl", "-sS", "--http2"], id="curl-http2", marks=needs("curl")),
        pytest.param([sys.executable, "-c", URLLIB], id="urllib"),
        pytest.param([sys.executable, "-c", REQUESTS], id="requests"),
        pytest.param([sys.executable, "-c", HTTPX], id="httpx"),
        pytest.param([sys.executable, "-c", AIOHTTP], id="aiohttp"),
        pytest.param(["node", "-e", NODE], id="node", marks=needs("node")),
    ],
)
def test_a_client_gets_the_key(
    proxy: ProxyHandle, origin: Origin, key: str, command: list[str]
) -> None:
    assert run(proxy, *command, f"{origin.url}/v1/models") == "hello"
    (request,) = origin.requests
    assert (request.path, request.values("Authorization")) == ("/v1/models", [f"Bearer {key}"])
    (event,) = inner(proxy)
    assert (event["route_id"], event["status"], event["path"]) == ("openai", 200, "/v1/models")
    assert event["managed_credential_active"] is True


@needs("openssl")
@needs("curl")
def test_an_authority_of_the_users_own_vouches_for_the_proxy(
    route: RouteConfig, directory: Path, origin: Origin, key: str, tmp_path: Path
) -> None:
    cert, private = tmp_path / "ca.pem", tmp_path / "ca.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]
    command += ["-subj", "/O=Example/CN=Example CA", "-out", str(cert), "-keyout", str(private)]
    subprocess.run(command, check=True, capture_output=True)
    private.chmod(0o600)
    config = ProxyConfig(
        routes=[route],
        intercept_ca_dir=directory,
        intercept_ca_cert=cert,
        intercept_ca_key=private,
    )
    assert (config.intercept_ca_cert, config.intercept_ca_key) == (cert, private)
    secret = "".join(private.read_text().split("\n")[1:-2])
    with start_proxy(config) as proxy:
        url = f"{origin.url}/v1/models"
        # By the proxy's bundle, and by what the user hands out.
        assert run(proxy, "curl", "-sS", url) == "hello"
        assert run(proxy, "curl", "-sS", "--cacert", str(cert), url) == "hello"
        for file in directory.iterdir():
            assert b"PRIVATE" not in file.read_bytes()
            assert secret[:64].encode() not in file.read_bytes()
    assert [request.values("Authorization") for request in origin.requests] == [
        [f"Bearer {key}"],
        [f"Bearer {key}"],
    ]
    private.chmod(0o640)
    with pytest.raises(ValueError, match="chmod 600"):
        ProxyConfig(intercept_ca_dir=directory, intercept_ca_cert=cert, intercept_ca_key=private)


@needs("javac")
def test_java_gets_the_key(proxy: ProxyHandle, origin: Origin, key: str, tmp_path: Path) -> None:
    source = tmp_path / "Client.java"
    source.write_text(JAVA)
    assert run(proxy, "java", str(source), f"{origin.url}/v1/models") == "hello"
    assert origin.requests[0].values("Authorization") == [f"Bearer {key}"]


def test_the_openai_sdk_needs_only_the_proxy(proxy: ProxyHandle, origin: Origin, key: str) -> None:
    said = run(proxy, sys.executable, "-c", OPENAI, f"{origin.url}/v1/models")
    assert said == "one two three"
    (request,) = origin.requests
    assert request.values("Authorization") == [f"Bearer {key}"]
    assert proxy.env_vars()["NONO_PROXY_TOKEN"] not in request


@needs("curl")
def test_curl_speaks_http2_inside(proxy: ProxyHandle, origin: Origin) -> None:
    command = ["curl", "-sS", "--http2", "-o", "/dev/null", "-w", "%{http_version}"]
    assert run(proxy, *command, f"{origin.url}/v1/models") == "2"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    made = tmp_path / "files"
    made.mkdir()
    return made


def route_to(url: str, authority: Authority) -> RouteConfig:
    """Return a route whose key is put on all that goes to `url`."""
    return RouteConfig("/files", url, credential_key="env://REAL_KEY", tls_ca=authority.file)


@needs("git")
def test_git_clones(files: Path, authority: Authority, directory: Path, key: str) -> None:
    def git(*words: str) -> None:
        login = ["-c", "user.name=n", "-c", "user.email=e@e.example", "-c", "init.defaultBranch=m"]
        subprocess.run(["git", *login, *words], cwd=files, check=True, capture_output=True)

    (files / "one").write_text("one")
    git("init", "-q", "work")
    git("-C", "work", "commit", "-q", "--allow-empty", "-m", "first")
    git("clone", "-q", "--bare", "work", "bare.git")
    git("-C", "bare.git", "update-server-info")
    with serving(files, authority.context) as server:
        config = ProxyConfig(routes=[route_to(server.url, authority)], intercept_ca_dir=directory)
        with start_proxy(config) as proxy:
            run(proxy, "git", "clone", "-q", f"{server.url}/bare.git", "copy", cwd=files)
            events = inner(proxy)
    assert (files / "copy" / ".git").is_dir()
    assert set(server.keys) == {f"Bearer {key}"}
    assert len(events) == len(server.keys)


def test_pip_downloads(files: Path, authority: Authority, directory: Path, key: str) -> None:
    index = files / "simple" / "demo"
    index.mkdir(parents=True)
    name = "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(index / name, "w") as wheel:
        wheel.writestr(
            "demo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
        )
        wheel.writestr("demo-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("demo-1.0.dist-info/RECORD", "")
    (index / "index.html").write_text(f'<a href="{name}">{name}</a>')
    with serving(files, authority.context) as server:
        config = ProxyConfig(routes=[route_to(server.url, authority)], intercept_ca_dir=directory)
        with start_proxy(config) as proxy:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir"]
            url = f"{server.url}/simple/"
            run(proxy, *command, "--index-url", url, "demo", cwd=files)
            assert {event["route_id"] for event in inner(proxy)} == {"files"}
    assert (files / name).exists()
    assert set(server.keys) == {f"Bearer {key}"}


@needs("curl")
def test_in_the_sandbox_the_certificates_can_be_read(
    proxy: ProxyHandle, origin: Origin, place: Path, key: str
) -> None:
    caps = CapabilitySet()
    for system in ("/usr", "/lib", "/lib64", "/etc/ssl"):
        if Path(system).is_dir():
            caps.allow_path(system, AccessMode.READ)
    caps.allow_path(place, AccessMode.READ_WRITE)
    caps.proxy_only(proxy)
    command = ["curl", "-sS", "--max-time", "20", f"{origin.url}/v1/models"]
    done = sandboxed_exec(caps, command, cwd=place, env=proxy.sandbox_env())
    assert (done.exit_code, done.stdout) == (0, b"hello"), done.stderr
    assert origin.requests[0].values("Authorization") == [f"Bearer {key}"]


def test_the_files_go_with_the_proxy_and_hold_no_key(proxy: ProxyHandle, directory: Path) -> None:
    written = list(directory.iterdir())
    assert {str(file) for file in written} >= {
        proxy.env_vars()["SSL_CERT_FILE"],
        proxy.env_vars()["NODE_EXTRA_CA_CERTS"],
    }
    for file in written:
        assert file.stat().st_mode & 0o777 == 0o444
        assert b"PRIVATE" not in file.read_bytes()
    proxy.shutdown()
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_directory_that_others_can_write_to_is_refused(directory: Path, mode: int) -> None:
    directory.chmod(mode)
    with pytest.raises(ValueError, match=r"intercept_ca_dir.*others can write"):
        start_proxy(ProxyConfig(intercept_ca_dir=directory))


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"intercept_ca_dir.*No such file"):
        start_proxy(ProxyConfig(intercept_ca_dir=tmp_path / "missing"))


@pytest.mark.parametrize(
    "option",
    [
        {"intercept_parent_ca_pems": b"x"},
        {"intercept_hosts": ["a.example"]},
        {"intercept_exclude": ["a.example"]},
        {"intercept_name_constraints": True},
    ],
)
def test_what_is_said_of_interception_needs_the_directory(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="need intercept_ca_dir"):
        ProxyConfig(**option)


def test_what_is_intercepted_can_be_read_back(directory: Path) -> None:
    config = ProxyConfig(
        intercept_ca_dir=str(directory),
        intercept_hosts=["*.a.example"],
        intercept_exclude=["pinned.a.example"],
        intercept_name_constraints=True,
    )
    assert config.intercept_ca_dir == directory
    assert config.intercept_hosts == ["*.a.example"]
    assert config.intercept_exclude == ["pinned.a.example"]
    assert config.intercept_name_constraints is True
    plain = ProxyConfig()
    assert (plain.intercept_ca_dir, plain.intercept_hosts) == (None, [])
