"""Programs that speak HTTPS to the real host: led by their environment alone, they get the key."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import Authority
from files import serving
from inside import inner, needs, run
from nono_py import ProxyConfig, ProxyHandle, RouteConfig, start_proxy
from origin import Origin

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

# As programs do that use the agent for `fetch`, which Node's own does not lead through a proxy.
UNDICI = """
const {EnvHttpProxyAgent, fetch, setGlobalDispatcher} = require('undici');
setGlobalDispatcher(new EnvHttpProxyAgent());
const ask = async (get, options) => process.stdout.write(await (await get(...options)).text());
(async () => {
  await ask(fetch, [process.argv[1]]);
  await ask(globalThis.fetch, [process.argv[1], {method: 'POST', body: '{}'}]);
})();
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
def proxy(interceptor: ProxyHandle) -> ProxyHandle:
    """Every proxy here intercepts."""
    return interceptor


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


@pytest.fixture(scope="session")
def undici(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which Node finds undici."""
    made = tmp_path_factory.mktemp("undici")
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "undici@6"]
    try:
        done = subprocess.run(command, cwd=made, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("npm's registry does not answer")
    if done.returncode != 0:
        pytest.skip(f"npm cannot install undici: {done.stderr.strip()[-200:]}")
    return made


@needs("node", "npm")
def test_fetch_with_an_agent_gets_the_key(
    proxy: ProxyHandle, origin: Origin, key: str, undici: Path
) -> None:
    said = run(proxy, "node", "-e", UNDICI, f"{origin.url}/v1/models", cwd=undici)
    assert said.startswith("hello")
    assert [request.method for request in origin.requests] == ["GET", "POST"]
    for request in origin.requests:
        assert request.values("Authorization") == [f"Bearer {key}"]
        assert proxy.env_vars()["NONO_PROXY_TOKEN"] not in request
    events = inner(proxy)
    assert [(event["method"], event["status"]) for event in events] == [("GET", 200), ("POST", 200)]
    assert {event["route_id"] for event in events} == {"openai"}


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
