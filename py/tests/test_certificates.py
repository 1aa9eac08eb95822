"""The certificates that the proxy shows, as the TLS libraries judge them that clients use."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from inside import needs, run
from nono_py import ProxyConfig, ProxyHandle, RouteConfig, start_proxy
from origin import Origin

# What Python 3.13 asks of every certificate, which earlier versions do when they are told to.
STRICT = """
import ssl, sys, urllib.request
context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
print(urllib.request.urlopen(sys.argv[1], context=context).read().decode())
"""

# Go leads nothing to this host through a proxy of the environment, so it is told of it.
GO = """
package main

import ("fmt"; "io"; "net/http"; "net/url"; "os")

func main() {
	proxy, _ := url.Parse(os.Getenv("HTTPS_PROXY"))
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy)}}
	answer, err := client.Get(os.Args[1])
	if err != nil { fmt.Println(err); os.Exit(1) }
	body, _ := io.ReadAll(answer.Body)
	fmt.Print(string(body))
}
"""


@pytest.fixture(params=["plain", "constrained"])
def proxy(
    request: pytest.FixtureRequest, route: RouteConfig, directory: Path
) -> Iterator[ProxyHandle]:
    """A proxy whose authority may vouch for all, or for the route's host alone."""
    config = ProxyConfig(
        routes=[route],
        intercept_ca_dir=directory,
        intercept_name_constraints=request.param == "constrained",
    )
    with start_proxy(config) as handle:
        yield handle


@contextlib.contextmanager
def tunnel(proxy: ProxyHandle, origin: Origin) -> Iterator[int]:
    """A port on which one connection is a tunnel, for programs that cannot ask for one."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while some := source.recv(65536):
                sink.sendall(some)
            sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        client, _ = listener.accept()
        host, port = proxy.address.rsplit(":", 1)
        upstream = socket.create_connection((host, int(port)))
        target = f"localhost:{origin.port}"
        login = f"Proxy-Authorization: Bearer {proxy.env_vars()['NONO_PROXY_TOKEN']}"
        upstream.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += upstream.recv(1)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        back = threading.Thread(target=pump, args=(upstream, client), daemon=True)
        back.start()
        pump(client, upstream)
        back.join()
        client.close()
        upstream.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
        thread.join(timeout=20)
        assert not thread.is_alive()
    finally:
        listener.close()


def ask(proxy: ProxyHandle, origin: Origin, *command: str) -> str:
    """Have a program that speaks TLS alone ask for something; return all that it says."""
    head = f"GET /v1/models HTTP/1.1\r\nHost: localhost:{origin.port}\r\nConnection: close\r\n\r\n"
    # Not closed until the answer is there: some end with their input.
    source, sink = os.pipe()
    try:
        os.write(sink, head.encode())
        with tunnel(proxy, origin) as port:
            known = {"port": port, "ca": proxy.env_vars()["SSL_CERT_FILE"]}
            whole = [word.format(**known) for word in command]
            done = subprocess.run(whole, stdin=source, capture_output=True, text=True, timeout=60)
    finally:
        os.close(source)
        os.close(sink)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_python_at_its_strictest(proxy: ProxyHandle, origin: Origin) -> None:
    assert run(proxy, sys.executable, "-c", STRICT, f"{origin.url}/v1/models") == "hello"


def test_python_at_its_strictest_judges_addresses_too(
    origin: Origin, route: RouteConfig, directory: Path
) -> None:
    url = f"https://127.0.0.1:{origin.port}"
    by_address = RouteConfig(
        "/address", f"{url}/v1", credential_key="env://REAL_KEY", tls_ca=route.tls_ca
    )
    with start_proxy(ProxyConfig(routes=[by_address], intercept_ca_dir=directory)) as proxy:
        assert run(proxy, sys.executable, "-c", STRICT, f"{url}/v1/models") == "hello"


@needs("gnutls-cli")
def test_gnutls(proxy: ProxyHandle, origin: Origin) -> None:
    command = ["gnutls-cli", "--x509cafile={ca}", "--verify-hostname=localhost"]
    command += ["--sni-hostname=localhost", "--port={port}", "127.0.0.1"]
    said = ask(proxy, origin, *command)
    assert "The certificate is trusted" in said
    assert "\nhello" in said


@needs("openssl")
def test_openssl_at_its_strictest(proxy: ProxyHandle, origin: Origin) -> None:
    command = ["openssl", "s_client", "-connect", "127.0.0.1:{port}", "-servername", "localhost"]
    command += ["-CAfile", "{ca}", "-verify_return_error", "-verify_hostname", "localhost"]
    said = ask(proxy, origin, *command, "-x509_strict", "-purpose", "sslserver", "-ign_eof")
    assert "Verify return code: 0 (ok)" in said
    assert "hello" in said


@needs("go")
def test_go(proxy: ProxyHandle, origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "client.go").write_text(GO)
    assert run(proxy, "go", "run", "client.go", f"{origin.url}/v1/models", cwd=tmp_path) == "hello"
